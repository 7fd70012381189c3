import subprocess
import sys

import pytest

from esg_transformers.cli.main import main

COMMANDS = ("demo", "train", "finetune", "calibrate", "evaluate", "localize")


def test_without_a_command_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_the_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: esg-transformers {command} [-h]" in capsys.readouterr().out


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


def test_the_package_runs_as_a_module_and_gives_the_exit_code_to_the_shell(tmp_path):
    command = [sys.executable, "-m", "esg_transformers", "evaluate", "--model", str(tmp_path), "--corpus", "nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("esg-transformers: error: ")
    assert "Traceback" not in ended.stderr
