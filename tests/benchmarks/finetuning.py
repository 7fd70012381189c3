"""What fine-tuning is worth with few labelled clips: `python tests/benchmarks/finetuning.py clips` (or `features`).

A base model is trained on one set of classes. A site has other classes, some of them known to the base model, and 10,
50 or 200 labelled videos. Against each other: `esg-transformers finetune` as it is without options, with the body
frozen, with LoRA, and a model trained on the site's videos alone, with random weights to start from and as many steps.

* `clips`: simulated workshop clips, real mp4 files through the default encoder. The base model knows `alarm` and
  `machine running`, from 150 clips; the site has these and `door slamming` and `person speaking`.
* `features`: simulated features on the clock of I3D + VGGish, of 256 and 128 channels, 20 classes. The base model knows
  the first 12, from 400 videos in 12 epochs; the site has the last 12, so 4 of them are known. 15 epochs each, and
  without frozen parts and LoRA.

Figures are average mAP in percent on the site's test split, which plays no part in training; one seed.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.cli.main import main as esg_transformers
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import Example
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.video_folder import VideoFolder
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.localization.dataset import evaluate_dataset
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.simulation.clips import make_workshop_clips
from esg_transformers.simulation.features import simulate_splits
from esg_transformers.training.arguments import FINETUNING, LocalizationTrainingArguments
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model

SIZES = (10, 50, 200)
BASE_TRAINING = LocalizationTrainingArguments(
    epochs=25, warmup_epochs=2, learning_rate=2e-3, batch_size=8, ema_decay=0.99, tracker="none"
)
SCRATCH = LocalizationTrainingArguments(**(vars(FINETUNING) | {"learning_rate": 2e-3, "tracker": "none"}))
WAYS: dict[str, dict[str, list[str]]] = {
    "clips": {
        "fine-tuned": [],
        "fine-tuned, body frozen": ["--freeze", "model"],
        "fine-tuned, LoRA rank 8": ["--lora-rank", "8", "--learning-rate", "2e-3"],
    },
    "features": {"fine-tuned": ["--epochs", "15"]},
}


class SomeClasses(torch.utils.data.Dataset):
    """The first videos of a data set, with the events of some classes only."""

    def __init__(self, dataset, labels: Sequence[str], num_videos: int | None = None):
        self.dataset, self.labels = dataset, tuple(labels)
        self.feature_spec = dataset.feature_spec
        self.num_videos = len(dataset) if num_videos is None else num_videos
        self.video_ids = dataset.video_ids[: self.num_videos]
        self.durations = dataset.durations[: self.num_videos]

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> Example:
        example = self.dataset[index]
        names = [self.dataset.labels[label] for label in example["labels"].tolist()]
        kept = [i for i, name in enumerate(names) if name in self.labels]
        example["segments"] = example["segments"][kept]
        example["labels"] = torch.tensor([self.labels.index(names[i]) for i in kept], dtype=torch.long).numpy()
        return example


def clips(folder: Path) -> tuple[dict, dict, list[str], list[str]]:
    """Splits of the base model's videos and of the site's, and the classes of both."""
    worlds = []
    for name, seed, counts in (
        ("base", 1, {"train": 150, "validation": 30}),
        ("site", 0, {"train": 200, "validation": 30, "test": 60}),
    ):
        annotations = read_unav_annotations(make_workshop_clips(folder / name, counts, seed=seed))
        encoder = SpectralEncoder()
        worlds.append({split: VideoFolder(annotations, folder / name / "videos", encoder, split) for split in counts})
    labels = list(worlds[1]["train"].labels)
    return worlds[0], worlds[1], ["alarm", "machine running"], labels


def features(folder: Path) -> tuple[dict, dict, list[str], list[str]]:
    """As `clips`, of simulated features."""
    narrow = replace(FEATURE_SETS["i3d-vggish"], visual_size=256)
    splits = simulate_splits({"train": 600, "validation": 80, "test": 150}, num_classes=20, feature_set=narrow)
    labels = list(splits["train"].labels)

    class From(torch.utils.data.Subset):
        def __getattr__(self, name):
            value = getattr(self.dataset, name)
            return tuple(value[i] for i in self.indices) if name in ("video_ids", "durations") else value

    base = {"train": From(splits["train"], range(200, 600)), "validation": From(splits["validation"], range(40))}
    site = {"train": splits["train"], "validation": From(splits["validation"], range(40, 80)), "test": splits["test"]}
    return base, site, labels[:12], labels[8:]


def write(folder: Path, splits: dict, labels: Sequence[str], num_train: int | None = None) -> Path:
    kept = {
        split: SomeClasses(dataset, labels, num_train if split == "train" else None)
        for split, dataset in splits.items()
    }
    write_corpus(folder, kept)
    return folder


def test_map(folder: Path, corpus: Path) -> float:
    model, processor = EsgNetForEventLocalization.from_pretrained(folder), EsgNetProcessor.from_pretrained(folder)
    return 100 * evaluate_dataset(model, processor, EventCorpus(corpus, "test"), Accelerator())["average_map"]


def run(kind: str, folder: Path) -> None:
    ways = WAYS[kind]
    base_training = BASE_TRAINING if kind == "clips" else replace(BASE_TRAINING, epochs=12)
    scratch = SCRATCH if kind == "clips" else replace(SCRATCH, epochs=15)
    base, site, base_labels, site_labels = {"clips": clips, "features": features}[kind](folder / "videos")
    whole = write(folder / "whole", site, site_labels)  # encoded once
    site = {split: EventCorpus(whole, split) for split in site}
    corpus = write(folder / "base-corpus", base, base_labels)
    train_set, validation_set = EventCorpus(corpus, "train"), EventCorpus(corpus, "validation")
    model, processor = new_model(train_set, "tiny")
    progress = train(model, processor, train_set, validation_set, folder / "base", base_training)
    print(f"Base model: average mAP {100 * progress.best_map:.1f} on its own validation split.\n", flush=True)
    print(f"| labelled videos | trained on them alone | {' | '.join(ways)} |\n|---|---|{'---|' * len(ways)}")
    for size in SIZES:
        corpus = write(folder / f"site-{size}", site, site_labels, size)
        train_set, validation_set = EventCorpus(corpus, "train"), EventCorpus(corpus, "validation")
        model, processor = new_model(train_set, "tiny")
        train(model, processor, train_set, validation_set, folder / f"alone-{size}", scratch)
        cells = [f"{test_map(folder / f'alone-{size}', corpus):.1f}"]
        for index, options in enumerate(ways.values()):
            output = folder / f"tuned-{size}-{index}"
            words = ["--model", folder / "base", "--corpus", corpus, "--output", output, "--tracker", "none", *options]
            with contextlib.redirect_stdout(io.StringIO()):
                assert esg_transformers(["finetune", *map(str, words)]) == 0
            cells.append(f"{test_map(output, corpus):.1f}")
        print(f"| {size} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("clips", "features"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(arguments.kind, Path(folder))


if __name__ == "__main__":
    main()
