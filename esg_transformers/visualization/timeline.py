"""Timeline of the events of a video, drawn with matplotlib."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from esg_transformers.files import save_figure

# Twelve hues that are easy to tell apart on white and on black; a thirteenth class starts over.
PALETTE = (
    "#3b76d6",
    "#e07b2a",
    "#2f9e63",
    "#cf4a5c",
    "#8a63d2",
    "#1f9fb4",
    "#c25aa5",
    "#8f8a1f",
    "#6b7a90",
    "#b5683f",
    "#5aa02c",
    "#d4a017",
)


def plot_events(
    events: Sequence[dict[str, Any]],
    true_events: Sequence[dict[str, Any]] | None = None,
    duration: float | None = None,
    labels: Sequence[str] | None = None,
    ax: "Axes | None" = None,
    title: str | None = None,
) -> "Axes":
    """Draw the events of one video, one lane per class: found events above, more opaque for higher scores, true below.

    Args:
        events: found events `{"start", "end", "label", "score"}`, seconds and a score in [0, 1], which may be absent.
        true_events: true events `{"start", "end", "label"}`, drawn as hatched outlines.
        duration: seconds that the axis covers; it is longer if an event ends later. By default the end of the last
            event.
        labels: classes that get a lane, from top to bottom; by default those of the events, by their first start.
        ax: axes to draw on; a new figure by default.
        title: text above the axes.

    Returns:
        The axes; `ax.figure.savefig("events.png")` writes them to a file.

    Raises:
        ValueError: if an event lacks a field, has a number out of range, or has a label that `labels` lacks.

    >>> ax = plot_events([{"start": 0.3, "end": 4.2, "label": "dog barking", "score": 0.9}], duration=10.0)
    >>> [lane.get_text() for lane in ax.get_yticklabels()]
    ['dog barking']
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch, Rectangle

    lanes, duration = lanes_of(events, true_events, duration, labels)
    # Heights count rows of found events; a row of true events takes 0.7, and 0.25 stays free above and below.
    heights = [0.5 + max(lane.found_rows, 1) + 0.7 * lane.true_rows for lane in lanes] or [1.5]
    tops = [sum(heights[:i]) for i in range(len(lanes))]
    if ax is None:
        _, ax = plt.subplots(figsize=(10, 0.8 + 0.2 * sum(heights)), layout="constrained")
    ax.set_xlim(0, duration)
    ax.set_ylim(sum(heights), 0)  # the first lane on top
    # Class names are text, not formulas: a "$" in one must not reach the formula parser.
    middles = [top + height / 2 for top, height in zip(tops, heights, strict=False)]
    ax.set_yticks(middles, [lane.label for lane in lanes], parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("seconds")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.figure.canvas.figure.draw_without_rendering()  # lays out, so that the room for each score is known
    corner, opposite = ax.get_window_extent().get_points()
    room_per_second, room_per_row = (opposite - corner) / (duration, sum(heights)) * 72 / ax.figure.dpi  # points

    for lane, lane_top in zip(lanes, tops, strict=True):
        ax.axhline(lane_top, color="0.88", linewidth=0.8, zorder=0)
        for bar in lane.found:
            width, top = bar.end - bar.start, lane_top + 0.25 + bar.row
            alpha = 0.85 if bar.score is None else 0.25 + 0.6 * bar.score
            ax.add_patch(Rectangle((bar.start, top), width, 0.9, color=lane.color, alpha=alpha, linewidth=0.5))
            if bar.score is not None and width * room_per_second > 24 and 0.9 * room_per_row > 8:
                center = bar.start + width / 2, top + 0.47
                ax.text(*center, f"{bar.score:.2f}", ha="center", va="center_baseline", fontsize=8, clip_on=True)
        for bar in lane.true:
            corner = bar.start, lane_top + 0.25 + max(lane.found_rows, 1) + 0.7 * bar.row
            outline = Rectangle(corner, bar.end - bar.start, 0.6, fill=False, edgecolor=lane.color, hatch="////")
            ax.add_patch(outline)
    if not lanes:
        ax.text(0.5, 0.5, "no events", transform=ax.transAxes, ha="center", va="center", color="0.5")
    if title is not None:
        ax.set_title(title, loc="left", parse_math=False)
    if true_events is not None:
        handles = [
            Patch(facecolor="0.5", label="found"),
            Patch(facecolor="none", edgecolor="0.4", hatch="////", label="true"),
        ]
        ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return ax


def save_timeline_png(
    path: str | os.PathLike[str],
    events: Sequence[dict[str, Any]],
    true_events: Sequence[dict[str, Any]] | None = None,
    duration: float | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Write the figure of `plot_events` to a PNG file, whole or not at all; arguments and errors as there."""
    from matplotlib.figure import Figure

    figure = plot_events(events, true_events, duration, labels, title=title).figure
    assert isinstance(figure, Figure)
    save_figure(path, figure)


@dataclass(frozen=True)
class Bar:
    """One event, and its row in the lane; found (or true) events of one row do not overlap."""

    start: float
    end: float
    score: float | None
    row: int


@dataclass(frozen=True)
class Lane:
    """Events of one class."""

    label: str
    color: str
    found: list[Bar]
    true: list[Bar]

    @property
    def found_rows(self) -> int:
        """Number of rows that the found events take."""
        return max((bar.row + 1 for bar in self.found), default=0)

    @property
    def true_rows(self) -> int:
        """Number of rows that the true events take."""
        return max((bar.row + 1 for bar in self.true), default=0)


def lanes_of(
    events: Sequence[dict[str, Any]],
    true_events: Sequence[dict[str, Any]] | None,
    duration: float | None,
    labels: Sequence[str] | None,
) -> tuple[list[Lane], float]:
    """Lanes from top to bottom, and the seconds that they cover."""
    true_events = true_events or []
    _check_events("events", events)
    _check_events("true_events", true_events)
    if duration is not None and not (isinstance(duration, Real) and 0 < float(duration) < math.inf):
        raise ValueError(f"`duration` must be seconds > 0; got {duration!r}.")
    every = sorted([*events, *true_events], key=lambda event: event["start"])
    seen = list(dict.fromkeys(event["label"] for event in every))
    labels = seen if labels is None else list(dict.fromkeys(labels))
    unlisted = [label for label in seen if label not in labels]
    if unlisted:
        raise ValueError(
            f"`labels` lacks {', '.join(map(repr, unlisted))}. List every class of the events, or pass only the events "
            "of the classes to show."
        )
    lanes = [
        Lane(
            label=label,
            color=PALETTE[i % len(PALETTE)],
            found=_bars([event for event in events if event["label"] == label]),
            true=_bars([{**event, "score": None} for event in true_events if event["label"] == label]),
        )
        for i, label in enumerate(labels)
    ]
    last_end = max((float(event["end"]) for event in every), default=0.0)
    return lanes, max(float(duration or 0), last_end) or 1.0


def _bars(events: list[dict[str, Any]]) -> list[Bar]:
    """Bars of the events of one lane, from left to right; higher scores take the first rows."""
    rows: list[list[Bar]] = []
    for event in sorted(events, key=lambda event: -(event.get("score") or 0)):
        start, end, score = float(event["start"]), float(event["end"]), event.get("score")
        fits = (i for i, row in enumerate(rows) if all(end <= bar.start or bar.end <= start for bar in row))
        row = next(fits, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(Bar(start, end, None if score is None else float(score), row))
    return sorted((bar for row in rows for bar in row), key=lambda bar: bar.start)


def _check_events(name: str, events: Sequence[dict[str, Any]]) -> None:
    for i, event in enumerate(events):
        if not isinstance(event, dict) or not {"start", "end", "label"} <= event.keys():
            raise ValueError(f"`{name}[{i}]` is {event!r}. Expected a dict with start, end and label, of one video.")
        start, end, label, score = event["start"], event["end"], event["label"], event.get("score")
        if not isinstance(label, str):
            raise ValueError(f"`{name}[{i}]` has label {label!r}. Expected a `str`, the name of the class.")
        if not (isinstance(start, Real) and isinstance(end, Real) and 0 <= float(start) <= float(end) < math.inf):
            raise ValueError(f"`{name}[{i}]` starts at {start!r} and ends at {end!r}; expected 0 <= start <= end.")
        if score is not None and not (isinstance(score, Real) and 0 <= float(score) <= 1):
            raise ValueError(f"`{name}[{i}]` has score {score!r}. Expected a number from 0 to 1, or none.")
