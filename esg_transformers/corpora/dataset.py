"""`EventCorpus`: the examples of one split of a corpus."""

import glob
import hashlib
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import torch

from esg_transformers.corpora.example import Example
from esg_transformers.corpora.manifest import check_shard_description, existing_shard, read_manifest
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec


class EventCorpus(torch.utils.data.Dataset):
    """The examples of one split of a corpus folder.

    `datasets` turns the shards into an Arrow file in its cache once, and again when the corpus has changed; from then
    on rows are read from mapped memory. Features stay float16. It is a
    `VideoDataset`.

    Args:
        folder: as written by `write_corpus`.
        split: the split to read.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if there is no such split, or the corpus does not agree with itself.
    """

    def __init__(self, folder: str | os.PathLike, split: str):
        folder = Path(folder)
        description, splits = read_manifest(folder)
        if split not in splits:
            raise ValueError(f"The corpus {folder} has no split {split!r}; it has {', '.join(splits)}.")
        paths = [existing_shard(folder, shard) for shard in splits[split]]
        for path in paths:
            check_shard_description(path, description)
        self.labels: tuple[str, ...] = tuple(description["labels"])
        self.feature_spec = FeatureSpec(
            FeatureGrid(**description["feature_grid"]),
            description["visual_size"],
            description["audio_size"],
            EncoderId(**description["encoder"]),
        )
        # The name is part of the cache's key, which by itself knows paths and modification times only.
        content = hashlib.sha256("".join(shard.sha256 for shard in splits[split]).encode()).hexdigest()
        # Not `load_dataset`, which tells a server that it was called.
        rows = datasets.Dataset.from_parquet(
            {split: [glob.escape(str(path.resolve())) for path in paths]}, split=split, config_name=content[:16]
        )
        # As Arrow: the other formats make float32, or Python lists, of float16 arrays.
        self._rows = rows.with_format("arrow")
        self.video_ids = tuple(rows.data.column("video_id").to_pylist())
        self.durations = tuple(rows.data.column("duration").to_pylist())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        row, spec = self._rows[index], self.feature_spec
        events = row["events"][0].as_py()
        return Example(
            video_id=row["video_id"][0].as_py(),
            duration=row["duration"][0].as_py(),
            visual_features=_array(row["visual_features"], spec.visual_size) if row["has_visual"][0].as_py() else None,
            audio_features=_array(row["audio_features"], spec.audio_size) if row["has_audio"][0].as_py() else None,
            segments=np.array([(e["start"], e["end"]) for e in events], dtype=np.float64).reshape(-1, 2),
            labels=np.array([e["label"] for e in events], dtype=np.int64),
        )


def _array(column: pa.ChunkedArray, size: int) -> np.ndarray:
    """The `(T, size)` float16 array of a column with one row, copied once, out of the mapped file."""
    return column.chunk(0).storage.flatten().flatten().to_numpy().reshape(-1, size).copy()
