"""Simulated workshop clips: short videos with sound, annotated with the events that are both seen and heard.

One room, one fixed camera, four classes: a machine that shakes and hums, a lamp that flashes while an alarm sounds, a
worker who speaks, a door that slams. Either stream alone misleads: about as often as an event is seen and heard, a
class is only seen (the lamp flashes in silence) or only heard (an alarm in the next room), and that is no event.
Nothing is recorded or downloaded, so a corpus can be made, trained on and scored on a laptop.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.unav import write_unav_annotations

LABELS = ("alarm", "door slamming", "machine running", "person speaking")
SUBSETS = ("train", "validation", "test")
WIDTH, HEIGHT = 160, 120  # pixels
FRAME_RATE = 25  # frames per second
SAMPLING_RATE = 16_000  # Hz
GAP = 0.6  # seconds or more between two occurrences of a class
SWING = 0.7  # seconds from the start of a slam, seen or heard, until the door meets its frame
REOPENING = 2.0  # seconds in which the door glides open again; the gap between two slams is as long
ALARM_BAND = (1500, 2600)  # Hz; the tones of every alarm lie in it


class Interval(NamedTuple):
    """A stretch of time, in seconds from the start of the clip."""

    start: float
    end: float


@dataclass(frozen=True)
class Occurrence:
    """One thing that happens: when it is seen and when it is heard, `None` where it is not."""

    label: str
    seen: Interval | None
    heard: Interval | None


@dataclass(frozen=True)
class Scenario:
    """All that happens in a clip of `duration` seconds."""

    duration: float
    occurrences: tuple[Occurrence, ...]


def make_workshop_clips(
    out_dir: str | os.PathLike[str],
    counts: Mapping[str, int],
    seed: int = 0,
    duration: float = 16.0,
    num_workers: int = 2,
) -> Path:
    """Write clips `<out_dir>/videos/<video_id>.mp4` and their annotations `<out_dir>/annotations.json`.

    A clip depends on `seed`, `duration`, its subset and its number only: neither on `num_workers` nor on `counts`.

    Args:
        out_dir: folder, made if missing; files of the same names are replaced.
        counts: clips of each subset, e.g. `{"train": 60, "validation": 20, "test": 20}`.
        seed: another seed, another corpus; >= 0.
        duration: seconds per clip, >= 4.
        num_workers: processes that write clips. With 2 or more, a script has to call this under
            `if __name__ == "__main__":`, as all of `multiprocessing`.

    Returns:
        The path of the annotations, in the layout of UnAV-100's (data/unav100_annotations.json, commit 60144ed).

    Raises:
        ValueError: for an unknown subset, a negative count or seed, or too short a duration.
    """
    if wrong := {subset: count for subset, count in counts.items() if subset not in SUBSETS or count < 0}:
        raise ValueError(f"`counts` has {wrong}; give 0 or more clips for any of {list(SUBSETS)}.")
    if seed < 0:
        raise ValueError(f"`seed` is {seed}; it must be 0 or more.")
    videos = Path(out_dir) / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    clips = [(subset, index) for subset in SUBSETS for index in range(counts.get(subset, 0))]
    make_clip = partial(_make_clip, videos, seed, duration)
    progress = partial(tqdm, total=len(clips), desc="Workshop clips", unit="clip")
    if num_workers > 1:
        # Spawned, not forked: the caller may hold threads (torch, tokenizers) that do not survive a fork.
        with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
            made = list(progress(pool.map(make_clip, clips)))
    else:
        made = list(progress(map(make_clip, clips)))
    annotations = Path(out_dir) / "annotations.json"
    write_unav_annotations(Annotations({clip.video_id: clip for clip in made}, LABELS), annotations)
    return annotations


def _make_clip(videos: Path, seed: int, duration: float, clip: tuple[str, int]) -> AnnotatedVideo:
    subset, index = clip
    video_id = f"workshop_{subset}_{index:04d}"
    scenario_rng, picture_rng, sound_rng = np.random.default_rng([seed, SUBSETS.index(subset), index]).spawn(3)
    scenario = draw_scenario(scenario_rng, duration)
    frames, waveform = render_picture(scenario, picture_rng), render_sound(scenario, sound_rng)
    write_clip(videos / f"{video_id}.mp4", frames, waveform)
    return AnnotatedVideo(video_id, duration, subset, labelled_events(scenario))


# What happens ---------------------------------------------------------------------------------------------------------


def draw_scenario(rng: np.random.Generator, duration: float) -> Scenario:
    """Draw 2 to 6 events and, for each stream, half to as many distractors; what finds no room is left out.

    Occurrences of different classes may overlap. Those of one class, events or not, are `GAP` or more apart, so a
    distractor never meets the other stream of its class.

    Raises:
        ValueError: if `duration` is below 4 seconds.
    """
    if not duration >= 4:
        raise ValueError(f"`duration` is {duration} seconds; a clip needs 4 or more to hold its events.")
    num_events = int(rng.integers(2, 7))
    num_seen, num_heard = rng.integers((num_events + 1) // 2, num_events + 1, size=2)
    occurrences = []
    taken: dict[str, list[Interval]] = {label: [] for label in LABELS}
    # In any order: what comes late finds shorter gaps, and length must not tell events from distractors.
    for streams in rng.permutation(["both"] * num_events + ["seen"] * num_seen + ["heard"] * num_heard):
        for _ in range(50):  # tries
            label = LABELS[rng.integers(len(LABELS))]
            gap = REOPENING if label == "door slamming" else GAP
            seen, heard = _draw_intervals(rng, duration, label)
            start, end = min(seen.start, heard.start), max(seen.end, heard.end)
            if all(start - other.end >= gap or other.start - end >= gap for other in taken[label]):
                taken[label].append(Interval(start, end))
                occurrences.append(
                    Occurrence(label, None if streams == "heard" else seen, None if streams == "seen" else heard)
                )
                break
    return Scenario(duration, tuple(occurrences))


def _draw_intervals(rng: np.random.Generator, duration: float, label: str) -> tuple[Interval, Interval]:
    """When an event is seen and when it is heard: 1 to 8 s in common, and at either end one stream a little longer."""
    if label == "door slamming":
        length, asynchrony = rng.uniform(1.1, 1.4), 0.1
    else:
        length, asynchrony = math.exp(rng.uniform(0, math.log(min(8.0, duration / 2)))), 0.4
    start = rng.uniform(0.5, duration - 0.5 - length)
    lead, lag = rng.uniform(-asynchrony, asynchrony, size=2)  # of the sound if positive, of the picture if negative
    seen = Interval(round(start + min(lead, 0), 2), round(start + length - min(lag, 0), 2))
    heard = Interval(round(start - max(lead, 0), 2), round(start + length + max(lag, 0), 2))
    return seen, heard


def labelled_events(scenario: Scenario) -> tuple[Event, ...]:
    """The events of a scenario: where an occurrence is both seen and heard, in order of time.

    >>> alarm = Occurrence("alarm", seen=Interval(2.0, 5.0), heard=Interval(1.5, 4.5))
    >>> flash = Occurrence("alarm", seen=Interval(7.0, 9.0), heard=None)
    >>> labelled_events(Scenario(16.0, (flash, alarm)))
    (Event(start=2.0, end=4.5, label='alarm', score=None),)
    """
    events = []
    for occurrence in scenario.occurrences:
        if occurrence.seen is not None and occurrence.heard is not None:
            start = max(occurrence.seen.start, occurrence.heard.start)
            end = min(occurrence.seen.end, occurrence.heard.end)
            if start < end:
                events.append(Event(start, end, occurrence.label))
    return tuple(sorted(events, key=lambda event: (event.start, event.end)))


# The picture: shapes are painted into sprites, one per pose of what moves; a frame is the room and sprites on it -----


class _Sprite(NamedTuple):
    """A piece of picture: its left and top pixel, its colours times their opacity, and its transparency."""

    x: int
    y: int
    colours: np.ndarray  # float32 (h, w, 3), 0 to 255
    transparency: np.ndarray  # float32 (h, w, 1), 0 to 1


_Shape = tuple[np.ndarray, ArrayLike]  # opacity (HEIGHT, WIDTH), 0 to 1; colour (3,) or (HEIGHT, WIDTH, 3), 0 to 255
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + 0.5  # centres of the pixels
PANE = (slice(28, 60), slice(50, 102))  # rows and columns of the window to the corridor
GREY, DARK = (120, 122, 126), (40, 42, 48)


def render_picture(scenario: Scenario, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Frames of a clip, each uint8 `(HEIGHT, WIDTH, 3)`, RGB.

    `rng` draws the room, the light, the passers-by and the camera noise; they are the same whatever the scenario.
    """
    num_frames = round(scenario.duration * FRAME_RATE)
    light = rng.uniform(0.85, 1.1) * (1.08 - 0.3 * (((X - 80) / 100) ** 2 + ((Y - 45) / 80) ** 2))
    light = (light[..., None] * rng.uniform([0.95, 0.97, 0.92], [1.04, 1.02, 1.05])).astype(np.float32)
    flicker = rng.normal(1, 0.008, num_frames).astype(np.float32)
    for blink in rng.integers(num_frames, size=rng.poisson(scenario.duration / 6)):
        flicker[blink : blink + 3] *= rng.uniform(0.8, 0.92)
    grains = rng.normal(0, rng.uniform(2, 6), (8, HEIGHT, WIDTH, 3)).astype(np.float32)
    which_grain = rng.integers(len(grains), size=num_frames)
    columns = slice(None, None, rng.choice([-1, 1]))  # half of the rooms are mirrored

    for index, frame in enumerate(_draw_frames(scenario, num_frames, rng)):
        frame *= light * flicker[index]
        frame += grains[which_grain[index]]
        yield np.ascontiguousarray(frame.clip(0, 255)[:, columns], dtype=np.uint8)


def _draw_frames(scenario: Scenario, num_frames: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The scene in even light, float32 `(HEIGHT, WIDTH, 3)` per frame."""
    door_x, lamp_x, machine_x, worker_x = rng.integers([7, 116, 102, 66], [14, 127, 110, 79]).tolist()
    room, window_bar = _draw_room(rng)
    door, lamp, glow = _draw_door(door_x), *_draw_lamp(lamp_x)
    machine, worker = _draw_machine(machine_x, rng), _draw_worker(worker_x, rng)
    shake = rng.integers(-1, 2, (num_frames, 2))  # pixels
    passers_by = [
        (_draw_passer_by(rng), rng.uniform(0, scenario.duration), rng.uniform(12, 30) * rng.choice([-1, 1]))
        for _ in range(1 + rng.poisson(scenario.duration / 5))
    ]
    for index in range(num_frames):
        time = index / FRAME_RATE
        moving = {  # label: seconds since it was first seen
            occurrence.label: time - occurrence.seen.start
            for occurrence in scenario.occurrences
            if occurrence.seen is not None and occurrence.seen.start <= time < occurrence.seen.end
        }
        frame = room.copy()
        for sprite, midway, speed in passers_by:  # at the middle of the pane at `midway` seconds; pixels per second
            _paste(frame[PANE], sprite, speed * (time - midway), 2.5 * abs(math.sin(0.25 * speed * time)))
        _paste(frame, window_bar)
        _paste(frame, door[round((len(door) - 1) * _door_openness(scenario, time))])
        _paste(frame, lamp)
        if "alarm" in moving:
            frame += np.float32(math.sin(math.pi * (2.5 * moving["alarm"] % 1))) * glow  # 2.5 flashes per second
        if "machine running" in moving:
            _paste(frame, machine[int(moving["machine running"] * FRAME_RATE) % len(machine)], *shake[index])
        else:
            _paste(frame, machine[0])
        speech = moving.get("person speaking", 0.0)
        mouth = round((len(worker) - 1) * abs(math.sin(11 * speech) * math.cos(3.1 * speech)))
        gesture = round((len(worker[0]) - 1) * (0.5 - 0.5 * math.cos(4.4 * speech)))
        _paste(frame, worker[mouth][gesture], 1.5 * math.sin(0.9 * time))
        yield frame


def _door_openness(scenario: Scenario, time: float) -> float:
    """From 0 (shut) to 1 (wide open): the door swings shut, rattles, and glides open again."""
    for occurrence in scenario.occurrences:
        if occurrence.label == "door slamming" and occurrence.seen is not None:
            since, after = time - occurrence.seen.start, time - occurrence.seen.end
            if 0 <= since < SWING:
                return 1 - (since / SWING) ** 2
            if since >= SWING and after < 0:
                return 0.2 * abs(math.sin(20 * (since - SWING))) * math.exp(-4 * (since - SWING))
            if 0 <= after < REOPENING:
                return after / REOPENING
    return 1.0


def _draw_room(rng: np.random.Generator) -> tuple[np.ndarray, _Sprite]:
    """The empty room `(HEIGHT, WIDTH, 3)`, and what its window has in front of the passers-by."""
    wall = rng.uniform(165, 205) + rng.uniform(-14, 14, 3)
    floor = rng.uniform(100, 130) + rng.uniform([0, -8, -20], [15, 5, 0])
    boards = [(0.35 * _line(80 + 0.6 * (x - 80), 93, x, 122, 0.5), DARK) for x in range(-40, 212, 24)]
    tools = [(_line(x, 40, x, 46 + int(rng.integers(9)), 1.1), GREY) for x in (116, 123, 130, 137, 145)]
    handles = [(_line(x - 1.5, 40, x + 1.5, 40, 1.5), rng.uniform(40, 190, 3)) for x in (116, 123, 130, 137, 145)]
    room = _layer(
        (np.ones_like(X), wall),
        (0.3 * np.exp(-(((X - 80) / 60) ** 2) - ((Y - 6) / 25) ** 2), (255, 255, 240)),
        (_box(42, 4, 118, 8, 2), (255, 255, 245)),  # the tube that flickers
        (_box(-9, 92, 170, 130), floor),
        *boards,
        (0.3 * np.clip((Y - 92) / 28, 0, 1), DARK),
        (_box(-9, 90, 170, 93), 0.6 * wall),
        (_box(47, 25, 105, 63, 1), 0.55 * wall),  # the window
        (_box(50, 28, 102, 60), (150, 175, 190)),
        (0.5 * _box(50, 28, 102, 40), (225, 235, 240)),
        (_box(110, 36, 152, 58, 1), (150, 120, 85)),  # the board with tools
        *tools,
        *handles,
        (_box(44, 82, 100, 86, 1), (140, 100, 60)),  # the bench
        (_box(47, 86, 50, 100) + _box(95, 86, 98, 100), (95, 68, 42)),
        (_box(86, 74, 97, 82, 1), _lit(rng.uniform(60, 200, 3), 89, 75, 9)),
    )
    window_bar = _sprite((_box(75, 28, 77, 60), 0.55 * wall), (0.25 * _line(56, 56, 70, 32, 2), (255, 255, 255)))
    return room[..., :3], window_bar


def _draw_door(x: float) -> list[_Sprite]:
    """From shut to wide open, the hinge at `x`."""
    poses = []
    for angle in np.linspace(0, 1.25, 16).tolist():  # radians
        free, nearer = x + 28 * math.cos(angle), 9 * math.sin(angle)  # the free edge comes towards the viewer
        slope = nearer * np.clip((X - x) / (free - x), 0, 1)
        panel = _box(x, 0, free, HEIGHT) * np.clip(Y - 35 + 0.4 * slope, 0, 1) * np.clip(94 + slope - Y, 0, 1)
        poses.append(
            _sprite(
                (_box(x - 2, 33, x + 30, 94), (95, 85, 75)),
                (_box(x, 35, x + 28, 94), (235, 225, 190)),  # the bright yard outside
                (_box(x, 78, x + 28, 94), (150, 145, 120)),
                (panel, np.multiply((70, 105, 140), 1.1 - 0.35 * math.sin(angle))),
                (panel * _box(x, 42, x + 0.75 * (free - x), 60), (190, 215, 225)),
                (_ellipse(free - 3 * math.cos(angle), 68 + 0.4 * nearer, 1.5, 1.5), (230, 200, 90)),
            )
        )
    return poses


def _draw_lamp(x: float) -> tuple[_Sprite, np.ndarray]:
    """The alarm lamp, and what it adds to the picture `(HEIGHT, WIDTH, 3)` at its brightest."""
    lamp = _sprite((_ellipse(x, 19, 4.5, 6), _lit((150, 35, 30), x - 2, 16, 4)), (_box(x - 6, 20, x + 6, 24, 1), DARK))
    distance = np.hypot(X - x, Y - 17)  # pixels
    glow = 200 * np.exp(-((distance / 6) ** 2)) + 70 * np.exp(-((distance / 24) ** 2))
    return lamp, glow[..., None] * np.array([1.0, 0.35, 0.2], np.float32)


def _draw_machine(x: float, rng: np.random.Generator) -> list[_Sprite]:
    """A compressor, its left edge at `x`, for each position of its wheel."""
    colour = rng.uniform([20, 70, 60], [190, 130, 110])
    poses = []
    for turn in np.linspace(0, 2 * math.pi / 3, 5, endpoint=False).tolist():  # to where the next of 3 spokes was
        ends = [(9 * math.cos(turn + spoke), 9 * math.sin(turn + spoke)) for spoke in (0, 2.094, 4.189)]
        poses.append(
            _sprite(
                (0.5 * _ellipse(x + 23, 107, 25, 3.5), (0, 0, 0)),
                (_box(x + 6, 99, x + 11, 107) + _box(x + 36, 99, x + 41, 107), DARK),
                (_box(x + 30, 52, x + 34, 72, 1), _lit(GREY, x + 31, 56, 10)),  # the exhaust
                (_box(x + 27, 50, x + 37, 54, 1), GREY),
                (_box(x, 68, x + 46, 101, 5), _lit(colour, x + 14, 72, 26)),
                (_box(x + 29, 74, x + 42, 84, 1), (60, 64, 70)),
                (_ellipse(x + 32, 79, 1.4, 1.4), (90, 220, 110)),
                (_ellipse(x + 37, 79, 1.4, 1.4), (240, 190, 60)),
                *((0.5 * _line(x + 31, y, x + 41, y, 0.6), DARK) for y in (88, 91, 94)),
                (_ellipse(x + 15, 84, 12.5, 12.5), DARK),  # the wheel
                (_ellipse(x + 15, 84, 10.5, 10.5), _lit((150, 152, 158), x + 11, 79, 9)),
                *((_line(x + 15, 84, x + 15 + right, 84 + down, 1.5), DARK) for right, down in ends),
                (_ellipse(x + 15, 84, 3, 3), (210, 180, 70)),
            )
        )
    return poses


def _draw_worker(x: float, rng: np.random.Generator) -> list[list[_Sprite]]:
    """A worker who stands at `x`: for each opening of the mouth, the gestures of the arms."""
    clothes, helmet = rng.uniform([30, 50, 80], [90, 100, 150]), rng.uniform([215, 150, 30], [250, 220, 90])
    skin = np.array([240, 195, 170]) * rng.uniform(0.5, 1)
    body: list[_Shape] = [
        (0.45 * _ellipse(x, 115, 15, 2.5), (0, 0, 0)),
        *((_line(x + 4 * side, 90, x + 5 * side, 112, 3.6), 0.7 * clothes) for side in (-1, 1)),
        *((_line(x + 5 * side, 114, x + 7 * side, 114, 2), DARK) for side in (-1, 1)),
        (_box(x - 9, 62, x + 9, 93, 5), _lit(clothes, x - 4, 66, 18)),
        (_box(x - 9, 78, x + 9, 81), (225, 225, 120)),
        (_box(x - 3, 56, x + 3, 64, 2), 0.8 * skin),
        (_ellipse(x, 49, 8, 9.5), _lit(skin, x - 3, 46, 9)),
        (_ellipse(x - 3, 47.5, 1, 1.2) + _ellipse(x + 3, 47.5, 1, 1.2), DARK),
        (_ellipse(x, 42, 8.8, 6.5) * np.clip(44 - Y, 0, 1), _lit(helmet, x - 3, 38, 8)),
        (_line(x - 9, 43.5, x + 9, 43.5, 1.1), 0.9 * helmet),
    ]
    gestures = []
    for lifted in np.linspace(0, 1, 6).tolist():
        arms: list[_Shape] = []
        for side, upper in ((-1, 0.25 + 0.7 * lifted), (1, 0.25 + lifted)):  # radians from hanging down
            shoulder, fore = (x + 9 * side, 66), upper + 1.4 * lifted
            elbow = (shoulder[0] + 12 * side * math.sin(upper), 66 + 12 * math.cos(upper))
            hand = (elbow[0] + 11 * side * math.sin(fore), elbow[1] + 11 * math.cos(fore))
            arms += [(_line(*shoulder, *elbow, 3), 0.9 * clothes), (_line(*elbow, *hand, 2.6), 0.95 * clothes)]
            arms += [(_ellipse(*hand, 2.8, 2.8), skin)]
        gestures.append(arms)
    mouths = [(_ellipse(x, 53.5, 3.2, height), (110, 35, 35)) for height in (0.7, 1.9, 2.9)]
    return [[_sprite(*body, *arms, mouth) for arms in gestures] for mouth in mouths]


def _draw_passer_by(rng: np.random.Generator) -> _Sprite:
    """Head and shoulders, in the middle of the pane."""
    top, clothes, skin = rng.uniform(6, 11), rng.uniform(50, 110, 3), np.array([190, 155, 135]) * rng.uniform(0.5, 1)
    return _sprite(
        (_box(19, top + 6, 33, 45, 5), clothes),
        (_ellipse(26, top, 4.5, 5.5), skin),
        (_ellipse(26, top - 2.5, 4.8, 3.5), 0.5 * clothes),
    )


def _layer(*shapes: _Shape) -> np.ndarray:
    """Paint masks `(HEIGHT, WIDTH)` one over the other: colours and opacity, float32 `(HEIGHT, WIDTH, 4)`."""
    layer = np.zeros((HEIGHT, WIDTH, 4), np.float32)
    for mask, colour in shapes:
        where = _extent(mask)
        part, opacity = layer[where], mask[where][..., None]
        part[..., :3] += opacity * (np.broadcast_to(colour, (HEIGHT, WIDTH, 3))[where] - part[..., :3])
        part[..., 3:] += opacity * (1 - part[..., 3:])
    return layer


def _sprite(*shapes: _Shape) -> _Sprite:
    """What shapes painted one over the other cover, cut out."""
    layer = _layer(*shapes)
    rows, columns = where = _extent(layer[..., 3])
    return _Sprite(columns.start, rows.start, layer[where][..., :3].copy(), 1 - layer[where][..., 3:])


def _extent(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns in which a mask is not all 0."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _paste(frame: np.ndarray, sprite: _Sprite, right: float = 0, down: float = 0) -> None:
    """Put a sprite into `frame` in place, moved by whole pixels; what lies beyond the frame is cut off."""
    x, y = sprite.x + round(right), sprite.y + round(down)
    height, width = sprite.colours.shape[:2]
    part = frame[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    inside = (slice(max(-y, 0), max(-y, 0) + part.shape[0]), slice(max(-x, 0), max(-x, 0) + part.shape[1]))
    part *= sprite.transparency[inside]
    part += sprite.colours[inside]


def _lit(colour: ArrayLike, x: float, y: float, radius: float) -> np.ndarray:
    """A colour with a highlight, `(HEIGHT, WIDTH, 3)`, for what looks round."""
    return np.multiply((0.75 + 0.5 * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / radius**2))[..., None], colour)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    return np.clip(0.5 + min(radius_x, radius_y) * (1 - np.hypot((X - x) / radius_x, (Y - y) / radius_y)), 0, 1)


def _box(left: float, top: float, right: float, bottom: float, corner: float = 0) -> np.ndarray:
    beyond_x = np.abs(X - (left + right) / 2) - (right - left) / 2 + corner
    beyond_y = np.abs(Y - (top + bottom) / 2) - (bottom - top) / 2 + corner
    outside = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
    return np.clip(0.5 + corner - outside - np.minimum(np.maximum(beyond_x, beyond_y), 0), 0, 1)


def _line(x0: float, y0: float, x1: float, y1: float, radius: float) -> np.ndarray:
    along = ((X - x0) * (x1 - x0) + (Y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
    along = np.clip(along, 0, 1)
    return np.clip(0.5 + radius - np.hypot(X - x0 - along * (x1 - x0), Y - y0 - along * (y1 - y0)), 0, 1)


# The sound ------------------------------------------------------------------------------------------------------------


def render_sound(scenario: Scenario, rng: np.random.Generator) -> np.ndarray:
    """The waveform of a clip: float32 `(S,)`, mono, at `SAMPLING_RATE`, in [-1, 1].

    `rng` draws the background first; it is the same whatever the scenario.
    """
    waveform = _background(round(scenario.duration * SAMPLING_RATE), rng)
    sounds = dict(zip(LABELS, (_alarm, _slam, _hum, _voice), strict=True))
    for occurrence in scenario.occurrences:
        if occurrence.heard is not None:
            start, end = (round(second * SAMPLING_RATE) for second in occurrence.heard)
            time = np.arange(end - start) / SAMPLING_RATE
            sound = sounds[occurrence.label](time, rng)
            # As loud as the others, but a bang is not let above 4 times that, or it would be clipped.
            sound /= max(np.sqrt(np.mean(sound**2)), np.abs(sound).max() / 4)
            fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.03)  # 30 ms
            waveform[start:end] += 0.12 * 10 ** (rng.uniform(-5, 3) / 20) * fade * sound
    return waveform.clip(-1, 1).astype(np.float32)


def _background(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Broadband noise, the tone of the room and mains hum, together 5 to 25 dB below the events."""
    time, frequency = np.arange(num_samples) / SAMPLING_RATE, np.fft.rfftfreq(num_samples, 1 / SAMPLING_RATE)
    broadband = (frequency + 20) ** -rng.uniform(0.2, 0.8)
    tone = rng.uniform(0, 0.5) * np.exp(-(((frequency - rng.uniform(150, 400)) / 80) ** 2))
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(num_samples)) * (broadband + tone), num_samples)
    mains = sum(rng.uniform(0, 1) / k * np.sin(2 * np.pi * 50 * k * time) for k in (1, 2, 3, 5))
    background = noise / noise.std() + mains
    return 0.12 * 10 ** (rng.uniform(-25, -5) / 20) * background / background.std()


def _alarm(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two tones by turns, both in `ALARM_BAND`."""
    pitch = rng.uniform(1600, 2000) * np.where(time * rng.uniform(1.5, 3) % 1 < 0.5, 1.0, 1.25)  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    return np.sin(phase) + 0.2 * np.sin(3 * phase)


def _slam(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rush of air that grows for `SWING` seconds, a bang, and rattles that die away."""
    noise = rng.standard_normal(len(time))
    sound = np.where(time < SWING, 0.6 * time / SWING, 0) * noise
    for delay, strength in ((0.0, 2.0), (0.11, 0.7), (0.2, 0.5), (0.27, 0.35), (0.33, 0.25)):
        since = time - SWING - delay
        decay = np.where(since >= 0, strength * np.exp(-np.maximum(since, 0) / 0.05), 0)
        sound += decay * (noise + 1.5 * np.sin(2 * np.pi * 85 * since))
    return sound


def _hum(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Harmonics of a motor and hiss, both with the beat of its turns."""
    speed = 2 * np.pi * rng.uniform(42, 75)  # radians per second
    motor = sum(np.sin(k * speed * time + rng.uniform(0, 6)) / k**0.7 for k in range(1, 13))
    return (1 + 0.4 * np.sin(speed / 6 * time)) * (motor + 0.5 * rng.standard_normal(len(time)))


def _voice(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Syllables with rests between them: pulses of the vocal folds through the three formants of a vowel."""
    vowels = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))  # Hz
    pitch, tract = rng.uniform(95, 220), rng.uniform(0.95, 1.15)  # Hz; how short the vocal tract is
    sound = np.zeros(len(time))
    start = 0
    while start < len(time):
        length = min(int(rng.uniform(0.12, 0.28) * SAMPLING_RATE), len(time) - start)
        glide = pitch * rng.uniform(0.9, 1.2) * np.linspace(1.05, 0.9, length)  # Hz
        pulses = np.diff(np.floor(np.cumsum(glide) / SAMPLING_RATE), prepend=0) + 0.02 * rng.standard_normal(length)
        frequency = np.fft.rfftfreq(length, 1 / SAMPLING_RATE)
        formants = zip(vowels[rng.integers(len(vowels))], (1.0, 0.6, 0.3), (80, 100, 140), strict=True)
        gain = sum(level / (1 + ((frequency - tract * centre) / width) ** 2) for centre, level, width in formants)
        sound[start : start + length] = np.fft.irfft(np.fft.rfft(pulses) * gain, length) * np.hanning(length)
        start += length + int(rng.choice([0.02, 0.05, 0.2], p=[0.5, 0.4, 0.1]) * SAMPLING_RATE)
    return sound


# The file -------------------------------------------------------------------------------------------------------------


def write_clip(path: str | os.PathLike[str], frames: Iterable[np.ndarray], waveform: np.ndarray) -> None:
    """Write an mp4 file that browsers play: H.264 (MPEG-4 part 2 where PyAV comes without libx264) and AAC.

    The file appears under its name when it is complete; until then it is `<path>.part`.

    Args:
        path: file to write, replaced if it exists.
        frames: uint8 `(HEIGHT, WIDTH, 3)` each, RGB, at `FRAME_RATE`.
        waveform: float32 `(S,)`, mono, at `SAMPLING_RATE`.
    """
    path = Path(path)
    partial_file = path.with_name(path.name + ".part")
    has_x264 = "libx264" in av.codecs_available
    try:
        with av.open(str(partial_file), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            picture = container.add_stream("libx264" if has_x264 else "mpeg4", rate=FRAME_RATE)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            # The same bytes each time: with its macroblock tree x264 (in PyAV 18.1) reads memory that it has not set.
            x264 = {"preset": "veryfast", "crf": "25", "threads": "1", "x264-params": "mbtree=0"}
            picture.options = x264 if has_x264 else {"qscale": "4", "threads": "1"}
            sound = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
            for index, image in enumerate(frames):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                start, end = (second * SAMPLING_RATE // FRAME_RATE for second in (index, index + 1))
                audio = av.AudioFrame.from_ndarray(waveform[None, start:end], format="fltp", layout="mono")
                audio.sample_rate, audio.pts = SAMPLING_RATE, start
                container.mux(sound.encode(audio))
            container.mux(picture.encode())
            container.mux(sound.encode())
        partial_file.replace(path)
    finally:
        partial_file.unlink(missing_ok=True)
