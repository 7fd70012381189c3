"""Found events as annotations, and the result file of a run over many videos, which a later run completes."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from esg_transformers.annotations.activitynet import write_activitynet_results
from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.files import check_folder_of, replacing


def annotations_of_results(
    video_ids: Iterable[str],
    events: Iterable[Sequence[Mapping[str, Any]]],
    durations: Iterable[float | None] | None = None,
) -> Annotations:
    """Found events as annotations with scores, in split "test", for the writers of `esg_transformers.annotations`.

    Args:
        video_ids: N ids.
        events: N lists of `{"start", "end", "label", "score"}`.
        durations: N, seconds; by default unknown.

    >>> found = [{"start": 0.5, "end": 2.0, "label": "alarm", "score": 0.75}]
    >>> annotations_of_results(["yard_07"], [found]).videos["yard_07"].events
    (Event(start=0.5, end=2.0, label='alarm', score=0.75),)
    """
    ids = list(video_ids)
    videos = {}
    for video_id, found, duration in zip(ids, events, durations or [None] * len(ids), strict=True):
        scored = tuple(Event(event["start"], event["end"], event["label"], event["score"]) for event in found)
        videos[video_id] = AnnotatedVideo(video_id, duration, "test", scored)
    labels = {event.label for video in videos.values() for event in video.events}
    return Annotations(videos, tuple(sorted(labels)))


def write_predictions(
    path: str | os.PathLike[str], video_ids: Iterable[str], events: Iterable[Sequence[Mapping[str, Any]]]
) -> None:
    """Write found events in the layout of ActivityNet's results (`scan_activitynet_results`), whole or not at all."""
    write_activitynet_results(annotations_of_results(video_ids, events), path)


@contextmanager
def results_file(
    output: str | os.PathLike[str] | None, run: Mapping[str, Any], names: Collection[str]
) -> Iterator[tuple[dict[str, dict[str, Any]], Callable[[dict[str, Any]], None]]]:
    """Context manager for a JSON Lines file: gives its results for `names`, and a function that adds a result.

    Args:
        output: the file, created if missing; `None` keeps nothing.
        run: what the results depend on, for the first line; results of another run are refused.
        names: files whose failures are left out, to be tried again.

    Raises:
        FileNotFoundError: if the folder of `output` does not exist.
        OSError: if another process is writing `output`.
        ValueError: if `output` is not a file of results, or is of another run.
    """
    if output is None:
        yield {}, lambda result: None
        return
    check_folder_of(output)
    path = Path(output)
    try:
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0).acquire()
    except Timeout as error:
        raise OSError(f"Another process is writing {path}. Wait until it has ended.") from error
    with lock:
        header = json.dumps({"run": run}) + "\n"
        kept = _lines_to_keep(path, json.loads(header)["run"], names)
        with replacing(path) as file:  # leaves out failures to be tried again, and a torn last line
            file.writelines([header, *kept.values()])
        with path.open("a", encoding="utf-8") as file:

            def write(result: dict[str, Any]) -> None:
                file.write(json.dumps(result, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield {name: json.loads(line) for name, line in kept.items() if name in names}, write


def _lines_to_keep(path: Path, run: Mapping[str, Any], names: Collection[str]) -> dict[str, str]:
    """Lines of an earlier run by file name, without the failures of `names`.

    Raises:
        ValueError: if it is not a file of results, or its run had another model or other settings.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    *lines, _ = path.read_bytes().split(b"\n")  # the part after the last newline is empty, or a torn line
    kept: dict[str, str] = {}
    for number, line in enumerate(lines or [b""], start=1):
        try:
            content = json.loads(line)
            if number == 1:
                earlier = dict(content["run"])
            elif "error" not in content or content["video"] not in names:
                kept[content["video"]] = line.decode() + "\n"
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is not a result file of an earlier run: line {number} has another layout. Give another file."
            ) from error
    differing = [
        f"{name} is {run.get(name, 'not given')} and was {earlier.get(name, 'not given')}"
        for name in sorted({*run, *earlier})
        if run.get(name) != earlier.get(name)
    ]
    if differing:
        raise ValueError(
            f"{path} is of a run with another model or other settings: {'; '.join(differing)}. Use the same, or give "
            "another file."
        )
    return kept
