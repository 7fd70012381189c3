"""Check a corpus, or annotations with their features or videos, and report everything wrong at once.

Exit code: 0 if there is no error (with --strict: nor a warning), 1 otherwise.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import AutoConfig

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.formats import FORMATS, scan_annotations
from esg_transformers.annotations.reading import Problem
from esg_transformers.cli.sources import add_feature_set_argument, named_feature_set
from esg_transformers.cli.tables import check_folder_of
from esg_transformers.corpora.description import describe
from esg_transformers.corpora.validation import validate_corpus, validate_features, validate_splits, validate_videos
from esg_transformers.files import replacing
from esg_transformers.media.video import probe

SHOWN = 5  # problems of a kind in the report; the JSON file has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    source = parser.add_argument_group(
        "what to check", "Give --corpus, or --annotations, alone or with features or videos."
    )
    source.add_argument("--corpus", metavar="DIR", help="a corpus folder")
    source.add_argument("--annotations", metavar="FILE", help="the true events, in any format")
    source.add_argument("--annotation-format", choices=FORMATS, help="by default told by the suffix")
    source.add_argument(
        "--annotation-frame-rate", type=float, metavar="HZ", help="frames per second, where the format counts frames"
    )
    source.add_argument("--features", metavar="DIR", help="folder of .npy feature files; needs --feature-set")
    add_feature_set_argument(source)
    source.add_argument("--videos", metavar="DIR", help="folder of the videos, each named after its id")
    parser.add_argument("--model", metavar="DIR", help="the folder of a model that has to know the labels")
    parser.add_argument("--json", metavar="FILE", help="write all problems and counts here")
    parser.add_argument("--strict", action="store_true", help="exit with 1 on warnings too")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    check_folder_of(arguments.json)
    if arguments.model and not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"No folder of a model at {arguments.model}.")
    label2id = AutoConfig.from_pretrained(arguments.model).label2id if arguments.model else None
    annotations, problems = _validate(arguments, label2id)
    problems = sorted(problems + validate_splits(annotations), key=lambda problem: problem.severity)
    if arguments.json:
        content = describe(annotations)
        counts = {name: content[name] for name in ("splits", "classes")}
        with replacing(arguments.json) as file:
            json.dump({"problems": [asdict(problem) for problem in problems], **counts}, file, indent=2)
    print(_report(annotations, problems))
    return int(any(arguments.strict or problem.severity == "error" for problem in problems))


def _validate(arguments: argparse.Namespace, label2id: dict[str, int] | None) -> tuple[Annotations, list[Problem]]:
    """What is sound of the annotations that the options name, and all problems but those of classes and splits."""
    if arguments.corpus and not any(
        (arguments.annotations, arguments.features, arguments.feature_set, arguments.videos)
    ):
        return validate_corpus(arguments.corpus, label2id)
    has_features = (bool(arguments.features), bool(arguments.feature_set))
    if arguments.corpus or not arguments.annotations or has_features not in ((False, False), (True, True)):
        raise ValueError(
            "Give either --corpus, or --annotations, alone or with --features and --feature-set or with --videos."
        )
    feature_set = named_feature_set(arguments.feature_set) if arguments.feature_set else None
    for folder in filter(None, (arguments.features, arguments.videos)):
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"No folder at {folder}.")
    reading, annotations = scan_annotations(
        arguments.annotations,
        arguments.annotation_format,
        label2id=label2id,
        frame_rate=arguments.annotation_frame_rate,
    )
    problems = list(reading.problems)
    if feature_set is not None:
        problems += validate_features(annotations, arguments.features, feature_set)
    if arguments.videos:
        problems += validate_videos(annotations, arguments.videos, probe)
    return annotations, problems


def _report(annotations: Annotations, problems: Sequence[Problem]) -> str:
    """What was looked at, and its problems by kind, errors first."""
    splits = describe(annotations)["splits"]
    parts = [f"{split}: {count['videos']} videos, {count['events']} events" for split, count in splits.items()]
    num_empty = sum(not video.events for video in annotations.videos.values())
    lines = [f"{'; '.join(parts)}; {len(annotations.labels)} classes; videos without events: {num_empty}"]
    for severity, kind in dict.fromkeys((problem.severity, problem.kind) for problem in problems):
        same = [problem for problem in problems if (problem.severity, problem.kind) == (severity, kind)]
        lines += ["", f"{severity}: {kind} ({len(same)})"] + [f"  {problem}" for problem in same[:SHOWN]]
        if len(same) > SHOWN:
            lines.append(f"  and {len(same) - SHOWN} more")
    num_errors = sum(problem.severity == "error" for problem in problems)
    lines += ["", f"{num_errors} errors, {len(problems) - num_errors} warnings" if problems else "Nothing is wrong."]
    return "\n".join(lines)
