"""`esg-transformers corpus describe`."""

import argparse
import json
from typing import Any

from esg_transformers.annotations.formats import read_annotations
from esg_transformers.cli.sources import named_feature_set
from esg_transformers.corpora.description import describe, plot_description
from esg_transformers.corpora.reading import read_corpus_annotations
from esg_transformers.files import replacing, save_figure
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    grid: FeatureGrid | None
    if arguments.corpus:
        annotations, grid = read_corpus_annotations(arguments.corpus)
    else:
        grid = named_feature_set(arguments.feature_set).grid if arguments.feature_set else None
        annotations = read_annotations(
            arguments.annotations, arguments.annotation_format, frame_rate=arguments.frame_rate
        )
    description = describe(annotations, grid, arguments.levels)
    if arguments.report:
        with replacing(arguments.report) as file:
            json.dump(description, file, indent=2)
    if arguments.picture:
        save_figure(arguments.picture, plot_description(description))
    print(_as_text(description))


def _as_text(description: dict[str, Any]) -> str:
    """Tables of all figures except the histogram and the matrices."""
    counts = ["videos", "videos_without_events", "events", "events_per_video", "classes", "hours"]
    splits = description["splits"]
    tables = [_table(["split", *counts], [[split, *(splits[split][name] for name in counts)] for split in splits])]
    quantiles = {"duration": description["durations"], "event length": description["event_lengths"]}
    known = {name: values for name, values in quantiles.items() if values}
    if known:
        header = ["seconds", *next(iter(known.values()))]
        tables.append(_table(header, [[name, *values.values()] for name, values in known.items()]))
    classes = sorted(description["classes"].items(), key=lambda item: -sum(item[1].values()))
    tables.append(_table(["events of a class", *splits], [[label, *count.values()] for label, count in classes]))
    total = sum(description["at_once"]) or 1
    at_once = [[count, _percent(seconds / total)] for count, seconds in enumerate(description["at_once"])]
    tables.append(_table(["events at once", "of the time"], at_once))
    tables.append(f"{_percent(description['overlapping_events'])} of the events overlap another.")
    if description["pairs"]:
        pairs = [[" + ".join(pair["labels"]), pair["videos"], pair["seconds"]] for pair in description["pairs"]]
        tables.append(_table(["classes that overlap", "videos", "seconds at once"], pairs))
    if "reach" in description:
        tables += _reach_as_text(description["reach"])
    return "\n\n".join(tables)


def _reach_as_text(reach: dict[str, Any]) -> list[str]:
    levels = [
        [level["level"], level["step"], _percent(level["events"]), level["shortest"], level["longest"]]
        for level in reach["levels"]
    ]
    return [
        _table(["level", "seconds a step", "events in its range", "shortest", "longest"], levels),
        f"{_percent(reach['without_points'])} of the events lie between two steps; no level detects them.\n"
        f"{_percent(reach['beyond_last_level'])} are longer than the range of the last level. Add a level.",
    ]


def _table(header: list[str], rows: list[list[Any]]) -> str:
    """Text table: the first column is left-aligned, the others right-aligned."""
    texts = [[name.replace("_", " ") for name in header]] + [[_as_cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in texts
    )


def _as_cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _percent(share: float) -> str:
    return f"{share:.1%}"
