"""Windows of a corpus' videos, as annotations of short videos: those that the accuracy tables' features stand for.

    python tests/benchmarks/windows.py annotations.json windows.json --classes 20 --seconds 16 --seed 1

Of each video whose events are all of the most frequent classes a window at a random place, in which there is an event:
an event is kept where half of it, or half of the window, lies inside. Shorter videos are kept whole. The files are in
UnAV-100's format; a window has its video's id.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from esg_transformers.data.annotations import replacing

TRIES = 20  # of a window with an event, for each video


def windows_of(database: dict[str, Any], num_classes: int, seconds: float, seed: int) -> dict[str, Any]:
    """The windows, by video id.

    Args:
        database: by video id: `duration`, `subset`, and `annotations` with `segment`, `label` and `label_id`.
        num_classes: the most frequent classes, videos with others being left out.
        seconds: length of a window.
        seed: where windows begin is a function of it and of the videos' order.
    """
    frequency = Counter(event["label_id"] for video in database.values() for event in video["annotations"])
    kept = {label for label, _ in sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:num_classes]}
    rng = np.random.default_rng(seed)
    windows = {}
    for video_id, video in sorted(database.items()):
        if not {event["label_id"] for event in video["annotations"]} <= kept:
            continue
        length = min(seconds, video["duration"])
        for start in rng.uniform(0, video["duration"] - length, TRIES):
            events = [cut(event, start, start + length) for event in video["annotations"]]
            events = [event for event in events if event is not None]
            if events:
                windows[video_id] = {**video, "duration": length, "annotations": events}
                break
    return windows


def cut(event: dict[str, Any], start: float, end: float) -> dict[str, Any] | None:
    """What of an event lies in a window, in seconds from its start; `None` where that is too little."""
    first, last = (min(max(bound, start), end) for bound in event["segment"])
    whole = event["segment"][1] - event["segment"][0]
    if last - first < min(whole, end - start) / 2 or last <= first:
        return None
    return {**event, "segment": [first - start, last - start]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations")
    parser.add_argument("windows", help="file to write")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    content = json.loads(Path(arguments.annotations).read_text(encoding="utf-8"))
    windows = windows_of(content["database"], arguments.classes, arguments.seconds, arguments.seed)
    with replacing(arguments.windows) as file:
        json.dump({**content, "database": windows}, file)
    print(f"{len(windows)} windows of {len(content['database'])} videos in {arguments.windows}")


if __name__ == "__main__":
    main()
