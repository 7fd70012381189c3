"""Simulated features and events, for first steps, tests and profiling: any number of videos, and nothing to download.

What is hard about real corpora is in them: an event is annotated only where it is both seen and heard, and either
stream alone misleads. Something is seen without being heard or the other way round, one stream starts earlier or ends
later than the other or goes on between two events, classes resemble each other, come in pairs and overlap, and all of
it stands before a background that changes with every shot. How strong these are is this package's choice.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from esg_transformers.corpora.example import Example
from esg_transformers.corpora.feature_sets import FEATURE_SETS, FeatureSet
from esg_transformers.models.esg_net.grid_esg_net import EncoderId

VERSION = "1"  # of the simulation; changes whenever a video does
CLASS_SIZE, LATENT_SIZE = 32, 48  # dimensions that classes span, and with those that only backgrounds span
GROUP_SIZE = 4  # classes that resemble each other
SHORTEST_EVENT = 0.5  # s

# What makes it hard at difficulty 1. An event has strength 1 and a prototype of norm 1; times are in seconds.
SPREAD = 0.5  # how far an event strays from the prototype of its class
CONFUSION = 0.35  # largest share of a similar class in an event
BACKGROUND = 0.2  # of a shot, in every latent dimension
DRIFT, DRIFT_TIME = 0.1, 8.0  # of the background, and how long it stays alike
NOISE, NOISE_TIME = 0.15, 0.8  # faster, in every latent dimension
CHANNEL_NOISE = 0.5  # white, in every channel
ASYNCHRONY = 1.2  # mean lead or lag of one stream at a boundary
DISTRACTORS = 0.3  # share of occurrences that are only seen or only heard
PERSISTENCE = 0.25  # share of classes of which one stream goes on between two events
SHOT_LENGTH = 14.0  # mean


Span = tuple[float, float]  # start and end in seconds


class Occurrence(NamedTuple):
    """Something of a class that happens: when it is seen and when it is heard, None where it is not."""

    label: int
    seen: Span | None
    heard: Span | None


def simulate_splits(
    num_videos: Mapping[str, int],
    num_classes: int = 20,
    seed: int = 0,
    difficulty: float = 1.0,
    feature_set: FeatureSet = FEATURE_SETS["i3d-vggish"],
) -> dict[str, "SimulatedVideos"]:
    """Simulated videos of one world by split, such as `{"train": 300, "validation": 100}`; see `SimulatedVideos`.

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


class SimulatedVideos(torch.utils.data.Dataset):
    """Simulated videos of 10 to 60 s, made when they are asked for; features are float32.

    A video follows from the arguments and its id alone, so that it is the same in any split, process and order. What
    happens in it does not depend on `feature_set`. It is a `VideoDataset`.

    Args:
        video_ids: any names.
        num_classes: classes of events, the first being the most frequent; >= 1.
        seed: of the world: of what classes look and sound like, and of what happens; >= 0.
        difficulty: factor on all that misleads; 0 leaves events alone, at difficulty 1 either stream alone misleads.
        feature_set: the grid and sizes to have; `dataclasses.replace` one of `FEATURE_SETS` for others.

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
        # Features of another world are of another encoder: a model for one means nothing in the other.
        encoder = EncoderId("simulated", f"{VERSION}, {num_classes} classes, seed {seed}")
        self.feature_spec = replace(feature_set.feature_spec, encoder=encoder)
        self._seed, self._difficulty, self._feature_set = seed, difficulty, feature_set
        rng = np.random.default_rng([seed, num_classes])
        frequency = 1 / np.sqrt(1 + np.arange(num_classes))
        self._frequency = frequency / frequency.sum()
        self._partner = _ring(rng, num_classes)
        groups = rng.normal(size=(-(-num_classes // GROUP_SIZE), CLASS_SIZE)).repeat(GROUP_SIZE, axis=0)[:num_classes]
        common = _unit(groups) + _unit(rng.normal(size=groups.shape))
        # The streams agree on a class in part.
        self._prototypes = [_unit(common + 0.8 * _unit(rng.normal(size=common.shape))) for _ in range(2)]
        sizes = (feature_set.visual_size, feature_set.audio_size)
        self._decoders = [rng.normal(size=(LATENT_SIZE, size)).astype(np.float32) for size in sizes]

    @cached_property
    def durations(self) -> tuple[float, ...]:
        """Seconds of every video."""
        return tuple(self.scenario(video_id)[0] for video_id in self.video_ids)

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, index: int) -> Example:
        video_id = self.video_ids[index]
        duration, occurrences = self.scenario(video_id)
        grid = self.feature_spec.grid
        times = grid.to_seconds(torch.arange(grid.num_steps(duration))).numpy()
        rng = _generator(self._seed, video_id, "features")
        classes = np.array([occurrence.label for occurrence in occurrences])
        visual = self._stream(rng, times, 0, classes, [occurrence.seen for occurrence in occurrences])
        audio = self._stream(rng, times, 1, classes, [occurrence.heard for occurrence in occurrences])
        events = [(o.label, o.seen, o.heard) for o in occurrences if o.seen and o.heard]
        segments = [(max(seen[0], heard[0]), min(seen[1], heard[1])) for _, seen, heard in events]
        return Example(
            video_id=video_id,
            duration=duration,
            visual_features=visual,
            audio_features=audio,
            segments=np.array(segments, dtype=np.float64).reshape(-1, 2),
            labels=np.array([label for label, _, _ in events], dtype=np.int64),
        )

    def fingerprint(self, index: int) -> str:
        """What an example follows from."""
        return repr((VERSION, self.video_ids[index], len(self.labels), self._seed, self._difficulty, self._feature_set))

    def scenario(self, video_id: str) -> tuple[float, list[Occurrence]]:
        """The duration of a video in seconds, and all that happens in it, annotated or not."""
        rng = _generator(self._seed, video_id, "scenario")
        duration = round(float(rng.uniform(10, 60)), 2)
        first, other = rng.choice(len(self.labels), size=2, p=self._frequency)
        timetable = _draw_timetable(rng, duration)
        by_class = {int(first): timetable}
        if rng.random() < 0.5:  # a class that comes with the first: it sets in during it and may outlast it
            by_class.setdefault(int(self._partner[first]), _following(rng, timetable))
        if rng.random() < 0.4:
            by_class.setdefault(int(other), _draw_timetable(rng, duration))
        occurrences: list[Occurrence] = []
        for label, timetable in by_class.items():
            occurrences += self._occurrences(rng, label, timetable)
        return duration, occurrences

    def _occurrences(self, rng: np.random.Generator, label: int, timetable: np.ndarray) -> list[Occurrence]:
        """What is seen and heard of a class in a video."""
        persists = rng.integers(2) if rng.random() < min(PERSISTENCE * self._difficulty, 1) else None
        occurrences = []
        for before, start, end, after in timetable.tolist():
            spans: list[Span | None] = [(start, end), (start, end)]
            if persists is not None:
                # From the middle of one gap to the middle of the next: the stream never stops, the other bounds events.
                spans[persists] = ((before + start) / 2, (end + after) / 2)
            elif rng.random() < min(DISTRACTORS * self._difficulty, 0.8):
                spans[rng.integers(2)] = None
            else:
                # Less than half the gap, so that two events never meet in one stream.
                lead, lag = np.minimum(
                    rng.exponential(ASYNCHRONY * self._difficulty, 2), 0.45 * np.array([start - before, after - end])
                )
                first, last = rng.integers(2, size=2)
                spans[first] = (start - lead, end)
                spans[last] = (spans[last][0], end + lag)
            occurrences.append(Occurrence(label, spans[0], spans[1]))
        return occurrences

    def _stream(
        self, rng: np.random.Generator, times: np.ndarray, stream: int, classes: np.ndarray, spans: list[Span | None]
    ) -> np.ndarray:
        """Features `(T, channels)` of one stream: 0 is what is seen, 1 what is heard."""
        start, end = np.array([span or (0.0, 0.0) for span in spans]).T
        # The share of each feature's window in which something is on, so that boundaries are as soft as the window.
        window = self.feature_spec.grid.window / self.feature_spec.grid.frame_rate
        first, last = times[:, None] - window / 2, times[:, None] + window / 2
        on = (np.minimum(end, last) - np.maximum(start, first)).clip(min=0) / window
        latent = self._background(
            rng, times, num_shots=1 + (rng.poisson(times[-1] / SHOT_LENGTH) if stream == 0 else 0)
        )
        latent[:, :CLASS_SIZE] += on @ self._appearances(rng, classes, self._prototypes[stream])
        features = latent.astype(np.float32) @ self._decoders[stream]
        features += np.float32(CHANNEL_NOISE) * rng.standard_normal(features.shape, dtype=np.float32)
        return features

    def _appearances(self, rng: np.random.Generator, classes: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
        """What each occurrence looks or sounds like, `(N, CLASS_SIZE)`: like its class, a little like a similar one."""
        num = len(classes)
        similar = classes - classes % GROUP_SIZE + rng.integers(GROUP_SIZE, size=num)
        similar = np.minimum(similar, len(prototypes) - 1)
        share = min(CONFUSION * self._difficulty, 0.5) * rng.random((num, 1))
        stray = SPREAD * self._difficulty * _unit(rng.normal(size=(num, CLASS_SIZE)))
        strength = np.exp(0.3 * self._difficulty * rng.normal(size=(num, 1)))
        return strength * _unit((1 - share) * prototypes[classes] + share * prototypes[similar] + stray)

    def _background(self, rng: np.random.Generator, times: np.ndarray, num_shots: int) -> np.ndarray:
        """Shots, drift and noise, `(T, LATENT_SIZE)`."""
        cuts = np.sort(rng.uniform(0, times[-1], num_shots - 1))
        background = BACKGROUND * rng.normal(size=(num_shots, LATENT_SIZE))[np.searchsorted(cuts, times)]
        for strength, seconds in ((DRIFT, DRIFT_TIME), (NOISE, NOISE_TIME)):
            # Linear between values drawn every so many seconds.
            knots = np.arange(times[0] - seconds, times[-1] + seconds, seconds)
            weights = (1 - np.abs(times[:, None] - knots) / seconds).clip(min=0)
            background += strength * (weights @ rng.normal(size=(len(knots), LATENT_SIZE)))
        return self._difficulty * background


def _draw_timetable(rng: np.random.Generator, duration: float) -> np.ndarray:
    """One to four occurrences of a class in their order, `(N, 4)`: end of the one before, start, end, next start."""
    lengths = np.exp(rng.normal(np.log(4.0), 0.8, size=rng.integers(1, 5))).clip(min=SHORTEST_EVENT)
    lengths *= min(1.0, 0.7 * duration / lengths.sum())
    gaps = rng.dirichlet(np.ones(len(lengths) + 1)) * (duration - lengths.sum())
    start = np.cumsum(gaps[:-1]) + np.cumsum(lengths) - lengths
    end = start + lengths
    return np.stack([np.append(0.0, end[:-1]), start, end, np.append(start[1:], duration)], axis=1)


def _following(rng: np.random.Generator, timetable: np.ndarray) -> np.ndarray:
    """Occurrences that set in during those of a timetable, and end within half the gap after them."""
    _, start, end, after = timetable.T
    start = start + rng.uniform(0.2, 0.6, len(start)) * (end - start)
    last = after[-1]
    end = end + rng.uniform(0, 0.5, len(end)) * (after - end)
    return np.stack([np.append(0.0, end[:-1]), start, end, np.append(start[1:], last)], axis=1)


def _ring(rng: np.random.Generator, num_classes: int) -> np.ndarray:
    """For each class another, each once, in a random ring."""
    order = rng.permutation(num_classes)
    partner = np.empty(num_classes, dtype=np.int64)
    partner[order] = np.roll(order, 1)
    return partner


def _generator(seed: int, video_id: str, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{purpose} {video_id}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
