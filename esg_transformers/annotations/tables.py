"""Events one a line, all videos in one file: CSV, the TSV of DESED, and RTTM."""

import csv
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import parse_number, read_annotation_text
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing

logger = logging.getLogger(__name__)

CSV_COLUMNS = ("video_id", "start", "end", "label", "score", "duration", "split")  # the last three may be missing
# DESED and DCASE say onset and offset; sed_eval takes these with `event_` before them, too.
DESED_COLUMNS = {
    "filename": "video_id",
    "onset": "start",
    "event_onset": "start",
    "offset": "end",
    "event_offset": "end",
    "event_label": "label",
}
NO_EVENTS = ";; no events:"  # before the id of a video without events, in RTTM


def scan_csv(reading: AnnotationReading) -> Annotations:
    """Gather a CSV file: an event a row, times in seconds, under a header of `CSV_COLUMNS` in any order.

    The first four columns are needed; columns of other names are left, with a warning. A row without start, end, label
    and score is a video, of which there may be no other row.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no such header, or is not CSV.
    """
    for row in _rows(reading, ",", {name: name for name in CSV_COLUMNS}):
        video_id, score, duration = row["video_id"], row.get("score"), row.get("duration")
        known = reading.add_video(video_id, parse_number(duration) if duration else None, row.get("split") or None)
        if known and any((row["start"], row["end"], row["label"], score)):
            start, end = parse_number(row["start"]), parse_number(row["end"])
            reading.add_event(video_id, start, end, row["label"], parse_number(score) if score else None)
    return reading.annotations()


def write_csv(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write a CSV file that `scan_csv` gives back, the order of the classes apart; in one step."""
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
    r"""Gather the strong labels of DESED and DCASE: columns filename, onset, offset, event_label, tabs between them.

    Times are in seconds. `event_onset` and `event_offset` are read as well. The id of a video is its file name without
    the suffix; `x.wav` with nothing else in its row has no events.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no such header, or is not such a table.
    """
    for row in _rows(reading, "\t", DESED_COLUMNS):
        stem = row["video_id"].rpartition(".")[0]
        video_id = stem or row["video_id"]
        if reading.add_video(video_id) and any((row["start"], row["end"], row["label"])):
            reading.add_event(video_id, parse_number(row["start"]), parse_number(row["end"]), row["label"])
    return reading.annotations()


def write_desed(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write strong labels as DESED has them, files being `ID.wav`; in one step.

    `scan_desed` gives the same times and labels. They hold no scores, durations and splits.
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
    """The rows of a table, by what its columns are called here; `columns` gives that for the names in its header."""
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
                raise ValueError(f"{path} has two columns for {name!r}. Its columns are {header}; leave one of them.")
            if name not in columns.values():
                reading.add_problem("unknown column", f"column {name!r} is not read", severity="warning")
        for line in lines:
            if len(line) == len(names):
                yield dict(zip(names, line, strict=True))
            elif line:
                what = f"line {lines.line_num} has {len(line)} columns and the header {len(names)}"
                reading.add_problem("bad row", what)
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a {reading.layout}: line {lines.line_num}: {error}.") from error


def _header_problem(header: list[str], delimiter: str) -> str:
    names = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
    for other, name in names.items():
        if len(header) == 1 and other in header[0]:
            return f"what is between its columns is {name}, and should be {names[delimiter]}"
    return f"its columns are {header}" if header else "it is empty"


def scan_rttm(reading: AnnotationReading) -> Annotations:
    """Gather the `SPEAKER` lines of an RTTM file (NIST, RT-09 evaluation plan, appendix A).

    `SPEAKER file channel start duration <NA> <NA> label confidence <NA>`, in seconds; the confidence is the score, and
    the channel is not read. Lines of other types are left, with a warning, and comments (`;;`) too, except for
    `;; no events: FILE`, which `write_rttm` leaves for videos without events. Labels have `_` for a space; those that
    are in `reading.label2id` with a space get it back.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not UTF-8 text.
    """
    spaced = {_without_spaces(label): label for label in reading.label2id or ()}
    spaced.update({label: label for label in reading.label2id or ()})
    others: Counter[str] = Counter()
    for number, line in enumerate(read_annotation_text(reading.source).split("\n"), start=1):
        line = line.strip()
        fields = line.split()
        if line.startswith(NO_EVENTS):
            reading.add_video(line.removeprefix(NO_EVENTS).strip())
        elif not fields or line.startswith(";;"):
            continue
        elif fields[0] != "SPEAKER":
            others[fields[0]] += 1
        elif len(fields) < 8:
            reading.add_problem("bad row", f"line {number} has {len(fields)} fields, and not 10: {line:.200}")
        else:
            _, video_id, _, start, duration, _, _, label, *rest = fields
            score = rest[0] if rest and rest[0] != "<NA>" else None
            reading.add_event(
                video_id,
                parse_number(start),
                _end_of(start, duration),
                spaced.get(label, label),
                None if score is None else parse_number(score),
            )
    for kind, count in others.items():
        what = f"lines of type {kind!r:.100} are not read ({count} of them): events are of type SPEAKER"
        reading.add_problem("line of another type", what, severity="warning")
    return reading.annotations()


def write_rttm(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write an RTTM file that `scan_rttm` gives back; in one step.

    Spaces of labels become `_`, and come back only where `label2id` is known when reading. Durations of videos and
    splits are not held. Videos without events are in comments, which other readers pass over.

    Raises:
        ValueError: if a video id has a space, or two labels would be written alike.
    """
    names = {label: _without_spaces(label) for label in annotations.labels}
    for name, count in Counter(names.values()).items():
        if count > 1:
            alike = [label for label in names if names[label] == name]
            raise ValueError(f"RTTM has no spaces in labels: {alike} would all be {name!r}. Rename one of them.")
    for video_id in annotations.videos:
        if re.search(r"\s", video_id):
            raise ValueError(f"RTTM has no spaces in file names; rename video {video_id!r}, or write another format.")
    changed = [label for label, name in names.items() if name != label]
    if changed:
        logger.warning(f"{path}: RTTM has no spaces in labels; {changed[0]!r} is {names[changed[0]]!r} now.")
    with replacing(path) as file:
        for video_id, video in annotations.videos.items():
            for event in video.events:
                # As decimal numbers, so that start and duration add up to the end again, digit for digit.
                start, end = Decimal(repr(float(event.start))), Decimal(repr(float(event.end)))
                score = "<NA>" if event.score is None else float(event.score)
                fields = (video_id, 1, f"{start:f}", f"{end - start:f}", "<NA>", "<NA>", names[event.label], score)
                file.write(f"SPEAKER {' '.join(map(str, fields))} <NA>\n")
            if not video.events:
                file.write(f"{NO_EVENTS} {video_id}\n")


def _without_spaces(label: str) -> str:
    return re.sub(r"\s", "_", label)


def _end_of(start: str, duration: str) -> float | str:
    """`start + duration`, or a text that is no number."""
    if isinstance(parse_number(start), str) or isinstance(parse_number(duration), str):
        return f"{start} + {duration}"
    try:
        return float(Decimal(start) + Decimal(duration))
    except InvalidOperation:  # an exponent out of all bounds
        return f"{start} + {duration}"
