import numpy as np
import pytest

from esg_transformers.encoders.encoder import AudioVisualFeatures, feature_blocks
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

GRID = FeatureGrid(frame_rate=10, stride=2, window=4)


def test_one_stream_is_enough():
    features = AudioVisualFeatures(None, np.zeros((9, 2), np.float32), GRID, duration=2.0)
    assert features.visual is None


@pytest.mark.parametrize(
    ("visual", "audio", "message"),
    [
        (None, None, "at least one"),
        (np.zeros((9, 3)), np.zeros((8, 2)), "9 steps and `audio` has 8"),
        (np.zeros(9), np.zeros((9, 2)), r"`visual` has shape \(9,\)"),
        (None, np.zeros((1, 9, 2)), r"`audio` has shape \(1, 9, 2\)"),
    ],
)
def test_streams_that_do_not_fit_are_refused(visual, audio, message):
    with pytest.raises(ValueError, match=message):
        AudioVisualFeatures(visual, audio, GRID, duration=2.0)


class Counting:
    """Encoder of 9 steps, each with its index as feature; `streams` are the streams of its files."""

    feature_spec = FeatureSpec(GRID, 1, 1, EncoderId("counting", "1"))

    def __init__(self, streams=("visual", "audio")):
        self.streams = streams

    def __call__(self, source):
        numbers = np.arange(9, dtype=np.float32)[:, None]
        visual, audio = (numbers if stream in self.streams else None for stream in ("visual", "audio"))
        return AudioVisualFeatures(visual, audio, GRID, duration=2.1)


class CountingInBlocks(Counting):
    def blocks(self, source, num_steps):
        for first in range(0, 9, num_steps):
            numbers = np.arange(first, min(first + num_steps, 9), dtype=np.float32)[:, None]
            yield AudioVisualFeatures(numbers, numbers, GRID, duration=2.1)

    def __call__(self, source):
        raise AssertionError("the whole file was encoded at once")


@pytest.mark.parametrize("encoder", [Counting(), CountingInBlocks()], ids=["whole", "blocks"])
def test_blocks_hold_every_step_once_and_in_order_and_know_the_duration_of_the_file(encoder):
    blocks = list(feature_blocks(encoder, "any.mp4", num_steps=4))
    assert [block.visual.ravel().tolist() for block in blocks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert [block.audio.ravel().tolist() for block in blocks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert {(block.grid, block.duration) for block in blocks} == {(GRID, 2.1)}


@pytest.mark.parametrize("encoder", [Counting(), CountingInBlocks()], ids=["whole", "blocks"])
def test_a_file_shorter_than_a_block_is_one_block(encoder):
    [block] = feature_blocks(encoder, "any.mp4", num_steps=100)
    assert len(block.visual) == len(block.audio) == 9


@pytest.mark.parametrize(("streams", "missing"), [(("visual",), "audio"), (("audio",), "visual")])
def test_a_missing_stream_is_missing_from_every_block(streams, missing):
    blocks = list(feature_blocks(Counting(streams), "any.mp4", num_steps=4))
    assert all(getattr(block, missing) is None for block in blocks)


@pytest.mark.parametrize("encoder", [Counting(), CountingInBlocks()], ids=["whole", "blocks"])
def test_blocks_of_no_steps_are_refused(encoder):
    with pytest.raises(ValueError, match="`num_steps` is 0"):
        next(feature_blocks(encoder, "any.mp4", num_steps=0))
