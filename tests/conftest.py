"""Fixtures and environment of all tests: no network, no user caches; set before the libraries that read it load."""

import os
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
_home = tempfile.TemporaryDirectory(prefix="esg-transformers-tests-")  # removed when the interpreter ends
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_UPDATE_DOWNLOAD_COUNTS="0",
    HF_HOME=_home.name,
    HF_HUB_CACHE=f"{_home.name}/hub",
    HF_DATASETS_CACHE=f"{_home.name}/datasets",
    HF_EVALUATE_CACHE=f"{_home.name}/evaluate",
    HF_MODULES_CACHE=f"{_home.name}/modules",
    MPLBACKEND="agg",
    # The tensors of tests are small: threads that wait for each other cost far more than they save on a busy machine.
    OMP_NUM_THREADS="1",
)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec  # noqa: E402
from esg_transformers.training.model import new_model  # noqa: E402


class SimulatedVideos(torch.utils.data.Dataset):
    """Noise, in which an event of class c lifts channel c of both streams: easy to learn.

    A stream alone also lifts a channel now and then, which is no event.
    """

    labels = ("alarm", "speech")
    feature_spec = FeatureSpec(FeatureGrid(frame_rate=10.0, stride=2, window=4), 6, 4, EncoderId("simulated", "1"))

    def __init__(self, num_videos, seed=0):
        self.examples = [
            self._draw(f"video_{index}", np.random.default_rng([seed, index])) for index in range(num_videos)
        ]

    def _draw(self, video_id, random):
        num_steps = int(random.integers(24, 41))
        visual = 0.3 * random.normal(size=(num_steps, 6)).astype(np.float32)
        audio = 0.3 * random.normal(size=(num_steps, 4)).astype(np.float32)
        steps, labels = [], []
        first = int(random.integers(0, 4))
        while first + 10 < num_steps:
            last, label = first + int(random.integers(4, 10)), int(random.integers(2))
            streams = random.choice(["both", "both", "visual", "audio"])
            if streams != "audio":
                visual[first : last + 1, label] += 2
            if streams != "visual":
                audio[first : last + 1, label] += 2
            if streams == "both":
                steps.append((first, last))
                labels.append(label)
            first = last + int(random.integers(3, 7))
        segments = self.feature_spec.grid.to_seconds(torch.tensor(steps, dtype=torch.float64).reshape(-1, 2)).numpy()
        return {
            "video_id": video_id,
            "duration": ((num_steps - 1) * 2 + 4) / 10.0,
            "visual_features": visual,
            "audio_features": audio,
            "segments": segments.astype(np.float32),
            "labels": np.array(labels, dtype=np.int64),
        }

    @property
    def video_ids(self):
        return tuple(example["video_id"] for example in self.examples)

    @property
    def durations(self):
        return tuple(example["duration"] for example in self.examples)

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


@pytest.fixture(scope="session")
def simulated():
    """`simulated(num_videos, seed)`: a data set as `train` takes it."""
    return SimulatedVideos


@pytest.fixture(scope="session")
def small_model(simulated):
    """`small_model(**fields)`: a new model for such data sets, and its processor; the same weights each time."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "semantic_size": 16, "head_size": 32, "event_slot_size": 8}
    fewer = {"num_attention_heads": 2, "pyramid_levels": 4, "num_dependency_layers": 1, "num_experts": 2}
    return lambda **fields: new_model(simulated(0), "tiny", seed=0, **(sizes | fewer | fields))


SLOW_ROOMS = ("conversion", "hub", "hub_configs")  # nearly all of their tests start processes or make models


def pytest_collection_modifyitems(items):
    """Mark the tests of whole folders as slow; elsewhere tests carry the mark themselves."""
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in SLOW_ROOMS:
            item.add_marker("slow")
