"""The annotations stored in a corpus."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.corpora.manifest import existing_shard, read_manifest
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

if TYPE_CHECKING:
    pass


def read_corpus_annotations(folder: str | os.PathLike) -> tuple[Annotations, FeatureGrid]:
    """The annotations of a corpus folder, and the clock of its features, which are not read.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if the corpus is not sound.
    """
    folder = Path(folder)
    description, splits = read_manifest(folder)
    reading = AnnotationReading(folder, "corpus")
    labels = dict(enumerate(description["labels"]))
    for split, shards in splits.items():
        for shard in shards:
            table = pq.read_table(existing_shard(folder, shard), columns=["video_id", "duration", "events"])
            for row in table.to_pylist():
                reading.add_video(row["video_id"], row["duration"], split)
                for event in row["events"]:
                    reading.add_event(row["video_id"], event["start"], event["end"], labels.get(event["label"]))
    annotations = reading.annotations(description["labels"])
    reading.raise_for_errors()
    return annotations, FeatureGrid(**description["feature_grid"])
