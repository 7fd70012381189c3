"""`esg-transformers corpus validate`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import AutoConfig

from esg_transformers.annotations.events import Annotations
from esg_transformers.annotations.formats import scan_annotations
from esg_transformers.annotations.reading import Problem
from esg_transformers.cli.sources import named_feature_set
from esg_transformers.corpora.description import describe
from esg_transformers.corpora.validation import validate_corpus, validate_features, validate_splits, validate_videos
from esg_transformers.files import replacing

SHOWN = 5  # printed problems of one kind; the file of --report has all


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if arguments.model and not Path(arguments.model).is_dir():
        raise FileNotFoundError(f"No model folder at {arguments.model}.")
    label2id = AutoConfig.from_pretrained(arguments.model).label2id if arguments.model else None
    annotations, problems = _validate(arguments, label2id)
    problems = sorted(problems + validate_splits(annotations), key=lambda problem: problem.severity)
    if arguments.report:
        content = describe(annotations)
        counts = {name: content[name] for name in ("splits", "classes")}
        with replacing(arguments.report) as file:
            json.dump({"problems": [asdict(problem) for problem in problems], **counts}, file, indent=2)
    print(_report(annotations, problems))
    return int(any(arguments.strict or problem.severity == "error" for problem in problems))


def _validate(arguments: argparse.Namespace, label2id: dict[str, int] | None) -> tuple[Annotations, list[Problem]]:
    """Valid annotations of the source, and its problems except those of splits."""
    if arguments.corpus:
        return validate_corpus(arguments.corpus, label2id)
    feature_set = named_feature_set(arguments.feature_set) if arguments.feature_set else None
    for folder in filter(None, (arguments.features, arguments.videos)):
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"No folder at {folder}.")
    reading, annotations = scan_annotations(
        arguments.annotations,
        arguments.annotation_format,
        label2id=label2id,
        frame_rate=arguments.frame_rate,
    )
    problems = list(reading.problems)
    if feature_set is not None:
        problems += validate_features(annotations, arguments.features, feature_set)
    if arguments.videos:
        problems += validate_videos(annotations, arguments.videos)
    return annotations, problems


def _report(annotations: Annotations, problems: Sequence[Problem]) -> str:
    """Summary of the annotations, and their problems by kind, errors first."""
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
    lines += ["", f"{num_errors} errors, {len(problems) - num_errors} warnings" if problems else "No problems found."]
    return "\n".join(lines)
