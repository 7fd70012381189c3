"""A data set that is easy to learn, and a model for it, for tests of training and localization."""

import numpy as np
import torch

from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec
from esg_transformers.training.model import new_model


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


def small_model(**fields):
    """A new model for such data sets, and its processor; the same weights each time."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "semantic_size": 16, "head_size": 32, "event_slot_size": 8}
    fewer = {"num_attention_heads": 2, "pyramid_levels": 4, "num_dependency_layers": 1, "num_experts": 2}
    return new_model(SimulatedVideos(0), "tiny", seed=0, **(sizes | fewer | fields))
