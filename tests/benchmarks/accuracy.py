"""Accuracy of ESG-Net and UnAV on the same videos: train, choose the epoch on validation, score on test, compare.

    python tests/benchmarks/accuracy.py run --model base --result base.json
    python tests/benchmarks/accuracy.py run --model unav --stretch 0 --result unav.json
    python tests/benchmarks/accuracy.py table unav.json base.json
    python tests/benchmarks/accuracy.py compare base.json --against unav.json

`run` trains one model and writes its events on the test videos and its figures to a file. The data are a corpus, or
features with annotations (`simulated_corpus.py` writes those of RESULTS.md), or simulated features made on the spot.
`table` prints a row per model, the mean of its files; `compare` prints the mean difference between as many files on
either side, paired in order.

Ablations are fields of the config (`--field num_dependency_layers=0`), a missing stream (`--without audio`) or a
missing branch of the dependency experts (`--without-branch temporal`). For an ESG-Net, `run` also prints statistics of
its semantic stages and routers. Training settings are those of `esg-transformers train`; UnAV's own recipe is the
defaults with `--stretch 0`.

Figures are average mAP (overlaps 0.1 to 0.9) in percent, of the averaged weights at the epoch that is best on
validation: on all test videos, on those with overlapping events, on those with distractors (something that is only seen
or only heard; `--one-stream FILE` lists their ids), and on other features of the test videos (`--noisy DIR`).
"""

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

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
from esg_transformers.corpora.example import Example, VideoDataset
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.evaluation import compare_runs, mean_average_precision
from esg_transformers.files import replacing
from esg_transformers.localization.dataset import Localized, localize_dataset
from esg_transformers.localization.pipeline import AudioVisualEventLocalizationPipeline
from esg_transformers.localization.trace import STREAMS, trace_of
from esg_transformers.models.esg_net.configuration_esg_net import SIZES
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.models.esg_net.loss_esg_net import step_targets
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetDependencyExperts
from esg_transformers.simulation.features import SimulatedVideos, simulate_splits
from esg_transformers.training.arguments import LocalizationTrainingArguments, add_settings, read_settings
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model

SPLITS = ("train", "validation", "test")
NOISE = 1.5  # difficulty of the noisy test videos


class WithoutStream(torch.utils.data.Dataset[Example]):
    """A data set in which all videos lack one stream."""

    def __init__(self, dataset: VideoDataset, stream: Literal["visual", "audio"]):
        self.labels, self.feature_spec = dataset.labels, dataset.feature_spec
        self.video_ids, self.durations = dataset.video_ids, dataset.durations
        self._dataset, self._stream = dataset, stream

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Example:
        example = self._dataset[index].copy()
        if self._stream == "visual":
            example["visual_features"] = None
        else:
            example["audio_features"] = None
        return example


def open_splits(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, VideoDataset], set[str]]:
    """The data sets by split, `"noisy"` among them if there is one, and the ids of the test videos with distractors.

    Args:
        arguments: options of `run`.
        folder: folder for the corpus of simulated features, if one is made.
    """
    if (arguments.noisy or arguments.one_stream) and not arguments.annotations:
        raise SystemExit("--noisy and --one-stream need --annotations with --features; give those, or leave them out.")
    if not (arguments.corpus or arguments.annotations):
        return simulate(arguments, folder)
    splits: dict[str, VideoDataset] = {split: open_source(arguments, split) for split in SPLITS}
    if arguments.noisy:
        annotations = read_annotations(arguments.annotations)
        splits["noisy"] = FeatureFolder(annotations, arguments.noisy, named_feature_set(arguments.feature_set), "test")
    one_stream = Path(arguments.one_stream).read_text(encoding="utf-8").split() if arguments.one_stream else []
    return splits, set(one_stream)


def simulate(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, VideoDataset], set[str]]:
    """The same as `open_splits`, of simulated features; noisy are the test videos at 1.5 times the difficulty."""
    splits, noisy = (
        simulate_splits(
            dict(zip(SPLITS, arguments.videos, strict=True)),
            arguments.classes,
            arguments.corpus_seed,
            difficulty,
            FEATURE_SETS[arguments.feature_set or "i3d-vggish"],
        )
        for difficulty in (arguments.difficulty, NOISE * arguments.difficulty)
    )
    write_corpus(folder, splits)
    corpora = {split: EventCorpus(folder, split) for split in SPLITS}
    return {**corpora, "noisy": noisy["test"]}, one_stream_videos(splits["test"])


def one_stream_videos(videos: SimulatedVideos) -> set[str]:
    """Ids of the videos in which something is only seen or only heard."""
    return {
        video_id
        for video_id in videos.video_ids
        if any(not (occurrence.seen and occurrence.heard) for occurrence in videos.scenario(video_id).occurrences)
    }


def has_overlap(events: Sequence[dict[str, Any]]) -> bool:
    """True if two of the events overlap in time."""
    return any(a["start"] < b["end"] and b["start"] < a["end"] for a, b in combinations(events, 2))


def new_unav(dataset: VideoDataset, seed: int, **fields: Any) -> tuple[UnavForEventLocalization, EsgNetProcessor]:
    """An UnAV with random weights and its processor, for the features and classes of a data set."""
    set_seed(seed)
    config = UnavConfig(
        id2label=dict(enumerate(dataset.labels)),
        **dataset.feature_spec.config_fields(),
        **fields,
    )
    return UnavForEventLocalization(config), EsgNetProcessor.for_features(dataset.feature_spec)


def leave_out(branch: str) -> None:
    """Make every dependency expert of this process skip its `temporal` or `cooccurrence` branch."""

    def nothing(experts: EsgNetDependencyExperts, slots: Tensor, *level_masks: Tensor) -> Tensor:
        return torch.zeros_like(slots)

    setattr(EsgNetDependencyExperts, f"_{branch}", nothing)


def run(arguments: argparse.Namespace) -> None:
    """Train a model, score it on the test videos, and write and print the result."""
    settings = read_settings(arguments, LocalizationTrainingArguments())
    fields = dict(arguments.field)
    # A config keeps unknown fields: a misspelt ablation would be measured as the whole network.
    known = (UnavConfig() if arguments.model == "unav" else EsgNetConfig()).to_dict()
    if unknown := fields.keys() - known.keys():
        names = ", ".join(sorted(unknown))
        raise SystemExit(f"The config of {arguments.model} has no field {names}; see its docstring.")
    if arguments.without_branch:
        leave_out(arguments.without_branch)
    accelerator = Accelerator(mixed_precision=None if settings.mixed_precision == "auto" else settings.mixed_precision)
    with tempfile.TemporaryDirectory() as folder:
        splits, one_stream = open_splits(arguments, Path(folder) / "corpus")
        if arguments.without:
            splits = {split: WithoutStream(videos, arguments.without) for split, videos in splits.items()}
        model: PreTrainedModel
        if arguments.model == "unav":
            model, processor = new_unav(splits["train"], settings.seed, **fields)
        else:
            model, processor = new_model(splits["train"], arguments.model, settings.seed, **fields)
        quiet, output = replace(settings, tracker="none"), Path(folder) / "run"
        progress = train(model, processor, splits["train"], splits["validation"], output, quiet)
        best = type(model).from_pretrained(output).to(accelerator.device)
        localized: dict[str, Localized] = {
            split: localize_dataset(best, processor, splits[split], accelerator, settings.eval_batch_size)
            for split in ("test", "noisy")
            if split in splits
        }
        inside = look_inside(best, processor, splits["test"])
    changes = [f"{name}={json.dumps(value)}" for name, value in arguments.field]
    changes += [f"without {part}" for part in (arguments.without, arguments.without_branch) if part]
    result = {
        "model": " ".join([arguments.model, *changes]),
        "options": {name: value for name, value in vars(arguments).items() if name not in asdict(settings)},
        "settings": asdict(settings),
        "parameters": best.num_parameters(),
        "best_epoch": progress.best_epoch,
        "validation_map": progress.best_map,
        "video_ids": localized["test"].video_ids,
        "test": scores(localized, one_stream),
        "inside": inside,
    }
    with replacing(arguments.result) as file:
        json.dump(result, file, default=str)
    print_table([result])
    print(json.dumps(inside, indent=1))


def scores(localized: Mapping[str, Localized], one_stream: set[str]) -> dict[str, dict[str, Any]]:
    """Events and figures by set of test videos; see the top of this file for the sets."""
    test = localized["test"]
    subsets: dict[str, Sequence[int]] = {
        "all": range(len(test.true)),
        "overlapping events": [index for index, events in enumerate(test.true) if has_overlap(events)],
        "one-stream distractors": [index for index, video_id in enumerate(test.video_ids) if video_id in one_stream],
    }
    sets = {name: scored(test, subset) for name, subset in subsets.items() if subset}
    if "noisy" in localized:
        sets["noisy"] = scored(localized["noisy"], subsets["all"])
    return sets


def scored(localized: Localized, subset: Sequence[int]) -> dict[str, Any]:
    """Found and true events of some of the videos, average mAP and mAP@0.5."""
    found, true = ([videos[index] for index in subset] for videos in (localized.found, localized.true))
    metrics = mean_average_precision(found, true)
    return {"found": found, "true": true, **{name: metrics[name] for name in ("average_map", "mAP@0.5")}}


def look_inside(
    model: PreTrainedModel, processor: EsgNetProcessor, dataset: VideoDataset
) -> dict[str, list[dict[str, float]]]:
    """Mean statistics of the semantic stages and routers of an ESG-Net; empty for a network without them.

    `semantic`, one entry per stage: probability of the fused stream for an active class (`event`), and its highest
    probability of any class at steps without an event (`background`). `router`, one entry per layer: entropy of a
    step's expert weights divided by the maximum (`entropy`; 1: equal weights), and entropy of the mean weights minus
    that (`information`; 0: the same mixture at every step, 1: one expert alone, evenly distributed over steps).
    """
    config: Any = model.config
    if not (getattr(config, "use_semantic_interaction", False) or getattr(config, "num_dependency_layers", 0)):
        return {}
    localizer = AudioVisualEventLocalizationPipeline(model=model, processor=processor, device=model.device)
    event, background, router = [], [], []  # of each video, arrays (stages or layers, steps) and (layers, steps, E)
    for index in range(len(dataset)):
        example = dataset[index]
        trace = trace_of(localizer, example)
        if trace.semantic is not None:
            fused = trace.semantic[:, STREAMS.index("fused")].astype(np.float64)  # (S, T, C)
            active = active_classes(example, fused.shape[1], trace.grid, len(dataset.labels))
            event.append(fused[:, active])
            background.append(fused[:, ~active.any(axis=1)].max(axis=2))
        if trace.router is not None:
            router.append(trace.router.astype(np.float64))
    inside = {}
    if event:
        columns = (np.concatenate(event, axis=1).mean(axis=1), np.concatenate(background, axis=1).mean(axis=1))
        inside["semantic"] = [{"event": round(e, 3), "background": round(b, 3)} for e, b in zip(*columns, strict=True)]
    if router:
        weights = np.concatenate(router, axis=1)
        columns = (entropy(weights).mean(axis=1), entropy(weights.mean(axis=1)))
        inside["router"] = [
            {"entropy": round(of_step, 3), "information": round(of_mean - of_step, 3)}
            for of_step, of_mean in zip(*columns, strict=True)
        ]
    return inside


def active_classes(example: Example, num_steps: int, grid: FeatureGrid, num_classes: int) -> np.ndarray:
    """The classes that are active at each step, bool `(T, C)`, as the semantic stages are taught them."""
    positions = grid.to_positions(torch.from_numpy(example["segments"]))
    targets = step_targets(num_steps, positions[None], torch.from_numpy(example["labels"])[None], num_classes)
    return targets[0].bool().numpy()


def entropy(weights: np.ndarray) -> np.ndarray:
    """Entropy over the last dimension, divided by the maximum: 0 to 1."""
    shares = weights / weights.sum(axis=-1, keepdims=True)  # float16 weights do not sum to 1 exactly
    terms = np.where(shares > 0, -shares * np.log(np.maximum(shares, 1e-300)), 0.0)
    return np.asarray(terms.sum(axis=-1) / max(math.log(weights.shape[-1]), 1e-9))


def read(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Results that `run` has written."""
    return [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """Print a row per model: cost, and mean and spread over its results on each set of test videos."""
    sets = list(results[0]["test"])
    columns = ["", "runs", "parameters, M", *(f"{name} ({len(results[0]['test'][name]['true'])})" for name in sets)]
    columns += ["mAP@0.5, all", "validation, all"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for model in dict.fromkeys(result["model"] for result in results):
        runs = [result for result in results if result["model"] == model]
        rows = [[run["test"][name]["average_map"] for run in runs] for name in sets]
        rows += [[run["test"]["all"]["mAP@0.5"] for run in runs], [run["validation_map"] for run in runs]]
        cells = [model, str(len(runs)), f"{runs[0]['parameters'] / 1e6:.1f}", *map(mean_and_spread, rows)]
        print(f"| {' | '.join(cells)} |", flush=True)


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean in percent, with the standard deviation if there are several values."""
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def compare(arguments: argparse.Namespace) -> None:
    """Print the mean difference between results on either side, by paired bootstrap over the test videos."""
    if len(arguments.results) != len(arguments.against):
        raise SystemExit(
            f"Got {len(arguments.results)} results against {len(arguments.against)}; give as many files on either "
            "side, in the same order."
        )
    ours, theirs = read(arguments.results), read(arguments.against)
    for first, second, *paths in zip(ours, theirs, arguments.results, arguments.against, strict=True):
        videos, others = ({name: part["true"] for name, part in result["test"].items()} for result in (first, second))
        if videos["all"] != others["all"]:
            raise SystemExit(f"{paths[0]} and {paths[1]} have different test videos; run both on the same.")
        if videos != others:
            raise SystemExit(
                f"{paths[0]} was scored on {', '.join(videos)}, and {paths[1]} on {', '.join(others)}; run both with "
                "the same --noisy and --one-stream."
            )
    print(f"{ours[0]['model']} against {theirs[0]['model']}, {len(ours)} runs\n")
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
    """Name and value of `NAME=JSON` on the command line."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=JSON, such as num_dependency_layers=0") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train, score on test, write a result")
    runner.add_argument("--model", choices=["unav", *SIZES], required=True)
    runner.add_argument(
        "--field",
        type=config_field,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="field of the model's config",
    )
    runner.add_argument("--without", choices=["visual", "audio"], help="stream to remove from all videos")
    runner.add_argument(
        "--without-branch", choices=["temporal", "cooccurrence"], help="branch of the dependency experts to skip"
    )
    runner.add_argument("--result", required=True, metavar="FILE", help="JSON file to write")
    add_source_options(runner)
    runner.add_argument("--noisy", metavar="DIR", help="further features of the test videos, to score on")
    runner.add_argument("--one-stream", metavar="FILE", help="ids of the test videos with distractors, one per line")
    simulation = runner.add_argument_group("simulated features", "Used if no corpus and no annotations are given.")
    simulation.add_argument("--videos", type=int, nargs=3, default=[300, 100, 100], metavar=("TRAIN", "VAL", "TEST"))
    simulation.add_argument("--classes", type=int, default=20)
    simulation.add_argument("--corpus-seed", type=int, default=0)
    simulation.add_argument("--difficulty", type=float, default=1.0)
    add_settings(runner, LocalizationTrainingArguments())
    table = commands.add_parser("table", help="print results as a table, a row per model")
    table.add_argument("results", nargs="+")
    comparison = commands.add_parser("compare", help="paired bootstrap over the test videos of two models")
    comparison.add_argument("results", nargs="+", help="results of one model")
    comparison.add_argument(
        "--against", nargs="+", required=True, help="as many results of the other, in the same order"
    )
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    elif arguments.command == "table":
        print_table(read(arguments.results))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
