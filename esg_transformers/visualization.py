"""Pictures of events: a matplotlib timeline, and one HTML file in which the video and its events play together."""

import base64
import html
import json
import math
import mimetypes
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from esg_transformers.evidence import STREAMS, Evidence
from esg_transformers.media.audio import read_sound
from esg_transformers.media.video import MediaSource, probe
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What a system without a table of types may not know.
MEDIA_TYPES = {".mkv": "video/x-matroska", ".flac": "audio/flac", ".ogg": "audio/ogg", ".m4a": "audio/mp4"}
MAX_VIDEO_BYTES = 100 * 2**20  # what a browser can hold in one page, as text and decoded
MAX_COLUMNS = 1500  # of a strip of evidence: about the pixels that a lane has on a screen

# Twelve hues that stay apart on white and on black; a thirteenth class begins anew.
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
    """Draw the events of one video, one lane per class: found ones above, stronger for higher scores, true ones below.

    Args:
        events: found events `{"start", "end", "label", "score"}`, seconds and a score in [0, 1], which may be absent.
        true_events: true events `{"start", "end", "label"}`, drawn as hatched outlines.
        duration: seconds the axis covers; it reaches to the last event if that ends later or this is not given.
        labels: the classes to give a lane, from top to bottom; by default those of the events, by their first start.
        ax: where to draw; a new figure by default.
        title: text above the axes.

    Returns:
        The axes; `ax.figure.savefig("events.png")` writes them to a file.

    Raises:
        ValueError: if an event lacks a field, has a number out of range, or has a label that `labels` leaves out.

    >>> ax = plot_events([{"start": 0.3, "end": 4.2, "label": "dog barking", "score": 0.9}], duration=10.0)
    >>> [lane.get_text() for lane in ax.get_yticklabels()]
    ['dog barking']
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch, Rectangle

    lanes, duration = _lanes(events, true_events, duration, labels)
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
    path: str | os.PathLike,
    events: Sequence[dict[str, Any]],
    true_events: Sequence[dict[str, Any]] | None = None,
    duration: float | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Write the picture that `plot_events` draws to a PNG file, in one step."""
    from matplotlib.figure import Figure

    figure = plot_events(events, true_events, duration, labels, title=title).figure
    assert isinstance(figure, Figure)
    save_figure(path, figure)


def plot_learning_curve(log: Sequence[dict[str, Any]]) -> "Figure":
    """Draw a training run, epoch by epoch: the parts of the loss, on a log scale, and the scores on validation.

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
        raise ValueError("The log of the training run is empty: no epoch is complete.")
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


def save_figure(path: str | os.PathLike, figure: "Figure") -> None:
    """Write a figure to a file in one step, in the format that its suffix names."""
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        figure.savefig(partial, dpi=150, bbox_inches="tight")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_timeline_html(
    path: str | os.PathLike,
    events: Sequence[dict[str, Any]],
    true_events: Sequence[dict[str, Any]] | None = None,
    duration: float | None = None,
    video: str | os.PathLike | None = None,
    labels: Sequence[str] | None = None,
    title: str = "Events",
    waveform: np.ndarray | None = None,
    evidence: Evidence | None = None,
) -> None:
    """Write one HTML file that plays the video over its events, without a network and without other files.

    A click on a lane or an event seeks; space plays and pauses, the arrow keys move by a second, + and - zoom; a slider
    hides found events below a score. The file is written whole or not at all.

    Args:
        path: the file to write, in a folder that exists.
        events: found events, as in `plot_events`.
        true_events: true events, as in `plot_events`.
        duration: seconds the lanes cover; they reach to the last event or the end of the video if that is later.
        video: a video or audio file to put into the page, at most 100 MiB (`MAX_VIDEO_BYTES`). The browser must be able
            to play it: MP4 with H.264 and AAC, and WebM, are safe.
        labels: the classes to give a lane, as in `plot_events`.
        title: heading of the page.
        waveform: (num_peaks, 2), the least and the greatest sample of each of `num_peaks` equal parts of `duration`, as
            of `waveform_peaks`; drawn with the loudest at the full height of its lane.
        evidence: what the network saw, as of `evidence_of`. Beneath each class lane stands one strip per semantic
            stage, of the fused, visual or audio stream as the reader picks, and at the bottom how the router shared
            the steps among the experts, layer by layer. Beyond 1500 steps (`MAX_COLUMNS`), neighbours are averaged.

    Raises:
        ValueError: as in `plot_events`, or if `video` is too large or of no known video or audio type, or if `waveform`
            comes without `duration`, or if `waveform` or `evidence` has another shape or numbers out of range.
        FileNotFoundError: if `video` or the folder of `path` does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} of `path` does not exist. Make it first.")
    lanes, length = _lanes(events, true_events, duration, labels)
    timeline = {
        "duration": length,
        "hasTrueEvents": true_events is not None,
        "lanes": [asdict(lane) for lane in lanes],
        "video": None if video is None else _embedded(Path(video)),
        "waveform": None if waveform is None else _waveform(waveform, duration),
        "semantic": None if evidence is None else _semantic(evidence, [lane.label for lane in lanes]),
        "router": None if evidence is None else _router(evidence),
        "palette": PALETTE,
    }
    # Inside a script element only "<" can end the data early; \u003c is the same character to JSON.
    data = json.dumps(timeline, allow_nan=False).replace("<", "\\u003c")
    # In one pass, so that a title that reads "{{timeline}}" stays a title.
    parts = {"title": html.escape(title), "timeline": data}
    template = Path(__file__).with_name("timeline.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(title|timeline)\}\}", lambda marker: parts[marker[1]], template)

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def waveform_peaks(source: MediaSource, num_peaks: int = 2000) -> np.ndarray:
    """The outline of the sound of a media file, for `save_timeline_html`. Memory does not grow with its length.

    Args:
        source: a media file, or its bytes.
        num_peaks: equal parts to cut the duration of the file into, >= 1.

    Returns:
        float32 (num_peaks, 2): the least and the greatest sample of each part, in [-1, 1]; 0 where there is no sound.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if `num_peaks` is below 1, or if it is not a media file, or if it has no sound that decodes.
    """
    if num_peaks < 1:
        raise ValueError(f"`num_peaks` is {num_peaks}; the parts of a waveform must be at least 1.")
    duration = probe(source).duration
    sampling_rate = max(8000, math.ceil(num_peaks / duration))  # so that every part has a sample
    num_samples = round(sampling_rate * duration)
    peaks = np.full((num_peaks, 2), [np.inf, -np.inf], np.float32)
    first = 0  # sample of the stretch
    for samples in read_sound(source, sampling_rate):
        parts = np.minimum(np.arange(first, first + len(samples)) * num_peaks // num_samples, num_peaks - 1)
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        touched = parts[starts]
        peaks[touched, 0] = np.minimum(peaks[touched, 0], np.minimum.reduceat(samples, starts))
        peaks[touched, 1] = np.maximum(peaks[touched, 1], np.maximum.reduceat(samples, starts))
        first += len(samples)
    peaks[np.isinf(peaks)] = 0
    return peaks


@dataclass(frozen=True)
class _Bar:
    """One event, and the row of its lane in which no other event of its kind overlaps it."""

    start: float
    end: float
    score: float | None
    row: int


@dataclass(frozen=True)
class _Lane:
    """The events of one class."""

    label: str
    color: str
    found: list[_Bar]
    true: list[_Bar]

    @property
    def found_rows(self) -> int:
        return max((bar.row + 1 for bar in self.found), default=0)

    @property
    def true_rows(self) -> int:
        return max((bar.row + 1 for bar in self.true), default=0)


def _lanes(
    events: Sequence[dict[str, Any]],
    true_events: Sequence[dict[str, Any]] | None,
    duration: float | None,
    labels: Sequence[str] | None,
) -> tuple[list[_Lane], float]:
    """The lanes from top to bottom, and the seconds that they cover."""
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
            f"`labels` gives no lane to {', '.join(map(repr, unlisted))}. List every class of the events, "
            "or pass only the events of the classes to show."
        )
    lanes = [
        _Lane(
            label=label,
            color=PALETTE[i % len(PALETTE)],
            found=_bars([event for event in events if event["label"] == label]),
            true=_bars([{**event, "score": None} for event in true_events if event["label"] == label]),
        )
        for i, label in enumerate(labels)
    ]
    last_end = max((float(event["end"]) for event in every), default=0.0)
    return lanes, max(float(duration or 0), last_end) or 1.0


def _bars(events: list[dict[str, Any]]) -> list[_Bar]:
    """Bars of the events of one lane, from left to right; the highest scores are in the first rows."""
    rows: list[list[_Bar]] = []
    for event in sorted(events, key=lambda event: -(event.get("score") or 0)):
        start, end, score = float(event["start"]), float(event["end"]), event.get("score")
        fits = (i for i, row in enumerate(rows) if all(end <= bar.start or bar.end <= start for bar in row))
        row = next(fits, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(_Bar(start, end, None if score is None else float(score), row))
    return sorted((bar for row in rows for bar in row), key=lambda bar: bar.start)


def _check_events(name: str, events: Sequence[dict[str, Any]]) -> None:
    for i, event in enumerate(events):
        if not isinstance(event, dict) or not {"start", "end", "label"} <= event.keys():
            raise ValueError(f"`{name}[{i}]` is {event!r}. Expected a dict with start, end and label, of one video.")
        start, end, label, score = event["start"], event["end"], event["label"], event.get("score")
        if not isinstance(label, str):
            raise ValueError(f"`{name}[{i}]` has label {label!r}. Expected a `str`, the name of the class.")
        if not (isinstance(start, Real) and isinstance(end, Real) and 0 <= float(start) <= float(end) < math.inf):
            raise ValueError(f"`{name}[{i}]` goes from {start!r} to {end!r}. Expected seconds, 0 <= start <= end.")
        if score is not None and not (isinstance(score, Real) and 0 <= float(score) <= 1):
            raise ValueError(f"`{name}[{i}]` has score {score!r}. Expected a number from 0 to 1, or none.")


def _embedded(video: Path) -> dict[str, str]:
    """The file as base64 with its type."""
    if not video.is_file():
        raise FileNotFoundError(f"`video` is {video}, which is not a file.")
    kind = MEDIA_TYPES.get(video.suffix.lower()) or mimetypes.guess_type(video.name)[0]
    if kind is None or not kind.startswith(("video/", "audio/")):
        raise ValueError(
            f"`video` is {video.name}, not known as video or audio ({kind}). Pass e.g. an .mp4 or .webm file."
        )
    size = video.stat().st_size
    if size > MAX_VIDEO_BYTES:
        raise ValueError(
            f"`video` has {size / 2**20:.0f} MiB; a page holds at most {MAX_VIDEO_BYTES / 2**20:.0f} MiB. "
            "Re-encode it smaller, or leave it out: the events are shown without it."
        )
    return {"type": kind, "base64": _base64(video.read_bytes())}


def _waveform(peaks: np.ndarray, duration: float | None) -> dict[str, Any]:
    """The outline as signed bytes, all least samples and then all greatest, 127 for the loudest."""
    peaks = np.asarray(peaks)
    if duration is None:
        raise ValueError("`waveform` needs `duration`, the seconds that it covers: that of the file.")
    if peaks.ndim != 2 or peaks.shape[1] != 2 or not len(peaks) or not np.isfinite(peaks).all():
        raise ValueError(
            f"`waveform` has shape {peaks.shape}. Expected finite numbers of shape (num_peaks, 2), as of "
            "`waveform_peaks`."
        )
    loudest = np.abs(peaks).max() or 1.0
    return {"duration": float(duration), "peaks": _base64(np.rint(127 * peaks.T / loudest).astype(np.int8).tobytes())}


def _semantic(evidence: Evidence, lanes: Sequence[str]) -> dict[str, Any] | None:
    """The strips of each class lane, bytes (streams, stages, columns); none for a class that the network lacks."""
    semantic, labels = evidence.semantic, evidence.labels
    if semantic is None:
        return None
    if semantic.ndim != 4 or semantic.shape[1::2] != (len(STREAMS), len(labels)) or not _are_probabilities(semantic):
        raise ValueError(
            f"`evidence.semantic` has shape {semantic.shape}. Expected numbers from 0 to 1 of shape "
            f"(stages, {len(STREAMS)} streams, steps, {len(labels)} classes), as of `evidence_of`."
        )
    strips = {label: _strips(semantic[..., i].swapaxes(0, 1)) for i, label in enumerate(labels) if label in lanes}
    return {
        **_extent(evidence.grid, semantic.shape[2]),
        "streams": STREAMS,
        "stages": len(semantic),
        "strips": [strips.get(label) for label in lanes],
    }


def _router(evidence: Evidence) -> dict[str, Any] | None:
    """The shares of the experts, bytes (layers, experts, columns)."""
    router = evidence.router
    if router is None:
        return None
    if router.ndim != 3 or not _are_probabilities(router):
        raise ValueError(
            f"`evidence.router` has shape {router.shape}. Expected numbers from 0 to 1 of shape "
            "(layers, steps, experts), as of `evidence_of`."
        )
    num_layers, num_steps, num_experts = router.shape
    shares = _strips(router.swapaxes(1, 2))
    return {**_extent(evidence.grid, num_steps), "layers": num_layers, "experts": num_experts, "strips": shares}


def _are_probabilities(values: np.ndarray) -> bool:
    return values.size > 0 and bool(values.min() >= 0 and values.max() <= 1)  # false where one is not a number


def _extent(grid: FeatureGrid, num_steps: int) -> dict[str, float | int]:
    """Where strips lie, from half a step before the first step to half a step after the last, and their columns."""
    start, end = grid.to_seconds(torch.tensor([-0.5, num_steps - 0.5], dtype=torch.float64)).tolist()
    return {"start": start, "end": end, "columns": min(num_steps, MAX_COLUMNS)}


def _strips(probabilities: np.ndarray) -> str:
    """Probabilities (..., T) as bytes (..., columns), 255 for 1: means over neighbouring steps if T > `MAX_COLUMNS`."""
    num_steps = probabilities.shape[-1]
    num_columns = min(num_steps, MAX_COLUMNS)
    first_steps = np.arange(num_columns) * num_steps // num_columns
    sums = np.add.reduceat(probabilities, first_steps, axis=-1, dtype=np.float32)
    means = sums / np.diff(first_steps, append=num_steps)
    return _base64(np.rint(255 * means).astype(np.uint8).tobytes())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
