"""Text and JSON files with annotations, and the numbers in them."""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

MAX_FILE_SIZE = 256 * 2**20  # bytes of an annotation file


def read_annotation_text(path: str | os.PathLike) -> str:
    """The text of an annotation file: UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is larger than `MAX_FILE_SIZE`, or not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No annotation file at {path}.")
    if path.stat().st_size > MAX_FILE_SIZE:
        raise ValueError(
            f"{path} has {path.stat().st_size / 2**20:,.0f} MiB; annotation files of up to {MAX_FILE_SIZE >> 20} MiB "
            "are read. Split it by videos."
        )
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}. Save it as UTF-8."
        ) from error


def read_annotation_json(path: str | os.PathLike) -> tuple[Any, list[str]]:
    """The content of a JSON file, and keys that one of its objects gives twice, of which JSON keeps the last only.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as JSON.
    """
    repeated: list[str] = []

    def without_repeats(pairs):
        result = dict(pairs)
        if len(result) < len(pairs):
            repeated.extend(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        return result

    text = read_annotation_text(path)
    try:
        return json.loads(text, object_pairs_hook=without_repeats), repeated
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not an annotation file: its JSON is nested too deeply to be read.") from error


def parse_number(text: str) -> float | str:
    """The number that a text file gives for a time, a score or a duration; the text itself if it is none.

    >>> [parse_number(text) for text in ("1.25", " 3e-2 ", "0x1", "1_0", "nan", "12,5")]
    [1.25, 0.03, '0x1', '1_0', 'nan', '12,5']
    """
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text.strip(), re.ASCII):
        return float(text)
    return text
