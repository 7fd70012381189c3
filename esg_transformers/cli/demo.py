"""`esg-transformers demo`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.cli.devices import device_of, use_device
from esg_transformers.cli.tables import event_table, metric_table
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import Example, VideoDataset
from esg_transformers.corpora.video_folder import VideoFolder
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.localization.dataset import evaluate_dataset
from esg_transformers.localization.model import open_model
from esg_transformers.localization.pipeline import open_localizer
from esg_transformers.simulation.clips import make_workshop_clips
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model
from esg_transformers.visualization.page import save_timeline_html
from esg_transformers.visualization.timeline import save_timeline_png

CLIPS = {"train": 80, "validation": 20, "test": 30}
TRAINING = LocalizationTrainingArguments(
    epochs=40, warmup_epochs=2, learning_rate=2e-3, batch_size=8, ema_decay=0.99, keep_checkpoints=1, tracker="none"
)


class ShuffledEvents(torch.utils.data.Dataset[Example]):
    """Control data set: each video with the events of another one. A model can only learn how events are distributed.

    Args:
        dataset: data set whose events are exchanged.
        seed: seed of the order.
    """

    def __init__(self, dataset: VideoDataset, seed: int):
        self.labels, self.feature_spec = dataset.labels, dataset.feature_spec
        self.video_ids, self.durations = dataset.video_ids, dataset.durations
        self._dataset = dataset
        order = np.random.default_rng(seed).permutation(len(dataset))
        # Each video takes the events of the next one in a random ring, so none keeps its own.
        self._events_of = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Example:
        example, other = self._dataset[index], self._dataset[self._events_of[index]]
        example["segments"], example["labels"] = other["segments"], other["labels"]
        return example


def run(arguments: argparse.Namespace) -> None:
    """Run the command. Parts that an interrupted run has finished are kept."""
    use_device(arguments.device)
    folder = Path(arguments.output)
    annotations_path = folder / "clips" / "annotations.json"
    if not annotations_path.exists():
        print(f"1/5 Making {sum(CLIPS.values())} video clips of a simulated workshop, with picture and sound")
        make_workshop_clips(folder / "clips", CLIPS, seed=0)
    if not (folder / "corpus").exists():
        print("2/5 Encoding them: statistics of picture and sound, without weights")
        annotations = read_unav_annotations(annotations_path)
        encoder = SpectralEncoder()
        splits = {split: VideoFolder(annotations, folder / "clips" / "videos", encoder, split) for split in CLIPS}
        write_corpus(folder / "corpus", splits, num_workers=2)
    corpus = {split: EventCorpus(folder / "corpus", split) for split in CLIPS}
    print("3/5 Training a small ESG-Net, and a control on clips with the events of other clips")
    _train(corpus["train"], corpus["validation"], folder / "model")
    _train(ShuffledEvents(corpus["train"], seed=0), corpus["validation"], folder / "control")

    print("4/5 Evaluating on held-out clips")
    metrics = {name: _evaluate(folder / name, corpus["test"]) for name in ("model", "control")}
    print(
        f"\n{metric_table(metrics)}\n\nPercent, {CLIPS['test']} held-out clips; control: trained on shuffled labels.\n"
    )

    print("5/5 Localizing the events of a clip that was not trained on")
    video_id, true = _showpiece(annotations_path)
    clip = folder / "clips" / "videos" / f"{video_id}.mp4"
    localizer = open_localizer(folder / "model", device=device_of(arguments.device))
    found = localizer.localize(clip, with_trace=True, with_waveform=True)
    print(f"\n{clip}\n{event_table(found.events)}\n\nTrue events\n{_true_table(true)}\n")
    duration = read_unav_annotations(annotations_path).videos[video_id].duration
    timeline: dict[str, Any] = {"true_events": true, "duration": duration, "title": clip.name}
    timeline["labels"] = corpus["test"].labels
    save_timeline_png(folder / "timeline.png", found.events, **timeline)
    shown: dict[str, Any] = {"video": clip, "waveform": found.waveform, "trace": found.trace}
    save_timeline_html(folder / "timeline.html", found.events, **shown, **timeline)
    print(f"The timeline: {folder / 'timeline.html'} (open it in a browser) and {folder / 'timeline.png'}")


def _train(train_set: VideoDataset, validation_set: VideoDataset, output: Path) -> None:
    model, processor = new_model(train_set, "tiny", TRAINING.seed)
    train(model, processor, train_set, validation_set, output, TRAINING)


def _evaluate(folder: Path, dataset: VideoDataset) -> dict[str, Any]:
    model, processor = open_model(folder)
    accelerator = Accelerator()
    return evaluate_dataset(model.to(accelerator.device), processor, dataset, accelerator)


def _showpiece(annotations_path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Test clip with the most true events, and these events. The choice does not depend on the found events."""
    videos = read_unav_annotations(annotations_path).split("test").videos.values()
    video = max(videos, key=lambda x: len(x.events))
    return video.video_id, [{"start": e.start, "end": e.end, "label": e.label} for e in video.events]


def _true_table(events: Sequence[dict[str, Any]]) -> str:
    return "\n".join(
        f"{e['start']:>8.2f}  {e['end']:>8.2f}         {e['label']}" for e in sorted(events, key=lambda x: x["start"])
    )
