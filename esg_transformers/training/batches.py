"""Batches of training videos: random, of similar length, independent of the number of processes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from esg_transformers.corpora.example import VideoDataset

STEPS_SORTED_TOGETHER = 32  # more means less padding, but less random batches


class TrainingBatches(torch.utils.data.Sampler[list[int]]):
    """Batch sampler: a new order every epoch, batches of similar length, each optimizer step divided among processes.

    Videos are shuffled, sorted by length within groups of `STEPS_SORTED_TOGETHER` steps, cut into steps of
    `batch_size * num_processes * accumulation` videos, and the steps are shuffled. As in UnAV (drop_last), a remainder
    is left out; if there are fewer videos than one step takes, all of them make one step. A run of two processes with 4
    videos each therefore trains, step by step, on the same videos as one process with 8. The order follows from the
    seed and the epoch alone.

    Args:
        lengths: `(N,)`, feature steps of each video.
        batch_size: videos of one batch of one process.
        accumulation: batches whose gradients make one step.
        seed: seed of the order.
        num_processes: processes that share a step.
        process_index: this one among them.

    Raises:
        ValueError: if there are no videos.
    """

    def __init__(
        self,
        lengths: npt.NDArray[Any],
        batch_size: int,
        accumulation: int = 1,
        seed: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
    ):
        if len(lengths) == 0:
            raise ValueError("There are no videos to train on.")
        self.lengths, self.num_videos, self.seed = lengths, len(lengths), seed
        self.accumulation, self.num_processes, self.process_index = accumulation, num_processes, process_index
        self.step_size = batch_size * accumulation * num_processes
        self.steps_per_epoch = max(self.num_videos // self.step_size, 1)
        self.epoch, self.first_step = 0, 0

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Set the epoch of the next iteration, and the step at which it starts."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return (self.steps_per_epoch - self.first_step) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for videos in self.steps(self.epoch)[self.first_step :]:
            parts = np.array_split(videos, self.accumulation * self.num_processes)
            for part in parts[self.process_index :: self.num_processes]:
                yield part.tolist()

    def steps(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Indices of the videos of every optimizer step of an epoch, for all processes together."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.num_videos)
        parts = self.accumulation * self.num_processes
        if self.num_videos < self.step_size:
            return [np.resize(order, max(self.num_videos, parts))]  # every part of the step needs a video
        order = order[: self.steps_per_epoch * self.step_size]
        group = STEPS_SORTED_TOGETHER * self.step_size
        order = np.concatenate(
            [
                part[np.argsort(self.lengths[part], kind="stable")]
                for part in np.split(order, range(group, len(order), group))
            ]
        )
        steps = order.reshape(-1, self.step_size)
        return list(steps[random.permutation(len(steps))])


def lengths_of(dataset: VideoDataset, max_steps: int) -> npt.NDArray[np.int64]:
    """Feature steps of each video, `(N,)`, when it is cropped to `max_steps`."""
    grid = dataset.feature_spec.grid
    return np.array([min(grid.num_steps(seconds), max_steps) for seconds in dataset.durations], dtype=np.int64)
