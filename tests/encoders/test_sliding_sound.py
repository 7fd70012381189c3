import tracemalloc

import numpy as np
import pytest

from esg_transformers.encoders.sliding_sound import SlidingSound


def second_by_second(seconds, rate=16_000):
    for second in range(seconds):
        yield np.full(rate, second, np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_spans_in_order_are_those_of_the_whole_sound_however_it_comes(seed):
    random = np.random.default_rng(seed)
    whole = np.arange(1000, dtype=np.float32)
    sound = SlidingSound(np.split(whole, np.sort(random.integers(0, 1000, 30))))  # some stretches are empty
    padded = np.pad(whole, (0, 2000))
    for first in np.sort(random.integers(0, 1500, 20)):
        last = first + random.integers(0, 400)
        np.testing.assert_array_equal(sound.span(first, last), padded[first:last])


def test_no_more_stretches_are_read_than_a_span_needs():
    stretches = second_by_second(5)
    sound = SlidingSound(stretches)
    sound.span(0, 32_000)  # the first two
    assert next(stretches)[0] == 2


def test_what_a_span_leaves_behind_or_out_is_not_held():
    sound = SlidingSound(second_by_second(600))  # 38 MB
    tracemalloc.start()
    for first in range(0, 300 * 16_000, 8_000):
        sound.span(first, first + 16_000)
    sound.span(599 * 16_000, 600 * 16_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6  # bytes; a second is 64 kB


def test_a_span_is_a_copy():
    sound = SlidingSound([np.ones(4, np.float32)])
    sound.span(0, 3)[:] = 0
    assert sound.span(1, 3).tolist() == [1, 1]


def test_to_go_back_is_refused():
    sound = SlidingSound(second_by_second(3))
    sound.span(100, 200)
    with pytest.raises(ValueError, match="Sample 99 is gone: a span from 100 on was taken"):
        sound.span(99, 300)


def test_where_there_is_no_sound_there_is_silence():
    assert SlidingSound([]).span(3, 5).tolist() == [0, 0]
