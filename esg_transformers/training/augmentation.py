"""Training augmentation: random speed and random crops."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from esg_transformers.corpora.example import Example, VideoDataset
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def random_crop(
    example: Example,
    grid: FeatureGrid,
    max_steps: int,
    generator: np.random.Generator,
    keep_ratio: float = 0.5,
    trials: int = 200,
    crop_ratio: tuple[float, float] = (0.9, 1.0),
) -> Example:
    """Random crop of an example: UnAV's training crop (`truncate_feats`, libs/datasets/data_utils.py, 1609deb).

    An example longer than `max_steps` is cropped to `max_steps`; any other to a random share of its length in
    `crop_ratio`. An event stays if at least `keep_ratio` of it lies in the crop, and is clipped to it. Crops are drawn
    until one keeps an event, at most `trials` times; then the last one is taken, without events. A video without events
    is cropped once.

    Times are relative to the crop: its step 0 is at `grid.to_seconds(0)`, like step 0 of any video, and its duration is
    that of the frames that its features cover. Features are views of the example's.

    Args:
        example: see `Example`.
        grid: time grid of its features.
        max_steps: steps of the longest crop, >= 1.
        generator: source of random numbers.
        keep_ratio: least share of an event that must be left, in (0, 1].
        trials: crops to try, >= 1.
        crop_ratio: least and greatest share of an example of at most `max_steps` steps, 0 < least <= greatest <= 1.

    Raises:
        ValueError: if an argument is out of range.
    """
    least, greatest = crop_ratio
    if max_steps < 1 or trials < 1 or not 0 < keep_ratio <= 1 or not 0 < least <= greatest <= 1:
        raise ValueError(
            "A crop needs max_steps >= 1, trials >= 1, 0 < keep_ratio <= 1 and "
            f"0 < crop_ratio[0] <= crop_ratio[1] <= 1; got {max_steps}, {trials}, {keep_ratio} and {crop_ratio}."
        )
    visual, audio = example["visual_features"], example["audio_features"]
    num_steps = max(len(stream) for stream in (visual, audio) if stream is not None)
    if num_steps > max_steps:
        length = max_steps
    else:
        low, high = max(round(least * num_steps), 1), min(round(greatest * num_steps), num_steps)
        length = int(generator.integers(low, max(low, high), endpoint=True))
    if length == num_steps:
        return example
    segments = example["segments"].astype(np.float64)
    for _ in range(trials):
        first = int(generator.integers(0, num_steps - length, endpoint=True))
        window = grid.to_seconds(torch.tensor([first, first + length], dtype=torch.float64)).numpy()
        clipped = segments.clip(*window)
        kept = clipped[:, 1] - clipped[:, 0] >= keep_ratio * (segments[:, 1] - segments[:, 0])
        if kept.any() or len(segments) == 0:
            break
    crop = slice(first, first + length)
    shift = first * grid.step
    # Where the windows of a grid hardly overlap, the crop's last grid position lies after its last frame.
    num_frames = max((length - 1) * grid.stride + grid.window, length * grid.stride + grid.window / 2)
    return Example(
        video_id=example["video_id"],
        duration=num_frames / grid.frame_rate,
        visual_features=None if visual is None else visual[crop],
        audio_features=None if audio is None else audio[crop],
        segments=clipped[kept] - shift,
        labels=example["labels"][kept],
    )


def random_stretch(example: Example, grid: FeatureGrid, stretch: float, generator: np.random.Generator) -> Example:
    """Time stretch of an example by a random factor in `[1 / (1 + stretch), 1 + stretch]`.

    All times are multiplied by the factor, which is drawn uniformly on a logarithmic scale: slower is as likely as
    faster. Features are interpolated linearly at the steps of `grid`.

    Args:
        example: see `Example`.
        grid: time grid of its features, and of the result's.
        stretch: >= 0; 0.25 gives 0.8 to 1.25 times the duration.
        generator: source of random numbers.

    Raises:
        ValueError: if `stretch` is negative.
    """
    if stretch < 0:
        raise ValueError(f"`stretch` must be at least 0; got {stretch}.")
    factor = (1 + stretch) ** generator.uniform(-1.0, 1.0)

    def stretched(features: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        if features is None:
            return None
        last = len(features) - 1
        end = grid.to_positions(factor * grid.to_seconds(torch.tensor(last, dtype=torch.float64))).item()
        steps = torch.arange(max(int(round(end, 6)), 0) + 1, dtype=torch.float64)  # 18.999999 is step 19
        positions = grid.to_positions(grid.to_seconds(steps) / factor).clamp(0, last).numpy()
        lower = positions.astype(np.int64)
        share = (positions - lower).astype(np.float32)[:, None]
        mixed: npt.NDArray[Any] = (1 - share) * features[lower] + share * features[np.minimum(lower + 1, last)]
        return mixed.astype(features.dtype)

    return Example(
        video_id=example["video_id"],
        duration=factor * example["duration"],
        visual_features=stretched(example["visual_features"]),
        audio_features=stretched(example["audio_features"]),
        segments=(factor * example["segments"]).astype(example["segments"].dtype),
        labels=example["labels"],
    )


class TrainingCrops(Dataset[Example]):
    """Examples of a data set with random speed and random crops, different in every epoch.

    See `random_stretch` and `random_crop`; a stretched video is cropped to `max_steps` like any other. The random
    numbers of an example depend on the seed, the epoch and its index alone, not on the process or the order.

    Args:
        dataset: data set of the examples.
        grid: time grid of their features.
        max_steps: steps of the longest crop.
        seed: seed of the random numbers.
        stretch: see `random_stretch`.
        repeats: crops of each example in an epoch; the length of this data set is that many times the length of
            `dataset`.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        grid: FeatureGrid,
        max_steps: int,
        seed: int,
        stretch: float = 0.0,
        repeats: int = 1,
    ):
        self.dataset, self.grid, self.max_steps, self.seed = dataset, grid, max_steps, seed
        self.stretch, self.repeats = stretch, repeats
        self.epoch = 0

    def __len__(self) -> int:
        return self.repeats * len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        generator = np.random.default_rng([self.seed, self.epoch, index])
        example = self.dataset[index % len(self.dataset)]
        if self.stretch:
            example = random_stretch(example, self.grid, self.stretch, generator)
        return random_crop(example, self.grid, self.max_steps, generator)
