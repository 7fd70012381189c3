"""Simulated events and features, for first steps, tests and profiling: any number of videos, without a download.

The difficulties of real corpora are in them. An event is annotated only where it is both seen and heard, and each
stream alone misleads: some occurrences are only seen or only heard, and one stream starts earlier, ends later or
continues between two events. Classes resemble each other, come in pairs and overlap, and the background changes with
every shot. The strength of each difficulty is a choice of this package.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from esg_transformers.corpora.example import Example
from esg_transformers.corpora.feature_sets import FEATURE_SETS, FeatureSet
from esg_transformers.models.esg_net.grid_esg_net import EncoderId
from esg_transformers.simulation.feature_world import unit
from esg_transformers.simulation.scenario import Interval, Occurrence, Scenario

VERSION = "1"  # of the simulation; changes whenever a video does
CLASS_SIZE, LATENT_SIZE = 32, 48  # dimensions that classes span, and with those that only backgrounds span
GROUP_SIZE = 4  # classes that resemble each other
SHORTEST_EVENT = 0.5  # s

# Values at difficulty 1. Strengths are relative to an event and a prototype of norm 1; times are in seconds.
SPREAD = 0.5  # distance of an event from the prototype of its class
CONFUSION = 0.35  # largest share of a similar class in an event
BACKGROUND = 0.2  # background of a shot, per latent dimension
DRIFT, DRIFT_TIME = 0.1, 8.0  # slow change of the background, per latent dimension; time between independent values
NOISE, NOISE_TIME = 0.15, 0.8  # the same for fast changes
CHANNEL_NOISE = 0.5  # white noise, per channel
ASYNCHRONY = 1.2  # mean lead or lag of one stream at a boundary
DISTRACTORS = 0.3  # share of occurrences that are only seen or only heard
PERSISTENCE = 0.25  # share of classes of which one stream continues between two events
SHOT_LENGTH = 14.0  # mean


def simulate_splits(
    num_videos: Mapping[str, int],
    num_classes: int = 20,
    seed: int = 0,
    difficulty: float = 1.0,
    feature_set: FeatureSet = FEATURE_SETS["i3d-vggish"],
) -> dict[str, "SimulatedVideos"]:
    """Simulated videos of one world by split; see `SimulatedVideos`.

    Args:
        num_videos: number of videos by split, e.g. `{"train": 300, "validation": 100}`.
        num_classes: number of classes, >= 1.
        seed: seed of the world, >= 0.
        difficulty: factor on everything that misleads, >= 0.
        feature_set: grid and sizes of the features.

    >>> splits = simulate_splits({"train": 3, "test": 2}, num_classes=5)
    >>> splits["test"].video_ids
    ('simulated_test_00000', 'simulated_test_00001')
    """
    return {
        split: SimulatedVideos(
            [f"simulated_{split}_{i:05d}" for i in range(n)], num_classes, seed, difficulty, feature_set
        )
        for split, n in num_videos.items()
    }


class SimulatedVideos(torch.utils.data.Dataset[Example]):
    """A `VideoDataset` of simulated videos of 10 to 60 s, computed on access; features are float32.

    A video follows from the arguments and its id alone: it is the same in any split, process and order. Its events do
    not depend on `feature_set`.

    Args:
        video_ids: ids of the videos, any names.
        num_classes: number of classes, >= 1; the first is the most frequent.
        seed: seed of the world, i.e. of the looks and sounds of classes and of all scenarios; >= 0.
        difficulty: factor on everything that misleads, >= 0; at 0 only events remain.
        feature_set: grid and sizes of the features; for other sizes, `dataclasses.replace` one of `FEATURE_SETS`.

    Raises:
        ValueError: if an argument is out of range.

    >>> example = SimulatedVideos(["first"], num_classes=5)[0]
    >>> example["visual_features"].shape[1], example["audio_features"].shape[1]
    (2048, 128)
    """

    def __init__(
        self,
        video_ids: Sequence[str],
        num_classes: int = 20,
        seed: int = 0,
        difficulty: float = 1.0,
        feature_set: FeatureSet = FEATURE_SETS["i3d-vggish"],
    ):
        if not (num_classes >= 1 and seed >= 0 and 0 <= difficulty < float("inf")):
            raise ValueError(
                "A simulation needs num_classes >= 1, seed >= 0 and a finite difficulty >= 0; "
                f"got {num_classes}, {seed} and {difficulty}."
            )
        self.video_ids = tuple(video_ids)
        self.labels = tuple(f"class {index:0{len(str(num_classes - 1))}d}" for index in range(num_classes))
        # Another world counts as another encoder: a model of one world cannot read the features of another.
        encoder = EncoderId("simulated", f"{VERSION}, {num_classes} classes, seed {seed}")
        self.feature_spec = replace(feature_set.feature_spec, encoder=encoder)
        self._seed, self._difficulty, self._feature_set = seed, difficulty, feature_set
        rng = np.random.default_rng([seed, num_classes])
        frequency = 1 / np.sqrt(1 + np.arange(num_classes))
        self._frequency = frequency / frequency.sum()
        self._partner = _ring(rng, num_classes)
        groups = rng.normal(size=(-(-num_classes // GROUP_SIZE), CLASS_SIZE)).repeat(GROUP_SIZE, axis=0)[:num_classes]
        common = unit(groups) + unit(rng.normal(size=groups.shape))
        # The streams share a class only in part.
        self._prototypes = [unit(common + 0.8 * unit(rng.normal(size=common.shape))) for _ in range(2)]
        sizes = (feature_set.visual_size, feature_set.audio_size)
        self._decoders = [rng.normal(size=(LATENT_SIZE, size)).astype(np.float32) for size in sizes]

    @cached_property
    def durations(self) -> tuple[float, ...]:
        """Seconds of every video."""
        return tuple(self.scenario(video_id).duration for video_id in self.video_ids)

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, index: int) -> Example:
        video_id = self.video_ids[index]
        scenario, grid = self.scenario(video_id), self.feature_spec.grid
        times = grid.to_seconds(torch.arange(grid.num_steps(scenario.duration))).numpy()
        rng = _generator(self._seed, video_id, "features")
        classes = np.array([self.labels.index(occurrence.label) for occurrence in scenario.occurrences])
        visual = self._stream(rng, times, 0, classes, [occurrence.seen for occurrence in scenario.occurrences])
        audio = self._stream(rng, times, 1, classes, [occurrence.heard for occurrence in scenario.occurrences])
        segments, labels = [], []
        for class_id, occurrence in zip(classes, scenario.occurrences, strict=True):
            seen, heard = occurrence.seen, occurrence.heard
            if seen is not None and heard is not None:
                segments.append((max(seen.start, heard.start), min(seen.end, heard.end)))
                labels.append(class_id)
        return Example(
            video_id=video_id,
            duration=scenario.duration,
            visual_features=visual,
            audio_features=audio,
            segments=np.array(segments, dtype=np.float64).reshape(-1, 2),
            labels=np.array(labels, dtype=np.int64),
        )

    def fingerprint(self, index: int) -> str:
        """A string that differs whenever the example does."""
        return repr((VERSION, self.video_ids[index], len(self.labels), self._seed, self._difficulty, self._feature_set))

    def scenario(self, video_id: str) -> Scenario:
        """Duration of a video and all occurrences in it, annotated or not, by class and time."""
        rng = _generator(self._seed, video_id, "scenario")
        duration = round(float(rng.uniform(10, 60)), 2)
        first, other = rng.choice(len(self.labels), size=2, p=self._frequency)
        timetable = _draw_timetable(rng, duration)
        by_class = {int(first): timetable}
        if rng.random() < 0.5:  # a second class that starts during each occurrence of the first and may outlast it
            by_class.setdefault(int(self._partner[first]), _draw_followers(rng, timetable))
        if rng.random() < 0.4:
            by_class.setdefault(int(other), _draw_timetable(rng, duration))
        occurrences: list[Occurrence] = []
        for label, timetable in by_class.items():
            occurrences += self._occurrences(rng, label, timetable)
        return Scenario(duration, tuple(occurrences))

    def _occurrences(self, rng: np.random.Generator, label: int, timetable: np.ndarray) -> list[Occurrence]:
        """Occurrences of one class in a video."""
        persistent = int(rng.integers(2)) if rng.random() < min(PERSISTENCE * self._difficulty, 1) else None
        occurrences = []
        for before, start, end, after in timetable.tolist():
            streams: list[Interval | None] = [Interval(start, end), Interval(start, end)]
            if persistent is not None:
                # One stream lasts from the middle of one gap to the middle of the next, so the other bounds the event.
                streams[persistent] = Interval((before + start) / 2, (end + after) / 2)
            elif rng.random() < min(DISTRACTORS * self._difficulty, 0.8):
                streams[rng.integers(2)] = None
            else:
                # Less than half the gap, so that two occurrences never meet in one stream.
                lead, lag = np.minimum(
                    rng.exponential(ASYNCHRONY * self._difficulty, 2), 0.45 * np.array([start - before, after - end])
                ).tolist()
                starts, ends = [start, start], [end, end]
                early, late = rng.integers(2, size=2).tolist()
                starts[early] -= lead
                ends[late] += lag
                streams = [Interval(*bounds) for bounds in zip(starts, ends, strict=True)]
            occurrences.append(Occurrence(self.labels[label], seen=streams[0], heard=streams[1]))
        return occurrences

    def _stream(
        self,
        rng: np.random.Generator,
        times: np.ndarray,
        stream: int,
        classes: np.ndarray,
        intervals: Sequence[Interval | None],
    ) -> np.ndarray:
        """Features of one stream, float32 `(T, channels)`: 0 is the visual stream, 1 the audio stream.

        Args:
            rng: source of all random draws.
            times: seconds, `(T,)`, at the centre of each feature's window.
            stream: 0 or 1.
            classes: class ids, `(N,)`, of the occurrences.
            intervals: N; when each occurrence is in this stream, None if it is not.
        """
        start, end = np.array([interval or (0.0, 0.0) for interval in intervals]).T
        # Share of each feature's window that an occurrence covers: boundaries are as soft as the window is long.
        window = self.feature_spec.grid.window / self.feature_spec.grid.frame_rate
        first, last = times[:, None] - window / 2, times[:, None] + window / 2
        active = (np.minimum(end, last) - np.maximum(start, first)).clip(min=0) / window
        latent = self._background(
            rng, times, num_shots=1 + (rng.poisson(times[-1] / SHOT_LENGTH) if stream == 0 else 0)
        )
        latent[:, :CLASS_SIZE] += active @ self._appearances(rng, classes, self._prototypes[stream])
        features: np.ndarray = latent.astype(np.float32) @ self._decoders[stream]
        features += np.float32(CHANNEL_NOISE) * rng.standard_normal(features.shape, dtype=np.float32)
        return features

    def _appearances(self, rng: np.random.Generator, classes: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
        """Latent vector of each occurrence, `(N, CLASS_SIZE)`: mostly of its class, in part of a similar one."""
        num = len(classes)
        similar = classes - classes % GROUP_SIZE + rng.integers(GROUP_SIZE, size=num)
        similar = np.minimum(similar, len(prototypes) - 1)
        share = min(CONFUSION * self._difficulty, 0.5) * rng.random((num, 1))
        deviation = SPREAD * self._difficulty * unit(rng.normal(size=(num, CLASS_SIZE)))
        strength = np.exp(0.3 * self._difficulty * rng.normal(size=(num, 1)))
        vectors = unit((1 - share) * prototypes[classes] + share * prototypes[similar] + deviation)
        return np.asarray(strength * vectors)

    def _background(self, rng: np.random.Generator, times: np.ndarray, num_shots: int) -> np.ndarray:
        """Background of one stream, `(T, LATENT_SIZE)`: shots, drift and noise."""
        cuts = np.sort(rng.uniform(0, times[-1], num_shots - 1))
        background = BACKGROUND * rng.normal(size=(num_shots, LATENT_SIZE))[np.searchsorted(cuts, times)]
        for strength, seconds in ((DRIFT, DRIFT_TIME), (NOISE, NOISE_TIME)):
            # Linear interpolation between values that are `seconds` apart.
            knots = np.arange(times[0] - seconds, times[-1] + seconds, seconds)
            weights = (1 - np.abs(times[:, None] - knots) / seconds).clip(min=0)
            background += strength * (weights @ rng.normal(size=(len(knots), LATENT_SIZE)))
        return self._difficulty * background


def _draw_timetable(rng: np.random.Generator, duration: float) -> np.ndarray:
    """Draw one to four occurrences of a class by time, `(N, 4)`: previous end, start, end, next start, in seconds."""
    lengths = np.exp(rng.normal(np.log(4.0), 0.8, size=rng.integers(1, 5))).clip(min=SHORTEST_EVENT)
    lengths *= min(1.0, 0.7 * duration / lengths.sum())
    gaps = rng.dirichlet(np.ones(len(lengths) + 1)) * (duration - lengths.sum())
    start = np.cumsum(gaps[:-1]) + np.cumsum(lengths) - lengths
    end = start + lengths
    return np.stack([np.append(0.0, end[:-1]), start, end, np.append(start[1:], duration)], axis=1)


def _draw_followers(rng: np.random.Generator, timetable: np.ndarray) -> np.ndarray:
    """Draw a timetable whose occurrences start during those of another and end within half the gap after them."""
    _, start, end, after = timetable.T
    start = start + rng.uniform(0.2, 0.6, len(start)) * (end - start)
    last = after[-1]
    end = end + rng.uniform(0, 0.5, len(end)) * (after - end)
    return np.stack([np.append(0.0, end[:-1]), start, end, np.append(start[1:], last)], axis=1)


def _ring(rng: np.random.Generator, num_classes: int) -> np.ndarray:
    """Partner class of each class: a random cyclic permutation, `(num_classes,)`."""
    order = rng.permutation(num_classes)
    partner = np.empty(num_classes, dtype=np.int64)
    partner[order] = np.roll(order, 1)
    return partner


def _generator(seed: int, video_id: str, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{purpose} {video_id}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
