"""Runs transformers' own common tests on ESG-Net: `python tests/common/run_common_tests.py`.

The tests (ModelTesterMixin, ConfigTester, ProcessorTesterMixin) are in transformers' source distribution and not in its
wheel. The one of the installed version is fetched through pip, once, and unpacked to a temporary folder, where
`test_esg_net_common.py` is put beside them. Needs `parameterized` and Pillow.

Arguments go to pytest, as in `-k Processor`. The exit status is pytest's; 1 also if a skip is not explained in
`test_esg_net_common.py`; 69 if the source distribution cannot be had.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import transformers

TESTER = Path(__file__).with_name("test_esg_net_common.py")
SOURCE_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h

# Modules that the common tests import and the source distribution lacks, with the little of them that is used here.
SHIMS = {
    "tests/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "tests/utils/test_configuration_utils.py": """config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["EsgNetModel"],
    "id2label": {0: "label"},
    "label2id": {"label": 0},
    "problem_type": "multi_label_classification",
}
""",
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url):\n    return url\n",
}


def source_distribution() -> Path:
    """The cached source distribution of the installed transformers, fetched if it is not there.

    Raises:
        FileNotFoundError: if pip cannot get it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "esg_transformers"
    archive = cache / f"transformers-{transformers.__version__}.tar.gz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as download:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
            command += ["--dest", download, f"transformers=={transformers.__version__}"]
            if subprocess.run(command).returncode != 0:
                raise FileNotFoundError(
                    f"The source distribution of transformers {transformers.__version__} could not be fetched (pip's "
                    f"message is above). Run this with a connection to the package index, or put it at {archive}."
                )
            (Path(download) / archive.name).replace(archive)
    return archive


def unpack(archive: Path, folder: Path) -> Path:
    """Lay out the common tests, the shims and the tester in `folder`; returns the root of the layout."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    root = folder / archive.name.removesuffix(".tar.gz")
    # The installed transformers is the one under test.
    shutil.rmtree(root / "src")
    for name, source in SHIMS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    shutil.copy(TESTER, root / "tests")
    return root


class SkipReasons:
    """A pytest plugin that counts the reasons of skipped tests."""

    def __init__(self):
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report):
        """Called by pytest with the report of each phase of each test."""
        if report.skipped and isinstance(report.longrepr, tuple):
            self.counts[report.longrepr[2].removeprefix("Skipped: ")] += 1


def explain(counts: Counter[str], explanations: dict[str, str]) -> list[str]:
    """Print the skipped tests under their explanations; returns the reasons that have none."""
    explained, unexplained = Counter(), []
    for reason, count in counts.items():
        explanation = next((text for pattern, text in explanations.items() if re.match(pattern, reason)), None)
        if explanation is None:
            unexplained.append(reason)
        else:
            explained[explanation] += count
    print(f"\n{counts.total()} skipped:")
    for explanation, count in explained.most_common():
        print(f"{count:5}  {explanation}")
    for reason in unexplained:
        print(f"{counts[reason]:5}  NOT EXPLAINED: {reason}")
    return unexplained


def main() -> int:
    """Run the common tests and return the exit status."""
    try:
        archive = source_distribution()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return SOURCE_UNAVAILABLE
    with tempfile.TemporaryDirectory(prefix="transformers-common-tests-") as folder:
        root = unpack(archive, Path(folder))
        os.chdir(root)
        sys.path.insert(0, str(root))
        # One thread: the tensors are small. Both are read when torch and huggingface_hub are imported, by the tests.
        os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        skips = SkipReasons()
        status = pytest.main(["-q", "-p", "no:cacheprovider", f"tests/{TESTER.name}", *sys.argv[1:]], plugins=[skips])
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return int(status)
        unexplained = explain(skips.counts, importlib.import_module(f"tests.{TESTER.stem}").EXPLAINED_SKIPS)
    return int(status) or int(bool(unexplained))


if __name__ == "__main__":
    sys.exit(main())
