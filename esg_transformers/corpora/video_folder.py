"""Annotated video files, encoded on access."""

import os
from pathlib import Path

import torch

from esg_transformers.annotations.events import Annotations
from esg_transformers.corpora.example import Example
from esg_transformers.encoders.encoder import AudioVisualEncoder

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".wav", ".flac", ".mp3", ".m4a", ".ogg")


class VideoFolder(torch.utils.data.Dataset[Example]):
    """The videos of one split, encoded on access from a folder of video files; a `VideoDataset`.

    Files are named after the video ids, with a suffix of `VIDEO_SUFFIXES`. To read the features more than once, write
    them to a corpus (`write_corpus`).

    Args:
        annotations: annotations of the videos, in any splits.
        videos_dir: the folder of the files.
        encoder: encoder of picture and sound.
        split: the split to read.

    Attributes:
        labels (`tuple[str, ...]`): class names by id.
        feature_spec (`FeatureSpec`): time grid, channels and encoder of the features.
        video_ids (`tuple[str, ...]`): the id of each video.
        durations (`tuple[float, ...]`): annotated seconds of each video.

    Raises:
        FileNotFoundError: if the folder or files are missing, naming the first five.
        ValueError: if no video is in the split, or a duration is unknown; on access, if a file cannot be decoded.
    """

    def __init__(
        self, annotations: Annotations, videos_dir: str | os.PathLike[str], encoder: AudioVisualEncoder, split: str
    ):
        self.labels = annotations.labels
        self.feature_spec = encoder.feature_spec
        self._encoder = encoder
        self._annotations = annotations
        self._videos = tuple(annotations.split(split).videos.values())
        self.video_ids = tuple(video.video_id for video in self._videos)
        present = video_files(videos_dir)
        missing = [video_id for video_id in self.video_ids if video_id not in present]
        if missing:
            raise FileNotFoundError(
                f"{videos_dir} lacks {len(missing)} of the {len(self._videos)} videos of split {split!r}: "
                f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}. A file is named after the "
                f"video's id, with one of the suffixes {', '.join(VIDEO_SUFFIXES)}."
            )
        self.durations = tuple(annotations.split(split).durations().values())
        self._paths = [present[video_id] for video_id in self.video_ids]

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> Example:
        video, features = self._videos[index], self._encoder(self._paths[index])
        segments, labels = self._annotations.targets_of(video)
        return Example(
            video_id=video.video_id,
            duration=self.durations[index],
            visual_features=features.visual,
            audio_features=features.audio,
            segments=segments,
            labels=labels,
        )

    def fingerprint(self, index: int) -> str:
        """The sources of an example but the encoder: annotation, and name, size and modification time of the file."""
        stat = self._paths[index].stat()
        return repr((self._videos[index], self._paths[index].name, stat.st_size, stat.st_mtime_ns))


def video_files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Video and sound files of a folder by id; of files that differ in suffix only, the first in `VIDEO_SUFFIXES`.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No video folder at {folder}.")
    # Suffixes in lower case: cameras write both `.mp4` and `.MP4`.
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEO_SUFFIXES]
    files.sort(key=lambda path: VIDEO_SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in files}
