"""windows.py, which cuts the videos of RESULTS.md's accuracy tables."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from esg_transformers.annotations.events import Event

spec = importlib.util.spec_from_file_location("windows", Path(__file__).with_name("windows.py"))
assert spec is not None and spec.loader is not None
windows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(windows)


def event(start, end, label_id=0):
    return {"segment": [start, end], "label": str(label_id), "label_id": label_id}


@pytest.mark.parametrize(
    ("segment", "kept"),
    [
        ([12.0, 20.0], [2.0, 10.0]),  # inside
        ([8.0, 12.0], [0.0, 2.0]),  # half of it
        ([7.9, 12.0], None),
        ([0.0, 18.0], [0.0, 8.0]),  # half of the window
        ([0.0, 17.9], None),
        ([30.0, 40.0], None),
    ],
)
def test_an_event_is_kept_where_half_of_it_or_of_the_window_lies_inside(segment, kept):
    found = windows.cut(Event(*segment, "alarm"), 10.0, 26.0)
    assert (found and [found.start, found.end]) == kept


def test_windows_have_events_of_the_most_frequent_classes_only(tmp_path, monkeypatch):
    database = {
        "long": {"duration": 60.0, "subset": "train", "annotations": [event(20.0, 24.0), event(50.0, 52.0, 1)]},
        "short": {"duration": 9.0, "subset": "test", "annotations": [event(1.0, 2.0)]},
        "rare": {"duration": 60.0, "subset": "train", "annotations": [event(0.0, 60.0, 2)]},
        "mixed": {"duration": 60.0, "subset": "train", "annotations": [event(0.0, 60.0, 1), event(0.0, 60.0, 2)]},
        "silent": {"duration": 60.0, "subset": "train", "annotations": []},
        "more": {"duration": 8.0, "subset": "test", "annotations": [event(0.0, 8.0, 1)]},
    }
    (tmp_path / "annotations.json").write_text(json.dumps({"version": "1", "database": database}))
    paths = [str(tmp_path / name) for name in ("annotations.json", "windows.json")]
    monkeypatch.setattr(sys, "argv", ["windows.py", *paths, "--classes", "2", "--seconds", "16", "--seed", "3"])
    windows.main()
    found = json.loads((tmp_path / "windows.json").read_text())["database"]
    assert found.keys() == {"long", "short", "more"}
    assert found["short"] == database["short"]
    assert found["long"]["duration"] == 16.0 and found["long"]["subset"] == "train"
    for kept in found["long"]["annotations"]:
        start, end = kept["segment"]
        assert 0 <= start < end <= 16.0
        assert end - start >= (2.0 if kept["label_id"] == 0 else 1.0)


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["windows.py", str(tmp_path / "absent.json"), str(tmp_path / "windows.json")])
    with pytest.raises(SystemExit, match="absent.json"):
        windows.main()
