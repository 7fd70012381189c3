"""Features in files: a folder with a few `.npy` files per video, as those of UnAV-100 are published."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esg_transformers.data.annotations import (
    AnnotatedVideo,
    Annotations,
    Example,
    is_safe_video_id,
    read_annotation_json,
)
from esg_transformers.data.resampling import resample_features
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
        version: of the encoders.
        audio_grid: when each step of the audio stream is, if it is on a clock of its own.

    Raises:
        ValueError: if a stream has no files or channels, or a suffix leads out of the folder.
    """

    name: str
    grid: FeatureGrid
    visual_suffixes: tuple[str, ...]
    audio_suffixes: tuple[str, ...]
    visual_size: int
    audio_size: int
    version: str = "1"
    audio_grid: FeatureGrid | None = None

    def __post_init__(self):
        for stream in ("visual", "audio"):
            suffixes, size = getattr(self, f"{stream}_suffixes"), getattr(self, f"{stream}_size")
            if not suffixes or size < 1 or size % len(suffixes):
                raise ValueError(
                    f"`{stream}_suffixes` and `{stream}_size` must be one suffix or more, and as many channels or a "
                    f"multiple; got {len(suffixes)} suffixes and {size} channels."
                )
            for suffix in suffixes:
                if not is_safe_video_id(f"id{suffix}"):
                    raise ValueError(
                        f"`{stream}_suffixes` has {suffix!r}; a suffix must be without / \\ : and control characters."
                    )


# Suffixes and sizes: libs/datasets/unav100.py of UnAV (1609deb) for I3D and VGGish, of CCNet (d148d07) for ONE-PEACE.
FEATURE_SETS = {
    "i3d-vggish": FeatureSet(
        name="i3d-vggish",
        grid=FeatureGrid(frame_rate=25.0, stride=8, window=24),
        visual_suffixes=("_rgb", "_flow"),
        audio_suffixes=("_vggish",),
        visual_size=2048,
        audio_size=128,
        version="unav100",
    ),
    "one-peace": FeatureSet(
        name="one-peace",
        grid=FeatureGrid(frame_rate=16.0, stride=4, window=16),
        visual_suffixes=("_one_peace_video_finetune",),
        audio_suffixes=("_one_peace_audio",),
        visual_size=1536,
        audio_size=1536,
        version="unav100",
    ),
}


def read_feature_set(path: str | os.PathLike) -> FeatureSet:
    """A feature set from a JSON file with the fields of `FeatureSet`; `version` and `audio_grid` may be absent.

    A grid is `{"frame_rate": frames/s, "stride": frames, "window": frames}`, suffixes are lists of strings.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not describe a feature set.
    """
    content, repeated = read_annotation_json(path)
    try:
        if not isinstance(content, dict) or repeated:
            raise ValueError(f"it must be one JSON object that gives each field once; {repeated or 'it is not'}")
        optional = {"version", "audio_grid"}
        known = {field.name for field in fields(FeatureSet)}
        if not known - optional <= content.keys() <= known:
            raise ValueError(
                f"missing: {sorted(known - optional - content.keys())}, unknown: {sorted(content.keys() - known)}"
            )
        types = {"name": str, "version": str, "visual_size": int, "audio_size": int}
        for name, kind in types.items():
            if type(content.get(name, kind())) is not kind:
                raise ValueError(f"`{name}` is {content[name]!r}, not a {kind.__name__}")
        for name in ("visual_suffixes", "audio_suffixes"):
            if not isinstance(content[name], list) or not all(isinstance(suffix, str) for suffix in content[name]):
                raise ValueError(f"`{name}` is {content[name]!r}, not a list of strings")
            content[name] = tuple(content[name])
        for name in {"grid", "audio_grid"} & content.keys():
            content[name] = _grid_of(content[name])
        return FeatureSet(**content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not describe a feature set: {str(error).rstrip('.')}.") from error


class FeatureFolder(torch.utils.data.Dataset):
    """The videos of one split, read from a folder of feature files when they are asked for.

    Streams are cut to the shorter one, as in UnAV (libs/datasets/unav100.py, commit 1609deb), and keep the precision
    they are stored with. Its attributes say what the features are: `labels` (class names by id), `grid`,
    `visual_size`, `audio_size`, `encoder`, `video_ids` and `durations` (seconds).

    Args:
        annotations: of the videos, in any splits.
        features_dir: the folder of the `.npy` files.
        feature_set: their names and shapes; see `FEATURE_SETS`.
        split: the split to read.
        resample_to: a grid to put both streams on, see `resample_features`; each then has the steps that fit in the
            annotated duration.

    Raises:
        FileNotFoundError: if the folder or a file is missing, naming the first ones and how many there are.
        ValueError: if no video is in the split, a duration is not known, or the streams are on two grids and
            `resample_to` is not given; on reading, if a file is not what `feature_set` says.
    """

    def __init__(
        self,
        annotations: Annotations,
        features_dir: str | os.PathLike,
        feature_set: FeatureSet,
        split: str,
        resample_to: FeatureGrid | None = None,
    ):
        self.features_dir = Path(features_dir)
        self.feature_set = feature_set
        self._visual_grid, self._audio_grid = feature_set.grid, feature_set.audio_grid or feature_set.grid
        if resample_to is None and self._visual_grid != self._audio_grid:
            raise ValueError(
                f"The visual features of {feature_set.name} are on a grid of {self._visual_grid}, and the audio "
                f"features on one of {self._audio_grid}. Resample both onto one: give `resample_to`, or build a corpus "
                "with `esg-transformers corpus build --grid FRAME_RATE,STRIDE,WINDOW`."
            )
        self.grid = resample_to or feature_set.grid
        self.labels = annotations.labels
        self.visual_size = feature_set.visual_size
        self.audio_size = feature_set.audio_size
        self.encoder = {"name": feature_set.name, "version": feature_set.version}
        self._annotations = annotations
        self._videos = tuple(annotations.split(split).videos.values())
        self.durations = tuple(annotations.split(split).durations().values())
        self.video_ids = tuple(video.video_id for video in self._videos)
        if not self.features_dir.is_dir():
            raise FileNotFoundError(f"No feature folder at {self.features_dir}.")
        present = {entry.name for entry in os.scandir(self.features_dir)}
        needed = [path.name for video in self._videos for path in self._paths(video)]
        missing = [name for name in needed if name not in present]
        if missing:
            raise FileNotFoundError(
                f"{self.features_dir} lacks {len(missing)} of the {len(needed)} {feature_set.name} feature files "
                f"of split {split!r}: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
            )

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> Example:
        video = self._videos[index]
        feature_set, duration = self.feature_set, self.durations[index]
        paths, num_visual = self._paths(video), len(feature_set.visual_suffixes)
        visual = self._read_files(paths[:num_visual], feature_set.visual_size, self._visual_grid, duration)
        audio = self._read_files(paths[num_visual:], feature_set.audio_size, self._audio_grid, duration)
        if self._visual_grid == self._audio_grid == self.grid:
            num_steps = min(len(array) for array in visual + audio)
            visual, audio = ([array[:num_steps] for array in arrays] for arrays in (visual, audio))
        else:
            num_steps = self.grid.num_steps(duration)
            visual = [resample_features(array, self._visual_grid, self.grid, num_steps) for array in visual]
            audio = [resample_features(array, self._audio_grid, self.grid, num_steps) for array in audio]
        segments, labels = self._annotations.targets_of(video)
        return Example(
            video_id=video.video_id,
            duration=duration,
            visual_features=visual[0] if len(visual) == 1 else np.concatenate(visual, axis=1),
            audio_features=audio[0] if len(audio) == 1 else np.concatenate(audio, axis=1),
            segments=segments,
            labels=labels,
        )

    def fingerprint(self, index: int) -> str:
        """What an example follows from: its annotation, and its files with their sizes and times of change."""
        video = self._videos[index]
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._paths(video)]
        return repr((video, files, self.feature_set, self.grid))

    def _paths(self, video: AnnotatedVideo) -> list[Path]:
        """The files of a video, those of the visual stream first."""
        suffixes = self.feature_set.visual_suffixes + self.feature_set.audio_suffixes
        return [self.features_dir / f"{video.video_id}{suffix}.npy" for suffix in suffixes]

    def _read_files(self, paths: list[Path], size: int, grid: FeatureGrid, duration: float) -> list[np.ndarray]:
        """The files of one stream. Reading them takes half the time of mapping them into memory and copying."""
        arrays: list[np.ndarray] = []
        for path in paths:
            try:
                with path.open("rb") as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                check_features(array, size // len(paths), grid, duration)
            except (ValueError, EOFError, MemoryError) as error:  # the last for a header that names a vast shape
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
    if not are_finite(features):
        raise ValueError(f"it holds {np.count_nonzero(~np.isfinite(features))} values that are NaN or infinite.")


def are_finite(features: np.ndarray) -> bool:
    """Whether no value is NaN or infinite.

    >>> are_finite(np.array([1.0, -65504.0], np.float16)), are_finite(np.array([1.0, np.nan], np.float16))
    (True, False)
    """
    if features.dtype == np.float16:
        # The exponents' bits say it twenty times as fast as `np.isfinite`, which converts half floats one by one.
        return not ((features.view(np.uint16) & 0x7C00) == 0x7C00).any()
    return bool(np.isfinite(features).all())


def _grid_of(content: Any) -> FeatureGrid:
    """The grid that a JSON file describes."""
    names = [field.name for field in fields(FeatureGrid)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise ValueError(f"a grid is {content!r}, not an object of {', '.join(names)}")
    if not (type(content["frame_rate"]) in (int, float) and type(content["stride"]) is type(content["window"]) is int):
        raise ValueError(f"a grid has a number of frames/s, and whole numbers as stride and window; got {content}")
    return FeatureGrid(**content)
