"""Rows of a corpus shard: checks, columns, and conversion to Arrow tables."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import datasets
import numpy as np
import pyarrow as pa

from esg_transformers.annotations.values import DURATION_TOLERANCE, is_safe_video_id
from esg_transformers.corpora.example import Example, are_finite, check_features
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid, FeatureSpec


def row_features(feature_spec: FeatureSpec, labels: tuple[str, ...]) -> datasets.Features:
    """The columns of a shard, as types of `datasets`."""
    return datasets.Features(
        {
            "video_id": datasets.Value("string"),
            "duration": datasets.Value("float64"),
            "has_visual": datasets.Value("bool"),
            "has_audio": datasets.Value("bool"),
            "visual_features": datasets.Array2D((None, feature_spec.visual_size), "float16"),
            "audio_features": datasets.Array2D((None, feature_spec.audio_size), "float16"),
            "events": datasets.List(
                {
                    "start": datasets.Value("float64"),
                    "end": datasets.Value("float64"),
                    "label": datasets.ClassLabel(names=list(labels)),
                }
            ),
        }
    )


def checked_row(example: Example, feature_spec: FeatureSpec, num_labels: int) -> dict[str, Any]:
    """The row of an example, after checks of its id, duration, features and events.

    An absent stream is stored as zeros, and `has_visual` or `has_audio` is false.

    Raises:
        ValueError: if something in the example cannot be stored.
    """
    duration = float(example["duration"])
    if not is_safe_video_id(example["video_id"]):
        raise ValueError("its id cannot be a file name; it must be without / \\ : and control characters.")
    if not 0 < duration < float("inf"):
        raise ValueError(f"its duration is {duration} s; expected a finite number > 0.")
    grid, visual_size, audio_size = feature_spec.grid, feature_spec.visual_size, feature_spec.audio_size
    visual = _checked_stream(example["visual_features"], "visual_features", visual_size, grid, duration)
    audio = _checked_stream(example["audio_features"], "audio_features", audio_size, grid, duration)
    lengths = {len(stream) for stream in (visual, audio) if stream is not None}
    if len(lengths) != 1:
        raise ValueError(f"it needs a visual or an audio stream, or both of one length; got {sorted(lengths)} steps.")
    (num_steps,) = lengths
    return {
        "video_id": example["video_id"],
        "duration": duration,
        "has_visual": visual is not None,
        "has_audio": audio is not None,
        "visual_features": np.zeros((num_steps, visual_size), np.float16) if visual is None else visual,
        "audio_features": np.zeros((num_steps, audio_size), np.float16) if audio is None else audio,
        "events": _checked_events(example["segments"], example["labels"], num_labels, duration),
    }


def _checked_stream(
    features: np.ndarray | None, name: str, size: int, grid: FeatureGrid, duration: float
) -> np.ndarray | None:
    """One stream in float16."""
    if features is None:
        return None
    try:
        check_features(features, size, grid, duration)
    except ValueError as error:
        raise ValueError(f"`{name}` cannot be its features: {error}") from error
    with np.errstate(over="ignore"):
        stored = features.astype(np.float16, copy=False)
    if not are_finite(stored):
        raise ValueError(f"its `{name}` reach {np.abs(features).max():g}; float16 ends at 65,504. Scale them down.")
    return stored


def _checked_events(segments: np.ndarray, labels: np.ndarray, num_labels: int, duration: float) -> list[dict[str, Any]]:
    if labels.ndim != 1 or segments.shape != (len(labels), 2):
        raise ValueError(f"its segments are {segments.shape} and its labels {labels.shape}; expected (N, 2) and (N,).")
    events = []
    for (start, end), label in zip(segments.tolist(), labels.tolist(), strict=True):
        if not 0 <= start < end <= duration + DURATION_TOLERANCE:
            raise ValueError(f"its event from {start} s to {end} s is not within its {duration} s.")
        if label not in range(num_labels):
            raise ValueError(f"its event from {start} s to {end} s has label {label}; there are {num_labels} classes.")
        events.append({"start": start, "end": end, "label": label})
    return events


def row_groups(rows: Iterable[dict[str, Any]], schema: pa.Schema, max_size: int) -> Iterator[pa.Table]:
    """Arrow tables of rows in order, each with at most `max_size` bytes of features, or with one row."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        row_size = row["visual_features"].nbytes + row["audio_features"].nbytes
        if group and size + row_size > max_size:
            yield _table(group, schema)
            group, size = [], 0
        group.append(row)
        size += row_size
    if group:
        yield _table(group, schema)


def stream_of(column: pa.ChunkedArray, size: int) -> np.ndarray:
    """The `(T, size)` float16 features in a column of one row, copied out of mapped memory."""
    return cast(np.ndarray, column.chunk(0).storage.flatten().flatten().to_numpy().reshape(-1, size).copy())


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if isinstance(values[0], np.ndarray):
            columns.append(pa.ExtensionArray.from_storage(field.type, _list_array(values)))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def _list_array(arrays: list[np.ndarray]) -> pa.ListArray:
    """Arrays `(T, D)` as one Arrow array of lists of lists, without Python lists in between."""
    values = np.concatenate(arrays)
    steps = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    videos = np.cumsum([0] + [len(array) for array in arrays], dtype=np.int32)
    return pa.ListArray.from_arrays(videos, pa.ListArray.from_arrays(steps, pa.array(values.reshape(-1))))
