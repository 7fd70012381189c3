"""Features in files: a folder with a few `.npy` files per video, the published layout of UnAV-100's features."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.corpora.example import Example, check_features
from esg_transformers.corpora.feature_sets import FeatureSet
from esg_transformers.corpora.resampling import resample_features
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


class FeatureFolder(torch.utils.data.Dataset[Example]):
    """The videos of one split, read on access from a folder of feature files; a `VideoDataset`.

    Streams are cut to the shorter one, as in UnAV (libs/datasets/unav100.py, commit 1609deb), and keep the precision
    of their files.

    Args:
        annotations: annotations of the videos, in any splits.
        features_dir: the folder of the `.npy` files.
        feature_set: names and shapes of the files; see `FEATURE_SETS`.
        split: the split to read.
        resample_to: grid to resample both streams to (see `resample_features`); each then has as many steps as fit
            in the annotated duration.

    Attributes:
        labels (`tuple[str, ...]`): class names by id.
        feature_spec (`FeatureSpec`): time grid, channels and encoder of the features.
        video_ids (`tuple[str, ...]`): the id of each video.
        durations (`tuple[float, ...]`): seconds of each video.

    Raises:
        FileNotFoundError: if the folder or files are missing, naming the first five.
        ValueError: if no video is in the split, a duration is unknown, or the streams are on two grids and
            `resample_to` is not given; on access, if a file does not fit `feature_set`.
    """

    def __init__(
        self,
        annotations: Annotations,
        features_dir: str | os.PathLike[str],
        feature_set: FeatureSet,
        split: str,
        resample_to: FeatureGrid | None = None,
    ):
        self.features_dir = Path(features_dir)
        self.feature_set = feature_set
        self._visual_grid, self._audio_grid = feature_set.grid, feature_set.audio_grid or feature_set.grid
        if resample_to is None and self._visual_grid != self._audio_grid:
            raise ValueError(
                f"The visual features of {feature_set.name} are on a grid of {self._visual_grid}, the audio features "
                f"on one of {self._audio_grid}. Resample both to one grid: give `resample_to`, or build a corpus with "
                "`esg-transformers corpus build --grid FRAME_RATE,STRIDE,WINDOW`."
            )
        self.feature_spec = replace(feature_set.feature_spec, grid=resample_to or feature_set.grid)
        self.labels = annotations.labels
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
        feature_set, duration, grid = self.feature_set, self.durations[index], self.feature_spec.grid
        paths, num_visual = self._paths(video), len(feature_set.visual_suffixes)
        visual = self._read_files(paths[:num_visual], feature_set.visual_size, self._visual_grid, duration)
        audio = self._read_files(paths[num_visual:], feature_set.audio_size, self._audio_grid, duration)
        if self._visual_grid == self._audio_grid == grid:
            num_steps = min(len(array) for array in visual + audio)
            visual, audio = ([array[:num_steps] for array in arrays] for arrays in (visual, audio))
        else:
            num_steps = grid.num_steps(duration)
            visual = [resample_features(array, self._visual_grid, grid, num_steps) for array in visual]
            audio = [resample_features(array, self._audio_grid, grid, num_steps) for array in audio]
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
        """The sources of an example: annotation, files with sizes and modification times, feature set and grid."""
        video = self._videos[index]
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._paths(video)]
        return repr((video, files, self.feature_set, self.feature_spec.grid))

    def _paths(self, video: AnnotatedVideo) -> list[Path]:
        """Files of a video, first those of the visual stream."""
        suffixes = self.feature_set.visual_suffixes + self.feature_set.audio_suffixes
        return [self.features_dir / f"{video.video_id}{suffix}.npy" for suffix in suffixes]

    def _read_files(self, paths: list[Path], size: int, grid: FeatureGrid, duration: float) -> list[np.ndarray]:
        """Arrays of one stream. Reading a file takes half the time of mapping it into memory and copying."""
        arrays: list[np.ndarray] = []
        for path in paths:
            try:
                with path.open("rb") as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                check_features(array, size // len(paths), grid, duration)
            except (ValueError, EOFError, MemoryError) as error:  # MemoryError if the header has a vast shape
                raise ValueError(f"{path} is not a {self.feature_set.name} feature file: {error}") from error
            arrays.append(array)
        return arrays
