import numpy as np
import pytest

from esg_transformers.corpora.example import ExampleList
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid, FeatureSpec
from esg_transformers.training.batches import TrainingBatches, lengths_of

LENGTHS = np.random.default_rng(0).integers(20, 225, size=1000)


def epoch_of(batches, epoch=0, first_step=0):
    batches.start(epoch, first_step)
    taken = list(batches)
    assert len(taken) == len(batches)
    return taken


def test_every_video_comes_once_an_epoch_but_for_a_remainder_and_in_another_order_each_epoch():
    batches = TrainingBatches(LENGTHS, batch_size=16)
    first, second = epoch_of(batches, 0), epoch_of(batches, 1)
    assert [len(batch) for batch in first] == [16] * 62  # 1000 = 62 x 16 + 8
    videos = [video for batch in first for video in batch]
    assert len(set(videos)) == 992
    assert first != second
    assert {video for batch in first + second for video in batch} == set(range(1000))


def test_videos_of_similar_length_share_a_batch():
    def padding(lengths):  # share of a padded batch that is padding
        batches = epoch_of(TrainingBatches(lengths, batch_size=16))
        longest = sum(16 * LENGTHS[batch].max() for batch in batches)
        return 1 - sum(LENGTHS[batch].sum() for batch in batches) / longest

    assert padding(LENGTHS) < 0.05 < 0.35 < padding(np.zeros(1000))


def test_processes_and_accumulated_batches_share_the_steps_of_one_process():
    alone = epoch_of(TrainingBatches(LENGTHS, batch_size=16))
    pairs = [epoch_of(TrainingBatches(LENGTHS, 8, num_processes=2, process_index=i)) for i in (0, 1)]
    assert [first + second for first, second in zip(*pairs, strict=True)] == alone
    halves = epoch_of(TrainingBatches(LENGTHS, 8, accumulation=2))
    assert [first + second for first, second in zip(halves[::2], halves[1::2], strict=True)] == alone
    both = [epoch_of(TrainingBatches(LENGTHS, 4, 2, num_processes=2, process_index=i)) for i in (0, 1)]
    assert {
        frozenset(a + b + c + d)
        for a, c, b, d in zip(both[0][::2], both[0][1::2], both[1][::2], both[1][1::2], strict=True)
    } == {frozenset(step) for step in alone}


def test_an_epoch_goes_on_where_it_was_left():
    batches = TrainingBatches(LENGTHS, 8, accumulation=2)
    assert epoch_of(batches, 3, first_step=10) == epoch_of(batches, 3)[20:]


@pytest.mark.parametrize(("num_videos", "processes", "sizes"), [(3, 1, [3]), (3, 2, [2, 1]), (1, 2, [1, 1])])
def test_fewer_videos_than_a_step_takes_are_one_step_and_no_process_goes_without(num_videos, processes, sizes):
    taken = [
        epoch_of(TrainingBatches(np.zeros(num_videos), 8, num_processes=processes, process_index=i))
        for i in range(processes)
    ]
    assert [len(batch) for [batch] in taken] == sizes
    assert {video for [batch] in taken for video in batch} == set(range(num_videos))


def test_no_videos_are_refused():
    with pytest.raises(ValueError, match="no videos to train on"):
        TrainingBatches(np.zeros(0), 8)


def test_lengths_are_those_of_the_crops():
    spec = FeatureSpec(FeatureGrid(25.0, 8, 24), visual_size=1, audio_size=1)
    videos = ExampleList([{"duration": 10.0}, {"duration": 100.0}], (), spec)
    # 250 frames hold 29 windows of 24 with stride 8; 100 s hold 310, more than a crop.
    assert lengths_of(videos, max_steps=224).tolist() == [29, 224]
