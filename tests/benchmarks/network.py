"""Size, cost and speed of the networks, ESG-Net against UnAV in one run: `python tests/benchmarks/network.py`.

Every figure is of random weights; accuracy plays no part here. FLOPs are those that `torch.utils.flop_counter` counts,
two for each multiplication with addition, with attention written out (`attn_implementation="eager"`), since the counter
does not know the fused kernels of the CPU. Saved activations are the tensors that autograd keeps for the backward pass,
without parameters and inputs, with fused attention. Times are medians; their ratios are what can be compared between
machines.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

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


def esg_net(size: str, num_labels: int = NUM_CLASSES, **fields) -> torch.nn.Module:
    return EsgNetForEventLocalization(EsgNetConfig.of_size(size, num_labels=num_labels, **fields)).eval()


def unav(num_labels: int = NUM_CLASSES, **fields) -> torch.nn.Module:
    return UnavForEventLocalization(UnavConfig(num_labels=num_labels, **fields)).eval()


def features(model: torch.nn.Module, num_steps: int, num_videos: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"visual_features": model.config.visual_size, "audio_features": model.config.audio_size}
    return {name: torch.randn(num_videos, num_steps, size, generator=generator) for name, size in sizes.items()}


def gflops(model: torch.nn.Module, num_steps: int = NUM_STEPS) -> float:
    """GFLOPs of one video's forward pass, attention written out."""
    model.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**features(model, num_steps))
    model.config._attn_implementation = "sdpa"
    return counter.get_total_flops() / 1e9


def saved_gigabytes(model: torch.nn.Module, num_steps: int = NUM_STEPS) -> float:
    """GB that autograd keeps for the backward pass of one video with its loss."""
    batch = features(model, num_steps)
    labels = {"segment_labels": torch.tensor([[[10.0, 60.0]]]), "class_labels": torch.tensor([[1]])}
    known = {x.untyped_storage().data_ptr() for x in [*model.parameters(), *batch.values()]}
    saved: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor, so that its address is not used again
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**batch, **labels)
    model.eval()
    return sum(size for size, _ in saved.values()) / 1e9


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def localize(model: torch.nn.Module, processor: EsgNetProcessor, num_steps: int = NUM_STEPS) -> Callable[[], object]:
    """One video from features to events in seconds."""
    batch = features(model, num_steps)

    def run():
        with torch.inference_mode():
            return processor.post_process_event_localization(model(**batch), durations=[72.0])

    return run


def print_table(title: str, header: list[str], rows: list[list[object]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print("| " + " | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row) + " |")


def sizes(repeats: int) -> None:
    """Parameters, FLOPs, activations and latency against UnAV."""
    for name, fields in (("I3D + VGGish", I3D), ("ONE-PEACE", ONE_PEACE)):
        models = {
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
            f"{name}, T = {NUM_STEPS}, {NUM_CLASSES} classes; in brackets how many times less than UnAV", header, rows
        )


def classes() -> None:
    """Cost against the number of classes."""
    rows = []
    for num_labels in (20, 100, 200, 1000):
        model = esg_net("base", num_labels, **I3D)
        peer = unav(num_labels, **I3D) if num_labels <= 200 else None
        row = [num_labels, gflops(model), model.num_parameters() / 1e6]
        rows.append(row + ([gflops(peer), peer.num_parameters() / 1e6] if peer else ["-", "-"]))
    header = ["classes", "ESG-Net GFLOPs", "ESG-Net parameters, M", "UnAV GFLOPs", "UnAV parameters, M"]
    print_table(f"Cost against the number of classes, base size, T = {NUM_STEPS}", header, rows)


def steps() -> None:
    """Cost against the length of the video; without attention it should be in proportion to T."""
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
    """Decoding and soft suppression of crowded outputs."""
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
    """12,000 segments of each video, of random place, length, score and class."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(num_videos, 12000, generator=generator) * NUM_STEPS
    length = torch.rand(num_videos, 12000, generator=generator) * 60
    scores = torch.rand(num_videos, 12000, generator=generator)
    labels = torch.randint(NUM_CLASSES, (num_videos, 12000), generator=generator)
    return torch.stack([start, start + length], -1), scores, labels


def crowded_outputs(num_videos: int) -> object:
    """Outputs of a model that takes every point and class for a candidate."""
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
