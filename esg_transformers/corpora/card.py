"""The dataset card of a corpus."""

from typing import Any

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from esg_transformers.corpora.manifest import Shard
from esg_transformers.corpora.rows import row_features
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def dataset_card(name: str, description: dict[str, Any], splits: dict[str, list[Shard]]) -> str:
    """README.md: YAML for `datasets` and the Hub, and a page for people."""
    card_data = DatasetCardData(pretty_name=name, tags=["audio-visual-event-localization"])
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(card_data)
    DatasetInfosDict({"default": datasets.DatasetInfo(features=row_features(description))}).to_dataset_card_data(
        card_data
    )
    sizes = {split: sum(shard.num_examples for shard in shards) for split, shards in splits.items()}
    rows = "\n".join(f"| {split} | {size:,} |" for split, size in sizes.items())
    return f"""---
{card_data}
---

# {name}

Audio-visual features and events of {sum(sizes.values()):,} videos, {len(description["labels"])} classes.

| split | videos |
|---|---|
{rows}

- encoder: {description["encoder"]["name"]}, version {description["encoder"]["version"]}
- feature grid: {FeatureGrid(**description["feature_grid"])}
- time of step `g`: `(g * stride + window / 2) / frame rate` seconds
- channels: {description["visual_size"]} visual, {description["audio_size"]} audio
- a stream that a video does not have is zeros, and `has_visual` or `has_audio` is false

```python
from esg_transformers.corpora.dataset import EventCorpus

{next(iter(sizes))} = EventCorpus("path/to/{name}", "{next(iter(sizes))}")
```
"""
