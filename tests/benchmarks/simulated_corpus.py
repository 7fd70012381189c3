"""Simulated features over the events of UnAV-100, on which `accuracy.py` compares models.

    python tests/benchmarks/simulated_corpus.py unav100_annotations.json corpus --feature-set i3d-vggish --seed 1
    python tests/benchmarks/simulated_corpus.py unav100_annotations.json corpus --feature-set one-peace \\
        --text-embeddings unav100_prompt.npy --seed 1

The videos have events of the 20 most frequent classes only, and each is cut to a window of 16 s at a random position
with an event in it. An event is kept if half of it, or half of the window, lies inside. Shorter videos are kept whole.
The folder gets:

* `annotations.json`, in UnAV-100's format; a window has the id of its video;
* `av_features`, the feature files of all videos;
* `noisy_features`, those of the test videos at 1.5 times the difficulty;
* `one_stream.txt`, the ids of the test videos with a distractor: something that is only seen or only heard.

Public inputs: the annotations are `data/unav100_annotations.json` of github.com/ttgeng233/UnAV (commit 60144ed), the
text embeddings of the class names `data/unav100/unav100_prompt.npy` of github.com/ttgeng233/UniAV (commit dadff1b).
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from esg_transformers.annotations import Annotations, Event
from esg_transformers.annotations.unav import read_unav_annotations, write_unav_annotations
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.simulation.annotated_features import AnnotatedFeatures, select_videos, write_feature_files

COUNTS = {"train": 200, "validation": 60, "test": 150}
NOISE = 1.5  # difficulty of the noisy test videos
TRIES = 20  # random positions per video, of which the first with an event is taken


def windows_of(annotations: Annotations, num_classes: int, seconds: float, seed: int) -> Annotations:
    """One window per video, under the video's id; all labels are kept.

    Args:
        annotations: whole videos with known durations.
        num_classes: number of most frequent classes; videos with events of other classes are left out.
        seconds: length of a window.
        seed: seed of the positions.
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
    """The part of an event inside a window, in seconds from the start of the window; `None` if less than half."""
    first, last = (min(max(bound, start), end) for bound in (event.start, event.end))
    if last - first < min(event.end - event.start, end - start) / 2 or last <= first:
        return None
    return replace(event, start=first - start, end=last - start)


def write_features(
    folder: Path,
    annotations: Annotations,
    feature_set: str,
    text_embeddings: Mapping[str, np.ndarray] | None,
    seed: int,
) -> None:
    """Write annotations, features, noisy features and the list of videos with distractors."""
    splits, noisy = (
        {
            split: AnnotatedFeatures(annotations, split, FEATURE_SETS[feature_set], text_embeddings, seed, difficulty)
            for split in dict.fromkeys(video.split for video in annotations.videos.values())
        }
        for difficulty in (1.0, NOISE)
    )
    folder.mkdir(parents=True)
    write_unav_annotations(annotations, folder / "annotations.json")
    for videos in splits.values():
        write_feature_files(videos, folder / "av_features")
    if "test" in splits:
        write_feature_files(noisy["test"], folder / "noisy_features")
        one_stream = [
            video_id
            for video_id in splits["test"].video_ids
            if not all(occurrence.annotated for occurrence in splits["test"].occurrences(video_id))
        ]
        (folder / "one_stream.txt").write_text("".join(f"{video_id}\n" for video_id in one_stream))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", help="unav100_annotations.json")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--feature-set", choices=sorted(FEATURE_SETS), required=True)
    parser.add_argument("--text-embeddings", metavar="FILE", help=".npy, a row per label id; one-peace needs it")
    parser.add_argument("--classes", type=int, default=20, help="most frequent classes to keep (default: 20)")
    parser.add_argument("--seconds", type=float, default=16.0, help="length of a window (default: 16)")
    for split, count in COUNTS.items():
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=f"videos (default: {count})")
    parser.add_argument("--seed", type=int, default=0, help="seed of windows, choice and features (default: 0)")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        raise SystemExit(f"{arguments.folder} exists; name a new folder.")
    try:
        annotations = read_unav_annotations(arguments.annotations)
        text_embeddings = None
        if arguments.text_embeddings:
            text_embeddings = dict(zip(annotations.labels, np.load(arguments.text_embeddings), strict=True))
        windows = windows_of(annotations, arguments.classes, arguments.seconds, arguments.seed)
        counts = {split: getattr(arguments, split) for split in COUNTS}
        chosen = select_videos(windows, counts, seed=arguments.seed)
        write_features(arguments.folder, chosen, arguments.feature_set, text_embeddings, arguments.seed)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(f"{len(chosen.videos)} videos of {len(chosen.labels)} classes in {arguments.folder}")


if __name__ == "__main__":
    main()
