"""Size, cost and speed of ESG-Net and UnAV, in one run: `python tests/benchmarks/network.py`.

All weights are random; accuracy plays no part. FLOPs are counted by `torch.utils.flop_counter`, two per multiplication
with addition, and with `attn_implementation="eager"`, since the counter does not know the fused kernels of the CPU.
Saved activations are the tensors that autograd keeps for the backward pass, without parameters and inputs, with fused
attention. Times are medians; only their ratios can be compared between machines.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from esg_transformers import (
    EsgNetConfig,
    EsgNetForEventLocalization,
    EsgNetProcessor,
    UnavConfig,
    UnavForEventLocalization,
)
from esg_transformers.models.esg_net.nms_esg_net import suppress_overlapping_segments

NUM_STEPS = 224
NUM_CLASSES = 100
I3D = {"visual_size": 2048, "audio_size": 128}
ONE_PEACE = {"visual_size": 1536, "audio_size": 1536, "frame_rate": 16.0, "feature_stride": 4, "feature_window": 16}


Model = EsgNetForEventLocalization | UnavForEventLocalization


def esg_net(size: str, num_labels: int = NUM_CLASSES, **fields: Any) -> EsgNetForEventLocalization:
    """An ESG-Net in evaluation mode."""
    config = EsgNetConfig.of_size(size, id2label=class_names(num_labels), **fields)
    model = EsgNetForEventLocalization(config)
    model.train(False)
    return model


def unav(num_labels: int = NUM_CLASSES, **fields: Any) -> UnavForEventLocalization:
    """A UnAV in evaluation mode."""
    model = UnavForEventLocalization(UnavConfig(id2label=class_names(num_labels), **fields))
    model.train(False)
    return model


def class_names(num_labels: int) -> dict[int, str]:
    """Names of classes by id."""
    return {index: f"class {index}" for index in range(num_labels)}


def features(model: Model, num_steps: int, num_videos: int = 1) -> dict[str, torch.Tensor]:
    """Random features for a model."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"visual_features": model.config.visual_size, "audio_features": model.config.audio_size}
    return {name: torch.randn(num_videos, num_steps, size, generator=generator) for name, size in sizes.items()}


def gflops(model: Model, num_steps: int = NUM_STEPS) -> float:
    """GFLOPs of the forward pass of one video, with eager attention."""
    model.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**features(model, num_steps))
    model.config._attn_implementation = "sdpa"
    return float(counter.get_total_flops()) / 1e9


def saved_gigabytes(model: Model, num_steps: int = NUM_STEPS) -> float:
    """GB that autograd keeps for the backward pass of one video, its loss included."""
    batch = features(model, num_steps)
    labels = {"segment_labels": torch.tensor([[[10.0, 60.0]]]), "class_labels": torch.tensor([[1]])}
    known = {x.untyped_storage().data_ptr() for x in [*model.parameters(), *batch.values()]}
    saved: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # keeping the tensor keeps its address in use
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**batch, **labels)
    model.train(False)
    return sum(size for size, _ in saved.values()) / 1e9


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of a call; the first call is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def localize(model: Model, processor: EsgNetProcessor, num_steps: int = NUM_STEPS) -> Callable[[], object]:
    """A call that takes one video from features to events."""
    batch = features(model, num_steps)

    def run() -> object:
        with torch.inference_mode():
            return processor.post_process_event_localization(model(**batch), durations=[72.0])

    return run


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table with a title; floats have three digits."""
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print("| " + " | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row) + " |")


def sizes(repeats: int) -> None:
    """Print parameters, FLOPs, activations and latency against UnAV."""
    for name, fields in (("I3D + VGGish", I3D), ("ONE-PEACE", ONE_PEACE)):
        models: dict[str, Model] = {
            "UnAV": unav(**fields),
            "ESG-Net base": esg_net("base", **fields),
            "ESG-Net small": esg_net("small", **fields),
        }
        rows, first = [], None
        for label, model in models.items():
            figures = [
                model.num_parameters() / 1e6,
                gflops(model),
                saved_gigabytes(model),
                1000 * seconds(localize(model, EsgNetProcessor()), repeats),
            ]
            first = first or figures
            rows.append([label, *(f"{x:.3g} ({y / x:.3g}x)" for x, y in zip(figures, first, strict=True))])
        header = ["", "parameters, M", "GFLOPs", "saved activations, GB", "one video to events, ms"]
        print_table(
            f"{name}, T = {NUM_STEPS}, {NUM_CLASSES} classes; in brackets UnAV's figure divided by it", header, rows
        )


def classes() -> None:
    """Print the cost against the number of classes."""
    rows = []
    for num_labels in (20, 100, 200, 1000):
        model = esg_net("base", num_labels, **I3D)
        peer = unav(num_labels, **I3D) if num_labels <= 200 else None
        row = [num_labels, gflops(model), model.num_parameters() / 1e6]
        rows.append(row + ([gflops(peer), peer.num_parameters() / 1e6] if peer else ["-", "-"]))
    header = ["classes", "ESG-Net GFLOPs", "ESG-Net parameters, M", "UnAV GFLOPs", "UnAV parameters, M"]
    print_table(f"Cost against the number of classes, base size, T = {NUM_STEPS}", header, rows)


def steps() -> None:
    """Print the cost against the length of the video; without attention it is proportional to T."""
    model, rows = esg_net("base", **I3D), []
    for num_steps in (112, 224, 448, 896):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(**features(model, num_steps))
        linear = counter.get_total_flops() / 1e9  # fused attention is not counted
        rows.append([num_steps, gflops(model, num_steps), 1000 * linear / num_steps])
    print_table(
        "Cost against the length of the video, base size", ["T", "GFLOPs", "MFLOPs a step without attention"], rows
    )


def suppression(repeats: int) -> None:
    """Print the time of decoding and soft suppression of crowded outputs."""
    rows = []
    for num_videos in (1, 16):
        whole = seconds(
            partial(EsgNetProcessor().post_process_event_localization, crowded_outputs(num_videos)), repeats
        )
        nms = partial(suppress_overlapping_segments, *random_candidates(num_videos), max_events=100)
        rows.append([num_videos, 1000 * seconds(nms, repeats) / num_videos, 1000 * whole / num_videos])
    header = ["videos in a batch", "suppression of 12,000, ms a video", "decoding and suppression, ms a video"]
    print_table(f"Post-processing, {NUM_CLASSES} classes", header, rows)


def random_candidates(num_videos: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """12,000 segments per video, of random position, length, score and class."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(num_videos, 12000, generator=generator) * NUM_STEPS
    length = torch.rand(num_videos, 12000, generator=generator) * 60
    scores = torch.rand(num_videos, 12000, generator=generator)
    labels = torch.randint(NUM_CLASSES, (num_videos, 12000), generator=generator)
    return torch.stack([start, start + length], -1), scores, labels


def crowded_outputs(num_videos: int) -> object:
    """Outputs of a model in which every class of every point is a candidate."""
    model = esg_net("small", **I3D)
    model.classification_head.output.bias.data.fill_(-4.0)
    with torch.inference_mode():
        return model(**features(model, NUM_STEPS, num_videos))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each kind (default: 5)")
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    sizes(repeats)
    classes()
    steps()
    suppression(repeats)


if __name__ == "__main__":
    main()
