"""Files that are written whole or not at all, and their checksums."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[str]]:
    """A UTF-8 text file to write that takes the place of `path` when it is whole; on an error all stays as it was."""
    path = Path(path)
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_folder_of(path: str | os.PathLike[str]) -> None:
    """Refuse a file to write whose folder does not exist: before the work, not after it.

    Raises:
        FileNotFoundError: naming the folder.
    """
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {Path(path).parent}. Make it first.")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_figure(path: str | os.PathLike, figure: "Figure") -> None:
    """Write a figure to a file in one step, in the format that its suffix names."""
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        figure.savefig(partial, dpi=150, bbox_inches="tight")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
