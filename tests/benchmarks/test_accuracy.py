"""accuracy.py, which trains, scores and compares the models of RESULTS.md, on a corpus of a few videos."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from esg_transformers.models.esg_net.modeling_esg_net import EsgNetDependencyExperts

RUN = "run --model tiny --feature-set one-peace --videos 4 2 3 --classes 3 --epochs 1 --warmup-epochs 0 --batch-size 2"


def accuracy(*arguments) -> None:
    spec = importlib.util.spec_from_file_location("accuracy", Path(__file__).with_name("accuracy.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["accuracy.py", *map(str, arguments)])
        # `--without-branch` holds for its whole process, which is that of the other tests here.
        patch.setattr(EsgNetDependencyExperts, "_temporal", EsgNetDependencyExperts._temporal)
        module.main()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("results")
    runs = {
        "whole": [],
        "plain": ["--field", "num_dependency_layers=0"],
        "branch": ["--without-branch", "temporal"],
        "other videos": ["--corpus-seed", 1],
    }
    for name, options in runs.items():
        accuracy(*RUN.split(), *options, "--result", folder / name)
    return {name: folder / name for name in runs}


def test_a_run_says_what_was_trained_and_what_it_found(results):
    result = json.loads(results["branch"].read_text())
    assert result["model"] == "tiny without temporal"
    assert result["test"]["all"]["found"] != json.loads(results["whole"].read_text())["test"]["all"]["found"]
    assert result["settings"]["epochs"] == 1
    assert {"all", "noisy"} <= result["test"].keys()
    assert len(result["video_ids"]) == len(result["test"]["all"]["found"]) == 3
    # Two layers of experts by default, two semantic stages.
    assert len(result["inside"]["router"]) == len(result["inside"]["semantic"]) == 2
    assert "router" not in json.loads(results["plain"].read_text())["inside"]


def test_a_table_has_a_row_for_each_model_and_its_seeds(results, capsys):
    accuracy("table", results["plain"], results["plain"], results["branch"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[2:]] == [["tiny num_dependency_layers=0", "2"], ["tiny without temporal", "1"]]
    assert rows[2][3].endswith("± 0.0"), "the same result twice has no spread"


def test_a_model_against_itself_has_no_difference(results, capsys):
    accuracy("compare", results["plain"], "--against", results["plain"])
    out = capsys.readouterr().out
    assert re.search(r"^\| all \| \+0\.0 \| \[0\.0, 0\.0\] \| 1\.000 \|$", out, re.M), out


def test_what_cannot_be_compared_is_refused(results, tmp_path):
    quiet = json.loads(results["plain"].read_text())
    del quiet["test"]["noisy"]
    without_noisy = tmp_path / "quiet"
    without_noisy.write_text(json.dumps(quiet))
    for ours, theirs, message in (
        ([results["plain"]], [results["branch"]] * 2, "Got 1 results against 2; give a file for each seed"),
        ([results["plain"]], [results["other videos"]], "are of different test videos; run both on the same."),
        ([without_noisy], [results["plain"]], "noisy; run both with the same --noisy and --one-stream."),
    ):
        with pytest.raises(SystemExit, match=re.escape(message)):
            accuracy("compare", *ours, "--against", *theirs)


def test_a_misspelt_ablation_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=re.escape("The config of tiny has no field num_layers; see its docstring.")):
        accuracy(*RUN.split(), "--field", "num_layers=0", "--result", tmp_path / "result")
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("field", ["num_dependency_layers", "num_dependency_layers=", "num_dependency_layers=none"])
def test_a_field_without_a_value_is_refused(tmp_path, capsys, field):
    with pytest.raises(SystemExit) as refusal:
        accuracy(*RUN.split(), "--field", field, "--result", tmp_path / "result")
    assert refusal.value.code == 2
    message = f"argument --field: '{field}' is not NAME=JSON, as num_dependency_layers=0 is"
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)
    assert not (tmp_path / "result").exists()
