"""Corpus statistics, and which pyramid level fits which event length."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.models.esg_net.loss_esg_net import assign_targets
from esg_transformers.models.esg_net.segments_esg_net import TemporalPoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUANTILES = {"shortest": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "longest": 1.0}
MAX_NAMES = 25  # class names that fit on an axis
SPLIT_COLORS = ("#3b76d6", "#e07b2a", "#2f9e63", "#8a63d2", "#6b7a90")


def describe(annotations: Annotations, grid: FeatureGrid | None = None, num_levels: int = 6) -> dict[str, Any]:
    """Statistics of annotations, in a dict that can be written as JSON. Times are in seconds.

    Args:
        annotations: annotations of any videos.
        grid: time grid of their features; with it the result has `reach`.
        num_levels: levels of the temporal pyramid, for `reach`.

    Returns:
        `splits`: videos, videos without events, events, classes and hours of each split; hours are None if a duration
            is unknown.
        `classes`: events of each class by split.
        `durations`, `event_lengths`: their quantiles; empty if there are none.
        `histogram`: `edges` of bins of event lengths, each 2**0.5 times the one before, and the `events` in each bin.
        `overlapping_events`: fraction of events that overlap another event of their video.
        `at_once`: seconds with 0, 1, 2, ... simultaneous events; up to the last event where the duration is unknown.
        `co_occurrence`: `labels`, and for each pair of classes the `videos` with both and the `seconds` of both at
            once, as matrices with the videos and seconds of single classes on the diagonal.
        `pairs`: the ten pairs of classes with the most common videos.
        `reach`: see `pyramid_reach`.

    >>> from esg_transformers.annotations.events import Event
    >>> videos = {"a": AnnotatedVideo("a", 10.0, "train", (Event(1, 4, "speech"), Event(3, 9, "music")))}
    >>> description = describe(Annotations(videos, ("music", "speech")))
    >>> description["at_once"], description["co_occurrence"]["seconds"]
    ([2.0, 7.0, 1.0], [[6.0, 1.0], [1.0, 3.0]])
    """
    videos = list(annotations.videos.values())
    splits = list(dict.fromkeys(video.split for video in videos))
    label2id = annotations.label2id
    classes = {label: dict.fromkeys(splits, 0) for label in annotations.labels}
    both_videos = np.zeros((len(classes), len(classes)), dtype=np.int64)
    both_seconds = np.zeros(both_videos.shape)
    at_once: defaultdict[int, float] = defaultdict(float)
    num_overlapping = 0
    for video in videos:
        for event in video.events:
            classes[event.label][video.split] += 1
        present = sorted({label2id[event.label] for event in video.events})
        both_videos[np.ix_(present, present)] += 1
        overlapping: set[int] = set()
        for seconds, on in _intervals(video):
            at_once[len(on)] += seconds
            ids = sorted({label2id[video.events[index].label] for index in on})
            both_seconds[np.ix_(ids, ids)] += seconds
            if len(on) > 1:
                overlapping |= on
        num_overlapping += len(overlapping)
    lengths = np.array([event.end - event.start for video in videos for event in video.events])
    description = {
        "splits": {split: _counts([video for video in videos if video.split == split]) for split in splits},
        "classes": classes,
        "durations": _quantiles(np.array([video.duration for video in videos if video.duration is not None])),
        "event_lengths": _quantiles(lengths),
        "histogram": _histogram(lengths),
        "overlapping_events": num_overlapping / max(len(lengths), 1),
        "at_once": [float(at_once[count]) for count in range(max(at_once, default=0) + 1)],
        "co_occurrence": {
            "labels": list(annotations.labels),
            "videos": both_videos.tolist(),
            "seconds": both_seconds.tolist(),
        },
        "pairs": _pairs(annotations.labels, both_videos, both_seconds),
    }
    if grid is not None:
        description["reach"] = pyramid_reach(annotations, grid, num_levels)
    return description


def pyramid_reach(annotations: Annotations, grid: FeatureGrid, num_levels: int) -> dict[str, Any]:
    """Assignment of events to the levels of the temporal pyramid, by the rule of `assign_targets` in training.

    An event is assigned to a level if a point of that level would predict it if it were the only event of its video.

    Args:
        annotations: annotations of any videos.
        grid: time grid of their features.
        num_levels: levels of the pyramid, >= 1.

    Returns:
        `grid` and `num_levels`: the arguments.
        `levels`: for each level the seconds between its points (`step`), the fraction of `events` assigned to it, and
            their `shortest` and `longest` length in seconds, None if there are none. An event may be assigned to two
            levels, so the fractions may add up to more than 1.
        `without_points`: the fraction of events assigned to no level. They are never learned: they lie between two
            points, being about one step long or shorter.
        `beyond_last_level`: the fraction of events in the range of one more level only. The last level predicts them,
            as it does any longer event, from points far from their ends.

    Raises:
        ValueError: if `num_levels` is less than 1.
    """
    if num_levels < 1:
        raise ValueError(f"A pyramid has at least one level; got {num_levels}.")
    events = [(video, event) for video in annotations.videos.values() for event in video.events]
    seconds = torch.tensor([(event.start, event.end) for _, event in events], dtype=torch.float64).reshape(-1, 2)
    num_steps = np.array([grid.num_steps(video.duration or event.end) for video, event in events], dtype=np.int64)
    lengths = (seconds[:, 1] - seconds[:, 0]).numpy()
    assigned = _assigned_levels(grid.to_positions(seconds), num_steps, num_levels)
    one_more = _assigned_levels(grid.to_positions(seconds), num_steps, num_levels + 1)
    levels = []
    for level, of_level in enumerate(assigned.T):
        level_lengths = lengths[of_level].tolist()
        levels.append(
            {
                "level": level,
                "step": grid.step * 2**level,
                "events": len(level_lengths) / max(len(events), 1),
                "shortest": min(level_lengths, default=None),
                "longest": max(level_lengths, default=None),
            }
        )
    return {
        "grid": grid.to_dict(),
        "num_levels": num_levels,
        "levels": levels,
        "without_points": float((~assigned.any(axis=1)).sum()) / max(len(events), 1),
        "beyond_last_level": float((one_more[:, -1] & ~one_more[:, :-1].any(axis=1)).sum()) / max(len(events), 1),
    }


def plot_description(description: dict[str, Any]) -> "Figure":
    """Figure with four panels: events per class, event lengths with their pyramid levels, overlap, co-occurrence.

    Args:
        description: the result of `describe`.

    Returns:
        The figure; `figure.savefig("corpus.png")` writes it to a file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9.5), layout="constrained")
    axes = figure.subplots(2, 2)
    order = sorted(description["classes"], key=lambda label: -sum(description["classes"][label].values()))
    _plot_classes(axes[0, 0], description, order)
    _plot_lengths(axes[0, 1], description)
    _plot_at_once(axes[1, 0], description)
    _plot_co_occurrence(axes[1, 1], description, order)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_horizontalalignment("left")
        ax.title.set_x(0)
    return figure


def _intervals(video: AnnotatedVideo) -> Iterator[tuple[float, set[int]]]:
    """The video cut at the start and end of every event: seconds of each interval, and the indices of its events."""
    boundaries = [(event.start, True, index) for index, event in enumerate(video.events)]
    boundaries += [(event.end, False, index) for index, event in enumerate(video.events)]
    on: set[int] = set()
    last = 0.0
    for time, starts, index in sorted(boundaries):
        if time > last:
            yield time - last, on
        last = time
        if starts:
            on.add(index)
        else:
            on.remove(index)
    if video.duration is not None and video.duration > last:
        yield video.duration - last, on


def _counts(videos: list[AnnotatedVideo]) -> dict[str, float | int | None]:
    durations = [video.duration for video in videos if video.duration is not None]
    num_events = sum(len(video.events) for video in videos)
    return {
        "videos": len(videos),
        "videos_without_events": sum(not video.events for video in videos),
        "events": num_events,
        "events_per_video": num_events / len(videos),
        "classes": len({event.label for video in videos for event in video.events}),
        "hours": sum(durations) / 3600 if len(durations) == len(videos) else None,
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values())).tolist(), strict=True))


def _histogram(lengths: np.ndarray) -> dict[str, list[float]]:
    if not len(lengths):
        return {"edges": [], "events": []}
    first, last = np.floor(2 * np.log2(lengths.min())), np.floor(2 * np.log2(lengths.max())) + 1
    edges = 2 ** (np.arange(first, last + 1) / 2)
    return {"edges": edges.tolist(), "events": np.histogram(lengths, edges)[0].tolist()}


def _pairs(labels: Sequence[str], videos: np.ndarray, seconds: np.ndarray) -> list[dict[str, Any]]:
    """The ten pairs of classes with the most common videos."""
    found = np.argwhere(np.triu(videos, k=1)).tolist()
    found.sort(key=lambda pair: (-videos[tuple(pair)], -seconds[tuple(pair)], pair))
    return [
        {"labels": [labels[i], labels[j]], "videos": int(videos[i, j]), "seconds": float(seconds[i, j])}
        for i, j in found[:10]
    ]


def _assigned_levels(segments: torch.Tensor, num_steps: np.ndarray, num_levels: int) -> np.ndarray:
    """True where a point of a level is assigned to an event that is alone in its video; bool `(E, num_levels)`."""
    # The pattern of points repeats with the stride of the last level. So an event can be moved back by the strides that
    # lie before it, and the points after it left out.
    stride = 2 ** (num_levels - 1)
    moved = (segments[:, :1] / stride).floor().clamp(min=0) * stride
    segments = segments - moved
    num_points = np.minimum(num_steps - moved[:, 0].long().numpy(), segments[:, 1].ceil().long().numpy())
    assigned = np.zeros((len(segments), num_levels), dtype=bool)
    order = np.argsort(num_points, kind="stable")
    order = order[num_points[order] > 0]
    while len(order):
        # All levels together have at most twice the points of the first: a batch has two million point-event pairs.
        batch = order[: max(1_000_000 // num_points[order[0]], 1)]
        batch = batch[: max(1_000_000 // num_points[batch[-1]], 1)]
        points = TemporalPoints.for_pyramid(int(num_points[batch[-1]]), num_levels)
        positive, _ = assign_targets(
            torch.stack([points.positions, points.strides], dim=-1).double(),
            segments[batch, None],
            torch.zeros(len(batch), 1, dtype=torch.int64),
            num_levels,
        )
        exists = points.positions < torch.from_numpy(num_points[batch])[:, None]
        for level in range(num_levels):
            assigned[batch, level] = (positive[..., 0] & exists)[:, points.strides == 2**level].any(dim=1).numpy()
        order = order[len(batch) :]
    return assigned


def _plot_classes(ax: "Axes", description: dict[str, Any], order: list[str]) -> None:
    ax.set_title(f"Events per class ({len(order)} classes)")
    bottom = np.zeros(len(order))
    for split, color in zip(description["splits"], itertools.cycle(SPLIT_COLORS), strict=False):
        heights = np.array([description["classes"][label][split] for label in order])
        ax.bar(np.arange(len(order)), heights, 0.85, bottom, color=color, label=split)
        bottom += heights
    ax.set_ylabel("events")
    _name_classes(ax, "x", order)
    if description["splits"]:
        ax.legend(frameon=False)


def _plot_lengths(ax: "Axes", description: dict[str, Any]) -> None:
    ax.set_title("Event lengths")
    ax.set_xlabel("seconds")
    ax.set_ylabel("events")
    edges, events = description["histogram"]["edges"], description["histogram"]["events"]
    if not events:
        return
    ax.bar(edges[:-1], events, np.diff(edges), align="edge", color="#9db7e0", edgecolor="white", linewidth=0.5)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    reach = description.get("reach")
    if reach is None:
        return
    ax.set_title("Event lengths, and the pyramid levels they are assigned to")
    top, row = max(events), 0.075 * max(events)
    for level in reach["levels"]:
        y = top + row * (len(reach["levels"]) - level["level"])
        if level["shortest"] is not None:
            ax.plot([level["shortest"], level["longest"]], [y, y], color="#cf4a5c", linewidth=2, solid_capstyle="butt")
            label = f"level {level['level']}: {level['events']:.0%}"
            ax.annotate(label, (level["longest"], y), (4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_ylim(0, top + row * (len(reach["levels"]) + 1))
    ax.axvline(reach["grid"]["stride"] / reach["grid"]["frame_rate"], color="0.5", linestyle=":", linewidth=1)
    ax.set_xlabel("seconds (dotted: one step of the features)")


def _plot_at_once(ax: "Axes", description: dict[str, Any]) -> None:
    ax.set_title("Events at once")
    shares = np.array(description["at_once"]) / max(sum(description["at_once"]), 1e-9)
    # One bar for 6 and more.
    names = [str(count) for count in range(len(shares))]
    if len(shares) > 7:
        shares, names = np.append(shares[:6], shares[6:].sum()), names[:6] + [f"6-{len(shares) - 1}"]
    bars = ax.bar(names, 100 * shares, 0.7, color="#2f9e63")
    ax.bar_label(bars, [f"{share:.1%}" for share in shares], padding=2, fontsize=8)
    ax.set_ylabel("% of the time")
    ax.set_xlabel(f"events at once ({description['overlapping_events']:.0%} of events overlap another)")


def _plot_co_occurrence(ax: "Axes", description: dict[str, Any], order: list[str]) -> None:
    from matplotlib.colors import PowerNorm

    ax.set_title("Videos with both classes")
    labels = description["co_occurrence"]["labels"]
    index = [labels.index(label) for label in order]
    videos = np.array(description["co_occurrence"]["videos"]).reshape(len(labels), len(labels))[np.ix_(index, index)]
    if not len(order):
        return
    # A linear scale would hide rare pairs; a logarithmic one has room for few tick labels.
    image = ax.imshow(np.ma.masked_equal(videos, 0), norm=PowerNorm(0.4, vmin=0), cmap="viridis_r")
    ax.figure.colorbar(image, ax=ax, label="videos")
    _name_classes(ax, "x", order)
    _name_classes(ax, "y", order)


def _name_classes(ax: "Axes", axis: str, order: list[str]) -> None:
    """Label an axis with class names, or with their order if they do not fit."""
    if len(order) > MAX_NAMES:
        getattr(ax, f"set_{axis}label")("classes, by their number of events")
        return
    is_long = axis == "x" and sum(map(len, order)) > 40
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    # A "$" in a name does not start a formula.
    getattr(ax, f"set_{axis}ticks")(range(len(order)), order, parse_math=False, **turned)
