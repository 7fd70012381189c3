"""The learning curve of a training run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from esg_transformers.visualization.timeline import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNING_CURVE = "learning_curve.png"  # in the output folder


def plot_learning_curve(log: Sequence[dict[str, Any]]) -> "Figure":
    """Figure of a training run: the parts of the loss of each epoch, on a log scale, and the scores on validation.

    Args:
        log: records of `training_log.jsonl`: `"epoch"`, `"loss"` and its parts, `"learning_rate"`, `"average_map"`,
            `"mAP@0.5"`.

    Raises:
        ValueError: if the log is empty.

    >>> record = {"epoch": 1, "loss": 0.9, "semantic": 0.4, "learning_rate": 1e-3, "average_map": 0.2, "mAP@0.5": 0.3}
    >>> [axes.get_ylabel() for axes in plot_learning_curve([record, record | {"epoch": 2}]).axes]
    ['training loss', 'validation, percent']
    """
    from matplotlib.figure import Figure

    if not log:
        raise ValueError("The log of the training run is empty; expected a record of at least one completed epoch.")
    epochs = [record["epoch"] for record in log]
    not_losses = ("epoch", "learning_rate", "average_map", "ignored_predictions")
    losses = [name for name in log[0] if name not in not_losses and not name.startswith("mAP@")]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = {"marker": "o", "markersize": 3} if len(log) < 30 else {}
    for name, color in zip(losses, ("black", *PALETTE), strict=False):
        left.plot(epochs, [record[name] for record in log], label=name, color=color, linewidth=1.5, **marker)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    for (name, label), color in zip((("average_map", "average mAP"), ("mAP@0.5", "mAP@0.5")), PALETTE, strict=False):
        values = [100 * record[name] for record in log]
        right.plot(epochs, values, label=label, color=color, linewidth=1.5, **marker)
    best = max(log, key=lambda record: record["average_map"])
    right.axvline(best["epoch"], color="0.6", linewidth=1, linestyle=":", label=f"best, epoch {best['epoch']}")
    right.set(xlabel="epoch", ylabel="validation, percent", ylim=(0, 100))
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
