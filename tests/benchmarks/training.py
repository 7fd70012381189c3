"""Training speed of ESG-Net and UnAV, in one run, and a profile of it: `python tests/benchmarks/training.py`.

A training step is forward pass, loss, backward pass, clipping, AdamW and averaged weights, on a batch of random
features of T = 224 with 100 classes. Times are medians; only their ratios can be compared between machines. The profile
is that of Python's profiler on a `train` run over a corpus of simulated features on disk.
"""

import argparse
import cProfile
import pstats
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from accelerate import Accelerator
from tqdm import tqdm
from transformers import PreTrainedModel

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization, UnavConfig, UnavForEventLocalization
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.simulation.features import simulate_splits
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.ema import AveragedWeights
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model
from esg_transformers.training.steps import parameter_groups

NUM_STEPS, NUM_CLASSES = 224, 100
# Functions of the profile by file and name; none calls another of the same set, so cumulative times can be added.
COMPUTE = {
    ("steps.py", "_backward"),
    ("accelerator.py", "clip_grad_norm_"),
    ("optimizer.py", "step"),
    ("ema.py", "update"),
}
READING = {("dataloader.py", "__next__")}


def batch_of(size: int, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch of random features with three events per video."""
    generator = torch.Generator().manual_seed(0)
    batch = {
        "visual_features": torch.randn(size, NUM_STEPS, 2048, generator=generator),
        "audio_features": torch.randn(size, NUM_STEPS, 128, generator=generator),
        "attention_mask": torch.ones(size, NUM_STEPS, dtype=torch.long),
        "segment_labels": torch.tensor([[[10.0, 60.0], [40.0, 45.0], [100.0, 220.0]]]).repeat(size, 1, 1),
        "class_labels": torch.tensor([[1, 17, 60]]).repeat(size, 1),
    }
    return {name: value.to(device) for name, value in batch.items()}


def seconds_of_a_step(model: PreTrainedModel, size: int, repeats: int, device: torch.device) -> float:
    """Median time of a training step; the first step is not counted."""
    torch.nn.Module.to(model, device).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, LocalizationTrainingArguments()), lr=1e-4)
    average, batch = AveragedWeights(model, 0.999), batch_of(size, device)
    times = []
    for _ in tqdm(range(repeats + 1), desc=type(model).__name__, unit=" steps", leave=False):
        start = time.perf_counter()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def print_against_unav(size: int, repeats: int, device: torch.device) -> None:
    """Print the training speed of each network."""
    print(f"\n### A training step of {size} videos, T = {NUM_STEPS}, {NUM_CLASSES} classes\n")
    print("| | videos a second | times UnAV |\n|---|---|---|")
    id2label = {index: str(index) for index in range(NUM_CLASSES)}
    models: dict[str, PreTrainedModel] = {
        "UnAV": UnavForEventLocalization(UnavConfig(id2label=id2label)),
        "ESG-Net base": EsgNetForEventLocalization(EsgNetConfig.of_size("base", id2label=id2label)),
        "ESG-Net small": EsgNetForEventLocalization(EsgNetConfig.of_size("small", id2label=id2label)),
    }
    speeds = {}
    for name in list(models):
        speeds[name] = size / seconds_of_a_step(models.pop(name), size, repeats, device)
        print(f"| {name} | {speeds[name]:.3g} | {speeds[name] / speeds['UnAV']:.1f} |", flush=True)


def print_profile(model_size: str, num_videos: int, num_workers: int) -> None:
    """Print the shares of time of one epoch, without evaluation and checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        splits = simulate_splits({"train": num_videos, "validation": 1}, num_classes=20)
        write_corpus(Path(folder) / "corpus", splits)
        train_set, validation_set = (EventCorpus(Path(folder) / "corpus", split) for split in splits)
        model, processor = new_model(train_set, model_size)
        arguments = LocalizationTrainingArguments(
            epochs=1, warmup_epochs=0, batch_size=4, num_workers=num_workers, tracker="none"
        )
        profile = cProfile.Profile()
        profile.runcall(train, model, processor, train_set, validation_set, Path(folder) / "run", arguments)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]

    def seconds(which: set[tuple[str, str]]) -> float:
        return sum(float(value[3]) for (path, _, name), value in stats.items() if (Path(path).name, name) in which)

    epoch = seconds({("loop.py", "epoch")})
    compute, reading = seconds(COMPUTE - {("optimizer.py", "step")}), seconds(READING)
    # Accelerate's optimizer calls torch's in a file of the same name; only the outer call counts.
    compute += max(
        value[3] for (path, _, name), value in stats.items() if (Path(path).name, name) == ("optimizer.py", "step")
    )
    print(f"\n### Where the time of {num_videos // 4} steps of {model_size} goes, {num_workers} workers\n")
    print("| | share of the time, percent |\n|---|---|")
    for name, part in (("compute", compute), ("waiting for data", reading), ("the rest", epoch - compute - reading)):
        print(f"| {name} | {100 * part / epoch:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3, help="timed steps (default: 3)")
    arguments = parser.parse_args()
    device = Accelerator().device
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")
    print_against_unav(arguments.batch_size, arguments.repeats, device)
    print_profile("base", 48, num_workers=0)


if __name__ == "__main__":
    main()
