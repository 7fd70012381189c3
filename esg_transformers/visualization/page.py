"""One HTML file that plays a video over the timeline of its events."""

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

from esg_transformers.files import check_folder_of, replacing
from esg_transformers.localization.trace import STREAMS, Trace
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.visualization.timeline import PALETTE, lanes_of

# Types that a system without a table of types may lack.
MEDIA_TYPES = {".mkv": "video/x-matroska", ".flac": "audio/flac", ".ogg": "audio/ogg", ".m4a": "audio/mp4"}
MAX_VIDEO_BYTES = 100 * 2**20  # a browser holds it twice: as text and decoded
MAX_COLUMNS = 1500  # of a strip of the trace: about the pixels of a lane on a screen


def save_timeline_html(
    path: str | os.PathLike[str],
    events: Sequence[dict[str, Any]],
    true_events: Sequence[dict[str, Any]] | None = None,
    duration: float | None = None,
    video: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    title: str = "Events",
    waveform: np.ndarray | None = None,
    trace: Trace | None = None,
) -> None:
    """Write one HTML file that plays a video over its events, without a network or other files.

    In the page, a click on a lane or an event seeks; space plays and pauses, the arrow keys move by a second, + and -
    zoom; a slider hides found events below a score. The file is written whole or not at all.

    Args:
        path: file to write, in a folder that exists.
        events: found events, as in `plot_events`.
        true_events: true events, as in `plot_events`.
        duration: seconds that the lanes cover; they are longer if an event or the video ends later.
        video: video or audio file to embed, at most 100 MiB (`MAX_VIDEO_BYTES`). The browser must be able to play it:
            MP4 with H.264 and AAC, and WebM, are safe.
        labels: classes that get a lane, as in `plot_events`.
        title: heading of the page.
        waveform: (num_peaks, 2), least and greatest sample of each of `num_peaks` equal parts of `duration`, as
            `waveform_peaks` gives them; the loudest sample fills the height of the lane.
        trace: intermediate outputs of the network, as `trace_of` gives them. One strip per semantic stage is drawn
            below each class lane, of the fused, visual or audio stream as the reader picks; at the bottom, the weights
            of the experts, layer by layer. Beyond 1500 steps (`MAX_COLUMNS`), neighbouring steps are averaged.

    Raises:
        ValueError: as in `plot_events`; or if `video` is too large or of no known video or audio type, `waveform` is
            given without `duration`, or `waveform` or `trace` has a wrong shape or numbers out of range.
        FileNotFoundError: if `video` or the folder of `path` does not exist.
    """
    check_folder_of(path)
    lanes, length = lanes_of(events, true_events, duration, labels)
    timeline = {
        "duration": length,
        "hasTrueEvents": true_events is not None,
        "lanes": [asdict(lane) for lane in lanes],
        "video": None if video is None else _embedded(Path(video)),
        "waveform": None if waveform is None else _waveform(waveform, duration),
        "semantic": None if trace is None else _semantic(trace, [lane.label for lane in lanes]),
        "router": None if trace is None else _router(trace),
        "palette": PALETTE,
    }
    # In a script element only "<" can end the data early; in JSON, \u003c is the same character.
    data = json.dumps(timeline, allow_nan=False).replace("<", "\\u003c")
    # In one pass, so that "{{timeline}}" in a title is not replaced.
    parts = {"title": html.escape(title), "timeline": data}
    template = Path(__file__).with_name("timeline.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(title|timeline)\}\}", lambda marker: parts[marker[1]], template)

    with replacing(path) as file:
        file.write(page)


def _embedded(video: Path) -> dict[str, str]:
    """Type of the file, and its content as base64."""
    if not video.is_file():
        raise FileNotFoundError(f"`video` is {video}, which is not a file.")
    kind = MEDIA_TYPES.get(video.suffix.lower()) or mimetypes.guess_type(video.name)[0]
    if kind is None or not kind.startswith(("video/", "audio/")):
        raise ValueError(
            f"`video` is {video.name}, which has no known video or audio type ({kind}). Pass an .mp4 or .webm file."
        )
    size = video.stat().st_size
    if size > MAX_VIDEO_BYTES:
        raise ValueError(
            f"`video` has {size / 2**20:.0f} MiB; a page holds at most {MAX_VIDEO_BYTES / 2**20:.0f} MiB. "
            "Re-encode it smaller, or leave it out to show the events alone."
        )
    return {"type": kind, "base64": _base64(video.read_bytes())}


def _waveform(peaks: np.ndarray, duration: float | None) -> dict[str, Any]:
    """Peaks as signed bytes, all least samples and then all greatest, 127 for the loudest."""
    peaks = np.asarray(peaks)
    if duration is None:
        raise ValueError("`waveform` is given without `duration`. Pass the seconds that it covers, those of the file.")
    if peaks.ndim != 2 or peaks.shape[1] != 2 or not len(peaks) or not np.isfinite(peaks).all():
        raise ValueError(
            f"`waveform` has shape {peaks.shape}. Expected finite numbers of shape (num_peaks, 2), as "
            "`waveform_peaks` gives them."
        )
    loudest = np.abs(peaks).max() or 1.0
    return {"duration": float(duration), "peaks": _base64(np.rint(127 * peaks.T / loudest).astype(np.int8).tobytes())}


def _semantic(trace: Trace, lanes: Sequence[str]) -> dict[str, Any] | None:
    """Strips of each class lane, bytes (streams, stages, columns); `None` for a class that the network lacks."""
    semantic, labels = trace.semantic, trace.labels
    if semantic is None:
        return None
    if semantic.ndim != 4 or semantic.shape[1::2] != (len(STREAMS), len(labels)) or not _are_probabilities(semantic):
        raise ValueError(
            f"`trace.semantic` has shape {semantic.shape}. Expected numbers from 0 to 1 of shape "
            f"(stages, {len(STREAMS)} streams, steps, {len(labels)} classes), as `trace_of` gives it."
        )
    strips = {label: _strips(semantic[..., i].swapaxes(0, 1)) for i, label in enumerate(labels) if label in lanes}
    return {
        **_extent(trace.grid, semantic.shape[2]),
        "streams": STREAMS,
        "stages": len(semantic),
        "strips": [strips.get(label) for label in lanes],
    }


def _router(trace: Trace) -> dict[str, Any] | None:
    """Weights of the experts, bytes (layers, experts, columns)."""
    router = trace.router
    if router is None:
        return None
    if router.ndim != 3 or not _are_probabilities(router):
        raise ValueError(
            f"`trace.router` has shape {router.shape}. Expected numbers from 0 to 1 of shape "
            "(layers, steps, experts), as `trace_of` gives it."
        )
    num_layers, num_steps, num_experts = router.shape
    shares = _strips(router.swapaxes(1, 2))
    return {**_extent(trace.grid, num_steps), "layers": num_layers, "experts": num_experts, "strips": shares}


def _are_probabilities(values: np.ndarray) -> bool:
    return values.size > 0 and bool(values.min() >= 0 and values.max() <= 1)  # False if one is NaN


def _extent(grid: FeatureGrid, num_steps: int) -> dict[str, float | int]:
    """Start and end of strips in seconds, half a step beyond the first and last step, and their number of columns."""
    start, end = grid.to_seconds(torch.tensor([-0.5, num_steps - 0.5], dtype=torch.float64)).tolist()
    return {"start": start, "end": end, "columns": min(num_steps, MAX_COLUMNS)}


def _strips(probabilities: np.ndarray) -> str:
    """Probabilities (..., T) as bytes (..., columns), 255 for 1; means over neighbouring steps if T > `MAX_COLUMNS`."""
    num_steps = probabilities.shape[-1]
    num_columns = min(num_steps, MAX_COLUMNS)
    first_steps = np.arange(num_columns) * num_steps // num_columns
    sums = np.add.reduceat(probabilities, first_steps, axis=-1, dtype=np.float32)
    means = sums / np.diff(first_steps, append=num_steps)
    return _base64(np.rint(255 * means).astype(np.uint8).tobytes())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
