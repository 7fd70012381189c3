"""Audacity label tracks: one text file per video."""

import os

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.folders import files_to_read, files_to_write
from esg_transformers.annotations.parsing import parse_number, read_annotation_text
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing


def scan_audacity(reading: AnnotationReading) -> Annotations:
    r"""Read label tracks as Audacity exports them (its manual, "Importing and Exporting Labels").

    A line is `start<TAB>end<TAB>label`, in seconds. Lines that begin with a backslash (the frequency ranges of the
    extended format) are ignored. The source is one file, or a folder of them; each file is one video, whose id is the
    file name without `.txt`. An empty file is a video without events. Point labels (start = end) are problems.

    Raises:
        FileNotFoundError: if the source does not exist.
        ValueError: if a file is not UTF-8 text, or a folder has no `.txt` file.
    """
    for path in files_to_read(reading.source, ".txt"):
        if not reading.add_video(path.stem):
            continue
        for line in read_annotation_text(path).split("\n"):
            line = line.removesuffix("\r")
            if line.strip() and not line.startswith("\\"):
                start, end, label = (*line.split("\t", 2), "", "")[:3]
                reading.add_event(path.stem, parse_number(start), parse_number(end), label)
    return reading.annotations()


def write_audacity(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write label tracks that Audacity imports; `scan_audacity` reads back the same times and labels.

    The format holds no scores, durations and splits.

    Args:
        annotations: videos and events.
        path: a `.txt` file for one video, or a folder of `ID.txt`; each existing file is replaced in one step.

    Raises:
        FileNotFoundError: if the parent folder of `path` does not exist.
        ValueError: if no file can be named after a video id.
    """
    for video_id, file_path in files_to_write(annotations, path, ".txt").items():
        with replacing(file_path) as file:
            for event in annotations.videos[video_id].events:
                file.write(f"{event.start}\t{event.end}\t{event.label}\n")
