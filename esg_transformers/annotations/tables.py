"""Tables with one event per row and all videos in one file: CSV, and the TSV of DESED."""

import csv
import io
import os
from collections.abc import Iterator, Mapping

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import parse_number, read_annotation_text
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing

CSV_COLUMNS = ("video_id", "start", "end", "label", "score", "duration", "split")  # the last three are optional
# DESED and DCASE write onset and offset; sed_eval also accepts them with `event_` in front.
DESED_COLUMNS = {
    "filename": "video_id",
    "onset": "start",
    "event_onset": "start",
    "offset": "end",
    "event_offset": "end",
    "event_label": "label",
}


def scan_csv(reading: AnnotationReading) -> Annotations:
    """Read a CSV file: one event per row, times in seconds, with `CSV_COLUMNS` as header in any order.

    The first four columns are required; columns of other names are ignored with a warning. A row without start, end,
    label and score is a video without events.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a required column is missing, or the file is not CSV.
    """
    for row in _rows(reading, ",", {name: name for name in CSV_COLUMNS}):
        video_id, score, duration = row["video_id"], row.get("score"), row.get("duration")
        known = reading.add_video(video_id, parse_number(duration) if duration else None, row.get("split") or None)
        if known and any((row["start"], row["end"], row["label"], score)):
            start, end = parse_number(row["start"]), parse_number(row["end"])
            reading.add_event(video_id, start, end, row["label"], parse_number(score) if score else None)
    return reading.annotations()


def write_csv(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write a CSV file that `scan_csv` reads back, except for the order of classes; replaces a file in one step."""
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for video in annotations.videos.values():
            for event in video.events:
                values = (event.start, event.end, event.label, event.score)
                writer.writerow((video.video_id, *values, video.duration, video.split))
            if not video.events:
                writer.writerow((video.video_id, None, None, None, None, video.duration, video.split))


def scan_desed(reading: AnnotationReading) -> Annotations:
    """Read strong labels of DESED and DCASE: tab-separated columns filename, onset, offset, event_label.

    Times are in seconds. `event_onset` and `event_offset` are accepted as well. The video id is the file name without
    its suffix; a row with a file name only is a video without events.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a column is missing, or the file is not such a table.
    """
    for row in _rows(reading, "\t", DESED_COLUMNS):
        stem = row["video_id"].rpartition(".")[0]
        video_id = stem or row["video_id"]
        if reading.add_video(video_id) and any((row["start"], row["end"], row["label"])):
            reading.add_event(video_id, parse_number(row["start"]), parse_number(row["end"]), row["label"])
    return reading.annotations()


def write_desed(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write strong labels as DESED has them, with `ID.wav` as file names; replaces an existing file in one step.

    `scan_desed` reads back the same times and labels. The format holds no scores, durations and splits.
    """
    with replacing(path) as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("filename", "onset", "offset", "event_label"))
        for video_id, video in annotations.videos.items():
            for event in video.events:
                writer.writerow((f"{video_id}.wav", event.start, event.end, event.label))
            if not video.events:
                writer.writerow((f"{video_id}.wav", None, None, None))


def _rows(reading: AnnotationReading, delimiter: str, columns: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The rows of a table, by column; `columns` maps names in the file's header to those used here."""
    path = reading.source
    lines = csv.reader(io.StringIO(read_annotation_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        names = [columns.get(name, name) for name in header]
        for wanted in ("video_id", "start", "end", "label"):
            if wanted not in names:
                title = next(name for name, meaning in columns.items() if meaning == wanted)
                raise ValueError(f"{path} has no column {title!r}: {_header_problem(header, delimiter)}.")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{path} has two columns for {name!r}. Its columns are {header}; remove one of them.")
            if name not in columns.values():
                reading.add_problem("unknown column", f"column {name!r} is ignored", severity="warning")
        for line in lines:
            if len(line) == len(names):
                yield dict(zip(names, line, strict=True))
            elif line:
                what = f"line {lines.line_num} has {len(line)} columns, but the header has {len(names)}"
                reading.add_problem("bad row", what)
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a {reading.layout}: line {lines.line_num}: {error}.") from error


def _header_problem(header: list[str], delimiter: str) -> str:
    names = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
    for other, name in names.items():
        if len(header) == 1 and other in header[0]:
            return f"its columns are separated by {name}, expected {names[delimiter]}"
    return f"its columns are {header}" if header else "it is empty"
