"""Reading of text and JSON files, and of the numbers in them."""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

MAX_FILE_SIZE = 256 * 2**20  # bytes of an annotation file


def read_annotation_text(path: str | os.PathLike[str]) -> str:
    """The text of an annotation file: UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is larger than `MAX_FILE_SIZE`, or not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No annotation file at {path}.")
    size = path.stat().st_size
    if size > MAX_FILE_SIZE:
        raise ValueError(
            f"{path} has {size / 2**20:,.0f} MiB; the limit for annotation files is {MAX_FILE_SIZE >> 20} MiB. "
            "Split it into files of fewer videos."
        )
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}. Save it as UTF-8."
        ) from error


def read_annotation_json(path: str | os.PathLike[str]) -> tuple[Any, list[str]]:
    """The content of a JSON file, and the keys that occur twice in one object, of which only the last value is kept.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it cannot be read as JSON.
    """
    repeated: list[str] = []

    def noting_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return content

    text = read_annotation_text(path)
    try:
        return json.loads(text, object_pairs_hook=noting_repeats), repeated
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not an annotation file: its JSON is nested too deeply to be read.") from error


def parse_number(text: str) -> float | str:
    """The decimal number in a text, or the text itself if it is not a number; a later check then reports it.

    >>> [parse_number(text) for text in ("1.25", " 3e-2 ", "0x1", "1_0", "nan", "12,5")]
    [1.25, 0.03, '0x1', '1_0', 'nan', '12,5']
    """
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text.strip(), re.ASCII):
        return float(text)
    return text
