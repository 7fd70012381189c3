"""Audacity's labels: a text file per video."""

import os

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.folders import files_to_read, files_to_write
from esg_transformers.annotations.parsing import parse_number, read_annotation_text
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.files import replacing


def scan_audacity(reading: AnnotationReading) -> Annotations:
    r"""Gather label tracks as Audacity exports them (its manual, "Importing and Exporting Labels").

    A line is `start<TAB>end<TAB>label`, in seconds. The frequency ranges of the extended format, in lines that begin
    with a backslash, are left. A file is one video, named by its stem, and a folder is many; an empty file is a video
    without events. Labels of a point in time have no length and are problems.

    Raises:
        FileNotFoundError: if there is no such file or folder.
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


def write_audacity(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write label tracks that Audacity imports; `scan_audacity` gives the same times and labels.

    They hold no scores, durations and splits.

    Args:
        annotations: what to write.
        path: a `.txt` file for one video, or a folder of `ID.txt`; existing files are replaced, each in one step.

    Raises:
        FileNotFoundError: if the folder that `path` should be in does not exist.
        ValueError: if a file cannot be named after an id.
    """
    for video_id, file_path in files_to_write(annotations, path, ".txt").items():
        with replacing(file_path) as file:
            for event in annotations.videos[video_id].events:
                file.write(f"{event.start}\t{event.end}\t{event.label}\n")
