"""Results as text tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from esg_transformers.training.loop import TrainingProgress


def metric_table(
    columns: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Sequence[float]] | None = None
) -> str:
    """mAP at each tIoU and the mean over them, in percent, with one column per result.

    Args:
        columns: results of `mean_average_precision` by name.
        intervals: intervals of `bootstrap_map` for a last column.
    """
    first = next(iter(columns.values()))
    rows = [name for name in first if name.startswith("mAP@")] + ["average_map"]
    width = max(12, *(len(name) for name in columns))
    head = f"{'':<14}" + "".join(f"{name:>{width + 2}}" for name in columns)
    lines = [head + ("" if intervals is None else "   95 % interval")]
    for row in rows:
        figures = "".join(f"{100 * column[row]:>{width + 2}.1f}" for column in columns.values())
        lines.append(f"{_row_name(row):<14}{figures}{_interval(intervals[row] if intervals else None)}")
    return "\n".join(lines)


def class_table(metrics: Mapping[str, Any], intervals: Mapping[str, Any] | None = None) -> str:
    """Average precision of each class, averaged over tIoUs, in percent; with intervals of `bootstrap_map`."""
    width = max(len(str(label)) for label in metrics["per_class"])
    return "\n".join(
        f"{label:<{width}}  {100 * value:5.1f}{_interval(intervals['per_class'][label] if intervals else None)}"
        for label, value in metrics["per_class"].items()
    )


def comparison_table(comparison: Mapping[str, Mapping[str, Any]]) -> str:
    """Differences, intervals and p-values of `compare_map`, in percentage points."""
    lines = [f"{'':<14}  difference   95 % interval  p-value"]
    for row in [name for name in comparison if name != "average_map"] + ["average_map"]:
        figures = comparison[row]
        p_value = f"{figures['p_value']:.3f}".rjust(9)
        interval = f"{_interval(figures['interval']):>16}"
        lines.append(f"{_row_name(row):<14}{100 * figures['difference']:>+12.1f}{interval}{p_value}")
    return "\n".join(lines)


def detection_table(report: Mapping[str, Any]) -> str:
    """Figures of `detection_report` for each class and for all: percent, and false alarms per hour of video.

    A dash marks classes without true events.
    """
    rows = {str(label): figures for label, figures in report["per_class"].items()} | {"all classes": report["micro"]}
    width = max(map(len, rows))
    lines = [f"{'':<{width}}  precision  recall     F1  false alarms/h"]
    for label, figures in rows.items():
        recall, f1 = ("-" if figures[name] is None else f"{100 * figures[name]:.1f}" for name in ("recall", "f1"))
        alarms = figures["false_alarms_per_hour"]
        lines.append(f"{label:<{width}}  {100 * figures['precision']:>9.1f}  {recall:>6}  {f1:>5}  {alarms:>14.1f}")
    return "\n".join(lines)


def error_tables(analysis: Mapping[str, Any]) -> str:
    """Figures of `error_analysis`: kinds of false positives, and recall by group of true events, in percent."""
    profile, best = analysis["profile"], analysis["profile"][0]
    mean = {kind: sum(numbers[kind] for numbers in profile) for kind in best}
    lines = [f"{'predictions':<18}  best G, %  best {len(profile)} G, %  gain without, points"]
    for kind in best:
        shares = [100 * numbers[kind] / max(sum(numbers.values()), 1) for numbers in (best, mean)]
        gain = f"{100 * analysis['gain'][kind]:.1f}" if kind in analysis["gain"] else ""
        lines.append(f"{kind:<18}  {shares[0]:>9.1f}  {shares[1]:>12.1f}  {gain:>20}".rstrip())
    names = [str(name) for part, groups in analysis["recall"].items() for name in (part, *groups)]
    width = max(map(len, names))
    for name, groups in analysis["recall"].items():
        lines += ["", f"{name:<{width}}  events  recall, %"]
        for group, numbers in groups.items():
            recall = "-" if numbers["recall"] is None else f"{100 * numbers['recall']:.1f}"
            lines.append(f"{group:<{width}}  {numbers['events']:>6}  {recall:>9}")
    return "\n".join(lines)


def event_table(events: Sequence[Mapping[str, Any]]) -> str:
    """Events by time: start and end in seconds, score and label."""
    lines = [f"{'start':>8}  {'end':>8}  {'score':>5}  label"]
    for event in sorted(events, key=lambda x: (x["start"], x["end"])):
        lines.append(f"{event['start']:>8.2f}  {event['end']:>8.2f}  {event['score']:>5.2f}  {event['label']}")
    return "\n".join(lines)


def training_summary(progress: TrainingProgress, output: str) -> str:
    """Best epoch and score of a training run, in a sentence."""
    return (
        f"Epoch {progress.best_epoch} of {progress.epoch} was the best: average mAP "
        f"{100 * progress.best_map:.1f} on the validation split. Its averaged weights are in {output}."
    )


def _row_name(figure: str) -> str:
    return "average mAP" if figure == "average_map" else figure


def _interval(interval: Sequence[float] | None) -> str:
    """Interval in percent as a suffix of a figure; empty without an interval."""
    return "" if interval is None else f"  [{100 * interval[0]:5.1f}, {100 * interval[1]:5.1f}]"
