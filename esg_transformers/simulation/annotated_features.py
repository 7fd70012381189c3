"""Simulated features for annotated videos: ids, durations, splits and events are real, features are drawn.

With them a network can be trained, compared and profiled on the events of a corpus whose features are not available.
The accuracy tables of `tests/benchmarks/RESULTS.md` are measured on them. An event is annotated only where it is both
seen and heard, and each stream alone misleads:

* asynchrony: one stream starts earlier or ends later than the annotated event;
* persistence: one stream of a class continues through the gaps between its events;
* distractors: occurrences in one stream only, of classes in the video and of others, are not annotated;
* soft boundaries: onset and offset ramps, the window of a feature, and annotation jitter;
* class confusion: class prototypes resemble each other, and an event mixes in a similar class;
* background: one vector per shot and stream, slow drift, and smooth noise in the dimensions of the prototypes.
"""

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.corpora.example import Example
from esg_transformers.corpora.feature_sets import FEATURE_SETS, FeatureSet
from esg_transformers.models.esg_net.grid_esg_net import EncoderId
from esg_transformers.simulation.feature_world import draw_world, unit
from esg_transformers.simulation.scenario import Interval

VERSION = "1"  # of the simulation; changes whenever a feature does
VISUAL, AUDIO = 0, 1
ACTIVITY_STEP = 0.04  # s between two samples of an occurrence's activity, before it is averaged over feature windows
PLACEMENTS = 8  # attempts to place a distractor

# Values at difficulty 1, in seconds or relative to a prototype of norm 1. `difficulty` scales those marked *.
STRENGTH_SPREAD = 0.35  # * log-normal spread of the strength of an occurrence in a stream
SPREAD = 0.55  # * distance of an occurrence from the prototype of its class
CONFUSION = 0.35  # * largest share of a similar class in an occurrence
NOISE, NOISE_TIME = 0.16, 0.8  # * smooth noise, per latent dimension; its correlation time
BACKGROUND, DRIFT_TIME = 0.20, 8.0  # * background of a shot, per latent dimension; correlation time of its drift
SHOT_LENGTH = 14.0  # mean
CHANNEL_NOISE = 0.50  # white noise, per channel
ASYNCHRONY_RATE = 0.6  # probability that the streams differ at a boundary
ASYNCHRONY = 1.2  # * mean difference at such a boundary
PERSISTENCE = 0.25  # probability that one stream of a class continues through the gaps between its events
DISTRACTORS = 1.3  # * mean number of distractors in a video of 39 s
RAMP = 0.5  # longest ramp of an onset or offset
JITTER = 0.18  # * standard deviation of the annotation error at a boundary


@dataclass(frozen=True)
class StreamOccurrence:
    """One occurrence of a class in one stream.

    Args:
        label: class id.
        stream: `VISUAL` or `AUDIO`.
        interval: start and end in seconds; may reach beyond the video.
        strength: length of its vector in the latent space; a prototype has 1.
        number: number of the occurrence in its video; both streams of an event have the same.
        annotated: False for a distractor.
    """

    label: int
    stream: int
    interval: Interval
    strength: float
    number: int
    annotated: bool


class AnnotatedFeatures(torch.utils.data.Dataset[Example]):
    """Simulated features of the annotated videos of one split, computed on access; features are float32.

    The world (prototypes, frequencies and lengths of distractors) follows from `seed` and all of `annotations`. Within
    a world, a video follows from its id and annotation: it is the same in any order and process. The occurrences in a
    video do not depend on `feature_set` and `text_embeddings`.

    Args:
        annotations: videos of all splits, with durations; two classes or more.
        split: the split to yield.
        feature_set: grid, sizes and file names of the features.
        text_embeddings: vectors by label, each `(channels,)`. Classes are then as similar as their vectors, features
            lie in the space of the vectors, and both streams must have `channels` channels, as ONE-PEACE's do. Without
            them, classes form groups of about five, and features are never negative, as those of I3D and VGGish.
        seed: seed of the world, >= 0.
        difficulty: factor on the constants marked * in this module, >= 0.

    Attributes:
        labels: class names by id.
        feature_spec: grid, sizes and encoder.
        video_ids: ids of the videos of the split.
        durations: seconds of each.

    Raises:
        ValueError: if an argument is out of range, a duration is not known, no video is in the split, or
            `text_embeddings` is missing, incomplete or of another size than the streams.
    """

    def __init__(
        self,
        annotations: Annotations,
        split: str,
        feature_set: FeatureSet = FEATURE_SETS["i3d-vggish"],
        text_embeddings: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        difficulty: float = 1.0,
    ):
        if not (seed >= 0 and 0 <= difficulty < float("inf")):
            raise ValueError(f"`seed` is {seed} and `difficulty` is {difficulty}; both must be 0 or more, and finite.")
        events = [event for video in annotations.videos.values() for event in video.events]
        label2id = annotations.label2id
        class_ids = np.array([label2id[event.label] for event in events], dtype=np.int64)
        counts = np.bincount(class_ids)  # up to the last class that has an event
        if len(counts) < 2:
            raise ValueError("The annotations have events of fewer than 2 classes; a simulation needs 2 or more.")
        embeddings = _embedding_table(text_embeddings, annotations.labels, feature_set)
        encoder = EncoderId("simulated", f"annotated {VERSION}, {feature_set.name}, {len(counts)} classes, seed {seed}")
        self.feature_spec = replace(feature_set.feature_spec, encoder=encoder)
        self.feature_set = feature_set
        self.labels = annotations.labels
        self.durations = tuple(annotations.split(split).durations().values())
        self._annotations, self._label2id = annotations, label2id
        self._videos = annotations.split(split).videos
        self.video_ids = tuple(self._videos)
        self._seed, self._difficulty = seed, difficulty
        self._frequency = counts / counts.sum()
        self._event_lengths = np.sort([event.end - event.start for event in events])
        sizes = (feature_set.visual_size, feature_set.audio_size)
        self._world = draw_world(len(counts), sizes, embeddings, seed)

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, index: int) -> Example:
        video_id = self.video_ids[index]
        visual, audio = self.streams(video_id)
        num_steps = min(len(visual), len(audio))
        segments, labels = self._annotations.targets_of(self._videos[video_id])
        return Example(
            video_id=video_id,
            duration=self.durations[index],
            visual_features=visual[:num_steps],
            audio_features=audio[:num_steps],
            segments=segments,
            labels=labels,
        )

    def fingerprint(self, index: int) -> str:
        """A string that differs whenever the example does."""
        video = self._videos[self.video_ids[index]]
        digest = hashlib.sha256(b"".join(array.tobytes() for array in (*self._world.prototypes, *self._world.decoders)))
        return repr((self.feature_spec, self._difficulty, video, self._frequency.tolist(), digest.hexdigest()))

    def streams(self, video_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Visual and audio features of a video, float32 `(T, channels)`; the audio stream may be 1 or 2 steps shorter.

        The streams of published feature files differ in the same way. `__getitem__` cuts both to the shorter one.
        """
        grid, duration = self.feature_set.grid, self._duration(video_id)
        num_steps = max(int((duration * grid.frame_rate - grid.window) // grid.stride) + 1, 1)
        rng = self._generator(video_id, 2)
        lengths = (num_steps, max(num_steps - int(rng.choice([0, 0, 0, 1, 2])), 1))
        times = [(np.arange(length) * grid.stride + 0.5 * grid.window) / grid.frame_rate for length in lengths]
        latents = self._event_latents(self.occurrences(video_id), times, duration, rng)
        noise_rng = self._generator(video_id, 3, self._world.salt)
        features = []
        for stream in (VISUAL, AUDIO):
            background = self._background(stream, times[stream], duration, noise_rng)
            features.append(self._decoded(stream, latents[stream] + background, noise_rng))
        return features[VISUAL], features[AUDIO]

    def occurrences(self, video_id: str) -> list[StreamOccurrence]:
        """All that is seen and heard in a video: both streams of its events, then the distractors."""
        rng, duration = self._generator(video_id, 1), self._duration(video_id)
        intervals: dict[int, list[tuple[float, float]]] = {}
        for event in self._videos[video_id].events:
            intervals.setdefault(self._label2id[event.label], []).append((event.start, event.end))
        found: list[StreamOccurrence] = []
        for label in sorted(intervals):
            found += self._occurrences_of_class(rng, label, sorted(intervals[label]), duration, len(found) // 2)
        self._add_distractors(rng, found, sorted(intervals), duration)
        return found

    def _occurrences_of_class(
        self,
        rng: np.random.Generator,
        label: int,
        intervals: Sequence[tuple[float, float]],
        duration: float,
        number: int,
    ) -> list[StreamOccurrence]:
        """Both streams of the events of one class, which have the numbers from `number` on."""
        typical = (self._draw_strength(rng), self._draw_strength(rng))  # of the class in this video, by stream
        persistent = int(rng.choice([VISUAL, AUDIO], p=[0.7, 0.3])) if rng.random() < PERSISTENCE else None
        found = []
        for index, (start, end) in enumerate(intervals):
            slack = 0.2 * (end - start)
            start += self._draw_jitter(rng, slack)
            end += self._draw_jitter(rng, slack)
            # Less than half the gap to the next event of the class: two streams that reach out never meet in it, so no
            # event goes unannotated.
            previous_end = intervals[index - 1][1] if index else -duration
            next_start = intervals[index + 1][0] if index + 1 < len(intervals) else 2 * duration
            room = (0.45 * max(start - previous_end, 0.0), 0.45 * max(next_start - end, 0.0))
            active = self._draw_intervals(rng, start, end, room)
            if persistent is not None:
                active[persistent] = Interval(start - room[0], end + room[1])
                active[1 - persistent] = Interval(start, end)
            for stream in (VISUAL, AUDIO):
                strength = float(np.sqrt(typical[stream] * self._draw_strength(rng)))
                found.append(StreamOccurrence(label, stream, active[stream], strength, number + index, True))
        return found

    def _draw_intervals(
        self, rng: np.random.Generator, start: float, end: float, room: tuple[float, float]
    ) -> list[Interval]:
        """Intervals of an event in each stream: at each end one stream may reach out, by `room` at most."""
        starts, ends = [start, start], [end, end]
        if rng.random() < ASYNCHRONY_RATE:
            reach = min(float(rng.exponential(ASYNCHRONY * self._difficulty)), room[0])
            starts[int(rng.integers(2))] -= reach
        if rng.random() < ASYNCHRONY_RATE:
            reach = min(float(rng.exponential(ASYNCHRONY * self._difficulty)), room[1])
            ends[int(rng.integers(2))] += reach
        return [Interval(*bounds) for bounds in zip(starts, ends, strict=True)]

    def _add_distractors(
        self, rng: np.random.Generator, found: list[StreamOccurrence], labels: Sequence[int], duration: float
    ) -> None:
        """Append occurrences in one stream only, of the classes `labels` of the video and of others."""
        rate = DISTRACTORS * self._difficulty
        number = len(found) // 2
        for _ in range(rng.poisson(rate * duration / 60.0 + 0.35 * rate)):
            is_own_class = rng.random() < 0.4 and len(labels) > 0
            label = int(rng.choice(labels) if is_own_class else rng.choice(len(self._frequency), p=self._frequency))
            stream = int(rng.integers(2))
            length = float(min(rng.choice(self._event_lengths), 0.6 * duration))
            for _ in range(PLACEMENTS):
                start = float(rng.uniform(-0.1 * length, duration - 0.5 * length))
                of_class = [other.interval for other in found if other.label == label]
                # Away from its class: beside an occurrence in the other stream, it would be an unannotated event.
                if all(start > other.end + 0.6 or start + length < other.start - 0.6 for other in of_class):
                    interval, strength = Interval(start, start + length), self._draw_strength(rng)
                    found.append(StreamOccurrence(label, stream, interval, strength, number, False))
                    number += 1
                    break
                length *= 0.7

    def _event_latents(
        self,
        occurrences: Sequence[StreamOccurrence],
        times: Sequence[np.ndarray],
        duration: float,
        rng: np.random.Generator,
    ) -> list[np.ndarray]:
        """Sum of all occurrences in the latent space, `(T, latent size)` for each stream."""
        half_window = 0.5 * self.feature_set.grid.window / self.feature_set.grid.frame_rate
        clock = np.arange(0.0, duration + 2 * half_window, ACTIVITY_STEP)
        edges = np.append(clock, clock[-1] + ACTIVITY_STEP)
        windows = [(np.maximum(t - half_window, 0.0), np.minimum(t + half_window, edges[-1])) for t in times]
        world, rank = self._world, self._world.prototypes[VISUAL].shape[1]
        latents = [np.zeros((len(t), len(decoder))) for t, decoder in zip(times, world.decoders, strict=True)]
        mixtures: dict[int, tuple[int, float]] = {}  # by occurrence: the similar class that it mixes in, and its share
        for occurrence in occurrences:
            label, stream = occurrence.label, occurrence.stream
            if occurrence.number not in mixtures:
                other = int(rng.choice(len(world.similar), p=world.similar[label]))
                mixtures[occurrence.number] = (other, CONFUSION * self._difficulty * rng.random())
            other, share = mixtures[occurrence.number]
            prototypes = world.prototypes[stream]
            vector = (1 - share) * prototypes[label] + share * prototypes[other]
            vector = unit(vector + SPREAD * self._difficulty * unit(rng.standard_normal((rank,))))
            total = np.concatenate([[0.0], np.cumsum(_draw_activity(rng, occurrence, clock)) * ACTIVITY_STEP])
            first, last = windows[stream]
            mean_activity = (np.interp(last, edges, total) - np.interp(first, edges, total)) / (last - first)
            latents[stream][:, :rank] += occurrence.strength * mean_activity[:, None] * vector
        return latents

    def _background(self, stream: int, times: np.ndarray, duration: float, rng: np.random.Generator) -> np.ndarray:
        """Background of one stream, `(T, latent size)`: shots (one for the whole sound), drift and smooth noise."""
        level, size = BACKGROUND * self._difficulty, len(self._world.decoders[stream])
        num_shots = 1 + (int(rng.poisson(duration / SHOT_LENGTH)) if stream == VISUAL else 0)
        cuts = np.sort(rng.uniform(0, duration, num_shots - 1))
        common, of_shot = rng.standard_normal(size), rng.standard_normal((num_shots, size))
        background = level * (0.8 * common + 0.6 * of_shot[np.searchsorted(cuts, times)])
        step = self.feature_set.grid.stride / self.feature_set.grid.frame_rate
        background += 0.5 * level * _smooth_noise(rng, background.shape, step, DRIFT_TIME)
        return background + NOISE * self._difficulty * _smooth_noise(rng, background.shape, step, NOISE_TIME)

    def _decoded(self, stream: int, latent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Features of one stream, float32 `(T, channels)`, from latent vectors."""
        features: np.ndarray = latent @ self._world.decoders[stream] + self._world.offsets[stream]
        num_channels = features.shape[1]
        noise = rng.standard_normal(features.shape, dtype=np.float32).astype(np.float64)
        features += CHANNEL_NOISE * (1.0 / np.sqrt(num_channels)) * noise
        if self._world.nonnegative:
            features = np.maximum(features, 0.0)
        return np.asarray(features * np.sqrt(num_channels) * 0.35, dtype=np.float32)

    def _draw_strength(self, rng: np.random.Generator) -> float:
        return float(np.exp(STRENGTH_SPREAD * self._difficulty * rng.standard_normal()))

    def _draw_jitter(self, rng: np.random.Generator, slack: float) -> float:
        return float(np.clip(JITTER * self._difficulty * rng.standard_normal(), -slack, slack))

    def _duration(self, video_id: str) -> float:
        return self.durations[self.video_ids.index(video_id)]

    def _generator(self, video_id: str, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(video_id.encode()), *purpose])


def write_feature_files(videos: AnnotatedFeatures, features_dir: str | os.PathLike[str]) -> None:
    """Write the `.npy` files of all videos of a split, float32, as `FeatureFolder` reads them.

    Args:
        videos: the features.
        features_dir: folder, created if missing; files of the same names are replaced.
    """
    folder, feature_set = Path(features_dir), videos.feature_set
    folder.mkdir(parents=True, exist_ok=True)
    suffixes_of_streams = (feature_set.visual_suffixes, feature_set.audio_suffixes)
    for video_id in tqdm(videos.video_ids, desc="Features", unit=" videos"):
        for features, suffixes in zip(videos.streams(video_id), suffixes_of_streams, strict=True):
            for suffix, part in zip(suffixes, np.split(features, len(suffixes), axis=1), strict=True):
                np.save(folder / f"{video_id}{suffix}.npy", part)


def select_videos(
    annotations: Annotations, counts: Mapping[str, int], num_classes: int | None = None, seed: int = 0
) -> Annotations:
    """Annotations of randomly chosen videos whose events are all of the most frequent classes.

    Videos without events are left out. The choice within a split follows from `seed`, the videos and `num_classes`.

    Args:
        annotations: all videos.
        counts: videos of each split, e.g. `{"train": 200, "test": 150}`; a split with fewer gives all that it has.
        num_classes: number of classes to keep; all that have events if not given.
        seed: seed of the choice, >= 0.

    Returns:
        The chosen videos by split and id. The labels are those kept, in the order of `annotations.labels`.
    """
    frequency = Counter(event.label for video in annotations.videos.values() for event in video.events)
    ranked = sorted((label for label in annotations.labels if frequency[label]), key=lambda label: -frequency[label])
    kept = set(ranked[:num_classes])
    fitting: dict[str, list[AnnotatedVideo]] = {}
    for _, video in sorted(annotations.videos.items()):
        if video.events and {event.label for event in video.events} <= kept:
            fitting.setdefault(video.split, []).append(video)
    rng = np.random.default_rng(seed)
    chosen: list[AnnotatedVideo] = []
    for split, videos in sorted(fitting.items()):
        order = rng.permutation(
            len(videos)
        )  # drawn for every split, so that one split does not depend on another's count
        chosen += [videos[index] for index in sorted(order[: counts.get(split, 0)])]
    labels = tuple(label for label in annotations.labels if label in kept)
    return Annotations({video.video_id: video for video in chosen}, labels)


def _embedding_table(
    embeddings: Mapping[str, np.ndarray] | None, labels: Sequence[str], feature_set: FeatureSet
) -> np.ndarray | None:
    """Embeddings of all labels, float64 `(labels, channels)`; None if none are given and none are needed."""
    if embeddings is None and feature_set.name == "one-peace":
        raise ValueError(
            "Features of one-peace lie in the space of its text embeddings. Give `text_embeddings`: a vector of "
            f"{feature_set.visual_size} numbers for each of the {len(labels)} labels."
        )
    if embeddings is None:
        return None
    missing = [label for label in labels if label not in embeddings]
    if missing:
        raise ValueError(f"`text_embeddings` lacks {len(missing)} of {len(labels)} labels: {', '.join(missing[:5])}.")
    shapes = {np.shape(embeddings[label]) for label in labels}
    if shapes != {(feature_set.visual_size,)} or feature_set.audio_size != feature_set.visual_size:
        raise ValueError(
            f"`text_embeddings` has vectors of shape {sorted(shapes)}, and the features of {feature_set.name} have "
            f"{feature_set.visual_size} visual and {feature_set.audio_size} audio channels; all three must be equal."
        )
    return np.asarray([embeddings[label] for label in labels], np.float64)


def _draw_activity(rng: np.random.Generator, occurrence: StreamOccurrence, clock: np.ndarray) -> np.ndarray:
    """Presence of an occurrence at each time of `clock`, 0 to 1: a ramp at either end, and an uneven course."""
    start, end = occurrence.interval
    rise, fall = rng.uniform(ACTIVITY_STEP, RAMP, 2)
    level = np.clip((clock - start) / rise + 0.5, 0, 1) * np.clip((end - clock) / fall + 0.5, 0, 1)
    depth = rng.uniform(0.0, 0.5)
    wave = np.sin(2 * np.pi * (clock / rng.uniform(0.7, 4.0) + rng.random()))
    activity: np.ndarray = level * (1 - depth * np.clip(wave, 0, 1))
    return activity


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], step: float, correlation_time: float) -> np.ndarray:
    """First-order autoregressive noise of variance 1, `(T, size)`; `step` and `correlation_time` in seconds."""
    keep = np.exp(-step / correlation_time)
    shocks = rng.standard_normal(shape) * np.sqrt(1 - keep**2)
    noise = np.empty(shape)
    state = rng.standard_normal(shape[1])
    for index, shock in enumerate(shocks):
        state = keep * state + shock
        noise[index] = state
    return noise
