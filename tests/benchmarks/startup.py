"""CPU time and memory of help, version, usage errors and imports: `python tests/benchmarks/startup.py`.

Each row is the median of several new processes; memory is the largest resident set of a process. CPU time is in seconds
and as a share of `import torch, transformers` in the same run.
"""

import argparse
import os
import statistics
import subprocess
import sys

REFERENCE = "python -c 'import torch, transformers'"
ROWS = {
    "esg-transformers --help": ["-m", "esg_transformers", "--help"],
    "esg-transformers --version": ["-m", "esg_transformers", "--version"],
    "esg-transformers": ["-m", "esg_transformers"],
    "esg-transformers train --help": ["-m", "esg_transformers", "train", "--help"],
    "esg-transformers localize --wrong": ["-m", "esg_transformers", "localize", "--wrong"],
    "esg-transformers localize --model m": ["-m", "esg_transformers", "localize", "--model", "m"],
    "python -c 'import esg_transformers'": ["-c", "import esg_transformers"],
    "python -c 'from esg_transformers import EsgNetForEventLocalization'": [
        "-c",
        "from esg_transformers import EsgNetForEventLocalization",
    ],
    REFERENCE: ["-c", "import torch, transformers"],
}


def cost(words: list[str]) -> tuple[float, float]:
    """CPU seconds, and MiB of the largest resident set, of a new Python process."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024  # Linux counts it in KiB


def main() -> None:
    """Print the table of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each row (default: 5)")
    repeats = parser.parse_args().repeats
    costs = {name: [cost(words) for _ in range(repeats + 1)][1:] for name, words in ROWS.items()}  # the first warms up
    seconds = {name: statistics.median(time for time, _ in runs) for name, runs in costs.items()}
    print("|  | CPU time, s | share of the last row | memory, MiB |")
    print("|---|---|---|---|")
    for name, runs in costs.items():
        memory = max(size for _, size in runs)
        print(f"| `{name}` | {seconds[name]:.2f} | {seconds[name] / seconds[REFERENCE]:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
