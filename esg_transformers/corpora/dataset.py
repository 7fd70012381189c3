"""`EventCorpus`: the examples of one split of a corpus."""

import glob
import hashlib
import os
from pathlib import Path

import datasets
import numpy as np
import torch

from esg_transformers.corpora.example import Example
from esg_transformers.corpora.manifest import Manifest
from esg_transformers.corpora.rows import stream_of


class EventCorpus(torch.utils.data.Dataset[Example]):
    """The examples of one split of a corpus folder, a `VideoDataset`.

    `datasets` converts the shards to an Arrow file in its cache once, and again when the corpus has changed; rows are
    then read from mapped memory. Features stay float16.

    Args:
        folder: a corpus, as written by `write_corpus`.
        split: the split to read.

    Attributes:
        labels (`tuple[str, ...]`): class names by id.
        feature_spec (`FeatureSpec`): time grid, channels and encoder of the features.
        video_ids (`tuple[str, ...]`): the id of each video.
        durations (`tuple[float, ...]`): seconds of each video.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if the split does not exist, or shards and corpus.json disagree.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str):
        folder = Path(folder)
        manifest = Manifest.read(folder)
        if split not in manifest.splits:
            raise ValueError(f"The corpus {folder} has no split {split!r}; it has {', '.join(manifest.splits)}.")
        shards = manifest.splits[split]
        paths = [shard.path(folder) for shard in shards]
        for path in paths:
            manifest.check_shard(path)
        self.labels, self.feature_spec = manifest.labels, manifest.feature_spec
        # Part of the cache key, which otherwise holds only paths and modification times.
        content = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()
        # Not `load_dataset`, which reports its call to a server.
        rows = datasets.Dataset.from_parquet(
            {split: [glob.escape(str(path.resolve())) for path in paths]}, split=split, config_name=content[:16]
        )
        # As Arrow: the other formats convert float16 arrays to float32 or to Python lists.
        self._rows = rows.with_format("arrow")
        self.video_ids: tuple[str, ...] = tuple(rows.data.column("video_id").to_pylist())
        self.durations: tuple[float, ...] = tuple(rows.data.column("duration").to_pylist())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        row, spec = self._rows[index], self.feature_spec
        events = row["events"][0].as_py()
        return Example(
            video_id=row["video_id"][0].as_py(),
            duration=row["duration"][0].as_py(),
            visual_features=stream_of(row["visual_features"], spec.visual_size)
            if row["has_visual"][0].as_py()
            else None,
            audio_features=stream_of(row["audio_features"], spec.audio_size) if row["has_audio"][0].as_py() else None,
            segments=np.array([(e["start"], e["end"]) for e in events], dtype=np.float64).reshape(-1, 2),
            labels=np.array([e["label"] for e in events], dtype=np.int64),
        )
