"""Runs the code of the top README that is not a doctest, unchanged."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from esg_transformers.cli import demo
from esg_transformers.cli.main import main
from esg_transformers.simulation.clips import make_workshop_clips

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_after_the_demo_the_first_example_prints_events_as_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "make_workshop_clips", partial(make_workshop_clips, duration=6.0, num_workers=1))
    monkeypatch.setattr(demo, "CLIPS", {"train": 4, "validation": 2, "test": 18})  # the example names the 18th
    monkeypatch.setattr(demo, "TRAINING", replace(demo.TRAINING, epochs=1, warmup_epochs=0))
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--output", "demo"]) == 0
    capsys.readouterr()
    [code] = re.findall(r"```python\n(# the events of a clip\n.*?)```", README, re.DOTALL)
    names = {}
    exec(code.replace("model=", "threshold=0.0, top_k=3, model="), names)  # after one epoch nothing reaches 0.3
    printed = capsys.readouterr().out.splitlines()
    [shown] = re.findall(r"```text\n( 1\.72.*?)```", README, re.DOTALL)
    line = re.compile(
        r"[ \d]\d\.\d\d - [ \d]\d\.\d\d s  (alarm|door slamming|machine running|person speaking) +0\.\d\d"
    )
    assert len(printed) == 3
    assert all(line.fullmatch(text) for text in [*printed, *shown.splitlines()])


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?:|\.\./\.\./actions)([^)#]+)[^)]*\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 160
