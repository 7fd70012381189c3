import numpy as np
import pytest

from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid

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
