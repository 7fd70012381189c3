"""UnAV-100 as published: one annotation file, and a folder with a few `.npy` feature files per video."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from esg_transformers.data.annotations import AnnotatedVideo, Annotations, Example
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid


@dataclass(frozen=True)
class FeatureSet:
    """A kind of feature files: `<video id><suffix>.npy`, each `(T, channels)`, a stream's channels in equal parts.

    Args:
        name: of the encoders that made the features.
        grid: when each step is.
        visual_suffixes: of the files whose channels, side by side, are the visual stream.
        audio_suffixes: of those that are the audio stream.
        visual_size: channels of the visual stream.
        audio_size: channels of the audio stream.
    """

    name: str
    grid: FeatureGrid
    visual_suffixes: tuple[str, ...]
    audio_suffixes: tuple[str, ...]
    visual_size: int
    audio_size: int


# Suffixes and sizes: libs/datasets/unav100.py of UnAV (1609deb) for I3D and VGGish, of CCNet (d148d07) for ONE-PEACE.
FEATURE_SETS = {
    "i3d-vggish": FeatureSet(
        name="i3d-vggish",
        grid=FeatureGrid(frame_rate=25.0, stride=8, window=24),
        visual_suffixes=("_rgb", "_flow"),
        audio_suffixes=("_vggish",),
        visual_size=2048,
        audio_size=128,
    ),
    "one-peace": FeatureSet(
        name="one-peace",
        grid=FeatureGrid(frame_rate=16.0, stride=4, window=16),
        visual_suffixes=("_one_peace_video_finetune",),
        audio_suffixes=("_one_peace_audio",),
        visual_size=1536,
        audio_size=1536,
    ),
}


class FeatureFolder(torch.utils.data.Dataset):
    """The videos of one split, read from a folder of feature files when they are asked for.

    Streams are cut to the shorter one, as in UnAV (libs/datasets/unav100.py, commit 1609deb), and keep the precision
    they are stored with. Its attributes say what the features are: `labels` (class names by id), `grid`,
    `visual_size`, `audio_size`, `encoder` and `video_ids`.

    Args:
        annotations: of the videos, in any splits.
        features_dir: the folder of the `.npy` files.
        feature_set: their names and shapes; see `FEATURE_SETS`.
        split: the split to read.

    Raises:
        FileNotFoundError: if the folder or a file is missing, naming the first ones and how many there are.
        ValueError: if no video is in the split, or a duration is not known; on reading, if a file is not what
            `feature_set` says.
    """

    def __init__(self, annotations: Annotations, features_dir: str | os.PathLike, feature_set: FeatureSet, split: str):
        self.features_dir = Path(features_dir)
        self.feature_set = feature_set
        self.labels = annotations.labels
        self.grid = feature_set.grid
        self.visual_size = feature_set.visual_size
        self.audio_size = feature_set.audio_size
        self.encoder = {"name": feature_set.name, "version": "unav100"}
        self._annotations = annotations
        self._videos = tuple(annotations.split(split).videos.values())
        self._durations = annotations.split(split).durations()
        if not self.features_dir.is_dir():
            raise FileNotFoundError(f"No feature folder at {self.features_dir}.")
        present = {entry.name for entry in os.scandir(self.features_dir)}
        suffixes = feature_set.visual_suffixes + feature_set.audio_suffixes
        needed = [f"{video_id}{suffix}.npy" for video_id in self.video_ids for suffix in suffixes]
        missing = [name for name in needed if name not in present]
        if missing:
            raise FileNotFoundError(
                f"{self.features_dir} lacks {len(missing)} of the {len(needed)} {feature_set.name} feature files "
                f"of split {split!r}: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
            )

    @property
    def video_ids(self) -> tuple[str, ...]:
        """Video ids, in the order of the data set."""
        return tuple(video.video_id for video in self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> Example:
        video = self._videos[index]
        visual = self._open_files(video, self.feature_set.visual_suffixes, self.visual_size)
        audio = self._open_files(video, self.feature_set.audio_suffixes, self.audio_size)
        num_steps = min(len(array) for array in visual + audio)
        segments, labels = self._annotations.targets_of(video)
        return Example(
            video_id=video.video_id,
            duration=self._durations[video.video_id],
            visual_features=np.concatenate([array[:num_steps] for array in visual], axis=1),
            audio_features=np.concatenate([array[:num_steps] for array in audio], axis=1),
            segments=segments,
            labels=labels,
        )

    def _open_files(self, video: AnnotatedVideo, suffixes: tuple[str, ...], size: int) -> list[np.ndarray]:
        """The files of one stream, mapped into memory: what is used of them is copied once, in being put together."""
        arrays: list[np.ndarray] = []
        for suffix in suffixes:
            path = self.features_dir / f"{video.video_id}{suffix}.npy"
            try:
                array = np.lib.format.open_memmap(path, mode="r")
                check_features(array, size // len(suffixes), self.grid, self._durations[video.video_id])
            except (ValueError, EOFError) as error:
                raise ValueError(f"{path} is not a {self.feature_set.name} feature file: {error}") from error
            arrays.append(array)
        return arrays


def check_features(features: np.ndarray, size: int, grid: FeatureGrid, duration: float) -> None:
    """Refuse an array that cannot be the features of a video of `duration` seconds on `grid`.

    The number of steps may differ from `grid.num_steps(duration)` by 10 % and two steps: annotated durations are
    rounded (6,890 of UnAV-100's 10,790 to whole seconds), extractors pad or drop the last window, and sound and
    picture of one file differ in length (162 and 165 steps in v-iashin/video_features#66). From 10 s on, the length
    of UnAV-100's shortest video, that tells its two published grids apart.

    Raises:
        ValueError: unless it is `(T, size)`, of floats, finite, and of a possible length.

    >>> check_features(np.zeros((37, 8), np.float16), 8, FeatureGrid(25.0, 8, 24), duration=10.0)
    Traceback (most recent call last):
    ValueError: it has 37 steps; a video of 10 s has 29 at 25 frames/s, stride 8, window 24. ...
    """
    if features.ndim != 2 or features.shape[1] != size or features.dtype.kind != "f":
        raise ValueError(f"it holds {features.dtype} {features.shape}; expected floats of shape (steps, {size}).")
    expected = grid.num_steps(duration)
    if len(features) == 0 or abs(len(features) - expected) > 0.1 * expected + 2:
        raise ValueError(
            f"it has {len(features)} steps; a video of {duration:g} s has {expected} at {grid}. "
            "Check the duration, and that the features were made on this grid."
        )
    if not np.isfinite(features).all():
        raise ValueError(f"it holds {np.count_nonzero(~np.isfinite(features))} values that are NaN or infinite.")
