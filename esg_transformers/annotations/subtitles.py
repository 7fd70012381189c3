"""Subtitles that show events in a video player: WebVTT and SRT, written only."""

import html
import os

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.annotations.folders import files_to_write
from esg_transformers.files import replacing


def write_webvtt(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write WebVTT (W3C), one file per video: cues such as `dog barking (0.91)`, sorted by time.

    Times are rounded to milliseconds, scores to two decimals; `&`, `<` and `>` are escaped. A video without events
    has a file without cues. The format holds no durations and splits.

    Args:
        annotations: videos and events.
        path: a `.vtt` file for one video, or a folder of `ID.vtt`; each existing file is replaced in one step.

    Raises:
        FileNotFoundError: if the parent folder of `path` does not exist.
        ValueError: if no file can be named after a video id.
    """
    for video_id, file_path in files_to_write(annotations, path, ".vtt").items():
        with replacing(file_path) as file:
            file.write("WEBVTT\n")
            for start, end, text in _cues(annotations.videos[video_id]):
                text = html.escape(text, quote=False)
                file.write(f"\n{_clock_time(start, '.')} --> {_clock_time(end, '.')}\n{text}\n")


def write_srt(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write SubRip, one file per video, as `write_webvtt` does; a video without events has an empty file.

    Labels are not escaped, as SubRip has no escapes.
    """
    for video_id, file_path in files_to_write(annotations, path, ".srt").items():
        with replacing(file_path) as file:
            for number, (start, end, text) in enumerate(_cues(annotations.videos[video_id]), start=1):
                file.write(f"{number}\n{_clock_time(start, ',')} --> {_clock_time(end, ',')}\n{text}\n\n")


def _cues(video: AnnotatedVideo) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds, and text, sorted by start; every cue lasts 1 ms or more, as players require."""
    cues = []
    for event in sorted(video.events, key=lambda event: (event.start, event.end)):
        start = round(1000 * event.start)
        score = "" if event.score is None else f" ({event.score:.2f})"
        cues.append((start, max(round(1000 * event.end), start + 1), event.label + score))
    return cues


def _clock_time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"
