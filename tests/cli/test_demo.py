import base64
import re
from dataclasses import replace
from functools import partial

import pytest

from esg_transformers.cli import demo
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.simulation.clips import make_workshop_clips

pytestmark = pytest.mark.slow


def times_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def short(monkeypatch):
    """The demonstration on few, short clips and with one epoch."""
    monkeypatch.setattr(demo, "make_workshop_clips", partial(make_workshop_clips, duration=6.0, num_workers=1))
    monkeypatch.setattr(demo, "CLIPS", {"train": 4, "validation": 2, "test": 2})
    monkeypatch.setattr(demo, "TRAINING", replace(demo.TRAINING, epochs=1, warmup_epochs=0))


def test_the_demonstration_goes_from_clips_to_a_timeline_and_makes_nothing_twice(short, run, tmp_path):
    folder = tmp_path / "demo"
    code, printed, _ = run("demo", "--output", folder)
    assert code == 0
    assert [line[:3] for line in printed.splitlines() if line[1:3] == "/5"] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert "model       control" in printed
    assert "Percent, 2 held-out clips; control: trained on shuffled labels." in printed
    assert "True events\n" in printed
    assert (folder / "timeline.png").read_bytes().startswith(b"\x89PNG")
    [shown] = re.findall(r"workshop_test_\d{4}\.mp4", printed)
    video = base64.b64encode((folder / "clips" / "videos" / shown).read_bytes()).decode()
    assert video in (folder / "timeline.html").read_text()

    before = times_of(folder)
    code, again, _ = run("demo", "--output", folder)
    assert code == 0
    assert again == "".join(line for line in printed.splitlines(keepends=True) if line[:3] not in ("1/5", "2/5"))
    changed = {path.name for path, time in times_of(folder).items() if before.get(path) != time}
    assert changed == {"timeline.png", "timeline.html"}


def test_the_control_has_the_features_of_each_clip_and_the_events_of_another(corpus):
    dataset = EventCorpus(corpus, "train")
    control = demo.ShuffledEvents(dataset, seed=0)
    assert len(control) == len(dataset)
    true = [example["segments"].tolist() for example in dataset]
    given = [example["segments"].tolist() for example in control]
    assert sorted(given) == sorted(true)
    assert all(own != other for own, other in zip(true, given, strict=True))
    for example, shuffled in zip(dataset, control, strict=True):
        assert (example["visual_features"] == shuffled["visual_features"]).all()
        assert len(shuffled["segments"]) == len(shuffled["labels"])
