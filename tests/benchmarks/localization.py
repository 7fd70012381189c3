"""From video files to events: speed, memory and seams between windows: `python tests/benchmarks/localization.py`.

The video is a clip of the simulated workshop at 320x240, H.264 and AAC, 25 frames per second; its packets are repeated
up to the wanted length. Weights are random: time and memory depend on them only through the number of events. The
real-time factor is the processing time divided by the length of the video; only ratios within one run can be compared
between machines.

`seams` joins the test clips of `make demo` in random order to one long video and scores the events that are found in it
with windows of several lengths.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tqdm import tqdm
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel, CLIPConfig, CLIPImageProcessor, CLIPModel, pipeline

from esg_transformers import I3dConfig, I3dModel, VggishConfig, VggishModel
from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.corpora.example import ExampleList
from esg_transformers.encoders.encoder import AudioVisualEncoder
from esg_transformers.encoders.hub_encoder import HubEncoder
from esg_transformers.encoders.i3d_vggish import I3dVggishEncoder
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.evaluation import mean_average_precision
from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline
from esg_transformers.simulation.clips import write_clip
from esg_transformers.simulation.picture import WIDTH, render_picture
from esg_transformers.simulation.scenario import draw_scenario
from esg_transformers.simulation.sound import render_sound
from esg_transformers.training.model import new_model

LIMIT = 2 * 2**30  # bytes of memory of the process that localizes a long video
MIB = 2**20


def repeated(clips: list[Path], path: Path) -> Path:
    """Concatenate clips of the same codecs into one file, without encoding them again."""
    with av.open(str(path), "w") as output:
        streams: dict[str, av.stream.Stream] = {}
        offset = 0.0
        for clip in tqdm(clips, desc="Joining", unit=" clips", leave=False):
            with av.open(str(clip)) as container:
                for stream in container.streams if not streams else ():
                    streams[stream.type] = output.add_stream_from_template(stream)
                for packet in container.demux():
                    # The first has no data and only flushes a decoder; the second is the priming of an AAC encoder.
                    if packet.dts is None or packet.pts is None or packet.pts < 0:
                        continue
                    shift = round(offset / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.type]
                    output.mux(packet)
                offset += seconds_of(container)
    return path


def workshop_clip(path: Path, seconds: float) -> Path:
    """Write a clip of the workshop at 320x240."""
    random = np.random.default_rng(0)
    scenario = draw_scenario(random, seconds)
    zoom = 320 // WIDTH
    frames = (frame.repeat(zoom, axis=0).repeat(zoom, axis=1) for frame in render_picture(scenario, random))
    write_clip(path, frames, render_sound(scenario, random))
    return path


def localizer_for(
    encoder: AudioVisualEncoder, size: str = "base", **fields: Any
) -> AudioVisualEventLocalizationPipeline:
    """A pipeline with random weights for the features of an encoder and 20 classes."""
    source = ExampleList([], tuple(f"class {index}" for index in range(20)), encoder.feature_spec)
    model, processor = new_model(source, size, **fields)
    return AudioVisualEventLocalizationPipeline(model=model, processor=processor, encoder=encoder)


def hub_encoder(folder: Path) -> HubEncoder:
    """CLIP ViT-B/32 and AST with random weights, at the sizes of their published checkpoints."""
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder / "clip")
    CLIPImageProcessor().save_pretrained(folder / "clip")
    ASTModel(ASTConfig()).save_pretrained(folder / "ast")
    ASTFeatureExtractor().save_pretrained(folder / "ast")
    return HubEncoder(str(folder / "clip"), str(folder / "ast"))


def print_speed(folder: Path) -> None:
    """Print the real-time factor of each encoder that runs offline, with the base model."""
    torch.manual_seed(0)
    i3d, vggish = I3dModel(I3dConfig(num_channels=3)), VggishModel(VggishConfig())
    # Video lengths at which each takes some seconds.
    cases: list[tuple[str, AudioVisualEncoder, int]] = [
        ("default (`spectral`)", SpectralEncoder(), 600),
        ("CLIP ViT-B/32 + AST (`HubEncoder`)", hub_encoder(folder), 10),
        ("I3D RGB + VGGish, no optical flow", I3dVggishEncoder(i3d, None, vggish), 10),
    ]
    clip = workshop_clip(folder / "clip.mp4", 10.0)
    print("| encoder | video, s | encoding, s | events, s | real-time factor |\n|---|---|---|---|---|")
    for name, encoder, seconds in cases:
        video = repeated([clip] * (seconds // 10), folder / f"speed_{seconds}.mp4")
        localizer = localizer_for(encoder)
        start = time.perf_counter()
        features = encoder(video)
        encoded = time.perf_counter()
        localizer(features)
        end = time.perf_counter()
        row = f"| {name} | {seconds} | {encoded - start:.1f} | {end - encoded:.1f} | {(end - start) / seconds:.3f} |"
        print(row, flush=True)


def print_memory(folder: Path, minutes: list[int]) -> None:
    """Print time and memory of the default encoder and the base model by video length, each in its own process."""
    clip = workshop_clip(folder / "clip.mp4", 60.0)
    print("| minutes of video | real-time factor | most memory, MiB | events |\n|---|---|---|---|")
    for length in minutes:
        video = repeated([clip] * length, folder / "long.mp4")
        command = [sys.executable, __file__, "--one", str(video)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def localize_one(video: str) -> None:
    """Print a row of `print_memory`, in a process that may use 2 GB (mapped files do not count)."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    # With a high prior there are events in every minute, as in a long video of a real site.
    localizer = localizer_for(SpectralEncoder(), prior_probability=0.29)
    start = time.perf_counter()
    events = localizer(video)
    seconds = time.perf_counter() - start
    length = av_duration(Path(video))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["VmHWM"].split()[0]) * 1024 / MIB  # `ru_maxrss` would include the parent process
    print(f"| {length / 60:.0f} | {seconds / length:.3f} | {memory:.0f} | {len(events)} |")


def print_seams(folder: Path, model: str, clips: Path, window_steps: list[int]) -> None:
    """Print scores on the test clips one by one, and joined to one video with windows of several lengths."""
    videos = list(read_unav_annotations(clips / "annotations.json").split("test").videos.values())
    order = np.random.default_rng(0).permutation(len(videos))
    paths = [clips / "videos" / f"{videos[index].video_id}.mp4" for index in order]
    localizer: Any = pipeline(TASK, model=model)  # type: ignore[call-overload]  # its overloads list built-in tasks
    found = {str(path): localizer(path, threshold=0.0) for path in paths}
    rows = [("each clip by itself", found)]
    joined = repeated(paths, folder / "joined.mp4")
    starts = np.cumsum([0.0] + [av_duration(path) for path in paths])
    for steps in window_steps:
        localizer.processor.window_steps = steps
        events = localizer(joined, threshold=0.0)
        # Each event goes to the clip that its centre lies in, so that all rows are scored alike.
        of_clips: dict[str, list[dict[str, Any]]] = {str(path): [] for path in paths}
        for event in events:
            index = min(np.searchsorted(starts, (event["start"] + event["end"]) / 2, side="right") - 1, len(paths) - 1)
            shifted = {"start": event["start"] - starts[index], "end": event["end"] - starts[index]}
            of_clips[str(paths[index])].append({**event, **shifted})
        rows.append((f"one video, windows of {steps} steps", of_clips))
    true = {
        str(path): [{"start": e.start, "end": e.end, "label": e.label} for e in videos[index].events]
        for path, index in zip(paths, order, strict=True)
    }
    print("| | average mAP | mAP@0.5 |\n|---|---|---|")
    for name, events in rows:
        metrics = mean_average_precision(list(events.values()), list(true.values()))
        print(f"| {name} | {100 * metrics['average_map']:.1f} | {100 * metrics['mAP@0.5']:.1f} |")


def av_duration(path: Path) -> float:
    """Length of a file in seconds."""
    with av.open(str(path)) as container:
        return seconds_of(container)


def seconds_of(container: av.container.InputContainer) -> float:
    """Length of an open file in seconds."""
    assert container.duration is not None  # PyAV wrote it when the file was muxed
    return container.duration / av.time_base


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="*", default=["speed", "memory"], help="speed, memory (default: both) or seams")
    parser.add_argument(
        "--minutes", type=int, nargs="+", default=[5, 30], help="lengths of video, for the memory table"
    )
    parser.add_argument("--model", default="demo/model", help="model of the demo, for the seams table")
    parser.add_argument("--clips", type=Path, default=Path("demo/clips"), help="clips of the demo, for the seams table")
    parser.add_argument("--window-steps", type=int, nargs="+", default=[64, 96, 128, 192, 256, 512, 100_000])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        localize_one(arguments.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        if "speed" in arguments.table:
            print("\n### Real-time factor by encoder, base model, 320x240\n")
            print_speed(Path(folder))
        if "memory" in arguments.table:
            print("\n### Time and memory by length, default encoder, base model\n")
            print_memory(Path(folder), arguments.minutes)
        if "seams" in arguments.table:
            print("\n### Events of a long video, in windows\n")
            print_seams(Path(folder), arguments.model, arguments.clips, arguments.window_steps)


if __name__ == "__main__":
    main()
