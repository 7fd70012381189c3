"""One HTML file in which a video and its events play together."""

import base64
import html
import json
import mimetypes
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esg_transformers.files import replacing
from esg_transformers.localization.trace import STREAMS, Evidence
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.visualization.timeline import PALETTE, lanes_of

# What a system without a table of types may not know.
MEDIA_TYPES = {".mkv": "video/x-matroska", ".flac": "audio/flac", ".ogg": "audio/ogg", ".m4a": "audio/mp4"}
MAX_VIDEO_BYTES = 100 * 2**20  # what a browser can hold in one page, as text and decoded
MAX_COLUMNS = 1500  # of a strip of evidence: about the pixels that a lane has on a screen


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
    lanes, length = lanes_of(events, true_events, duration, labels)
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

    with replacing(path) as file:
        file.write(page)


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
