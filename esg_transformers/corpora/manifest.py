"""corpus.json of a corpus folder: the features, the labels, and size and checksum of every shard.

A corpus folder holds:

    corpus.json                        the content of `Manifest`
    README.md                          the dataset card; `datasets.load_dataset(folder)` reads it for splits and columns
    data/train-00000-of-00002.parquet  a shard: one video a row, with its id, duration, events and float16 features

Every shard carries the feature spec and the labels in the metadata of its schema too.
"""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm.auto import tqdm

from esg_transformers.files import sha256_of
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

FORMAT = {"format": "esg_transformers.corpus", "format_version": 1}
METADATA_KEY = b"esg_transformers"  # in the metadata of a shard's schema, next to b"huggingface"


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a corpus, as corpus.json lists it.

    Args:
        file: path relative to the corpus folder, `data/SPLIT-NUMBER-of-COUNT.parquet`.
        num_examples: rows, one per video.
        size: bytes of the file.
        sha256: SHA-256 of the file, in hexadecimal.
    """

    file: str
    num_examples: int
    size: int
    sha256: str

    def path(self, folder: Path) -> Path:
        """The path of the file in a corpus folder, after a check of its size.

        Raises:
            FileNotFoundError: if the file is missing.
            ValueError: if it has another size.
        """
        path = folder / self.file
        if not path.is_file():
            raise FileNotFoundError(f"The corpus {folder} lacks its shard {self.file}; copy or write it again.")
        size = path.stat().st_size
        if size != self.size:
            raise ValueError(f"{path} has {size} bytes, but corpus.json says {self.size}; copy or write it again.")
        return path

    def verify(self, folder: Path) -> None:
        """Check size and SHA-256 of the file in a corpus folder.

        Raises:
            FileNotFoundError: if the file is missing.
            ValueError: if it has another size or SHA-256.
        """
        path = self.path(folder)
        if sha256_of(path) != self.sha256:
            raise ValueError(f"{path} has another sha256 than corpus.json says; copy or write the corpus again.")


@dataclass(frozen=True)
class Manifest:
    """The content of corpus.json.

    Args:
        feature_spec: the features of all splits; its encoder is known.
        labels: class names by id, all different.
        splits: shards by split, in the order of their examples.

    Raises:
        ValueError: if the encoder is not known, or the labels are not different names, at least one.
    """

    feature_spec: FeatureSpec
    labels: tuple[str, ...]
    splits: dict[str, tuple[Shard, ...]]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            raise ValueError(f"`labels` must be different class names, at least one; got {list(self.labels)}.")
        if self.feature_spec.encoder is None:
            raise ValueError(
                "`feature_spec` has no encoder. Name it, so that its features are never mixed with others: "
                '`EncoderId("my encoder", "1")`.'
            )

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "Manifest":
        """Read corpus.json of a corpus folder.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is not the corpus.json of a corpus.
        """
        path = Path(folder) / "corpus.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is not a corpus: it has no corpus.json. `write_corpus` makes one.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if {key: content[key] for key in FORMAT} != FORMAT:
                raise ValueError(f"expected {FORMAT}")
            spec = FeatureSpec(
                FeatureGrid(**content["feature_grid"]),
                content["visual_size"],
                content["audio_size"],
                EncoderId(**content["encoder"]),
            )
            splits = {
                split: tuple(_checked_shard(shard, split) for shard in shards)
                for split, shards in content["splits"].items()
            }
            return cls(spec, tuple(content["labels"]), splits)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is not the corpus.json of a corpus: {type(error).__name__}: {error}") from error

    def write(self, folder: Path) -> None:
        """Write corpus.json into a folder."""
        splits = {split: [asdict(shard) for shard in shards] for split, shards in self.splits.items()}
        content = {**FORMAT, **metadata_of(self.feature_spec, self.labels), "splits": splits}
        (folder / "corpus.json").write_text(json.dumps(content, indent=2), encoding="utf-8")

    @property
    def shards(self) -> tuple[tuple[str, Shard], ...]:
        """All shards, each with its split."""
        return tuple((split, shard) for split, shards in self.splits.items() for shard in shards)

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the corpus, relative to its folder: README.md, corpus.json and the shards."""
        return ("README.md", "corpus.json", *(shard.file for _, shard in self.shards))

    def num_examples(self, split: str | None = None) -> int:
        """Number of videos in one split; in all splits by default."""
        return sum(shard.num_examples for name, shard in self.shards if split in (None, name))

    def check_shard(self, path: Path) -> None:
        """Refuse a shard whose feature spec or labels differ from those of corpus.json.

        Raises:
            ValueError: if they differ, or the file cannot be read or does not hold them.
        """
        try:
            stored = json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"null"))
        except ValueError as error:  # the base class of pyarrow's errors
            raise ValueError(f"{path} cannot be read: {error}") from error
        if not isinstance(stored, dict):
            raise ValueError(f"{path} has no description of its features; shards are written by `write_corpus`.")
        expected = metadata_of(self.feature_spec, self.labels)
        differing = [key for key in expected if stored.get(key) != expected[key]]
        if differing:
            raise ValueError(
                f"{path} and corpus.json differ in {', '.join(differing)}: {[stored.get(key) for key in differing]} "
                f"and {[expected[key] for key in differing]}. They belong to different corpora, or one was edited; "
                "write the corpus again."
            )


def metadata_of(feature_spec: FeatureSpec, labels: tuple[str, ...]) -> dict[str, Any]:
    """The JSON form of a feature spec and labels, as corpus.json and every shard hold it.

    >>> metadata_of(FeatureSpec(FeatureGrid(5.0, 1, 2), 175, 195, EncoderId("spectral", "1")), ("alarm",))
    {'feature_grid': {'frame_rate': 5.0, 'stride': 1, 'window': 2}, 'encoder': {'name': 'spectral', 'version': '1'},
     'visual_size': 175, 'audio_size': 195, 'labels': ['alarm']}
    """
    assert feature_spec.encoder is not None, "`Manifest` refuses a spec without encoder"
    return {
        "feature_grid": feature_spec.grid.to_dict(),
        "encoder": feature_spec.encoder.to_dict(),
        "visual_size": feature_spec.visual_size,
        "audio_size": feature_spec.audio_size,
        "labels": list(labels),
    }


def verify_corpus(folder: str | os.PathLike[str]) -> None:
    """Compare size and SHA-256 of every shard of a corpus with its corpus.json.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if a shard has another size or SHA-256.
    """
    folder = Path(folder)
    for _, shard in tqdm(Manifest.read(folder).shards, desc="Verifying", unit=" shards"):
        shard.verify(folder)


def _checked_shard(content: dict[str, Any], split: str) -> Shard:
    """A shard as listed in corpus.json, after a check that its path stays in the folder."""
    shard = Shard(**content)
    if not re.fullmatch(rf"data/{re.escape(split)}-\d+-of-\d+\.parquet", shard.file):
        raise ValueError(f"{shard.file!r} is not the name of a shard of split {split!r}")
    return shard
