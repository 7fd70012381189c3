"""accuracy.py, which trains, scores and compares the models of RESULTS.md, on a corpus of a few videos."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from esg_transformers.models.esg_net.modeling_esg_net import EsgNetDependencyExperts

pytestmark = pytest.mark.slow  # trains four models
RUN = "run --model tiny --feature-set one-peace --videos 4 2 3 --classes 3 --epochs 1 --warmup-epochs 0 --batch-size 2"


def accuracy(*arguments: object) -> None:
    """Run the script with arguments."""
    spec = importlib.util.spec_from_file_location("accuracy", Path(__file__).with_name("accuracy.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["accuracy.py", *map(str, arguments)])
        # `--without-branch` changes the class for the whole process, which other tests share.
        patch.setattr(EsgNetDependencyExperts, "_temporal", EsgNetDependencyExperts._temporal)
        module.main()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("results")
    runs: dict[str, list[str]] = {
        "whole": [],
        "plain": ["--field", "num_dependency_layers=0"],
        "branch": ["--without-branch", "temporal"],
        "other videos": ["--corpus-seed", "1"],
    }
    for name, options in runs.items():
        accuracy(*RUN.split(), *options, "--result", folder / name)
    return {name: folder / name for name in runs}


def test_a_result_names_its_model_and_holds_settings_figures_and_events(results: dict[str, Path]) -> None:
    result = json.loads(results["branch"].read_text())
    assert result["model"] == "tiny without temporal"
    assert result["test"]["all"]["found"] != json.loads(results["whole"].read_text())["test"]["all"]["found"]
    assert result["settings"]["epochs"] == 1
    assert {"all", "noisy"} <= result["test"].keys()
    assert len(result["video_ids"]) == len(result["test"]["all"]["found"]) == 3
    # Two layers of experts by default, two semantic stages.
    assert len(result["inside"]["router"]) == len(result["inside"]["semantic"]) == 2
    assert "router" not in json.loads(results["plain"].read_text())["inside"]


def test_a_table_has_a_row_per_model_with_its_number_of_runs(
    results: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy("table", results["plain"], results["plain"], results["branch"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[2:]] == [["tiny num_dependency_layers=0", "2"], ["tiny without temporal", "1"]]
    assert rows[2][3].endswith("± 0.0"), "the same result twice has no spread"


def test_a_model_against_itself_has_no_difference(results: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    accuracy("compare", results["plain"], "--against", results["plain"])
    out = capsys.readouterr().out
    assert re.search(r"^\| all \| \+0\.0 \| \[0\.0, 0\.0\] \| 1\.000 \|$", out, re.M), out


def test_results_of_other_numbers_videos_or_sets_are_not_compared(results: dict[str, Path], tmp_path: Path) -> None:
    quiet = json.loads(results["plain"].read_text())
    del quiet["test"]["noisy"]
    without_noisy = tmp_path / "quiet"
    without_noisy.write_text(json.dumps(quiet))
    for ours, theirs, message in (
        ([results["plain"]], [results["branch"]] * 2, "1 results against 2"),
        ([results["plain"]], [results["other videos"]], "different test videos"),
        ([without_noisy], [results["plain"]], "same --noisy and --one-stream"),
    ):
        with pytest.raises(SystemExit, match=re.escape(message)):
            accuracy("compare", *ours, "--against", *theirs)


def test_a_misspelt_ablation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="tiny has no field num_layers"):
        accuracy(*RUN.split(), "--field", "num_layers=0", "--result", tmp_path / "result")
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("field", ["num_dependency_layers", "num_dependency_layers=", "num_dependency_layers=none"])
def test_a_field_without_a_value_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    with pytest.raises(SystemExit) as refusal:
        accuracy(*RUN.split(), "--field", field, "--result", tmp_path / "result")
    assert refusal.value.code == 2
    assert f"argument --field: '{field}' is not NAME=JSON" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "result").exists()
