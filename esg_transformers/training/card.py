"""Model card of a fine-tuned model: data, figures, thresholds, settings and limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from esg_transformers.annotations.events import Annotations
from esg_transformers.evaluation import OperatingPoint
from esg_transformers.models.esg_net.grid_esg_net import EncoderId
from esg_transformers.training.learning_curve import LEARNING_CURVE

USAGE = """\
```python
from transformers import pipeline
import esg_transformers

localizer = pipeline("audio-visual-event-localization", model="path/to/{name}")
localizer("video.mp4")
```"""
FIGURES = "In percent. The epoch was chosen on the validation split, so the figures of that split are optimistic."
CALIBRATION = """\
The pipeline keeps an event whose score exceeds the threshold of its class. Thresholds maximise F1 on the validation \
split (IoU 0.5) and are stored in `processor_config.json`; `esg-transformers calibrate` chooses others."""
FOOTNOTE = "\\* target not reached on the validation split"
LIMITS = """\
The model finds only events like those of the data above, in places and with devices like those of the recordings. \
Check the figures on videos of your own before you rely on them. Video and sound of people are personal data: record, \
keep and share them only as the law and the people recorded allow. The model identifies no person."""


def model_card(
    name: str,
    base_model: str,
    known_labels: Sequence[str],
    corpus: str,
    annotations: Annotations,
    encoder: EncoderId | None,
    metrics: Mapping[str, Mapping[str, Any]],
    thresholds: Mapping[str, OperatingPoint],
    settings: Mapping[str, Any],
) -> str:
    """Model card of a fine-tuned model, as the README.md of its folder.

    Args:
        name: name of the model.
        base_model: folder, or repository on the Hub, of the model that it was fine-tuned from.
        known_labels: classes that the base model knew.
        corpus: name of the corpus that it was trained on.
        annotations: annotations of that corpus, all splits.
        encoder: encoder of the features; None if unknown.
        metrics: `mean_average_precision` of each scored split; the epoch was chosen on `validation`.
        thresholds: operating points by class, chosen on the validation split.
        settings: settings of the training run.
    """
    known = f"It knew {', '.join(known_labels)} before." if known_labels else "It knew none of the classes before."
    name_and_version = ("not known", "not known") if encoder is None else (encoder.name, encoder.version)
    sections = [
        f"---\n{_metadata(name, base_model, corpus, metrics)}\n---\n\n# {name}",
        "Finds events that are both seen and heard in a video: class, start, end and score of each. An ESG-Net "
        "([arXiv 2507.09945](https://arxiv.org/abs/2507.09945)) of `esg_transformers`, fine-tuned from "
        f"`{base_model}`. {known}",
        "Classes: {}. Features: encoder {}, version {}.".format(", ".join(annotations.labels), *name_and_version),
        USAGE.format(name=name),
        "## Data\n\n" + _data_table(annotations),
        f"## Figures\n\n{FIGURES}\n\n" + _metric_table(metrics),
        f"## Calibration\n\n{CALIBRATION}\n\n" + _threshold_table(thresholds) + f"\n\n{FOOTNOTE}",
        f"## Training\n\n![learning curve]({LEARNING_CURVE})\n\n"
        + "\n".join(f"- `{key}`: {value}" for key, value in settings.items()),
        f"## Limits and privacy\n\n{LIMITS}",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(name: str, base_model: str, corpus: str, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The YAML header, which the Hub reads."""
    results = [
        EvalResult(
            task_type="audio-visual-event-localization",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=split,
            metric_type="average_map",
            metric_name="average mAP, tIoU 0.1 to 0.9",
            metric_value=round(100 * values["average_map"], 2),
        )
        for split, values in metrics.items()
    ]
    is_repository = "/" in base_model and not base_model.startswith((".", "/"))
    data = ModelCardData(
        library_name="transformers",
        tags=["audio-visual-event-localization", "esg_net"],
        base_model=base_model if is_repository else None,
        model_name=name,
        eval_results=results,
    )
    return str(data.to_yaml())


def _data_table(annotations: Annotations) -> str:
    splits = list(dict.fromkeys(video.split for video in annotations.videos.values()))
    counts = {label: dict.fromkeys(splits, 0) for label in annotations.labels}
    for video in annotations.videos.values():
        for event in video.events:
            counts[event.label][video.split] += 1
    videos = {split: [v for v in annotations.videos.values() if v.split == split] for split in splits}
    hours = {split: sum(v.duration or 0 for v in members) / 3600 for split, members in videos.items()}
    rows = [
        ["videos", *(f"{len(videos[split]):,}" for split in splits)],
        ["hours", *(f"{hours[s]:.2f}" for s in splits)],
    ]
    rows += [[f"events: {label}", *(f"{of_split[split]:,}" for split in splits)] for label, of_split in counts.items()]
    return _table(["", *splits], rows)


def _metric_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    first = next(iter(metrics.values()))
    names = ["average_map", *(name for name in first if name.startswith("mAP@"))]
    titles = ["average mAP", *names[1:]]
    rows = [
        [title, *(f"{100 * values[name]:.1f}" for values in metrics.values())]
        for title, name in zip(titles, names, strict=True)
    ]
    labels = list(dict.fromkeys(label for values in metrics.values() for label in values["per_class"]))
    for label in labels:
        found = [values["per_class"].get(label) for values in metrics.values()]
        rows.append([f"AP: {label}", *("-" if value is None else f"{100 * value:.1f}" for value in found)])
    return _table(["", *metrics], rows)


def _threshold_table(thresholds: Mapping[str, OperatingPoint]) -> str:
    rows = [
        [
            label + ("" if point.reached else " *"),
            f"{point.threshold:.3f}",
            f"{point.counts.precision:.2f}",
            "-" if point.counts.recall is None else f"{point.counts.recall:.2f}",
            f"{point.false_alarms_per_hour:.1f}",
        ]
        for label, point in thresholds.items()
    ]
    return _table(["class", "threshold", "precision", "recall", "false alarms per hour"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
