"""Speed and memory of reading corpora into float32 batches: `python tests/benchmarks/corpus.py`.

Videos are like those of UnAV-100 with ONE-PEACE features: about 170 steps, 2 x 1536 channels, float16, random. A sample
counts when it is in a padded float32 batch of 16 in the training process; the file cache of the system stays warm.
Figures are medians; only their ratios can be compared between machines. With `--large`, a process that may use 2 GB
builds and reads a corpus of 8 GB.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from esg_transformers import EsgNetProcessor
from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import Example
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.localization.collator import EventLocalizationCollator
from esg_transformers.models.esg_net.grid_esg_net import EncoderId

ONE_PEACE = FEATURE_SETS["one-peace"]
LIMIT = 2 * 2**30  # bytes of memory of a process that reads the large corpus
COLLATE = EventLocalizationCollator(EsgNetProcessor(16.0, 4, 16, 1536, 1536))


class RandomVideos(Dataset[Example]):
    """Random features of 120 to 219 steps, computed on access."""

    labels = ("alarm", "speech")
    feature_spec = replace(ONE_PEACE.feature_spec, encoder=EncoderId("random", "1"))

    def __init__(self, num_videos: int):
        self.num_videos = num_videos
        self.video_ids = tuple(f"video{index}" for index in range(num_videos))

    @property
    def durations(self) -> tuple[float, ...]:
        """Seconds of every video."""
        return tuple(self[index]["duration"] for index in range(len(self)))

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> Example:
        random = np.random.default_rng(index)
        num_steps = int(random.integers(120, 220))
        visual, audio = random.standard_normal((2, num_steps, 1536), np.float32).astype(np.float16)
        return Example(
            video_id=f"video{index}",
            duration=((num_steps - 1) * ONE_PEACE.grid.stride + ONE_PEACE.grid.window) / ONE_PEACE.grid.frame_rate,
            visual_features=visual,
            audio_features=audio,
            segments=np.array([[0.0, 5.0], [2.0, 9.0]]),
            labels=np.array([0, 1]),
        )


class PlainDatasets(Dataset[dict[str, Any]]):
    """A corpus read by `datasets` in the torch format, for comparison."""

    def __init__(self, folder: Path):
        columns = ["visual_features", "audio_features"]
        rows = datasets.load_dataset(str(folder), split="train")
        self._rows = rows.with_format("torch", columns=columns, dtype=torch.float16, output_all_columns=True)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self._rows[index]
        events = row.pop("events")
        segments = np.array([(event["start"], event["end"]) for event in events])
        return row | {"segments": segments, "labels": np.array([event["label"] for event in events])}


def build(folder: Path, videos: RandomVideos) -> float:
    """Build a corpus; returns videos per second."""
    start = time.perf_counter()
    write_corpus(folder, {"train": videos})
    return len(videos) / (time.perf_counter() - start)


def write_feature_files(folder: Path, videos: RandomVideos) -> FeatureFolder:
    """Write the same videos as a folder of `.npy` files."""
    folder.mkdir()
    annotated = {}
    for example in (videos[index] for index in range(len(videos))):
        video_id, visual, audio = example["video_id"], example["visual_features"], example["audio_features"]
        assert visual is not None and audio is not None
        np.save(folder / f"{video_id}{ONE_PEACE.visual_suffixes[0]}.npy", visual)
        np.save(folder / f"{video_id}{ONE_PEACE.audio_suffixes[0]}.npy", audio)
        events = (Event(0.0, 5.0, "alarm"), Event(2.0, 9.0, "speech"))
        annotated[video_id] = AnnotatedVideo(video_id, example["duration"], "train", events)
    return FeatureFolder(Annotations(annotated, videos.labels), folder, ONE_PEACE, "train")


def samples_per_second(batches: Iterable[object], num_samples: int, repeats: int) -> float:
    """Median speed of going through all batches."""
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _batch in batches:
            pass
        rates.append(num_samples / (time.perf_counter() - start))
    return median(rates)


def speed(folder: Path, num_videos: int, repeats: int) -> None:
    """Print the speed of three data sets, read in the training process and by 2 workers."""
    videos = RandomVideos(num_videos)
    built = build(folder / "corpus", videos)
    ways: dict[str, Any] = {
        "EventCorpus": EventCorpus(folder / "corpus", "train"),
        "FeatureFolder, lazy .npy": write_feature_files(folder / "features", videos),
        "plain datasets, torch format": PlainDatasets(folder / "corpus"),
    }
    rates = {}
    for name, dataset in ways.items():
        for num_workers in (0, 2):
            loader = DataLoader(dataset, batch_size=16, shuffle=True, collate_fn=COLLATE, num_workers=num_workers)
            rates[name, num_workers] = samples_per_second(loader, num_videos, repeats)
    slowest = min(rates.values())
    print(f"\n{num_videos} videos, built at {built:.0f} videos/s; in brackets the ratio to the slowest\n")
    print("| samples/s into float32 batches of 16 | in process | 2 workers |\n|---|---|---|")
    for name in ways:
        cells = [f"{rates[name, n]:.0f} ({rates[name, n] / slowest:.2f}x)" for n in (0, 2)]
        print(f"| {name} | {' | '.join(cells)} |")


def large(folder: Path, num_videos: int) -> None:
    """Build and read a corpus of 8 GB in 2 GB; mapped files do not count, since the system can drop their pages."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    videos = RandomVideos(num_videos)
    built = build(folder / "large", videos)
    corpus = EventCorpus(folder / "large", "train")
    loader = DataLoader(corpus, batch_size=16, shuffle=True, collate_fn=COLLATE)
    read = samples_per_second(loader, num_videos, repeats=1)
    size = sum(path.stat().st_size for path in (folder / "large").rglob("*.parquet"))
    print(f"\n{size / 1e9:.1f} GB built at {built:.0f} and read at {read:.0f} videos/s within 2 GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--videos", type=int, default=2048, help="videos of the table, 1 MB each in two copies (default: 2048)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed readings of each kind (default: 3)")
    parser.add_argument("--large", action="store_true", help="build and read 8 GB in 2 GB; needs 17 GB of disk")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        if arguments.large:
            large(Path(folder), num_videos=8400)
        else:
            speed(Path(folder), arguments.videos, arguments.repeats)


if __name__ == "__main__":
    main()
