"""Annotations read back from a corpus."""

import os
from pathlib import Path

import pyarrow.parquet as pq

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.corpora.manifest import Manifest
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def read_corpus_annotations(folder: str | os.PathLike[str]) -> tuple[Annotations, FeatureGrid]:
    """The annotations of a corpus and the time grid of its features, without reading the features.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if corpus.json, a shard or an event is not valid.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    reading = AnnotationReading(folder, "corpus")
    labels = dict(enumerate(manifest.labels))
    for split, shard in manifest.shards:
        for row in pq.read_table(shard.path(folder), columns=["video_id", "duration", "events"]).to_pylist():
            reading.add_video(row["video_id"], row["duration"], split)
            for event in row["events"]:
                reading.add_event(row["video_id"], event["start"], event["end"], labels.get(event["label"]))
    annotations = reading.annotations(manifest.labels)
    reading.raise_for_errors()
    return annotations, manifest.feature_spec.grid
