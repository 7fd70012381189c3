"""Build the shards of a corpus, in this process or in several, reusing those that an earlier build finished.

A build works in a partial folder: shards are written to `corpus/data/`, and when a shard is complete, a record of it to
`records/`: its size and SHA-256, and the fingerprint of its sources. The next build reuses a shard if its fingerprint
is the same.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import active_children
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.corpora.example import Resumable, VideoDataset
from esg_transformers.corpora.manifest import METADATA_KEY, Shard, metadata_of
from esg_transformers.corpora.rows import checked_row, row_features, row_groups
from esg_transformers.files import replacing, replacing_path, sha256_of
from esg_transformers.models.esg_net.grid_esg_net import FeatureSpec
from esg_transformers.workers import end_with_parent, ignoring_interrupts, spawn_context

logger = logging.get_logger(__name__)

ROW_GROUP_SIZE = 32_000_000  # bytes of features that a writer, or a streaming reader, holds at a time


@dataclass(frozen=True)
class ShardPlan:
    """A shard to build.

    Args:
        split: its split.
        file: path relative to the corpus folder.
        indices: its examples in the data set of the split.
        fingerprint: SHA-256 of all that decides its content; None if the data set is not `Resumable`.
    """

    split: str
    file: str
    indices: range
    fingerprint: str | None


def plan_shards(
    splits: Mapping[str, VideoDataset], feature_spec: FeatureSpec, labels: tuple[str, ...], videos_per_shard: int
) -> list[ShardPlan]:
    """The shards of all splits, `videos_per_shard` videos each but for the last of a split.

    Raises:
        ValueError: if `datasets` could not read a split of that name, or a split is empty.
    """
    metadata = metadata_of(feature_spec, labels)
    plans = []
    for split, examples in splits.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", split) or split == "all":
            raise ValueError(f"A split name has letters, digits and _ only, and is not `all`; got {split!r}.")
        firsts = range(0, len(examples), videos_per_shard)
        if not firsts:
            raise ValueError(f"Split {split!r} has no examples; leave it out.")
        for number, first in enumerate(firsts):
            indices = range(first, min(first + videos_per_shard, len(examples)))
            fingerprint = None
            if isinstance(examples, Resumable):
                sources = [examples.fingerprint(index) for index in indices]
                fingerprint = hashlib.sha256(json.dumps([metadata, split, sources]).encode()).hexdigest()
            file = f"data/{split}-{number:05d}-of-{len(firsts):05d}.parquet"
            plans.append(ShardPlan(split, file, indices, fingerprint))
    return plans


def finished_shards(partial: Path, plans: Sequence[ShardPlan]) -> dict[str, Shard]:
    """Finished shards of an earlier build from the same sources, by file; its other files are removed."""
    data, records = partial / "corpus" / "data", partial / "records"
    data.mkdir(parents=True, exist_ok=True)
    records.mkdir(exist_ok=True)
    finished: dict[str, Shard] = {}
    for plan in plans:
        try:
            record = json.loads(_record_path(partial, plan).read_text(encoding="utf-8"))
            shard = Shard(**record["shard"])
            if (shard.file, record["fingerprint"]) == (plan.file, plan.fingerprint):
                shard.verify(partial / "corpus")
                finished[plan.file] = shard
        except (OSError, ValueError, TypeError, KeyError):
            continue  # missing or damaged: built again
    num_records = len(list(records.glob("*.json")))
    if num_records > len(finished):
        logger.warning(
            f"{num_records - len(finished)} of {num_records} finished shards of an interrupted build in {partial} are "
            "removed: they are damaged or were made from other sources."
        )
    names = {Path(file).name for file in finished}
    for path in (*data.iterdir(), *records.iterdir()):
        if path.name.removesuffix(".json") not in names:
            path.unlink()
    return finished


@dataclass(frozen=True)
class ShardBuilder:
    """Writes shards to a partial folder. It is sent to worker processes.

    Args:
        partial: the folder.
        feature_spec: the features of all splits.
        labels: class names by id.
    """

    partial: Path
    feature_spec: FeatureSpec
    labels: tuple[str, ...]

    def build(self, plan: ShardPlan, examples: VideoDataset, report: Callable[[], object]) -> Shard:
        """Write one shard, then its record; `report` is called after every video.

        Raises:
            ValueError: if an example cannot be stored, naming its video.
            OSError: if the folder cannot be written.
        """
        path = self.partial / "corpus" / plan.file
        schema = row_features(self.feature_spec, self.labels).arrow_schema
        metadata = json.dumps(metadata_of(self.feature_spec, self.labels)).encode()
        schema = schema.with_metadata({**schema.metadata, METADATA_KEY: metadata})
        try:
            # A dictionary of float16 values takes four times as long to write and saves less than zstd.
            with (
                replacing_path(path) as writing,
                pq.ParquetWriter(writing, schema, compression="zstd", use_dictionary=False) as writer,
            ):
                for table in row_groups(self._rows(plan, examples, report), schema, ROW_GROUP_SIZE):
                    writer.write_table(table)
            shard = Shard(plan.file, len(plan.indices), path.stat().st_size, sha256_of(path))
            if plan.fingerprint is not None:
                with replacing(_record_path(self.partial, plan)) as file:
                    json.dump({"fingerprint": plan.fingerprint, "shard": asdict(shard)}, file)
            return shard
        except OSError as error:
            raise OSError(
                f"{self.partial} cannot be written: {error}. Free some space or give another folder; finished shards "
                "are kept."
            ) from error

    def _rows(self, plan: ShardPlan, examples: VideoDataset, report: Callable[[], object]) -> Iterator[dict[str, Any]]:
        for index in plan.indices:
            video_id = examples.video_ids[index]
            try:
                example = examples[index]
                video_id = example["video_id"]
                row = checked_row(example, self.feature_spec, len(self.labels))
            except (ValueError, RuntimeError, OSError) as error:
                raise ValueError(f"Video {video_id!r} of split {plan.split!r} cannot be stored: {error}") from error
            yield row
            report()


def build_here(
    builder: ShardBuilder, plans: Iterable[ShardPlan], splits: Mapping[str, VideoDataset], progress: "tqdm[Any]"
) -> dict[str, Shard]:
    """Build shards in this process; returns them by file."""
    # One thread, as in worker processes: with more, sums in an encoder are rounded differently.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {plan.file: builder.build(plan, splits[plan.split], progress.update) for plan in plans}
    finally:
        torch.set_num_threads(num_threads)


def build_in_processes(
    builder: ShardBuilder,
    plans: Iterable[ShardPlan],
    splits: Mapping[str, VideoDataset],
    num_workers: int,
    progress: "tqdm[Any]",
) -> dict[str, Shard]:
    """Build shards in worker processes; returns them by file.

    Raises:
        ChildProcessError: if a worker is killed.
    """
    context = spawn_context()
    num_videos = context.Value("q", progress.n)
    others = active_children()
    pool = ProcessPoolExecutor(num_workers, context, _start_worker, (num_videos,))
    shards: dict[str, Shard] = {}
    try:
        with ignoring_interrupts():
            pending = {pool.submit(_build_in_worker, builder, plan, splits[plan.split]) for plan in plans}
        while pending:
            ended, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
            shards |= {shard.file: shard for shard in (future.result() for future in ended)}
            progress.update(num_videos.value - progress.n)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "A worker process was killed, most often for lack of memory. Build again with a smaller `num_workers`; "
            "finished shards are kept."
        ) from error
    finally:
        for process in active_children():
            if process not in others:
                process.terminate()  # in the middle of a shard too
        pool.shutdown(cancel_futures=True)
    return shards


_num_videos: "Synchronized[int]"  # in worker processes only: the videos that all of them together have written


def _start_worker(num_videos: "Synchronized[int]") -> None:
    global _num_videos
    _num_videos = num_videos
    end_with_parent()
    torch.set_num_threads(1)


def _build_in_worker(builder: ShardBuilder, plan: ShardPlan, examples: VideoDataset) -> Shard:
    def report() -> None:
        with _num_videos.get_lock():
            _num_videos.value += 1

    return builder.build(plan, examples, report)


def _record_path(partial: Path, plan: ShardPlan) -> Path:
    return partial / "records" / f"{Path(plan.file).name}.json"
