import argparse
import importlib.util
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import esg_transformers
from esg_transformers.cli import main as main_module
from esg_transformers.cli import options
from esg_transformers.cli.commands import COMMANDS, GROUPS
from esg_transformers.cli.main import main
from esg_transformers.corpora import feature_sets
from esg_transformers.localization.trace import Trace
from esg_transformers.models.esg_net import configuration_esg_net

HEAVY = {"accelerate", "av", "datasets", "evaluate", "huggingface_hub", "matplotlib", "numpy", "torch", "transformers"}
CALL = """
import sys
from esg_transformers.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print("code", code, *sys.modules)
"""


def printed_until_the_end(capsys, *words):
    """Standard output of a call that ends the process without an error, such as a request for help."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["corpus"], ["annotations"], ["metric"]])
def test_without_a_command_the_help_is_shown(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown == printed_until_the_end(capsys, *words, "--help")


def test_the_help_lists_every_command_with_its_summary(capsys):
    shown = " ".join(printed_until_the_end(capsys, "--help").split())
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        summary = GROUPS[group] if group else command.description.splitlines()[0]
        assert f" {group or last} {summary}" in shown


def test_the_readme_has_every_command_and_every_option_that_several_share():
    readme = (Path(main_module.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert all(f"`{command}`" in readme for command in COMMANDS)
    words = [word for command in COMMANDS.values() for word in spellings_of(command)]
    assert all(re.search(rf"`[^`]*{word}\b", readme) for word in {word for word in words if words.count(word) > 2})


def spellings_of(command):
    parser = argparse.ArgumentParser(add_help=False)
    command.add_options(parser)
    return {word for action in parser._actions if action.help != argparse.SUPPRESS for word in action.option_strings}


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"esg-transformers {esg_transformers.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options_and_has_a_module(command, capsys):
    shown = printed_until_the_end(capsys, *command.split(), "--help")
    assert f"usage: esg-transformers {command} [-h]" in shown
    assert importlib.util.find_spec(f"esg_transformers.cli.{command.replace(' ', '_')}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 0),
        (["train", "--help"], 0),
        (["nonsense"], 2),
        (["localize", "--wrong"], 2),
        (["corpus", "simulate", "--output", "o", "--feature-set", "none"], 2),
        (["localize", "--model", "m"], 1),
        (["train", "--output", "o", "--corpus", "c", "--batch-size", "0"], 1),
    ],
)
def test_help_and_mistakes_of_use_import_no_heavy_library(words, code):
    ended = subprocess.run([sys.executable, "-c", CALL, *words], capture_output=True, text=True, timeout=60)
    _, returned, *modules = ended.stdout.splitlines()[-1].split()
    assert returned == str(code)
    assert not HEAVY & set(modules)


def test_names_that_options_repeat_are_those_of_the_rooms():
    assert tuple(configuration_esg_net.SIZES) == options.SIZES
    assert tuple(feature_sets.FEATURE_SETS) == options.FEATURE_SETS
    assert set(options.LANES) <= {field.name for field in fields(Trace)}


def test_the_error_of_a_command_has_its_traceback_where_transformers_is_told_to_debug(monkeypatch, capsys, tmp_path):
    words = ["localize", str(tmp_path / "nowhere.mp4"), "--model", "m"]
    assert main(words) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    assert main(words) == 1
    assert "Traceback (most recent call last):" in capsys.readouterr().err


def test_the_error_of_a_worker_is_told_without_its_traceback(refused, clips, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for clip in (clips / "videos").iterdir():
        (videos / clip.name).write_bytes(b"not a video" if "validation_0001" in clip.name else clip.read_bytes())
    options = {"--videos": videos, "--annotations": clips / "annotations.json", "--output": tmp_path / "corpus"}
    message = refused("corpus", "build", options, "--num-workers", 1)
    assert message.startswith("Video 'workshop_validation_0001' of split 'validation' cannot be stored: ")
    assert f"{videos / 'workshop_validation_0001.mp4'} cannot be read as video or sound" in message
    assert not (tmp_path / "corpus").exists()


def test_an_interrupted_command_says_so_and_nothing_else(monkeypatch, capsys, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("esg_transformers.cli.corpus_build.read_annotations", interrupt)
    assert main(["corpus", "build", "--videos", "v", "--annotations", "a", "--output", str(tmp_path / "o")]) == 130
    assert capsys.readouterr().err == "esg-transformers: interrupted.\n"


@pytest.mark.slow
def test_the_package_runs_as_a_module_and_gives_the_exit_code_to_the_shell(tmp_path):
    command = [sys.executable, "-m", "esg_transformers", "evaluate", "--model", str(tmp_path), "--corpus", "nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("esg-transformers: error: ")
    assert "Traceback" not in ended.stderr
