"""Paths of formats with one file per video: the files to read, and the files to write."""

import os
from pathlib import Path

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.values import is_safe_video_id


def files_to_read(path: str | os.PathLike[str], suffix: str) -> list[Path]:
    """The file at `path`, or the files in the folder `path` that have the suffix (`".txt"`, in any case), by name.

    A missing file is returned as it is: opening it raises the error.

    Raises:
        ValueError: if `path` is a folder without such files.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == suffix and file.is_file())
    if not files:
        raise ValueError(
            f"{path} contains no {suffix} file. Give one, or a folder of {suffix} files named after their videos."
        )
    return files


def files_to_write(annotations: Annotations, path: str | os.PathLike[str], suffix: str) -> dict[str, Path]:
    """The file to write for each video, by id.

    One video goes to `path` itself if that has the suffix; otherwise `path` is a folder of `ID + suffix`. The folder
    is created if it does not exist; other files in it are kept.

    Raises:
        FileNotFoundError: if the parent folder of `path` does not exist.
        ValueError: if no file can be named after a video id, or `path` is a file and a folder is needed.
    """
    path = Path(path)
    unsafe = [video_id for video_id in annotations.videos if not is_safe_video_id(video_id)]
    if unsafe:
        raise ValueError(
            f"No file can be named after video {unsafe[0]!r}: an id must be without / \\ : and control characters."
        )
    if len(annotations.videos) == 1 and path.suffix.lower() == suffix and not path.is_dir():
        return dict.fromkeys(annotations.videos, path)
    if path.is_file():
        raise ValueError(
            f"{path} is a file, but a folder is needed for {len(annotations.videos)} videos, one {suffix} file each."
        )
    path.mkdir(exist_ok=True)
    return {video_id: path / f"{video_id}{suffix}" for video_id in annotations.videos}
