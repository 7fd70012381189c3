"""Accuracy of ESG-Net and of UnAV on the same videos: train, choose the epoch on validation, score on test, compare.

    python tests/benchmarks/accuracy.py run --model base --result base.json
    python tests/benchmarks/accuracy.py run --model unav --result unav.json
    python tests/benchmarks/accuracy.py table unav.json base.json
    python tests/benchmarks/accuracy.py compare base.json unav.json

`run` trains one model on a corpus, or on features with annotations, or without either on simulated features, and
writes what it found in the test videos beside the figures. The other two read such files. Ablations are fields of the
config, `--field use_semantic_guidance=false`. Settings of the training are those of `esg-transformers train`, whose
defaults are UnAV's own recipe.

Figures are average mAP (overlaps 0.1 to 0.9) in percent, of the averaged weights; also on the videos in which events
overlap, and, where the simulation of this package says so, on those in which something is only seen or only heard.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from esg_transformers import EsgNetProcessor, UnavConfig, UnavForEventLocalization
from esg_transformers.cli.sources import add_source_arguments, open_source
from esg_transformers.cli.tables import comparison_table
from esg_transformers.cli.train import add_settings, read_settings
from esg_transformers.data.annotations import replacing
from esg_transformers.data.corpus import EventCorpus, write_corpus
from esg_transformers.data.simulation import SimulatedVideos, simulate_splits
from esg_transformers.data.unav100 import FEATURE_SETS
from esg_transformers.evaluation import compare_map, mean_average_precision
from esg_transformers.models.esg_net.configuration_esg_net import SIZES
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.inference import localize_dataset
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model

SPLITS = ("train", "validation", "test")


def simulate(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, EventCorpus], set[str]]:
    """A corpus of simulated features, and the test videos in which something is only seen or only heard."""
    videos = simulate_splits(
        dict(zip(SPLITS, arguments.videos, strict=True)),
        arguments.classes,
        arguments.corpus_seed,
        arguments.difficulty,
        FEATURE_SETS[arguments.feature_set or "i3d-vggish"],
    )
    first = videos["train"]
    write_corpus(
        folder, videos, labels=first.labels, grid=first.grid, encoder=first.encoder,
        visual_size=first.visual_size, audio_size=first.audio_size,
    )  # fmt: skip
    return {split: EventCorpus(folder, split) for split in SPLITS}, one_stream_videos(videos["test"])


def one_stream_videos(videos: SimulatedVideos) -> set[str]:
    """The videos in which something is only seen or only heard."""
    return {
        video_id
        for video_id in videos.video_ids
        if any(not (occurrence.seen and occurrence.heard) for occurrence in videos.scenario(video_id)[1])
    }


def has_overlap(events: Sequence[dict[str, Any]]) -> bool:
    """Whether two events share some time."""
    return any(a["start"] < b["end"] and b["start"] < a["end"] for a, b in combinations(events, 2))


def new_unav(dataset: Any, seed: int, **fields) -> tuple[UnavForEventLocalization, EsgNetProcessor]:
    """As `new_model`, of UnAV."""
    set_seed(seed)
    config = UnavConfig(
        id2label=dict(enumerate(dataset.labels)),
        visual_size=dataset.visual_size,
        audio_size=dataset.audio_size,
        frame_rate=dataset.grid.frame_rate,
        feature_stride=dataset.grid.stride,
        feature_window=dataset.grid.window,
        **fields,
    )
    return UnavForEventLocalization(config), new_model(dataset, "tiny")[1]


def figures_of(found: Sequence, true: Sequence) -> dict[str, Any]:
    """Average mAP, mAP@0.5 and the number of videos; no figures of no videos."""
    if not true:
        return {"videos": 0}
    metrics = mean_average_precision(found, true)
    return {"videos": len(true), "average_map": metrics["average_map"], "mAP@0.5": metrics["mAP@0.5"]}


def run(arguments: argparse.Namespace) -> None:
    settings = read_settings(arguments, LocalizationTrainingArguments())
    fields = {name: json.loads(value) for name, value in (field.split("=", 1) for field in arguments.field)}
    accelerator = Accelerator(mixed_precision=None if settings.mixed_precision == "auto" else settings.mixed_precision)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.corpus or arguments.annotations:
            videos, one_stream = {split: open_source(arguments, split) for split in SPLITS}, set()
            source = {name: vars(arguments)[name] for name in ("corpus", "annotations", "features", "feature_set")}
        else:
            videos, one_stream = simulate(arguments, Path(folder) / "corpus")
            source = {
                name: vars(arguments)[name]
                for name in ("videos", "classes", "corpus_seed", "difficulty", "feature_set")
            }
        model: PreTrainedModel
        if arguments.model == "unav":
            model, processor = new_unav(videos["train"], settings.seed, **fields)
        else:
            model, processor = new_model(videos["train"], arguments.model, settings.seed, **fields)
        output = Path(folder) / "run"
        progress = train(
            model, processor, videos["train"], videos["validation"], output, replace(settings, tracker="none")
        )
        best = type(model).from_pretrained(output).to(accelerator.device)
    localized = localize_dataset(best, processor, videos["test"], accelerator, settings.eval_batch_size)
    subsets = {
        "all": range(len(localized.true)),
        "overlapping events": [i for i, events in enumerate(localized.true) if has_overlap(events)],
        "one-stream distractors": [i for i, video_id in enumerate(localized.video_ids) if video_id in one_stream],
    }
    result = {
        "model": " ".join([arguments.model, *arguments.field]),
        "source": source,
        "settings": asdict(settings),
        "parameters": best.num_parameters(),
        "best_epoch": progress.best_epoch,
        "validation_map": progress.best_map,
        "test": {
            name: figures_of([localized.found[i] for i in subset], [localized.true[i] for i in subset])
            for name, subset in subsets.items()
        },
        "video_ids": localized.video_ids,
        "found": localized.found,
        "true": localized.true,
    }
    with replacing(arguments.result) as file:
        json.dump(result, file)
    print_table([result])


def read(paths: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """A row for each result: cost, figures on all test videos and on subsets of them."""
    subsets = list(results[0]["test"])[1:]
    columns = ["", "seed", "parameters, M", "epoch", "average mAP", "mAP@0.5"]
    columns += [f"{name} ({results[0]['test'][name]['videos']} videos)" for name in subsets]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for result in results:
        test = result["test"]
        cells = [result["model"], result["settings"]["seed"], f"{result['parameters'] / 1e6:.1f}", result["best_epoch"]]
        cells += [f"{100 * test['all'][name]:.1f}" for name in ("average_map", "mAP@0.5")]
        cells += [f"{100 * test[name]['average_map']:.1f}" if test[name]["videos"] else "-" for name in subsets]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def compare(arguments: argparse.Namespace) -> None:
    """Paired bootstrap over the test videos of two results."""
    first, second = read([arguments.first, arguments.second])
    if first["video_ids"] != second["video_ids"] or first["true"] != second["true"]:
        raise SystemExit(
            f"{arguments.first} and {arguments.second} are of different test videos; run both on the same."
        )
    print(f"{first['model']} against {second['model']}, {len(first['true'])} test videos")
    print(comparison_table(compare_map(first["found"], second["found"], first["true"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train, score on test, write a result")
    runner.add_argument("--model", choices=["unav", *SIZES], required=True)
    runner.add_argument("--field", action="append", default=[], metavar="NAME=JSON", help="of the model's config")
    runner.add_argument("--result", required=True, metavar="FILE", help="JSON file to write")
    add_source_arguments(runner)
    simulation = runner.add_argument_group("simulated features", "Where no corpus and no annotations are given.")
    simulation.add_argument("--videos", type=int, nargs=3, default=[300, 100, 100], metavar=("TRAIN", "VAL", "TEST"))
    simulation.add_argument("--classes", type=int, default=20)
    simulation.add_argument("--corpus-seed", type=int, default=0)
    simulation.add_argument("--difficulty", type=float, default=1.0)
    add_settings(runner, LocalizationTrainingArguments())
    table = commands.add_parser("table", help="print results as a table")
    table.add_argument("results", nargs="+")
    comparison = commands.add_parser("compare", help="paired bootstrap over the test videos of two results")
    comparison.add_argument("first")
    comparison.add_argument("second")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments)
    elif arguments.command == "table":
        print_table(read(arguments.results))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
