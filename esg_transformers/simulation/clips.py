"""Workshop clips: short mp4 files with sound, annotated with the events that are both seen and heard.

One room, one fixed camera, four classes: a machine that shakes and hums, a lamp that flashes while an alarm sounds, a
worker who speaks, a door that slams. All of it is drawn and synthesized, so a corpus can be made, trained on and scored
on a laptop without a recording or a download.
"""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.annotations.unav import write_unav_annotations
from esg_transformers.files import replacing_path
from esg_transformers.simulation.picture import FRAME_RATE, HEIGHT, WIDTH, render_picture
from esg_transformers.simulation.scenario import LABELS, draw_scenario, labelled_events
from esg_transformers.simulation.sound import SAMPLING_RATE, render_sound
from esg_transformers.workers import spawn_context

SUBSETS = ("train", "validation", "test")


def make_workshop_clips(
    out_dir: str | os.PathLike[str],
    counts: Mapping[str, int],
    seed: int = 0,
    duration: float = 16.0,
    num_workers: int = 2,
) -> Path:
    """Write clips `<out_dir>/videos/<video_id>.mp4` and their annotations `<out_dir>/annotations.json`.

    A clip depends only on `seed`, `duration`, its subset and its number, not on `num_workers` or `counts`.

    Args:
        out_dir: folder, created if missing; files of the same names are replaced.
        counts: number of clips in each subset, e.g. `{"train": 60, "validation": 20, "test": 20}`.
        seed: seed of the corpus, >= 0.
        duration: seconds per clip, >= 4.
        num_workers: processes that write clips. With 2 or more, a script must call this function under
            `if __name__ == "__main__":`, as `multiprocessing` requires.

    Returns:
        Path of the annotations, in the layout of UnAV-100 (data/unav100_annotations.json, commit 60144ed).

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
        with ProcessPoolExecutor(num_workers, mp_context=spawn_context()) as pool:
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


def write_clip(path: str | os.PathLike[str], frames: Iterable[np.ndarray], waveform: np.ndarray) -> None:
    """Write an mp4 file that browsers play: H.264 and AAC (MPEG-4 part 2 if PyAV lacks libx264).

    The file is written under another name and renamed when complete.

    Args:
        path: file to write; an existing file is replaced.
        frames: uint8 `(HEIGHT, WIDTH, 3)` each, RGB, at `FRAME_RATE`.
        waveform: float32 `(S,)`, mono, at `SAMPLING_RATE`.
    """
    has_x264 = "libx264" in av.codecs_available
    with (
        replacing_path(path) as partial_file,
        av.open(str(partial_file), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        picture = container.add_stream("libx264" if has_x264 else "mpeg4", rate=FRAME_RATE)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # mbtree=0 makes the bytes reproducible: the macroblock tree of x264 (PyAV 18.1) reads uninitialized memory.
        x264: dict[str, object] = {"preset": "veryfast", "crf": "25", "threads": "1", "x264-params": "mbtree=0"}
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
