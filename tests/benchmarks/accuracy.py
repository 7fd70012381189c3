"""Accuracy of ESG-Net and of UnAV on the same videos: train, choose the epoch on validation, score on test, compare.

    python tests/benchmarks/accuracy.py run --model base --result base.json
    python tests/benchmarks/accuracy.py run --model unav --stretch 0 --result unav.json
    python tests/benchmarks/accuracy.py table unav.json base.json
    python tests/benchmarks/accuracy.py compare base.json --against unav.json

`run` trains one model on a corpus, or on features with annotations, or without either on simulated features, and
writes what it found in the test videos beside the figures. The other two read such files: `table` has a row for each
model, the mean of its seeds; `compare` the mean difference over seeds, of as many files on either side in the same
order. Ablations are fields of the config, `--field num_dependency_layers=0`, a stream that is missing, `--without
audio`, or a branch of the experts, `--without-branch temporal`; of each ESG-Net `run` also prints what its semantic
stages and routers do. Settings of the training are those of `esg-transformers train`, whose defaults are UnAV's own
recipe with `--stretch 0`.

Figures are average mAP (overlaps 0.1 to 0.9) in percent, of the averaged weights, the epoch being chosen on validation;
also on the videos in which events overlap, on those in which something is only seen or only heard (the simulation of
this package says which; of other features `--one-stream FILE` does, a list of video ids), and on other features of the
same test videos, `--noisy`.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from transformers import PreTrainedModel

from esg_transformers import EsgNetConfig, EsgNetProcessor, UnavConfig, UnavForEventLocalization
from esg_transformers.annotations.formats import read_annotations
from esg_transformers.cli.options import add_source_options
from esg_transformers.cli.sources import named_feature_set, open_source
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import Example
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.evaluation import compare_runs, mean_average_precision
from esg_transformers.files import replacing
from esg_transformers.localization.collator import EventLocalizationCollator
from esg_transformers.localization.dataset import Localized, localize_dataset
from esg_transformers.models.esg_net.configuration_esg_net import SIZES
from esg_transformers.models.esg_net.loss_esg_net import step_targets
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetDependencyExperts
from esg_transformers.simulation.features import SimulatedVideos, simulate_splits
from esg_transformers.training.arguments import LocalizationTrainingArguments, add_settings, read_settings
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model

SPLITS = ("train", "validation", "test")
NOISE = 1.5  # difficulty of the noisy test videos


class WithoutStream(torch.utils.data.Dataset):
    """A data set whose videos have no picture, or no sound."""

    def __init__(self, dataset: Any, stream: str):
        self.dataset, self.stream = dataset, stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        return {**self.dataset[index], f"{self.stream}_features": None}  # type: ignore[misc, return-value]


def open_splits(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], set[str]]:
    """The data sets of a run, `"noisy"` among them where there is one, and the test videos with one-stream distractors.

    Args:
        arguments: of `run`.
        folder: for the corpus of simulated features, if one is to be made.
    """
    if (arguments.noisy or arguments.one_stream) and not arguments.annotations:
        raise SystemExit(
            "--noisy and --one-stream belong to --annotations with --features; give those, or leave them out."
        )
    if not (arguments.corpus or arguments.annotations):
        return simulate(arguments, folder)
    splits: dict[str, Any] = {split: open_source(arguments, split) for split in SPLITS}
    if arguments.noisy:
        annotations = read_annotations(arguments.annotations)
        splits["noisy"] = FeatureFolder(annotations, arguments.noisy, named_feature_set(arguments.feature_set), "test")
    one_stream = Path(arguments.one_stream).read_text(encoding="utf-8").split() if arguments.one_stream else []
    return splits, set(one_stream)


def simulate(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], set[str]]:
    """As `open_splits`, of simulated features; noisy are the test videos at 1.5 times the difficulty."""
    feature_set = FEATURE_SETS[arguments.feature_set or "i3d-vggish"]
    splits, noisy = (
        simulate_splits(
            dict(zip(SPLITS, arguments.videos, strict=True)),
            arguments.classes,
            arguments.corpus_seed,
            difficulty,
            feature_set,
        )
        for difficulty in (arguments.difficulty, NOISE * arguments.difficulty)
    )
    write_corpus(folder, splits)
    corpora = {split: EventCorpus(folder, split) for split in SPLITS}
    return {**corpora, "noisy": noisy["test"]}, one_stream_videos(splits["test"])


def one_stream_videos(videos: SimulatedVideos) -> set[str]:
    """The videos in which something is only seen or only heard."""
    return {
        video_id
        for video_id in videos.video_ids
        if any(not (occurrence.seen and occurrence.heard) for occurrence in videos.scenario(video_id).occurrences)
    }


def has_overlap(events: Sequence[dict[str, Any]]) -> bool:
    """Whether two events share some time."""
    return any(a["start"] < b["end"] and b["start"] < a["end"] for a, b in combinations(events, 2))


def new_unav(dataset: Any, seed: int, **fields) -> tuple[UnavForEventLocalization, EsgNetProcessor]:
    """As `new_model`, of UnAV."""
    set_seed(seed)
    config = UnavConfig(
        id2label=dict(enumerate(dataset.labels)),
        **dataset.feature_spec.config_fields(),
        **fields,
    )
    return UnavForEventLocalization(config), new_model(dataset, "tiny")[1]


def leave_out(branch: str) -> None:
    """Let the experts of every ESG-Net of this process go without their `temporal` or `cooccurrence` branch."""

    def nothing(experts: EsgNetDependencyExperts, slots: Tensor, *level_masks) -> Tensor:
        return torch.zeros_like(slots)

    setattr(EsgNetDependencyExperts, f"_{branch}", nothing)


def run(arguments: argparse.Namespace) -> None:
    settings = read_settings(arguments, LocalizationTrainingArguments())
    fields = dict(arguments.field)
    # A config keeps what it does not know: a misspelt ablation would be measured as the whole network.
    known = (UnavConfig() if arguments.model == "unav" else EsgNetConfig()).to_dict()
    if unknown := fields.keys() - known.keys():
        names = ", ".join(sorted(unknown))
        raise SystemExit(f"The config of {arguments.model} has no field {names}; see its docstring.")
    accelerator = Accelerator(mixed_precision=None if settings.mixed_precision == "auto" else settings.mixed_precision)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.without_branch:
            leave_out(arguments.without_branch)
        splits, one_stream = open_splits(arguments, Path(folder) / "corpus")
        if arguments.without:
            splits = {split: WithoutStream(videos, arguments.without) for split, videos in splits.items()}
        model: PreTrainedModel
        if arguments.model == "unav":
            model, processor = new_unav(splits["train"], settings.seed, **fields)
        else:
            model, processor = new_model(splits["train"], arguments.model, settings.seed, **fields)
        output = Path(folder) / "run"
        progress = train(
            model, processor, splits["train"], splits["validation"], output, replace(settings, tracker="none")
        )
        best = type(model).from_pretrained(output).to(accelerator.device)
    localized: dict[str, Localized] = {
        split: localize_dataset(best, processor, splits[split], accelerator, settings.eval_batch_size)
        for split in ("test", "noisy")
        if split in splits
    }
    test = localized["test"]
    subsets = {
        "all": range(len(test.true)),
        "overlapping events": [index for index, events in enumerate(test.true) if has_overlap(events)],
        "one-stream distractors": [index for index, video_id in enumerate(test.video_ids) if video_id in one_stream],
    }
    sets = {name: scored(test, subset) for name, subset in subsets.items() if subset}
    if "noisy" in localized:
        sets["noisy"] = scored(localized["noisy"], subsets["all"])
    changes = [f"{name}={json.dumps(value)}" for name, value in arguments.field]
    changes += [f"without {part}" for part in (arguments.without, arguments.without_branch) if part]
    result = {
        "model": " ".join([arguments.model, *changes]),
        "options": {name: value for name, value in vars(arguments).items() if name not in asdict(settings)},
        "settings": asdict(settings),
        "parameters": best.num_parameters(),
        "best_epoch": progress.best_epoch,
        "validation_map": progress.best_map,
        "video_ids": test.video_ids,
        "test": sets,
        "inside": look_inside(best, processor, splits["test"], settings.eval_batch_size),
    }
    with replacing(arguments.result) as file:
        json.dump(result, file, default=str)
    print_table([result])
    print(json.dumps(result["inside"], indent=1))


def scored(localized: Localized, subset: Sequence[int]) -> dict[str, Any]:
    """What was found in some of the videos and what is there, with average mAP and mAP@0.5."""
    found, true = ([videos[index] for index in subset] for videos in (localized.found, localized.true))
    metrics = mean_average_precision(found, true)
    return {"found": found, "true": true, **{name: metrics[name] for name in ("average_map", "mAP@0.5")}}


@torch.inference_mode()
def look_inside(
    model: PreTrainedModel, processor: EsgNetProcessor, dataset: Any, batch_size: int
) -> dict[str, list[dict[str, float]]]:
    """What the semantic stages and the routers of ESG-Net do; empty for UnAV.

    `semantic`, of each stage: the probability of the fused stream for a class that is on (`event`), and the highest of
    any class where none is (`background`). `router`, of each layer: entropy of a point's weights as a share of the
    highest (`entropy`, 1: all experts alike), and how much the choice of expert says of the point (`information`, 0:
    the same mixture everywhere, 1: another expert, alone, at each), the difference of the entropies of the mean weights
    and of the weights.
    """
    if isinstance(model, UnavForEventLocalization):
        return {}
    sums: dict[str, Tensor] = {}

    def add(name: str, values: Tensor, where: Tensor) -> None:
        total = torch.stack([(values * where).sum(), where.sum()]).double()
        sums[name] = sums.get(name, torch.zeros(2, dtype=torch.float64)) + total.cpu()

    shares: list[Tensor] = [torch.zeros(())] * model.config.num_dependency_layers
    collate = EventLocalizationCollator(processor)
    for first in range(0, len(dataset), batch_size):
        batch = collate([dataset[index] for index in range(first, min(first + batch_size, len(dataset)))])
        batch = batch.to(model.device)
        outputs = model(**batch)
        mask = batch["attention_mask"].bool()
        on = step_targets(mask.shape[1], batch["segment_labels"], batch["class_labels"], model.config.num_labels)
        on = on.bool() & mask[..., None]  # (B, T, C)
        event = on.any(dim=-1)
        for stage, logits in enumerate(outputs.semantic_logits or ()):
            probability = logits[:, 2].sigmoid()
            add(f"semantic {stage} event", probability, on)
            add(f"semantic {stage} background", probability.amax(dim=-1), mask & ~event)
        points = outputs.point_mask.bool()
        for layer, weights in enumerate(outputs.router_weights or ()):
            add(f"router {layer} entropy", entropy(weights), points)
            shares[layer] = shares[layer] + weights[points].sum(dim=0).cpu()
    means = {name: (total / count.clamp(min=1)).item() for name, (total, count) in sums.items()}
    inside: dict[str, list[dict[str, float]]] = {}
    for name, value in means.items():
        part, number, what = name.split()
        rows = inside.setdefault(part, [])
        rows += [{}] * (int(number) + 1 - len(rows))
        rows[int(number)] = {**rows[int(number)], what: round(value, 3)}
    for row, share in zip(inside.get("router", []), shares, strict=True):
        row["information"] = round(entropy(share / share.sum()).item() - row["entropy"], 3)
    return inside


def entropy(weights: Tensor) -> Tensor:
    """Of the last dimension, as a share of the highest that is possible: 0 to 1."""
    return torch.special.entr(weights).sum(dim=-1) / max(math.log(weights.shape[-1]), 1e-9)


def read(paths: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """A row for each model: cost, and on each set of test videos the mean over its seeds, and their spread."""
    sets = list(results[0]["test"])
    columns = ["", "seeds", "parameters, M", *(f"{name} ({len(results[0]['test'][name]['true'])})" for name in sets)]
    columns += ["mAP@0.5, all", "validation, all"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for model in dict.fromkeys(result["model"] for result in results):
        seeds = [result for result in results if result["model"] == model]
        rows = [[seed["test"][name]["average_map"] for seed in seeds] for name in sets]
        rows += [[seed["test"]["all"]["mAP@0.5"] for seed in seeds], [seed["validation_map"] for seed in seeds]]
        cells = [model, str(len(seeds)), f"{seeds[0]['parameters'] / 1e6:.1f}", *map(mean_and_spread, rows)]
        print(f"| {' | '.join(cells)} |", flush=True)


def mean_and_spread(values: Sequence[float]) -> str:
    """In percent, with the standard deviation over seeds where there are several."""
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def compare(arguments: argparse.Namespace) -> None:
    """Paired bootstrap over the test videos; of several seeds, the mean difference."""
    if len(arguments.results) != len(arguments.against):
        raise SystemExit(
            f"Got {len(arguments.results)} results against {len(arguments.against)}; give a file for each seed on "
            "either side, in the same order."
        )
    ours, theirs = read(arguments.results), read(arguments.against)
    for first, second, *paths in zip(ours, theirs, arguments.results, arguments.against, strict=True):
        videos, others = ({name: part["true"] for name, part in result["test"].items()} for result in (first, second))
        if videos["all"] != others["all"]:
            raise SystemExit(f"{paths[0]} and {paths[1]} are of different test videos; run both on the same.")
        if videos != others:
            raise SystemExit(
                f"{paths[0]} was scored on {', '.join(videos)} and {paths[1]} on {', '.join(others)}; run both with "
                "the same --noisy and --one-stream."
            )
    print(f"{ours[0]['model']} against {theirs[0]['model']}, {len(ours)} seeds\n")
    print("| test videos | difference of average mAP | 95 % interval | p |\n|---|---|---|---|")
    for name in ours[0]["test"]:
        runs = [
            (first["test"][name]["found"], second["test"][name]["found"], first["test"][name]["true"])
            for first, second in zip(ours, theirs, strict=True)
        ]
        figures = compare_runs(runs)["average_map"]
        low, high = (100 * value for value in figures["interval"])
        print(f"| {name} | {100 * figures['difference']:+.1f} | [{low:.1f}, {high:.1f}] | {figures['p_value']:.3f} |")


def config_field(text: str) -> tuple[str, Any]:
    """Name and value of a `NAME=JSON` on the command line."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=JSON, as num_dependency_layers=0 is") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train, score on test, write a result")
    runner.add_argument("--model", choices=["unav", *SIZES], required=True)
    runner.add_argument(
        "--field", type=config_field, action="append", default=[], metavar="NAME=JSON", help="of the model's config"
    )
    runner.add_argument("--without", choices=["visual", "audio"], help="a stream that is missing in all videos")
    runner.add_argument("--without-branch", choices=["temporal", "cooccurrence"], help="of the dependency experts")
    runner.add_argument("--result", required=True, metavar="FILE", help="JSON file to write")
    add_source_options(runner)
    runner.add_argument("--noisy", metavar="DIR", help="other features of the test videos, beside --features")
    runner.add_argument("--one-stream", metavar="FILE", help="ids of the test videos with one-stream distractors")
    simulation = runner.add_argument_group("simulated features", "Where no corpus and no annotations are given.")
    simulation.add_argument("--videos", type=int, nargs=3, default=[300, 100, 100], metavar=("TRAIN", "VAL", "TEST"))
    simulation.add_argument("--classes", type=int, default=20)
    simulation.add_argument("--corpus-seed", type=int, default=0)
    simulation.add_argument("--difficulty", type=float, default=1.0)
    add_settings(runner, LocalizationTrainingArguments())
    table = commands.add_parser("table", help="print results as a table, a row for each model")
    table.add_argument("results", nargs="+")
    comparison = commands.add_parser("compare", help="paired bootstrap over the test videos of two models")
    comparison.add_argument("results", nargs="+", help="of the one model, a file for each seed")
    comparison.add_argument("--against", nargs="+", required=True, help="of the other, for the same seeds in order")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    elif arguments.command == "table":
        print_table(read(arguments.results))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
