"""Accuracy of fine-tuning on few labelled videos: `python tests/benchmarks/finetuning.py clips` (or `features`).

A base model is trained on one set of classes. A site has other classes, of which the base model knows some, and 10, 50
or 200 labelled videos. Compared are `esg-transformers finetune` without options, with a frozen body and with LoRA, and
a model trained on the site's videos alone, from random weights and for as many steps.

* `clips`: simulated workshop clips, mp4 files through the default encoder. The base model knows `alarm` and
  `machine running` from 150 clips; the site has these, `door slamming` and `person speaking`.
* `features`: simulated features on the grid of I3D + VGGish, with 256 and 128 channels and 20 classes. The base model
  knows the first 12 from 400 videos and 12 epochs; the site has the last 12, so the model knows 4 of them. The site's
  models train for 15 epochs; the second column has a higher learning rate; no frozen body, no LoRA.

Figures are average mAP in percent on the site's test split, which plays no part in training; one seed.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.cli.main import main as esg_transformers
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import Example, VideoDataset
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
    "features": {
        "fine-tuned": ["--epochs", "15"],
        "fine-tuned, learning rate 2e-3": ["--epochs", "15", "--learning-rate", "2e-3"],
    },
}
Splits = Mapping[str, VideoDataset]


@dataclass(frozen=True)
class Case:
    """Videos and classes of the base model and of the site."""

    base: Splits
    base_labels: Sequence[str]
    site: Splits
    site_labels: Sequence[str]


class SomeVideos(torch.utils.data.Dataset[Example]):
    """Some videos of a data set, with the events of some classes."""

    def __init__(self, dataset: VideoDataset, labels: Sequence[str], indices: Sequence[int]):
        self._dataset, self._indices = dataset, indices
        self.labels, self.feature_spec = tuple(labels), dataset.feature_spec
        self.video_ids = tuple(dataset.video_ids[index] for index in indices)
        self.durations = tuple(dataset.durations[index] for index in indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        example = self._dataset[self._indices[index]]
        names = [self._dataset.labels[label] for label in example["labels"].tolist()]
        kept = [i for i, name in enumerate(names) if name in self.labels]
        example["segments"] = example["segments"][kept]
        example["labels"] = torch.tensor([self.labels.index(names[i]) for i in kept], dtype=torch.long).numpy()
        return example


def clips(folder: Path) -> Case:
    """Workshop clips, written to `folder`."""
    worlds: list[dict[str, VideoFolder]] = []
    for name, seed, counts in (
        ("base", 1, {"train": 150, "validation": 30}),
        ("site", 0, {"train": 200, "validation": 30, "test": 60}),
    ):
        annotations = read_unav_annotations(make_workshop_clips(folder / name, counts, seed=seed))
        encoder = SpectralEncoder()
        worlds.append({split: VideoFolder(annotations, folder / name / "videos", encoder, split) for split in counts})
    base, site = worlds
    return Case(base, ("alarm", "machine running"), site, site["train"].labels)


def features() -> Case:
    """Simulated features."""
    narrow = replace(FEATURE_SETS["i3d-vggish"], visual_size=256)
    splits = simulate_splits({"train": 600, "validation": 80, "test": 150}, num_classes=20, feature_set=narrow)
    labels = splits["train"].labels
    base = {
        "train": SomeVideos(splits["train"], labels, range(200, 600)),
        "validation": SomeVideos(splits["validation"], labels, range(40)),
    }
    site: dict[str, VideoDataset] = {
        "train": SomeVideos(splits["train"], labels, range(200)),
        "validation": SomeVideos(splits["validation"], labels, range(40, 80)),
        "test": splits["test"],
    }
    return Case(base, labels[:12], site, labels[8:])


def write(folder: Path, splits: Splits, labels: Sequence[str], num_train: int | None = None) -> Path:
    """Write a corpus with the events of some classes, and with the first `num_train` training videos."""
    kept = {}
    for split, dataset in splits.items():
        count = num_train if split == "train" and num_train is not None else len(dataset)
        kept[split] = SomeVideos(dataset, labels, range(count))
    write_corpus(folder, kept)
    return folder


def test_map(folder: Path, corpus: Path) -> float:
    """Average mAP in percent of a trained model on the test split."""
    model, processor = EsgNetForEventLocalization.from_pretrained(folder), EsgNetProcessor.from_pretrained(folder)
    figures = evaluate_dataset(model, processor, EventCorpus(corpus, "test"), Accelerator())
    return 100 * float(figures["average_map"])


def run(kind: str, folder: Path) -> None:
    """Train the base model, then print a row per number of labelled videos."""
    ways = WAYS[kind]
    base_training = BASE_TRAINING if kind == "clips" else replace(BASE_TRAINING, epochs=12)
    scratch = SCRATCH if kind == "clips" else replace(SCRATCH, epochs=15)
    case = clips(folder / "videos") if kind == "clips" else features()
    whole = write(folder / "whole", case.site, case.site_labels)  # encoded once
    site = {split: EventCorpus(whole, split) for split in case.site}
    corpus = write(folder / "base-corpus", case.base, case.base_labels)
    train_set, validation_set = EventCorpus(corpus, "train"), EventCorpus(corpus, "validation")
    model, processor = new_model(train_set, "tiny")
    progress = train(model, processor, train_set, validation_set, folder / "base", base_training)
    print(f"Base model: average mAP {100 * progress.best_map:.1f} on its own validation split.\n", flush=True)
    print(f"| labelled videos | trained on them alone | {' | '.join(ways)} |\n|---|---|{'---|' * len(ways)}")
    for size in SIZES:
        corpus = write(folder / f"site-{size}", site, case.site_labels, size)
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
