"""Speed of the metric and of the statistics built on it: `python tests/benchmarks/metric.py`.

The results are simulated and as large as those of UnAV-100's test split: 2,167 videos with 1 to 5 true events, 100
predictions each, 100 classes, 9 overlaps. Times are medians on one core; only their ratios can be compared between
machines.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from esg_transformers.evaluation import (
    Overlap,
    bootstrap_map,
    compare_map,
    detection_report,
    error_analysis,
    mean_average_precision,
)

NUM_VIDEOS, NUM_PREDICTIONS, NUM_CLASSES = 2167, 100, 100
DURATION = 42.0  # seconds of each video

Videos = list[list[dict[str, Any]]]


def simulated_results(seed: int = 0) -> tuple[Videos, Videos]:
    """Predictions and true events; half of the predictions are near a true event and score higher."""
    rng = np.random.default_rng(seed)
    predictions, references = [], []
    for _ in range(NUM_VIDEOS):
        true = []
        for _ in range(rng.integers(1, 6)):
            start, end = np.sort(rng.uniform(0, DURATION, 2)).tolist()
            true.append({"start": start, "end": end, "label": f"class {rng.integers(NUM_CLASSES)}"})
        found = []
        for _ in range(NUM_PREDICTIONS):
            start, end = np.sort(rng.uniform(0, DURATION, 2)).tolist()
            event = {"start": start, "end": end, "label": f"class {rng.integers(NUM_CLASSES)}", "score": rng.random()}
            if rng.random() < 0.5:
                target = true[rng.integers(len(true))]
                event = {**target, "start": target["start"] * rng.uniform(0.8, 1), "score": rng.random() ** 0.5}
            found.append(event)
        predictions.append(found)
        references.append(true)
    return predictions, references


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each kind (default: 3)")
    parser.add_argument("--resamples", type=int, default=1000, help="resamples of the bootstrap (default: 1000)")
    arguments = parser.parse_args()
    predictions, references = simulated_results()
    others, _ = simulated_results(seed=1)
    resamples = f"{arguments.resamples:,} resamples"
    results = (predictions, references)
    runs = {
        "mAP": partial(mean_average_precision, *results),
        f"intervals, {resamples}": partial(bootstrap_map, *results, arguments.resamples),
        f"comparison of two models, {resamples}": partial(
            compare_map, predictions, others, references, arguments.resamples
        ),
        "hits and false alarms at overlap 0.5": partial(
            detection_report, *results, [DURATION] * NUM_VIDEOS, Overlap(0.5)
        ),
        "error analysis": partial(error_analysis, *results, [DURATION] * NUM_VIDEOS),
    }
    print(f"{NUM_VIDEOS:,} videos x {NUM_PREDICTIONS} predictions x {NUM_CLASSES} classes\n")
    print("| | seconds | ratio to mAP |\n|---|---|---|")
    first = None
    for name, run in runs.items():
        took = seconds(run, arguments.repeats)
        first = first or took
        print(f"| {name} | {took:.2f} | {took / first:.2f}x |")


if __name__ == "__main__":
    main()
