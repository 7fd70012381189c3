"""Write a corpus of features and events: Parquet shards that `datasets` loads, streams and shares."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.corpora.card import dataset_card
from esg_transformers.corpora.example import Resumable, VideoDataset
from esg_transformers.corpora.manifest import FORMAT, METADATA_KEY, Shard, existing_shard, read_manifest
from esg_transformers.corpora.rows import ROW_GROUP_SIZE, checked_row, row_features, row_groups
from esg_transformers.files import replacing, replacing_path, sha256_of
from esg_transformers.workers import end_with_parent, ignoring_interrupts, spawn_context

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class _Plan:
    """A shard to be built."""

    split: str
    file: str  # relative to the corpus folder
    indices: range  # of the split's examples
    fingerprint: str | None  # sha256 of all that the shard follows from; None if its split does not say


def write_corpus(
    out_dir: str | os.PathLike,
    splits: Mapping[str, VideoDataset],
    *,
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
        splits: data sets by split, all with the same labels and feature spec; each is read once.
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
    if videos_per_shard < 1 or num_workers < 0:
        raise ValueError(f"Give videos_per_shard >= 1 and num_workers >= 0; got {videos_per_shard} and {num_workers}.")
    description = _description(splits)
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
        (corpus / "README.md").write_text(dataset_card(out_dir.name, description, written), encoding="utf-8")
        if out_dir.exists():
            out_dir.replace(partial / "replaced")
        corpus.replace(out_dir)


def _description(splits: Mapping[str, VideoDataset]) -> dict[str, Any]:
    """The entries of corpus.json that say what all splits hold.

    Raises:
        ValueError: if there is no split, if splits differ, or if labels or encoder cannot be stored.
    """
    if not splits:
        raise ValueError("A corpus needs at least one split; `splits` is empty.")
    (first_name, first), *others = splits.items()
    labels, spec = list(first.labels), first.feature_spec
    if len(set(labels)) != len(labels) or not labels:
        raise ValueError(f"`labels` must be different class names, at least one; got {labels}.")
    if spec.encoder is None:
        raise ValueError(
            f"The feature spec of split {first_name!r} has no encoder. Name it, so that its features are never mixed "
            'with others: `EncoderId("my encoder", "1")`.'
        )
    for name, dataset in others:
        spec.check(dataset.feature_spec, f"Split {name!r}")
        if list(dataset.labels) != labels:
            raise ValueError(
                f"Split {name!r} has the labels {list(dataset.labels)}, and split {first_name!r} {labels}. Give all "
                "splits the same."
            )
    return {
        "feature_grid": spec.grid.to_dict(),
        "encoder": spec.encoder.to_dict(),
        "visual_size": spec.visual_size,
        "audio_size": spec.audio_size,
        "labels": labels,
    }


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


def _plan_shards(splits: Mapping[str, VideoDataset], description: dict[str, Any], videos_per_shard: int) -> list[_Plan]:
    """The shards of all splits; they follow from the number of examples alone."""
    plans = []
    for split, examples in splits.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", split) or split == "all":
            raise ValueError(f"A split is named with letters, digits and _, and not `all`; got {split!r}.")
        firsts = range(0, len(examples), videos_per_shard)
        if not firsts:
            raise ValueError(f"Split {split!r} has no examples; leave it out.")
        for number, first in enumerate(firsts):
            indices = range(first, min(first + videos_per_shard, len(examples)))
            fingerprint = None
            if isinstance(examples, Resumable):
                sources = [examples.fingerprint(index) for index in indices]
                fingerprint = hashlib.sha256(json.dumps([description, split, sources]).encode()).hexdigest()
            file = f"data/{split}-{number:05d}-of-{len(firsts):05d}.parquet"
            plans.append(_Plan(split, file, indices, fingerprint))
    return plans


def _take_over(partial: Path, plans: Iterable[_Plan]) -> dict[str, Shard]:
    """The shards, by file, that an earlier build has finished and this one would make just so; others are removed."""
    data, records = partial / "corpus" / "data", partial / "records"
    data.mkdir(parents=True, exist_ok=True)
    records.mkdir(exist_ok=True)
    finished: dict[str, Shard] = {}
    for plan in plans:
        try:
            record = json.loads(_record_path(partial, plan).read_text(encoding="utf-8"))
            shard = Shard(**record["shard"])
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
    partial: Path,
    plans: Iterable[_Plan],
    splits: Mapping[str, VideoDataset],
    description: dict[str, Any],
    progress: tqdm,
) -> dict[str, Shard]:
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
    splits: Mapping[str, VideoDataset],
    description: dict[str, Any],
    num_workers: int,
    progress: tqdm,
) -> dict[str, Shard]:
    context = spawn_context()
    num_videos = context.Value("q", progress.n)
    others = active_children()
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (num_videos,))
    shards: dict[str, Shard] = {}
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
    return shards


def _start_worker(num_videos: Any) -> None:
    """Make this process count its videos, and end with its parent."""
    global _num_videos
    _num_videos = num_videos
    end_with_parent()
    torch.set_num_threads(1)


_num_videos: Any  # of all workers together; in a worker only


def _build_in_worker(partial: Path, plan: _Plan, examples: VideoDataset, description: dict[str, Any]) -> Shard:
    def count(num_videos: int) -> None:
        with _num_videos.get_lock():
            _num_videos.value += num_videos

    return _build_shard(partial, plan, examples, description, count)


def _build_shard(
    partial: Path, plan: _Plan, examples: VideoDataset, description: dict[str, Any], report: Callable[[int], Any]
) -> Shard:
    """Write one shard, and then its record; `report` is called with 1 for every video."""
    path = partial / "corpus" / plan.file
    schema = row_features(description).arrow_schema
    schema = schema.with_metadata({**schema.metadata, METADATA_KEY: json.dumps(description).encode()})
    try:
        # A dictionary of float16 values costs four times the time to write, and saves less than zstd.
        with (
            replacing_path(path) as writing,
            pq.ParquetWriter(writing, schema, compression="zstd", use_dictionary=False) as writer,
        ):
            for table in row_groups(_checked_rows(examples, plan, description, report), schema, ROW_GROUP_SIZE):
                writer.write_table(table)
        shard = Shard(plan.file, len(plan.indices), path.stat().st_size, sha256_of(path))
        if plan.fingerprint is not None:
            with replacing(_record_path(partial, plan)) as file:
                json.dump({"fingerprint": plan.fingerprint, "shard": asdict(shard)}, file)
        return shard
    except OSError as error:
        raise OSError(
            f"{partial} cannot be written: {error}. Make room there, or give another folder; what is finished is kept."
        ) from error


def _checked_rows(
    examples: VideoDataset, plan: _Plan, description: dict[str, Any], report: Callable[[int], Any]
) -> Iterator[dict[str, Any]]:
    """The rows of a shard."""
    for index in plan.indices:
        video_id = examples.video_ids[index]
        try:
            example = examples[index]
            video_id = example["video_id"]
            row = checked_row(example, description)
        except (ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"Video {video_id!r} of split {plan.split!r} cannot be stored: {error}") from error
        yield row
        report(1)


def _check_each_video_once(corpus: Path, written: Mapping[str, Iterable[Shard]]) -> None:
    split_of: dict[str, str] = {}
    for split, shards in written.items():
        for shard in shards:
            for video_id in pq.read_table(corpus / shard.file, columns=["video_id"]).column(0).to_pylist():
                if video_id in split_of:
                    raise ValueError(
                        f"Video {video_id!r} of split {split!r} is already in split {split_of[video_id]!r}."
                    )
                split_of[video_id] = split


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
