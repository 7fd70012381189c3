"""The model card of a trained model: what it was made of, what it reaches, and what it is not for."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from esg_transformers.annotations.events import Annotations
from esg_transformers.evaluation import OperatingPoint

USAGE = """\
```python
from transformers import pipeline
import esg_transformers

localizer = pipeline("audio-visual-event-localization", model="path/to/{name}")
localizer("video.mp4")
```"""


def model_card(
    name: str,
    corpus: str,
    annotations: Annotations,
    encoder: Mapping[str, str],
    metrics: Mapping[str, Mapping[str, Any]],
    thresholds: Mapping[str, OperatingPoint],
    settings: Mapping[str, Any],
    base_model: str | None = None,
    known_labels: Sequence[str] = (),
) -> str:
    """README.md of a model folder.

    Args:
        name: of the model.
        corpus: name of the corpus that it was trained on.
        annotations: of that corpus, all splits.
        encoder: `{"name", "version"}` of what made the features.
        metrics: `mean_average_precision` of the splits that it was scored on; the epoch was chosen on `validation`.
        thresholds: what was chosen for each class on the validation split.
        settings: of the training run.
        base_model: the model that it was fine-tuned from, if there was one.
        known_labels: the classes whose weights came from there.
    """
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
    is_repository = base_model is not None and "/" in base_model and not base_model.startswith((".", "/"))
    data = ModelCardData(
        library_name="transformers",
        tags=["audio-visual-event-localization", "esg_net"],
        base_model=base_model if is_repository else None,
        model_name=name,
        eval_results=results,
    )
    origin = "trained from random weights"
    if base_model is not None:
        known = (
            f" It knew {', '.join(known_labels)} before." if known_labels else " It knew none of the classes before."
        )
        origin = f"fine-tuned from `{base_model}`." + known
    sections = [
        f"---\n{data.to_yaml()}\n---\n\n# {name}",
        "Finds events that are both seen and heard in a video, as class, start, end and score. An ESG-Net "
        f"([arXiv 2507.09945](https://arxiv.org/abs/2507.09945)) of `esg_transformers`, {origin}",
        f"Classes: {', '.join(annotations.labels)}. Features: encoder {encoder['name']}, version {encoder['version']}.",
        USAGE.format(name=name),
        "## Data\n\n" + _data_table(annotations),
        "## Figures\n\nPercent. The epoch was chosen on the validation split, which flatters the figures there.\n\n"
        + _metric_table(metrics),
        "## Calibration\n\nThe pipeline keeps an event that scores more than the threshold of its class: that of "
        "the best F1 on the validation split (overlap of 0.5 with a true event), and are kept in "
        "`processor_config.json`; `esg-transformers calibrate` chooses others. A star: out of reach there.\n\n"
        + _threshold_table(thresholds),
        "## Training\n\n![learning curve](learning_curve.png)\n\n"
        + "\n".join(f"- `{key}`: {value}" for key, value in settings.items()),
        "## Limits and privacy\n\nOnly events like those of the data above are found, in places and with devices like "
        "those it was recorded with; check the figures on videos of your own before you rely on them. Video and sound "
        "of people are personal data: record, keep and share them only as the law and those recorded allow. This model "
        "names no person.",
    ]
    return "\n\n".join(sections) + "\n"


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
    return _table(["class", "threshold", "precision", "recall", "false alarms an hour"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
