"""Files and folders that appear under their names only when complete, and checksums.

Content is written beside its destination under a hidden name and renamed when complete, so that an error, Ctrl-C or
`kill -9` leaves the old content or the new, never a part. After an error the partial content is removed.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "events.json"
...     with replacing(path) as file:
...         _ = file.write("[]")
...     print([path.name for path in Path(folder).iterdir()], sha256_of(path)[:8])
['events.json'] 4f53cda1
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Open a UTF-8 text file for writing that replaces `path` when the block ends without an error."""
    with replacing_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def replacing_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Path of a file to create, text or binary, that replaces `path` when the block ends without an error.

    Its name has another suffix than `path` has: a writer that chooses a format by the suffix must be given the format.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Path of a temporary folder whose files move into `folder` when the block ends without an error.

    Each file replaces the one of its name in one step; other files in `folder` stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    try:
        partial.mkdir()
        yield partial
        for file in partial.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Path of a temporary folder that is renamed to `path` when the block ends without an error.

    Raises:
        FileExistsError: if `path` exists.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already. Remove it or give another output folder.")
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_folder_of(path: str | os.PathLike[str]) -> None:
    """Check, before the work begins, that the folder of an output file exists.

    Raises:
        FileNotFoundError: naming the folder.
    """
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {Path(path).parent}. Make it first.")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    for block in blocks_of(path):
        digest.update(block)
    return digest.hexdigest()


def blocks_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, at most 1 MiB at a time."""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def save_figure(path: str | os.PathLike[str], figure: "Figure") -> None:
    """Write a figure to a file in the format that its suffix names, e.g. `.png`, `.pdf` or `.svg`.

    Raises:
        ValueError: if matplotlib has no such format.
    """
    with replacing_path(path) as partial:
        figure.savefig(partial, dpi=150, bbox_inches="tight", format=Path(path).suffix[1:] or "png")
