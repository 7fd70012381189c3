"""The dataset card of a corpus."""

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from esg_transformers.corpora.manifest import Manifest
from esg_transformers.corpora.rows import row_features


def dataset_card(name: str, manifest: Manifest) -> str:
    """Text of README.md: YAML for `datasets` and the Hub, then a page for people."""
    spec, splits = manifest.feature_spec, manifest.splits
    assert spec.encoder is not None, "`Manifest` refuses a spec without encoder"
    card_data = DatasetCardData(pretty_name=name, tags=["audio-visual-event-localization"])
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(card_data)
    info = datasets.DatasetInfo(features=row_features(spec, manifest.labels))
    DatasetInfosDict({"default": info}).to_dataset_card_data(card_data)
    rows = "\n".join(f"| {split} | {manifest.num_examples(split):,} |" for split in splits)
    return f"""---
{card_data}
---

# {name}

Audio-visual features and events of {manifest.num_examples():,} videos, {len(manifest.labels)} classes.

| split | videos |
|---|---|
{rows}

- encoder: {spec.encoder.name}, version {spec.encoder.version}
- feature grid: {spec.grid}
- time of step `g`: `(g * stride + window / 2) / frame rate` seconds
- channels: {spec.visual_size} visual, {spec.audio_size} audio
- a stream that a video does not have is zeros, and `has_visual` or `has_audio` is false

```python
from esg_transformers.corpora import EventCorpus

{next(iter(splits))} = EventCorpus("path/to/{name}", "{next(iter(splits))}")
```
"""
