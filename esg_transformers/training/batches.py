"""Which videos make which step: the same for any number of processes, from the seed and the epoch alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

STEPS_SORTED_TOGETHER = 32  # more: less padding, but batches that are less mixed


class TrainingBatches(torch.utils.data.Sampler[list[int]]):
    """Batch sampler: every epoch in a new order, videos of similar length together, each process its part of a step.

    Videos are shuffled, sorted by length within stretches of `STEPS_SORTED_TOGETHER` steps, cut into steps of
    `batch_size * num_processes * accumulation` videos, and the steps are shuffled. A remainder is left out, as in UnAV
    (drop_last), unless there are fewer videos than one step takes: then all of them are one step. So a run of two
    processes with 4 videos each sees, step by step, what one process with 8 sees.

    Args:
        lengths: feature steps of each video, or None for all the same.
        num_videos: how many there are.
        batch_size: videos of one batch of one process.
        accumulation: batches whose gradients make one step.
        seed: of the order.
        num_processes: how many share a step.
        process_index: which of them this is.
    """

    def __init__(
        self,
        lengths: np.ndarray | None,
        num_videos: int,
        batch_size: int,
        accumulation: int = 1,
        seed: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
    ):
        if num_videos < 1:
            raise ValueError("There are no videos to train on.")
        self.lengths = np.zeros(num_videos) if lengths is None else np.asarray(lengths)
        self.num_videos, self.seed = num_videos, seed
        self.accumulation, self.num_processes, self.process_index = accumulation, num_processes, process_index
        self.step_size = batch_size * accumulation * num_processes
        self.steps_per_epoch = max(num_videos // self.step_size, 1)
        self.epoch, self.first_step = 0, 0

    def start(self, epoch: int, first_step: int = 0) -> None:
        """The next iteration is of this epoch, from this step of it on."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return (self.steps_per_epoch - self.first_step) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for videos in self.steps(self.epoch)[self.first_step :]:
            parts = np.array_split(videos, self.accumulation * self.num_processes)
            for part in parts[self.process_index :: self.num_processes]:
                yield part.tolist()

    def steps(self, epoch: int) -> list[np.ndarray]:
        """The videos of every step of an epoch, for all processes."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.num_videos)
        parts = self.accumulation * self.num_processes
        if self.num_videos < self.step_size:
            return [np.resize(order, max(self.num_videos, parts))]  # every part of the step needs a video
        order = order[: self.steps_per_epoch * self.step_size]
        stretch = STEPS_SORTED_TOGETHER * self.step_size
        order = np.concatenate(
            [
                part[np.argsort(self.lengths[part], kind="stable")]
                for part in np.split(order, range(stretch, len(order), stretch))
            ]
        )
        steps = order.reshape(-1, self.step_size)
        return list(steps[random.permutation(len(steps))])


def lengths_of(dataset: Any, grid: FeatureGrid, max_steps: int) -> np.ndarray | None:
    """Feature steps of each video when it is cropped to `max_steps`; None if the data set does not say `durations`."""
    durations = getattr(dataset, "durations", None)
    return None if durations is None else np.array([min(grid.num_steps(seconds), max_steps) for seconds in durations])
