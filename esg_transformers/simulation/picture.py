"""Picture of a workshop clip. Shapes are painted into sprites, one per pose; a frame is the room with sprites on it."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esg_transformers.simulation.scenario import REOPENING, SWING, Scenario

WIDTH, HEIGHT = 160, 120  # pixels
FRAME_RATE = 25  # frames per second


class _Sprite(NamedTuple):
    """A part of the picture: left and top pixel, colours premultiplied by opacity, and transparency."""

    x: int
    y: int
    colours: np.ndarray  # float32 (h, w, 3), 0 to 255
    transparency: np.ndarray  # float32 (h, w, 1), 0 to 1


_Shape = tuple[np.ndarray, ArrayLike]  # opacity (HEIGHT, WIDTH), 0 to 1; colour (3,) or (HEIGHT, WIDTH, 3), 0 to 255
X: NDArray[np.float32]  # centres of the pixels, (HEIGHT, WIDTH)
Y: NDArray[np.float32]
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) + 0.5
PANE = (slice(28, 60), slice(50, 102))  # rows and columns of the window to the corridor
GREY, DARK = (120, 122, 126), (40, 42, 48)


def render_picture(scenario: Scenario, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the frames of a clip, each uint8 `(HEIGHT, WIDTH, 3)`, RGB.

    `rng` draws the room, the light, the passers-by and the camera noise; they do not depend on the scenario.
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
    """Yield the scene in even light, float32 `(HEIGHT, WIDTH, 3)` per frame."""
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
        moving = {  # label: seconds since it came into view
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
    """Openness of the door, 0 (shut) to 1 (wide open). A slam swings it shut; it rattles, then glides open again."""
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
    """Draw the empty room `(HEIGHT, WIDTH, 3)` and the window bar, which covers the passers-by."""
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
    """Draw a door with its hinge at `x`, in poses from shut to wide open."""
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
    """Draw the alarm lamp, and the light that it adds to the picture `(HEIGHT, WIDTH, 3)` at its brightest."""
    lamp = _sprite((_ellipse(x, 19, 4.5, 6), _lit((150, 35, 30), x - 2, 16, 4)), (_box(x - 6, 20, x + 6, 24, 1), DARK))
    distance = np.hypot(X - x, Y - 17)  # pixels
    glow = 200 * np.exp(-((distance / 6) ** 2)) + 70 * np.exp(-((distance / 24) ** 2))
    return lamp, glow[..., None] * np.array([1.0, 0.35, 0.2], np.float32)


def _draw_machine(x: float, rng: np.random.Generator) -> list[_Sprite]:
    """Draw a compressor with its left edge at `x`, one pose per position of its wheel."""
    colour = rng.uniform([20, 70, 60], [190, 130, 110])
    poses = []
    for turn in np.linspace(
        0, 2 * math.pi / 3, 5, endpoint=False
    ).tolist():  # up to the angle between 2 of the 3 spokes
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
    """Draw a worker who stands at `x`: a list of arm gestures for each opening of the mouth."""
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
    """Draw head and shoulders in the middle of the pane."""
    top, clothes, skin = rng.uniform(6, 11), rng.uniform(50, 110, 3), np.array([190, 155, 135]) * rng.uniform(0.5, 1)
    return _sprite(
        (_box(19, top + 6, 33, 45, 5), clothes),
        (_ellipse(26, top, 4.5, 5.5), skin),
        (_ellipse(26, top - 2.5, 4.8, 3.5), 0.5 * clothes),
    )


def _layer(*shapes: _Shape) -> np.ndarray:
    """Paint shapes over each other: premultiplied colours and opacity, float32 `(HEIGHT, WIDTH, 4)`."""
    layer = np.zeros((HEIGHT, WIDTH, 4), np.float32)
    for mask, colour in shapes:
        where = _extent(mask)
        part, opacity = layer[where], mask[where][..., None]
        part[..., :3] += opacity * (np.broadcast_to(colour, (HEIGHT, WIDTH, 3))[where] - part[..., :3])
        part[..., 3:] += opacity * (1 - part[..., 3:])
    return layer


def _sprite(*shapes: _Shape) -> _Sprite:
    """Paint shapes over each other, cropped to the part that they cover."""
    layer = _layer(*shapes)
    rows, columns = where = _extent(layer[..., 3])
    return _Sprite(columns.start, rows.start, layer[where][..., :3].copy(), 1 - layer[where][..., 3:])


def _extent(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the bounding box of a mask's nonzero pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _paste(frame: np.ndarray, sprite: _Sprite, right: float = 0, down: float = 0) -> None:
    """Draw a sprite into `frame` in place, shifted by whole pixels and clipped to the frame."""
    x, y = sprite.x + round(right), sprite.y + round(down)
    height, width = sprite.colours.shape[:2]
    part = frame[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    inside = (slice(max(-y, 0), max(-y, 0) + part.shape[0]), slice(max(-x, 0), max(-x, 0) + part.shape[1]))
    part *= sprite.transparency[inside]
    part += sprite.colours[inside]


def _lit(colour: ArrayLike, x: float, y: float, radius: float) -> np.ndarray:
    """A colour with a highlight, `(HEIGHT, WIDTH, 3)`, for round surfaces."""
    return np.multiply((0.75 + 0.5 * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / radius**2))[..., None], colour)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    inside = min(radius_x, radius_y) * (1 - np.hypot((X - x) / radius_x, (Y - y) / radius_y))
    opacity: np.ndarray = np.clip(0.5 + inside, 0, 1)
    return opacity


def _box(left: float, top: float, right: float, bottom: float, corner: float = 0) -> np.ndarray:
    beyond_x = np.abs(X - (left + right) / 2) - (right - left) / 2 + corner
    beyond_y = np.abs(Y - (top + bottom) / 2) - (bottom - top) / 2 + corner
    outside = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
    opacity: np.ndarray = np.clip(0.5 + corner - outside - np.minimum(np.maximum(beyond_x, beyond_y), 0), 0, 1)
    return opacity


def _line(x0: float, y0: float, x1: float, y1: float, radius: float) -> np.ndarray:
    along = ((X - x0) * (x1 - x0) + (Y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
    along = np.clip(along, 0, 1)
    distance = np.hypot(X - x0 - along * (x1 - x0), Y - y0 - along * (y1 - y0))
    opacity: np.ndarray = np.clip(0.5 + radius - distance, 0, 1)
    return opacity
