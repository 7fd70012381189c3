"""Write a corpus of features and events: Parquet shards that `datasets` loads and streams."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from tqdm.auto import tqdm
from transformers.utils import logging

from esg_transformers.corpora.build import (
    ShardBuilder,
    build_here,
    build_in_processes,
    finished_shards,
    plan_shards,
)
from esg_transformers.corpora.card import dataset_card
from esg_transformers.corpora.example import VideoDataset
from esg_transformers.corpora.manifest import Manifest, Shard

logger = logging.get_logger(__name__)


def write_corpus(
    out_dir: str | os.PathLike[str],
    splits: Mapping[str, VideoDataset],
    *,
    videos_per_shard: int = 128,
    num_workers: int = 0,
    overwrite: bool = False,
) -> None:
    """Write data sets as a corpus folder, with one group of rows at a time in the memory of each process.

    The corpus is built in `.NAME.partial` beside `out_dir` and replaces it when complete. Its bytes do not depend on
    `num_workers`. After an interrupted build, even by `kill -9` or a full disk, the next build reuses the finished
    shards of all `Resumable` splits if their sources are unchanged, and gives the same bytes.

    Args:
        out_dir: the folder to make.
        splits: data sets by split, all with the same labels and feature spec; each is read once.
        videos_per_shard: videos of each shard but the last of a split.
        num_workers: processes that build shards; 0 builds them in this one. With 1 or more, a data set is pickled for
            each of its shards, and a script has to call this function under `if __name__ == "__main__":`.
        overwrite: replace the corpus at `out_dir`. Nothing but a corpus is ever replaced.

    Raises:
        ValueError: if `out_dir` may not be replaced, the splits differ, or an example cannot be stored, naming its
            video.
        OSError: if the corpus cannot be written, another process is building it, or a worker process is killed.
    """
    out_dir = Path(out_dir).resolve()
    if videos_per_shard < 1 or num_workers < 0:
        raise ValueError(f"Give videos_per_shard >= 1 and num_workers >= 0; got {videos_per_shard} and {num_workers}.")
    manifest = _manifest_without_shards(splits)
    spec, labels = manifest.feature_spec, manifest.labels
    with _partial_folder(out_dir) as partial:
        _check_replaceable(out_dir, overwrite)
        plans = plan_shards(splits, spec, labels, videos_per_shard)
        shards = finished_shards(partial, plans)
        with tqdm(
            total=sum(len(plan.indices) for plan in plans),
            initial=sum(shard.num_examples for shard in shards.values()),
            desc=f"Building {out_dir.name}",
            unit=" videos",
        ) as progress:
            missing = [plan for plan in plans if plan.file not in shards]
            builder = ShardBuilder(partial, spec, labels)
            if num_workers:
                shards |= build_in_processes(builder, missing, splits, num_workers, progress)
            else:
                shards |= build_here(builder, missing, splits, progress)
        written = {split: tuple(shards[plan.file] for plan in plans if plan.split == split) for split in splits}
        _finish(partial, out_dir, replace(manifest, splits=written))


def _finish(partial: Path, out_dir: Path, manifest: Manifest) -> None:
    """Complete the corpus in the partial folder and move it to `out_dir`."""
    corpus = partial / "corpus"
    _check_each_video_once(corpus, manifest.shards)
    manifest.write(corpus)
    (corpus / "README.md").write_text(dataset_card(out_dir.name, manifest), encoding="utf-8")
    if out_dir.exists():
        out_dir.replace(partial / "replaced")
    corpus.replace(out_dir)


def _manifest_without_shards(splits: Mapping[str, VideoDataset]) -> Manifest:
    """The feature spec and labels that all splits share.

    Raises:
        ValueError: if there is no split, splits differ, or labels or encoder cannot be stored.
    """
    if not splits:
        raise ValueError("A corpus needs at least one split; `splits` is empty.")
    (first_name, first), *others = splits.items()
    try:
        manifest = Manifest(first.feature_spec, tuple(first.labels), splits={})
    except ValueError as error:
        raise ValueError(f"Split {first_name!r} cannot be stored: {error}") from error
    for name, dataset in others:
        manifest.feature_spec.check(dataset.feature_spec, f"Split {name!r}")
        if tuple(dataset.labels) != manifest.labels:
            raise ValueError(
                f"Split {name!r} has the labels {list(dataset.labels)}; split {first_name!r} has "
                f"{list(manifest.labels)}. Give all splits the same labels."
            )
    return manifest


@contextmanager
def _partial_folder(out_dir: Path) -> Iterator[Path]:
    """The folder in which one process at a time builds a corpus; kept afterwards if it holds finished shards.

    It contains `lock`; `corpus/`, the future `out_dir`; `records/`, one file per finished shard; and, between the two
    renames that replace a corpus, `replaced/`, the old one.
    """
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(partial / "lock", timeout=0).acquire()
    except Timeout as error:
        raise OSError(
            f"Another process is building {out_dir}: it has locked {partial}. Wait for it, or give another folder."
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
    """Restore the old corpus if no new one replaced it; remove it otherwise."""
    if replaced.exists() and not out_dir.exists():
        replaced.replace(out_dir)
    shutil.rmtree(replaced, ignore_errors=True)


def _check_each_video_once(corpus: Path, shards: Iterable[tuple[str, Shard]]) -> None:
    split_of: dict[str, str] = {}
    for split, shard in shards:
        for video_id in pq.read_table(corpus / shard.file, columns=["video_id"]).column(0).to_pylist():
            if video_id in split_of:
                raise ValueError(f"Video {video_id!r} of split {split!r} is already in split {split_of[video_id]!r}.")
            split_of[video_id] = split


def _check_replaceable(out_dir: Path, overwrite: bool) -> None:
    """Refuse to replace anything but a corpus, and a corpus unless `overwrite` is set."""
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    try:
        manifest = Manifest.read(out_dir)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{out_dir} exists and is not a corpus; give another folder.") from error
    if not overwrite:
        raise ValueError(f"There is a corpus at {out_dir} already; `overwrite=True` (`--overwrite`) replaces it.")
    files = {path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*") if not path.is_dir()}
    others = files - set(manifest.files)
    if others:
        raise ValueError(
            f"{out_dir} also holds files that are not part of the corpus, such as {min(others)}; move them away."
        )
