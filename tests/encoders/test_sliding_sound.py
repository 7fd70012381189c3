import tracemalloc

import numpy as np
import pytest

from esg_transformers.encoders.sliding_sound import SlidingSound


def second_by_second(seconds, rate=16_000):
    for second in range(seconds):
        yield np.full(rate, second, np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_in_order_are_those_of_the_whole_sound_however_it_comes(seed):
    random = np.random.default_rng(seed)
    whole = np.arange(1000, dtype=np.float32)
    sound = SlidingSound(np.split(whole, np.sort(random.integers(0, 1000, 30))))  # some pieces are empty
    padded = np.pad(whole, (0, 2000))
    for first in np.sort(random.integers(0, 1500, 20)):
        last = first + random.integers(0, 400)
        np.testing.assert_array_equal(sound.samples(first, last), padded[first:last])


def test_no_more_pieces_are_read_than_an_interval_needs():
    pieces = second_by_second(5)
    sound = SlidingSound(pieces)
    sound.samples(0, 32_000)  # the first two
    assert next(pieces)[0] == 2


def test_what_an_interval_leaves_behind_or_out_is_not_held():
    sound = SlidingSound(second_by_second(600))  # 38 MB
    tracemalloc.start()
    for first in range(0, 300 * 16_000, 8_000):
        sound.samples(first, first + 16_000)
    sound.samples(599 * 16_000, 600 * 16_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6  # bytes; a second is 64 kB


def test_an_interval_is_a_copy():
    sound = SlidingSound([np.ones(4, np.float32)])
    sound.samples(0, 3)[:] = 0
    assert sound.samples(1, 3).tolist() == [1, 1]


def test_to_go_back_is_refused():
    sound = SlidingSound(second_by_second(3))
    sound.samples(100, 200)
    with pytest.raises(ValueError, match="Sample 99 .*from 100 on"):
        sound.samples(99, 300)


def test_where_there_is_no_sound_there_is_silence():
    assert SlidingSound([]).samples(3, 5).tolist() == [0, 0]
