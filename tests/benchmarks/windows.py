"""Windows of a corpus' videos, as annotations of short videos: those that the accuracy tables' features stand for.

    python tests/benchmarks/windows.py annotations.json windows.json --classes 20 --seconds 16 --seed 1

Of each video whose events are all of the most frequent classes a window at a random place, in which there is an event:
an event is kept where half of it, or half of the window, lies inside. Shorter videos are kept whole. The files are in
UnAV-100's format; a window has its video's id.
"""

import argparse
from collections import Counter
from dataclasses import replace

import numpy as np

from esg_transformers.annotations.events import Annotations, Event
from esg_transformers.annotations.unav import read_unav_annotations, write_unav_annotations

TRIES = 20  # of a window with an event, for each video


def windows_of(annotations: Annotations, num_classes: int, seconds: float, seed: int) -> Annotations:
    """The windows, under their videos' ids and with all labels.

    Args:
        annotations: of whole videos, whose durations are known.
        num_classes: the most frequent classes, videos with others being left out.
        seconds: length of a window.
        seed: where windows begin is a function of it and of the videos.
    """
    frequency = Counter(event.label for video in annotations.videos.values() for event in video.events)
    kept = set(sorted(annotations.labels, key=lambda label: -frequency[label])[:num_classes])
    rng, durations = np.random.default_rng(seed), annotations.durations()
    windows = {}
    for video_id, video in sorted(annotations.videos.items()):
        if not {event.label for event in video.events} <= kept:
            continue
        length = min(seconds, durations[video_id])
        for start in rng.uniform(0, durations[video_id] - length, TRIES):
            cuts = [cut(event, float(start), float(start) + length) for event in video.events]
            events = tuple(event for event in cuts if event is not None)
            if events:
                windows[video_id] = replace(video, duration=length, events=events)
                break
    return Annotations(windows, annotations.labels)


def cut(event: Event, start: float, end: float) -> Event | None:
    """What of an event lies in a window, in seconds from its start; `None` where that is too little."""
    first, last = (min(max(bound, start), end) for bound in (event.start, event.end))
    if last - first < min(event.end - event.start, end - start) / 2 or last <= first:
        return None
    return replace(event, start=first - start, end=last - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations")
    parser.add_argument("windows", help="file to write")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        annotations = read_unav_annotations(arguments.annotations)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    windows = windows_of(annotations, arguments.classes, arguments.seconds, arguments.seed)
    write_unav_annotations(windows, arguments.windows)
    print(f"{len(windows.videos)} windows of {len(annotations.videos)} videos in {arguments.windows}")


if __name__ == "__main__":
    main()
