"""Validation of annotations, feature files, video files and corpora, with all problems reported at once.

Every file is read once; one array is in memory at a time.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.annotations.reading import AnnotationReading, Problem
from esg_transformers.corpora.example import are_finite, check_features
from esg_transformers.corpora.feature_sets import FeatureSet
from esg_transformers.corpora.manifest import Manifest
from esg_transformers.corpora.video_folder import VIDEO_SUFFIXES
from esg_transformers.files import sha256_of
from esg_transformers.media.container import MediaInfo, probe
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

FEW_EVENTS = 5  # of a class in the train split; fewer are hardly enough to learn from
MEDIA_TOLERANCE = 1.0  # s; annotated durations are rounded to seconds

_Contents = dict[tuple[str, str], AnnotatedVideo]  # the first video with a content, by its kind and SHA-256


def validate_splits(annotations: Annotations) -> list[Problem]:
    """Problems of the distribution of events over classes and splits.

    No videos at all is an error. Warnings are a missing split `train` or `validation`, classes without events,
    classes with events in other splits but none in `train`, and classes with fewer than `FEW_EVENTS` in `train`.

    >>> [str(problem) for problem in validate_splits(Annotations({}, ("speech",)))]
    ['there are no videos']
    """
    splits = {video.split for video in annotations.videos.values()}
    if not splits:
        return [Problem("error", "no videos", "there are no videos")]
    problems = [
        Problem("warning", "missing split", f"no video is in split {split!r}, {purpose}")
        for split, purpose in (("train", "needed to train"), ("validation", "needed to choose the best epoch"))
        if split not in splits
    ]
    counts = Counter((event.label, video.split) for video in annotations.videos.values() for event in video.events)
    for label in annotations.labels:
        in_train = counts[label, "train"]
        others = sorted(split for split in splits - {"train"} if counts[label, split])
        if not others and not in_train:
            problems.append(Problem("warning", "class without events", f"{label!r} has no event in any split"))
        elif "train" in splits and not in_train:
            message = f"{label!r} has events in {', '.join(others)} but none in train"
            problems.append(Problem("warning", "class not in train", message))
        elif "train" in splits and in_train < FEW_EVENTS:
            message = f"{label!r} has {in_train} in train; give it {FEW_EVENTS} or more, or leave it out"
            problems.append(Problem("warning", "class with few events", message))
    return problems


def validate_features(
    annotations: Annotations, features_dir: str | os.PathLike[str], feature_set: FeatureSet
) -> list[Problem]:
    """Problems of a folder of feature files for annotated videos.

    Errors are files that are missing, truncated, not arrays of floats, of another width, with NaN or infinite values,
    or with a number of steps that does not fit the duration (`check_features`); streams of one video whose lengths
    differ by more than the margin of that check; unknown durations; and equal features of two videos in different
    splits. Warnings are smaller differences of length, as all streams are cut to the shortest; features that never
    change; equal features of two videos in one split; and files of videos without annotations.

    Args:
        annotations: annotations of the videos.
        features_dir: the folder of the `.npy` files.
        feature_set: names and shapes of the files; see `FEATURE_SETS`.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    folder = Path(features_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"No feature folder at {folder}.")
    audio_grid = feature_set.audio_grid or feature_set.grid
    streams = (
        _Stream("visual features", feature_set.visual_suffixes, feature_set.visual_size, feature_set.grid),
        _Stream("audio features", feature_set.audio_suffixes, feature_set.audio_size, audio_grid),
    )
    problems: list[Problem] = []
    contents: _Contents = {}
    for video in tqdm(annotations.videos.values(), desc="Reading features", unit=" videos"):
        if video.duration is None:
            problems.append(_error("unknown duration", "it is not in the annotations; add it there", video))
        lengths: defaultdict[FeatureGrid, list[int]] = defaultdict(list)  # steps of each readable file
        for stream in streams:
            problems += _stream_problems(folder, stream, video, lengths[stream.grid], contents)
        for lengths_of_grid in filter(None, lengths.values()):
            problems += _length_problems(lengths_of_grid, video)
    endings = [f"{suffix}.npy" for stream in streams for suffix in stream.suffixes]
    for path in sorted(folder.iterdir()):
        ids = {path.name.removesuffix(ending) for ending in endings if path.name.endswith(ending)}
        if ids and not ids & annotations.videos.keys():
            problems.append(
                Problem("warning", "file without annotations", f"{path.name} belongs to no annotated video")
            )
    return problems


def validate_videos(annotations: Annotations, videos_dir: str | os.PathLike[str]) -> list[Problem]:
    """Problems of a folder of video files for annotated videos.

    Errors are files that are missing or cannot be read, events that end more than `MEDIA_TOLERANCE` after their file,
    and equal files of two videos in different splits. Warnings are durations that differ by more than that, files
    without picture or without sound, several files of one id, equal files of two videos in one split, and files without
    annotations.

    Args:
        annotations: annotations of the videos.
        videos_dir: the folder of the files, named as for `VideoFolder`.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    folder = Path(videos_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"No video folder at {folder}.")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            files.setdefault(path.stem, []).append(path)
    problems: list[Problem] = []
    contents: _Contents = {}
    for video in tqdm(annotations.videos.values(), desc="Reading videos", unit=" videos"):
        paths = sorted(files.get(video.video_id, ()), key=lambda path: VIDEO_SUFFIXES.index(path.suffix.lower()))
        if not paths:
            message = f"there is no {video.video_id} with one of the suffixes {', '.join(VIDEO_SUFFIXES)}"
            problems.append(_error("missing file", message, video))
            continue
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            problems.append(_warning("several files of one video", f"{names}; the first is used", video))
        try:
            media = probe(paths[0])
        except (ValueError, OSError) as error:
            problems.append(_error("unreadable file", f"{paths[0].name}: {error}", video))
            continue
        problems += _content_problems(contents, "picture and sound", sha256_of(paths[0]), video)
        problems += _media_problems(media, video)
    for path in (path for video_id, paths in files.items() if video_id not in annotations.videos for path in paths):
        problems.append(Problem("warning", "file without annotations", f"{path.name} belongs to no annotated video"))
    return problems


def validate_corpus(
    folder: str | os.PathLike[str], label2id: Mapping[str, int] | None = None
) -> tuple[Annotations, list[Problem]]:
    """The valid annotations of a corpus folder, and its problems.

    Errors are shards that are missing, unreadable, or have another size, SHA-256, feature spec or labels than
    corpus.json states; repeated video ids; the errors of events; and those of features (see `validate_features`). Files
    that are not part of the corpus are warnings.

    Args:
        folder: a corpus, as written by `write_corpus`.
        label2id: class ids by label of a model for which the corpus is meant.

    Raises:
        FileNotFoundError: if `folder` is not a corpus.
        ValueError: if its corpus.json cannot be read.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    labels = list(manifest.labels)
    reading = AnnotationReading(folder, "corpus", label2id)
    if label2id is not None and labels != sorted(label2id, key=label2id.__getitem__):
        differing = ", ".join(map(repr, sorted(set(labels) ^ set(label2id)))) or "their order"
        reading.add_problem("other classes", f"the classes of the corpus and of the model differ in {differing}")
    rows = _RowChecks(manifest, reading)
    with tqdm(total=manifest.num_examples(), desc="Reading the corpus", unit=" videos") as progress:
        for split, shard in manifest.shards:
            path = folder / shard.file
            try:
                shard.verify(folder)
                manifest.check_shard(path)
            except (ValueError, OSError) as error:
                reading.add_problem("missing file" if isinstance(error, FileNotFoundError) else "bad shard", str(error))
            if not path.is_file():
                continue
            try:
                for row in _rows(path):
                    rows.check(row, split)
                    progress.update()
            except (ValueError, KeyError, OSError) as error:  # the base classes of pyarrow's errors
                reading.add_problem("unreadable file", f"{path}: {error}")
    files = manifest.files
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files:
            reading.add_problem("stray file", f"{name} is not part of the corpus", severity="warning")
    return reading.annotations(labels), reading.problems


@dataclass(frozen=True)
class _Stream:
    """The files of one stream in a feature folder."""

    name: str
    suffixes: tuple[str, ...]
    size: int  # channels of all files together
    grid: FeatureGrid


def _stream_problems(
    folder: Path, stream: _Stream, video: AnnotatedVideo, lengths: list[int], contents: _Contents
) -> list[Problem]:
    """Problems of the files of one stream of a video; adds the steps of each to `lengths`."""
    problems: list[Problem] = []
    digest = hashlib.sha256()
    for suffix in stream.suffixes:
        path = folder / f"{video.video_id}{suffix}.npy"
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except FileNotFoundError:
            problems.append(_error("missing file", f"{path.name} is not there", video))
        except (ValueError, EOFError, OSError) as error:
            problems.append(_error("unreadable file", f"{path.name}: {error}", video))
        else:
            problems += _array_problems(path.name, array, stream.size // len(stream.suffixes), stream.grid, video)
            if array.ndim == 2:
                lengths.append(len(array))
            digest.update(array.tobytes())
    if not problems:
        problems += _content_problems(contents, stream.name, digest.hexdigest(), video)
    return problems


def _content_problems(contents: _Contents, what: str, digest: str, video: AnnotatedVideo) -> Iterator[Problem]:
    """A problem if an earlier video has the same content."""
    first = contents.setdefault((what, digest), video)
    if first.split != video.split:
        message = f"its {what} in {video.split} equal those of {first.video_id!r} in {first.split}"
        yield _error("leakage between splits", message, video)
    elif first is not video:
        yield _warning("same content twice", f"its {what} equal those of {first.video_id!r}", video)


def _array_problems(
    name: str, array: np.ndarray, size: int, grid: FeatureGrid, video: AnnotatedVideo
) -> Iterator[Problem]:
    """Problems of an array that should be the features `(T, size)` of a video."""
    if array.dtype.kind != "f":
        yield _error("not floats", f"{name} holds {array.dtype}; expected floats", video)
        return
    if array.ndim != 2 or array.shape[1] != size:
        yield _error("wrong width", f"{name} has shape {array.shape}; expected (steps, {size})", video)
        return
    if video.duration is not None:
        try:  # only the length: `check_features` stops at the first problem
            check_features(np.empty((len(array), 0), np.float16), 0, grid, video.duration)
        except ValueError as error:
            yield _error("other grid or duration", f"{name}: {error}", video)
    if not are_finite(array):
        num_bad = np.count_nonzero(~np.isfinite(array))
        yield _error("NaN or infinite", f"{name} holds {num_bad} values that are NaN or infinite", video)
    elif len(array) > 1 and (array == array[:1]).all():
        yield _warning("features that never change", f"{name} has {len(array)} equal steps", video)


def _length_problems(lengths: list[int], video: AnnotatedVideo) -> Iterator[Problem]:
    """A problem if the streams of a video differ in length."""
    shortest, longest = min(lengths), max(lengths)
    # The margin of `check_features` between steps and duration.
    if longest - shortest > 0.1 * longest + 2:
        message = f"its files have {shortest} to {longest} steps; encode picture and sound on one grid"
        yield _error("streams of different length", message, video)
    elif longest > shortest:
        message = f"its files have {shortest} to {longest} steps; all are cut to the shortest"
        yield _warning("streams of slightly different length", message, video)


def _media_problems(media: MediaInfo, video: AnnotatedVideo) -> Iterator[Problem]:
    """Differences between a file and its annotations."""
    if video.duration is not None and abs(media.duration - video.duration) > MEDIA_TOLERANCE:
        message = f"its file has {media.duration:.2f} s; its annotations say {video.duration:g} s"
        yield _warning("other duration", message, video)
    for event in video.events:
        if event.end > media.duration + MEDIA_TOLERANCE:
            message = (
                f"event {event.label!r} from {event.start:g} to {event.end:g} s: its file has {media.duration:.2f} s"
            )
            yield _error("event outside the video", message, video)
    if not media.has_video:
        yield _warning("no picture", "its file has no picture", video)
    if not media.has_audio:
        yield _warning("no sound", "its file has no sound", video)


def _rows(path: Path) -> Iterator[dict[str, pa.Scalar]]:
    """Rows of a shard, a few in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=8):
            columns = {
                name: column.storage if isinstance(column, pa.ExtensionArray) else column
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
            for index in range(batch.num_rows):
                yield {name: column[index] for name, column in columns.items()}


class _RowChecks:
    """Checks the rows of a corpus one after another, and adds their videos, events and problems to a reading."""

    def __init__(self, manifest: Manifest, reading: AnnotationReading):
        self._spec, self._labels = manifest.feature_spec, dict(enumerate(manifest.labels))
        self._reading = reading
        self._split_of: dict[str, str] = {}  # by video id
        self._contents: _Contents = {}

    def check(self, row: dict[str, pa.Scalar], split: str) -> None:
        """Check one row of a split."""
        video_id, duration = row["video_id"].as_py(), row["duration"].as_py()
        if video_id in self._split_of:
            kind = "repeated video" if self._split_of[video_id] == split else "leakage between splits"
            message = f"it is in {split} and earlier in {self._split_of[video_id]}"
            self._reading.add_problem(kind, message, video_id)
            return
        if not self._reading.add_video(video_id, duration, split):
            return
        self._split_of[video_id] = split
        for event in row["events"].as_py():
            if event["label"] in self._labels:
                self._reading.add_event(video_id, event["start"], event["end"], self._labels[event["label"]])
            else:
                message = f"an event has class id {event['label']}; there are {len(self._labels)} classes"
                self._reading.add_problem("unknown label", message, video_id)
        self._check_streams(row, AnnotatedVideo(video_id, duration if 0 < duration < float("inf") else None, split, ()))

    def _check_streams(self, row: dict[str, pa.Scalar], video: AnnotatedVideo) -> None:
        lengths = []
        for stream, size in (("visual", self._spec.visual_size), ("audio", self._spec.audio_size)):
            if not row[f"has_{stream}"].as_py():
                continue
            name = f"{stream}_features"
            steps = row[name].values
            if steps is None or set(steps.value_lengths().to_pylist()) - {size}:
                self._reading.add_problem("wrong width", f"{name} is not (steps, {size})", video.video_id)
                continue
            array = steps.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
            lengths.append(len(array))
            found = list(_array_problems(name, array, size, self._spec.grid, video))
            if not found:
                digest = hashlib.sha256(array.tobytes()).hexdigest()
                found += _content_problems(self._contents, f"{stream} features", digest, video)
            self._reading.problems += found
        if len(set(lengths)) != 1:
            message = f"a row needs a visual or an audio stream, or both of one length; it has {lengths or 'none'}"
            self._reading.add_problem("streams of different length", message, video.video_id)


def _error(kind: str, message: str, video: AnnotatedVideo) -> Problem:
    return Problem("error", kind, message, video.video_id)


def _warning(kind: str, message: str, video: AnnotatedVideo) -> Problem:
    return Problem("warning", kind, message, video.video_id)
