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
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import active_children, connection, get_context
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from filelock import FileLock, Timeout
from huggingface_hub import DatasetCardData
from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.data.annotations import DURATION_TOLERANCE, Example, is_safe_video_id, replacing
from esg_transformers.data.unav100 import are_finite, check_features
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid

logger = logging.get_logger(__name__)

FORMAT = {"format": "esg_transformers.corpus", "format_version": 1}
METADATA_KEY = b"esg_transformers"  # of a shard's schema, next to b"huggingface"
DESCRIPTION_KEYS = ("feature_grid", "encoder", "visual_size", "audio_size", "labels")
ROW_GROUP_SIZE = 32_000_000  # bytes of features; what a writer, and a reader that streams, holds at a time

Examples = Sequence[Example] | torch.utils.data.Dataset


@dataclass(frozen=True)
class _Shard:
    """What corpus.json says of one file."""

    file: str  # relative to the corpus folder
    num_examples: int
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class _Plan:
    """A shard to be built."""

    split: str
    file: str  # relative to the corpus folder
    indices: range  # of the split's examples
    fingerprint: str | None  # sha256 of all that the shard follows from; None if its split does not say


def write_corpus(
    out_dir: str | os.PathLike,
    splits: Mapping[str, Examples],
    *,
    labels: Sequence[str],
    grid: FeatureGrid,
    encoder: dict[str, str],
    visual_size: int,
    audio_size: int,
    videos_per_shard: int = 128,
    num_workers: int = 0,
    overwrite: bool = False,
) -> None:
    """Write examples as a corpus folder, holding one group of rows in memory at a time in each process.

    The corpus is built in `.NAME.partial` beside `out_dir` and takes its place when it is whole. What is written does
    not depend on `num_workers`. When a build ends early, even by `kill -9` or for want of room, the next one takes over
    its finished shards, as far as they would be made again just so, and gives the same bytes. For that a split needs a
    method `fingerprint(index)`: a string that differs when the example does, without reading it.

    Args:
        out_dir: the folder to make.
        splits: sequences or map-style data sets of examples, by split; each is read once.
        labels: class names by id.
        grid: the clock of the features.
        encoder: `{"name", "version"}` of what made them.
        visual_size: channels of the visual stream.
        audio_size: channels of the audio stream.
        videos_per_shard: examples of each shard but the last of a split.
        num_workers: processes that build shards; 0 builds them in this one. With 1 or more, a split is pickled for
            each of its shards, and a script has to call this under `if __name__ == "__main__":`, as all of
            `multiprocessing`.
        overwrite: replace the corpus at `out_dir`. Nothing but a corpus is ever replaced.

    Raises:
        ValueError: if `out_dir` may not be replaced, or an example is not sound, naming its video.
        OSError: if the corpus cannot be written, is being built by another process, or a process of its own is killed.
    """
    out_dir = Path(out_dir).resolve()
    if len(set(labels)) != len(labels) or not labels:
        raise ValueError(f"`labels` must be different class names, at least one; got {list(labels)}.")
    if not {"name", "version"} <= encoder.keys():
        raise ValueError(f'`encoder` must be {{"name": ..., "version": ...}}; got {encoder}.')
    if videos_per_shard < 1 or num_workers < 0:
        raise ValueError(f"Give videos_per_shard >= 1 and num_workers >= 0; got {videos_per_shard} and {num_workers}.")
    description = {
        "feature_grid": grid.to_dict(),
        "encoder": encoder,
        "visual_size": visual_size,
        "audio_size": audio_size,
        "labels": list(labels),
    }
    with _partial_folder(out_dir) as partial:
        _check_replaceable(out_dir, overwrite)
        plans = _plan_shards(splits, description, videos_per_shard)
        corpus = partial / "corpus"
        shards = _take_over(partial, plans)
        with tqdm(
            total=sum(len(plan.indices) for plan in plans),
            initial=sum(shard.num_examples for shard in shards.values()),
            desc=f"Building {out_dir.name}",
            unit=" videos",
        ) as progress:
            missing = [plan for plan in plans if plan.file not in shards]
            if num_workers:
                shards |= _build_in_processes(partial, missing, splits, description, num_workers, progress)
            else:
                shards |= _build_here(partial, missing, splits, description, progress)
        written = {split: [shards[plan.file] for plan in plans if plan.split == split] for split in splits}
        _check_each_video_once(corpus, written)
        listed = {split: [asdict(shard) for shard in shards] for split, shards in written.items()}
        manifest = json.dumps({**FORMAT, **description, "splits": listed}, indent=2)
        (corpus / "corpus.json").write_text(manifest, encoding="utf-8")
        (corpus / "README.md").write_text(_dataset_card(out_dir.name, description, written), encoding="utf-8")
        if out_dir.exists():
            out_dir.replace(partial / "replaced")
        corpus.replace(out_dir)


class EventCorpus(torch.utils.data.Dataset):
    """The examples of one split of a corpus folder.

    `datasets` turns the shards into an Arrow file in its cache once, and again when the corpus has changed; from then
    on rows are read from mapped memory. Features stay float16. Its attributes say what they are: `labels` (class
    names by id), `grid`, `visual_size`, `audio_size`, `encoder`, `video_ids` and `durations` (seconds).

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
        self.grid = FeatureGrid(**description["feature_grid"])
        self.visual_size: int = description["visual_size"]
        self.audio_size: int = description["audio_size"]
        self.encoder: dict[str, str] = description["encoder"]
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
    _, splits = read_manifest(folder)
    for shard in tqdm([shard for shards in splits.values() for shard in shards], desc="Verifying", unit=" shards"):
        path = existing_shard(folder, shard)
        if sha256_of(path) != shard.sha256:
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


@contextmanager
def _partial_folder(out_dir: Path) -> Iterator[Path]:
    """The folder that one process builds a corpus in; it is kept if a later build can use what is finished in it.

    It holds `lock`; `corpus/`, what is to become `out_dir`; `records/`, a file for each finished shard; and, between
    the two renames that replace a corpus, `replaced/`, the old one.
    """
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(partial / "lock", timeout=0).acquire()
    except Timeout as error:
        raise OSError(
            f"Another process is building {out_dir} at this moment: it has locked {partial}. Wait until it is done, or "
            "give another folder."
        ) from error
    with lock:
        _put_back(partial / "replaced", out_dir)
        try:
            yield partial
        finally:
            _put_back(partial / "replaced", out_dir)
            num_finished = len(list((partial / "records").glob("*.json")))
            if num_finished and (partial / "corpus").exists():
                logger.warning(f"{num_finished} finished shards are kept in {partial} for the next build of {out_dir}.")
            else:
                shutil.rmtree(partial, ignore_errors=True)


def _put_back(replaced: Path, out_dir: Path) -> None:
    """Put an old corpus back that nothing took the place of."""
    if replaced.exists() and not out_dir.exists():
        replaced.replace(out_dir)
    shutil.rmtree(replaced, ignore_errors=True)


def _plan_shards(splits: Mapping[str, Examples], description: dict[str, Any], videos_per_shard: int) -> list[_Plan]:
    """The shards of all splits; they follow from the number of examples alone."""
    if not splits:
        raise ValueError("A corpus needs at least one split; `splits` is empty.")
    plans = []
    for split, examples in splits.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", split) or split == "all":
            raise ValueError(f"A split is named with letters, digits and _, and not `all`; got {split!r}.")
        firsts = range(0, len(examples), videos_per_shard)  # type: ignore[arg-type]
        if not firsts:
            raise ValueError(f"Split {split!r} has no examples; leave it out.")
        for number, first in enumerate(firsts):
            indices = range(first, min(first + videos_per_shard, len(examples)))  # type: ignore[arg-type]
            fingerprint = None
            if hasattr(examples, "fingerprint"):
                sources = [examples.fingerprint(index) for index in indices]
                fingerprint = hashlib.sha256(json.dumps([description, split, sources]).encode()).hexdigest()
            file = f"data/{split}-{number:05d}-of-{len(firsts):05d}.parquet"
            plans.append(_Plan(split, file, indices, fingerprint))
    return plans


def _take_over(partial: Path, plans: Iterable[_Plan]) -> dict[str, _Shard]:
    """The shards, by file, that an earlier build has finished and this one would make just so; others are removed."""
    data, records = partial / "corpus" / "data", partial / "records"
    data.mkdir(parents=True, exist_ok=True)
    records.mkdir(exist_ok=True)
    finished: dict[str, _Shard] = {}
    for plan in plans:
        try:
            record = json.loads(_record_path(partial, plan).read_text(encoding="utf-8"))
            shard = _Shard(**record["shard"])
            is_same = (shard.file, record["fingerprint"]) == (plan.file, plan.fingerprint)
            if is_same and sha256_of(existing_shard(partial / "corpus", shard)) == shard.sha256:
                finished[plan.file] = shard
        except (OSError, ValueError, TypeError, KeyError):
            continue  # what is not whole is made again
    num_records = len(list(records.glob("*.json")))
    if num_records > len(finished):
        logger.warning(
            f"{num_records - len(finished)} of {num_records} finished shards in {partial} are of another build, which "
            "did not end, and are removed."
        )
    names = {Path(file).name for file in finished}
    for path in (*data.iterdir(), *records.iterdir()):
        if path.name.removesuffix(".json") not in names:
            path.unlink()
    return finished


def _record_path(partial: Path, plan: _Plan) -> Path:
    """Where it is noted that a shard is whole, and what it was made from."""
    return partial / "records" / f"{Path(plan.file).name}.json"


def _build_here(
    partial: Path, plans: Iterable[_Plan], splits: Mapping[str, Examples], description: dict[str, Any], progress: tqdm
) -> dict[str, _Shard]:
    # One thread, as in the processes of `_build_in_processes`: with more, an encoder's sums are rounded otherwise.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            plan.file: _build_shard(partial, plan, splits[plan.split], description, progress.update) for plan in plans
        }
    finally:
        torch.set_num_threads(num_threads)


def _build_in_processes(
    partial: Path,
    plans: Sequence[_Plan],
    splits: Mapping[str, Examples],
    description: dict[str, Any],
    num_workers: int,
    progress: tqdm,
) -> dict[str, _Shard]:
    # Spawned, not forked: the caller may hold threads (torch, Arrow) that do not survive a fork.
    context = get_context("spawn")
    num_videos = context.Value("q", progress.n)
    alive, ours = context.Pipe(duplex=False)
    others = active_children()
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (alive, num_videos))
    shards: dict[str, _Shard] = {}
    try:
        with ignoring_interrupts():
            pending = {pool.submit(_build_in_worker, partial, plan, splits[plan.split], description) for plan in plans}
        while pending:
            ended, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
            shards |= {shard.file: shard for shard in (future.result() for future in ended)}
            progress.update(num_videos.value - progress.n)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "A process that built shards ended abruptly, most often killed for want of memory. Build again with a "
            "smaller `num_workers`; what is finished is kept."
        ) from error
    finally:
        for process in active_children():
            if process not in others:
                process.terminate()  # whatever it is at
        pool.shutdown(cancel_futures=True)
        ours.close()
    return shards


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Processes that are started here stay untouched by Ctrl-C, which reaches their parent too."""
    if threading.current_thread() is not threading.main_thread():  # others may not
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _start_worker(alive: Any, num_videos: Any) -> None:
    """Make this process count its videos, and end when its parent is killed, which closes the pipe `alive`."""
    global _num_videos
    _num_videos = num_videos

    def end_with_parent():
        connection.wait([alive])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


_num_videos: Any  # of all workers together; in a worker only


def _build_in_worker(partial: Path, plan: _Plan, examples: Examples, description: dict[str, Any]) -> _Shard:
    def count(num_videos: int) -> None:
        with _num_videos.get_lock():
            _num_videos.value += num_videos

    return _build_shard(partial, plan, examples, description, count)


def _build_shard(
    partial: Path, plan: _Plan, examples: Examples, description: dict[str, Any], report: Callable[[int], Any]
) -> _Shard:
    """Write one shard, and then its record; `report` is called with 1 for every video."""
    path = partial / "corpus" / plan.file
    writing = path.with_name(f".{path.name}")
    schema = _features(description).arrow_schema
    schema = schema.with_metadata({**schema.metadata, METADATA_KEY: json.dumps(description).encode()})
    try:
        # A dictionary of float16 values costs four times the time to write, and saves less than zstd.
        with pq.ParquetWriter(writing, schema, compression="zstd", use_dictionary=False) as writer:
            for table in _row_groups(_checked_rows(examples, plan, description, report), schema, ROW_GROUP_SIZE):
                writer.write_table(table)
        shard = _Shard(plan.file, len(plan.indices), writing.stat().st_size, sha256_of(writing))
        writing.replace(path)
        if plan.fingerprint is not None:
            with replacing(_record_path(partial, plan)) as file:
                json.dump({"fingerprint": plan.fingerprint, "shard": asdict(shard)}, file)
        return shard
    except OSError as error:
        raise OSError(
            f"{partial} cannot be written: {error}. Make room there, or give another folder; what is finished is kept."
        ) from error
    finally:
        writing.unlink(missing_ok=True)


def _checked_rows(
    examples: Examples, plan: _Plan, description: dict[str, Any], report: Callable[[int], Any]
) -> Iterator[dict[str, Any]]:
    """The rows of a shard."""
    for index in plan.indices:
        video_id = examples.video_ids[index] if hasattr(examples, "video_ids") else index
        try:
            example = examples[index]
            video_id = example["video_id"]
            row = _checked_row(example, description)
        except (ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"Video {video_id!r} of split {plan.split!r} cannot be stored: {error}") from error
        yield row
        report(1)


def _check_each_video_once(corpus: Path, written: Mapping[str, Iterable[_Shard]]) -> None:
    split_of: dict[str, str] = {}
    for split, shards in written.items():
        for shard in shards:
            for video_id in pq.read_table(corpus / shard.file, columns=["video_id"]).column(0).to_pylist():
                if video_id in split_of:
                    raise ValueError(
                        f"Video {video_id!r} of split {split!r} is already in split {split_of[video_id]!r}."
                    )
                split_of[video_id] = split


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
    if not are_finite(stored):
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
        _, splits = read_manifest(out_dir)
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


def read_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, list[_Shard]]]:
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


def existing_shard(folder: Path, shard: _Shard) -> Path:
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


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
