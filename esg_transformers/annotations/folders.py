"""Formats with one file per video: which files are read, and where they are written."""

import os
from pathlib import Path

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.values import is_safe_video_id


def files_to_read(path: str | os.PathLike, suffix: str) -> list[Path]:
    """The file at `path`; of a folder, its files with that suffix (`".txt"`, in any case), by name.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it is a folder without such files.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == suffix and file.is_file())
    if not files:
        raise ValueError(
            f"{path} has no {suffix} file in it. Give one, or a folder of them, each named after its video."
        )
    return files


def files_to_write(annotations: Annotations, path: str | os.PathLike, suffix: str) -> dict[str, Path]:
    """The file of each video, by id: `path` itself for one video if it has the suffix, else `ID + suffix` in `path`.

    The folder is made if it is not there; other files in it are left.

    Raises:
        FileNotFoundError: if the folder that `path` should be in does not exist.
        ValueError: if a file cannot be named after an id, or `path` is a file where a folder is needed.
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
            f"{path} is a file; a folder is needed for {len(annotations.videos)} videos, one {suffix} file each."
        )
    path.mkdir(exist_ok=True)
    return {video_id: path / f"{video_id}{suffix}" for video_id in annotations.videos}
