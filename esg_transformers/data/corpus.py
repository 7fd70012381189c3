"""A corpus of features and events on disk: Parquet shards that `datasets` loads, streams and shares as they are.

    corpus.json                        the feature grid, the encoder, the labels; size and sha256 of every shard
    README.md                          the dataset card; tells `datasets.load_dataset(folder)` the splits and features
    data/train-00000-of-00002.parquet  one video a row: id, duration, both streams in float16, events

A stream that a video does not have is stored as zeros, and `has_visual` or `has_audio` is false.
"""

import glob
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData
from tqdm.auto import tqdm

from esg_transformers.data.annotations import DURATION_TOLERANCE, Example, is_safe_video_id
from esg_transformers.data.unav100 import check_features
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid

FORMAT = {"format": "esg_transformers.corpus", "format_version": 1}
METADATA_KEY = b"esg_transformers"  # of a shard's schema, next to b"huggingface"
DESCRIPTION_KEYS = ("feature_grid", "encoder", "visual_size", "audio_size", "labels")
ROW_GROUP_SIZE = 32_000_000  # bytes of features; what a reader that streams holds at a time


@dataclass(frozen=True)
class _Shard:
    """What corpus.json says of one file."""

    file: str  # relative to the corpus folder
    num_examples: int
    size: int  # bytes
    sha256: str


def write_corpus(
    out_dir: str | os.PathLike,
    splits: Mapping[str, Iterable[Example] | torch.utils.data.Dataset],
    *,
    labels: Sequence[str],
    grid: FeatureGrid,
    encoder: dict[str, str],
    visual_size: int,
    audio_size: int,
    shard_size: int = 500_000_000,
    overwrite: bool = False,
) -> None:
    """Write examples as a corpus folder, holding one group of rows in memory at a time.

    The corpus is built beside `out_dir` and takes its place when it is whole.

    Args:
        out_dir: the folder to make.
        splits: examples by split; read once, in order.
        labels: class names by id.
        grid: the clock of the features.
        encoder: `{"name", "version"}` of what made them.
        visual_size: channels of the visual stream.
        audio_size: channels of the audio stream.
        shard_size: bytes of features, uncompressed, that a shard holds at most, unless one row group is larger.
        overwrite: replace the corpus at `out_dir`. Nothing but a corpus is ever replaced.

    Raises:
        ValueError: if `out_dir` may not be replaced, or an example is not sound, naming its video.
    """
    out_dir = Path(out_dir).resolve()
    _check_replaceable(out_dir, overwrite)
    if len(set(labels)) != len(labels) or not labels:
        raise ValueError(f"`labels` must be different class names, at least one; got {list(labels)}.")
    if not {"name", "version"} <= encoder.keys():
        raise ValueError(f'`encoder` must be {{"name": ..., "version": ...}}; got {encoder}.')
    description = {
        "feature_grid": grid.to_dict(),
        "encoder": encoder,
        "visual_size": visual_size,
        "audio_size": audio_size,
        "labels": list(labels),
    }
    schema = _features(description).arrow_schema
    schema = schema.with_metadata({**schema.metadata, METADATA_KEY: json.dumps(description).encode()})
    partial = out_dir.with_name(f".{out_dir.name}.{uuid.uuid4().hex[:8]}")
    try:
        (partial / "data").mkdir(parents=True)
        written: dict[str, list[_Shard]] = {}
        split_of: dict[str, str] = {}
        for split, examples in splits.items():
            if not re.fullmatch(r"[A-Za-z0-9_]+", split) or split == "all":
                raise ValueError(f"A split is named with letters, digits and _, and not `all`; got {split!r}.")
            rows = _checked_rows(tqdm(examples, desc=f"Writing {split}", unit=" videos"), split, split_of, description)
            tables = _row_groups(rows, schema, min(ROW_GROUP_SIZE, shard_size))
            written[split] = _write_shards(partial / "data", split, tables, schema, shard_size)
        if not written:
            raise ValueError("A corpus needs at least one split; `splits` is empty.")
        listed = {split: [asdict(shard) for shard in shards] for split, shards in written.items()}
        manifest = json.dumps({**FORMAT, **description, "splits": listed}, indent=2)
        (partial / "corpus.json").write_text(manifest, encoding="utf-8")
        (partial / "README.md").write_text(_dataset_card(out_dir.name, description, written), encoding="utf-8")
        if out_dir.exists():
            replaced = partial.with_name(f"{partial.name}.replaced")
            out_dir.replace(replaced)
            try:
                partial.replace(out_dir)
            except OSError:
                replaced.replace(out_dir)
                raise
            shutil.rmtree(replaced)
        else:
            partial.replace(out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class EventCorpus(torch.utils.data.Dataset):
    """The examples of one split of a corpus folder.

    `datasets` turns the shards into an Arrow file in its cache once, and again when the corpus has changed; from then
    on rows are read from mapped memory. Features stay float16. Its attributes say what they are: `labels` (class
    names by id), `grid`, `visual_size`, `audio_size`, `encoder` and `video_ids`.

    Args:
        folder: as written by `write_corpus`.
        split: the split to read.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if there is no such split, or the corpus does not agree with itself.
    """

    def __init__(self, folder: str | os.PathLike, split: str):
        folder = Path(folder)
        description, splits = _read_manifest(folder)
        if split not in splits:
            raise ValueError(f"The corpus {folder} has no split {split!r}; it has {', '.join(splits)}.")
        paths = [_existing_shard(folder, shard) for shard in splits[split]]
        for path in paths:
            _check_description(path, description)
        self.labels: tuple[str, ...] = tuple(description["labels"])
        self.grid = FeatureGrid(**description["feature_grid"])
        self.visual_size: int = description["visual_size"]
        self.audio_size: int = description["audio_size"]
        self.encoder: dict[str, str] = description["encoder"]
        # The name is part of the cache's key, which by itself knows paths and modification times only.
        content = hashlib.sha256("".join(shard.sha256 for shard in splits[split]).encode()).hexdigest()
        rows = datasets.load_dataset(
            "parquet",
            name=content[:16],
            data_files={split: [glob.escape(str(path.resolve())) for path in paths]},
            split=split,
        )
        # As Arrow: the other formats make float32, or Python lists, of float16 arrays.
        self._rows = rows.with_format("arrow")
        self.video_ids = tuple(rows.data.column("video_id").to_pylist())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        row = self._rows[index]
        events = row["events"][0].as_py()
        return Example(
            video_id=row["video_id"][0].as_py(),
            duration=row["duration"][0].as_py(),
            visual_features=_array(row["visual_features"], self.visual_size) if row["has_visual"][0].as_py() else None,
            audio_features=_array(row["audio_features"], self.audio_size) if row["has_audio"][0].as_py() else None,
            segments=np.array([(e["start"], e["end"]) for e in events], dtype=np.float64).reshape(-1, 2),
            labels=np.array([e["label"] for e in events], dtype=np.int64),
        )


def verify_corpus(folder: str | os.PathLike) -> None:
    """Compare the sha256 of every shard of a corpus with that in its corpus.json.

    Raises:
        FileNotFoundError: if `folder` is not a corpus, or a shard is missing.
        ValueError: if a shard is not what was written.
    """
    folder = Path(folder)
    _, splits = _read_manifest(folder)
    for shard in tqdm([shard for shards in splits.values() for shard in shards], desc="Verifying", unit=" shards"):
        path = _existing_shard(folder, shard)
        if _sha256(path) != shard.sha256:
            raise ValueError(f"{path} has another sha256 than corpus.json says; copy or write the corpus again.")


def _features(description: dict[str, Any]) -> datasets.Features:
    """The columns of a shard."""
    return datasets.Features(
        {
            "video_id": datasets.Value("string"),
            "duration": datasets.Value("float64"),
            "has_visual": datasets.Value("bool"),
            "has_audio": datasets.Value("bool"),
            "visual_features": datasets.Array2D((None, description["visual_size"]), "float16"),
            "audio_features": datasets.Array2D((None, description["audio_size"]), "float16"),
            "events": datasets.List(
                {
                    "start": datasets.Value("float64"),
                    "end": datasets.Value("float64"),
                    "label": datasets.ClassLabel(names=description["labels"]),
                }
            ),
        }
    )


def _checked_rows(
    examples: Iterable[Example], split: str, split_of: dict[str, str], description: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """One row per example; `split_of` knows the split of every video so far."""
    for example in examples:
        video_id = example["video_id"]
        if video_id in split_of:
            raise ValueError(f"Video {video_id!r} of split {split!r} is already in split {split_of[video_id]!r}.")
        try:
            row = _checked_row(example, description)
        except ValueError as error:
            raise ValueError(f"Video {video_id!r} of split {split!r} cannot be stored: {error}") from error
        split_of[video_id] = split
        yield row


def _checked_row(example: Example, description: dict[str, Any]) -> dict[str, Any]:
    duration = float(example["duration"])
    if not is_safe_video_id(example["video_id"]):
        raise ValueError("files cannot be named after its id; it must be without / \\ : and control characters.")
    if not 0 < duration < float("inf"):
        raise ValueError(f"its duration is {duration} s.")
    visual = _checked_stream(example["visual_features"], "visual", description, duration)
    audio = _checked_stream(example["audio_features"], "audio", description, duration)
    lengths = {len(stream) for stream in (visual, audio) if stream is not None}
    if len(lengths) != 1:
        raise ValueError(f"it needs a visual or an audio stream, or both of one length; got {sorted(lengths)} steps.")
    (num_steps,) = lengths
    return {
        "video_id": example["video_id"],
        "duration": duration,
        "has_visual": visual is not None,
        "has_audio": audio is not None,
        "visual_features": np.zeros((num_steps, description["visual_size"]), np.float16) if visual is None else visual,
        "audio_features": np.zeros((num_steps, description["audio_size"]), np.float16) if audio is None else audio,
        "events": _checked_events(example["segments"], example["labels"], len(description["labels"]), duration),
    }


def _checked_stream(
    features: np.ndarray | None, name: str, description: dict[str, Any], duration: float
) -> np.ndarray | None:
    """A stream in float16."""
    if features is None:
        return None
    try:
        check_features(features, description[f"{name}_size"], FeatureGrid(**description["feature_grid"]), duration)
    except ValueError as error:
        raise ValueError(f"as `{name}_features`, {error}") from error
    with np.errstate(over="ignore"):
        stored = features.astype(np.float16, copy=False)
    if not np.isfinite(stored).all():
        raise ValueError(f"its `{name}_features` reach {np.abs(features).max():g}, and float16 ends at 65,504.")
    return stored


def _checked_events(segments: np.ndarray, labels: np.ndarray, num_labels: int, duration: float) -> list[dict[str, Any]]:
    if labels.ndim != 1 or segments.shape != (len(labels), 2):
        raise ValueError(f"its segments are {segments.shape} and its labels {labels.shape}; expected (N, 2) and (N,).")
    events = []
    for (start, end), label in zip(segments.tolist(), labels.tolist(), strict=True):
        if not 0 <= start < end <= duration + DURATION_TOLERANCE:
            raise ValueError(f"its event from {start} s to {end} s is not within its {duration} s.")
        if label not in range(num_labels):
            raise ValueError(f"its event from {start} s to {end} s has label {label}, of {num_labels} classes.")
        events.append({"start": start, "end": end, "label": label})
    return events


def _row_groups(rows: Iterable[dict[str, Any]], schema: pa.Schema, max_size: int) -> Iterator[pa.Table]:
    """Tables of rows with at most `max_size` bytes of features, or of one row."""
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
    """Arrays `(T, D)` as an Arrow list of lists per array, without a detour over Python lists."""
    values = np.concatenate(arrays)
    steps = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    videos = np.cumsum([0] + [len(array) for array in arrays], dtype=np.int32)
    return pa.ListArray.from_arrays(videos, pa.ListArray.from_arrays(steps, pa.array(values.reshape(-1))))


def _array(column: pa.ChunkedArray, size: int) -> np.ndarray:
    """The `(T, size)` float16 array of a column with one row, copied once, out of the mapped file."""
    return column.chunk(0).storage.flatten().flatten().to_numpy().reshape(-1, size).copy()


def _write_shards(
    folder: Path, split: str, tables: Iterator[pa.Table], schema: pa.Schema, shard_size: int
) -> list[_Shard]:
    """Write the tables of a split, one row group each."""
    paths: list[Path] = []
    table = next(tables, None)
    while table is not None:
        paths.append(folder / f"{split}-{len(paths):05d}.parquet")
        # A dictionary of float16 values costs four times the time to write, and saves less than zstd.
        with pq.ParquetWriter(paths[-1], schema, compression="zstd", use_dictionary=False) as writer:
            size = 0
            while table is not None and (size == 0 or size + table.nbytes <= shard_size):
                writer.write_table(table)
                size += table.nbytes
                table = next(tables, None)
    if not paths:
        raise ValueError(f"Split {split!r} has no examples; leave it out.")
    shards = []
    for index, path in enumerate(paths):
        path = path.replace(folder / f"{split}-{index:05d}-of-{len(paths):05d}.parquet")
        num_examples = pq.read_metadata(path).num_rows
        shards.append(_Shard(f"data/{path.name}", num_examples, path.stat().st_size, _sha256(path)))
    return shards


def _dataset_card(name: str, description: dict[str, Any], splits: dict[str, list[_Shard]]) -> str:
    """README.md: YAML for `datasets` and the Hub, and a page for people."""
    card_data = DatasetCardData(pretty_name=name, tags=["audio-visual-event-localization"])
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(card_data)
    DatasetInfosDict({"default": datasets.DatasetInfo(features=_features(description))}).to_dataset_card_data(card_data)
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
from esg_transformers.data.corpus import EventCorpus

{next(iter(sizes))} = EventCorpus("path/to/{name}", "{next(iter(sizes))}")
```
"""


def _check_replaceable(out_dir: Path, overwrite: bool) -> None:
    """Refuse an `out_dir` that holds anything but a corpus to be overwritten."""
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    try:
        _, splits = _read_manifest(out_dir)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{out_dir} exists and is not a corpus; give another folder.") from error
    if not overwrite:
        raise ValueError(f"There is a corpus at {out_dir}; give `overwrite=True` (`--overwrite`) to replace it.")
    ours = {"corpus.json", "README.md"} | {shard.file for shards in splits.values() for shard in shards}
    others = {path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*") if not path.is_dir()} - ours
    if others:
        raise ValueError(
            f"{out_dir} also holds files that are not of the corpus, such as {min(others)}; move them away."
        )


def _read_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, list[_Shard]]]:
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
        splits = {split: [_Shard(**shard) for shard in shards] for split, shards in manifest["splits"].items()}
        for split, shards in splits.items():
            for shard in shards:
                if not re.fullmatch(rf"data/{re.escape(split)}-\d+-of-\d+\.parquet", shard.file):
                    raise ValueError(f"{shard.file!r} is not the name of a shard of split {split!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not that of a corpus: {type(error).__name__}: {error}.") from error
    return description, splits


def _existing_shard(folder: Path, shard: _Shard) -> Path:
    path = folder / shard.file
    if not path.is_file():
        raise FileNotFoundError(f"The corpus {folder} lacks its shard {shard.file}; copy or write it again.")
    size = path.stat().st_size
    if size != shard.size:
        raise ValueError(f"{path} has {size} bytes, and corpus.json says {shard.size}; copy or write it again.")
    return path


def _check_description(path: Path, description: dict[str, Any]) -> None:
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
