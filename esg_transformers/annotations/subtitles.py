"""Subtitles, so that a player shows events while a video runs: WebVTT and SRT, written only."""

import html
import os

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.annotations.folders import files_to_write
from esg_transformers.files import replacing


def write_webvtt(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write WebVTT (W3C), a file per video: cues in the order of time, such as `dog barking (0.91)`.

    Times are rounded to milliseconds, scores to two decimals; `&`, `<` and `>` are escaped. A video without events has
    a file without cues. Durations and splits are not held.

    Args:
        annotations: what to write.
        path: a `.vtt` file for one video, or a folder of `ID.vtt`; existing files are replaced, each in one step.

    Raises:
        FileNotFoundError: if the folder that `path` should be in does not exist.
        ValueError: if a file cannot be named after an id.
    """
    for video_id, file_path in files_to_write(annotations, path, ".vtt").items():
        with replacing(file_path) as file:
            file.write("WEBVTT\n")
            for start, end, text in _cues(annotations.videos[video_id]):
                text = html.escape(text, quote=False)
                file.write(f"\n{_clock_time(start, '.')} --> {_clock_time(end, '.')}\n{text}\n")


def write_srt(annotations: Annotations, path: str | os.PathLike) -> None:
    """Write SubRip, a file per video, as `write_webvtt`; a video without events has an empty file.

    Nothing is escaped: SubRip has no way to.
    """
    for video_id, file_path in files_to_write(annotations, path, ".srt").items():
        with replacing(file_path) as file:
            for number, (start, end, text) in enumerate(_cues(annotations.videos[video_id]), start=1):
                file.write(f"{number}\n{_clock_time(start, ',')} --> {_clock_time(end, ',')}\n{text}\n\n")


def _cues(video: AnnotatedVideo) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds, and text; players want a start that does not fall and an end after the start."""
    cues = []
    for event in sorted(video.events, key=lambda event: (event.start, event.end)):
        start = round(1000 * event.start)
        score = "" if event.score is None else f" ({event.score:.2f})"
        cues.append((start, max(round(1000 * event.end), start + 1), event.label + score))
    return cues


def _clock_time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"
