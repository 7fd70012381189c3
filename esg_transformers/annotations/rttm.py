"""RTTM, the Rich Transcription Time Marked format: one event per line, all videos in one file."""

import logging
import os
import re
from collections import Counter
from decimal import Decimal, InvalidOperation

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.parsing import parse_number, read_annotation_text
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing

logger = logging.getLogger(__name__)

NO_EVENTS = ";; no events:"  # comment before the id of a video without events


def scan_rttm(reading: AnnotationReading) -> Annotations:
    """Read the `SPEAKER` lines of an RTTM file (NIST, RT-09 evaluation plan, appendix A).

    `SPEAKER file channel start duration <NA> <NA> label confidence <NA>`, in seconds. The confidence is the score;
    the channel is ignored. Lines of other types are ignored with a warning, and comments (`;;`) silently, except for
    `;; no events: FILE`, which `write_rttm` writes for videos without events. Labels have `_` for a space; a label
    that has spaces in `reading.label2id` gets them back.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not UTF-8 text.
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
            reading.add_problem("bad row", f"line {number} has {len(fields)} fields, expected 10: {line:.200}")
        else:
            _, video_id, _, start, duration, _, _, label, *rest = fields
            score = parse_number(rest[0]) if rest and rest[0] != "<NA>" else None
            end = _end_of(start, duration)
            reading.add_event(video_id, parse_number(start), end, spaced.get(label, label), score)
    for kind, count in others.items():
        what = f"{count} lines of type {kind!r:.100} are ignored: events are lines of type SPEAKER"
        reading.add_problem("line of another type", what, severity="warning")
    return reading.annotations()


def write_rttm(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write an RTTM file that `scan_rttm` reads back; replaces an existing file in one step.

    Spaces in labels become `_`; they come back only if `label2id` is passed when reading. The format holds no
    durations of videos and no splits. Videos without events are listed in comments, which other readers ignore.

    Raises:
        ValueError: if a video id has a space, or two labels would be written alike.
    """
    names = {label: _without_spaces(label) for label in annotations.labels}
    for name, count in Counter(names.values()).items():
        if count > 1:
            alike = [label for label in names if names[label] == name]
            raise ValueError(f"RTTM has no spaces in labels: {alike} would all become {name!r}. Rename one of them.")
    for video_id in annotations.videos:
        if re.search(r"\s", video_id):
            raise ValueError(f"RTTM has no spaces in file names: rename video {video_id!r}, or write another format.")
    changed = [label for label, name in names.items() if name != label]
    if changed:
        logger.warning(
            f"{path}: RTTM has no spaces in labels; {len(changed)} labels are written with _, such as "
            f"{names[changed[0]]!r} for {changed[0]!r}."
        )
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
    """`start + duration` in decimal arithmetic; the sum as text if one of them is no number."""
    if isinstance(parse_number(start), str) or isinstance(parse_number(duration), str):
        return f"{start} + {duration}"
    try:
        return float(Decimal(start) + Decimal(duration))
    except InvalidOperation:  # an exponent beyond the range of Decimal
        return f"{start} + {duration}"
