"""corpus.json: the features, labels and shards of a corpus, and checks against its files."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm.auto import tqdm

from esg_transformers.files import sha256_of
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

FORMAT = {"format": "esg_transformers.corpus", "format_version": 1}
METADATA_KEY = b"esg_transformers"  # of a shard's schema, next to b"huggingface"
DESCRIPTION_KEYS = ("feature_grid", "encoder", "visual_size", "audio_size", "labels")


@dataclass(frozen=True)
class Shard:
    """What corpus.json says of one file."""

    file: str  # relative to the corpus folder
    num_examples: int
    size: int  # bytes
    sha256: str


def verify_corpus(folder: str | os.PathLike) -> None:
    """Compare the sha256 of every shard of a corpus with that in its corpus.json.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if a shard is not what was written.
    """
    folder = Path(folder)
    _, splits = read_manifest(folder)
    for shard in tqdm([shard for shards in splits.values() for shard in shards], desc="Verifying", unit=" shards"):
        path = existing_shard(folder, shard)
        if sha256_of(path) != shard.sha256:
            raise ValueError(f"{path} has another sha256 than corpus.json says; copy or write the corpus again.")


def read_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, list[Shard]]]:
    """What corpus.json says of the features, and the shards of each split."""
    path = folder / "corpus.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a corpus: it has no corpus.json. `write_corpus` makes one.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if {key: manifest[key] for key in FORMAT} != FORMAT:
            raise ValueError(f"expected {FORMAT}")
        description = {key: manifest[key] for key in DESCRIPTION_KEYS}
        FeatureGrid(**description["feature_grid"])
        splits = {split: [Shard(**shard) for shard in shards] for split, shards in manifest["splits"].items()}
        for split, shards in splits.items():
            for shard in shards:
                if not re.fullmatch(rf"data/{re.escape(split)}-\d+-of-\d+\.parquet", shard.file):
                    raise ValueError(f"{shard.file!r} is not the name of a shard of split {split!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not that of a corpus: {type(error).__name__}: {error}.") from error
    return description, splits


def existing_shard(folder: Path, shard: Shard) -> Path:
    """The path of a shard, if its file is there and has its size."""
    path = folder / shard.file
    if not path.is_file():
        raise FileNotFoundError(f"The corpus {folder} lacks its shard {shard.file}; copy or write it again.")
    size = path.stat().st_size
    if size != shard.size:
        raise ValueError(f"{path} has {size} bytes, and corpus.json says {shard.size}; copy or write it again.")
    return path


def check_shard_description(path: Path, description: dict[str, Any]) -> None:
    """Refuse a shard that was not written with the grid, the encoder, the sizes and the labels of corpus.json."""
    try:
        stored = json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"null"))
    except ValueError as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"{path} cannot be read: {error}") from error
    if stored is None:
        raise ValueError(f"{path} does not say what its features are; a shard is written by `write_corpus`.")
    differing = [key for key in description if stored.get(key) != description[key]]
    if differing:
        raise ValueError(
            f"{path} and corpus.json differ in {', '.join(differing)}: "
            f"{[stored.get(key) for key in differing]} against {[description[key] for key in differing]}. They are of "
            "different corpora, or one was edited; write the corpus again."
        )
