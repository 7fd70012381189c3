"""simulated_corpus.py, which writes the features of RESULTS.md's accuracy tables."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from esg_transformers.annotations import Event, read_annotations
from esg_transformers.corpora.feature_folder import FeatureFolder
from esg_transformers.corpora.feature_sets import FEATURE_SETS

spec = importlib.util.spec_from_file_location("simulated_corpus", Path(__file__).with_name("simulated_corpus.py"))
assert spec is not None and spec.loader is not None
simulated_corpus = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulated_corpus)


def event(start: float, end: float, label_id: int = 0) -> dict[str, object]:
    return {"segment": [start, end], "label": str(label_id), "label_id": label_id}


DATABASE = {
    "long": {"duration": 60.0, "subset": "train", "annotations": [event(20.0, 24.0), event(50.0, 52.0, 1)]},
    "short": {"duration": 9.0, "subset": "test", "annotations": [event(1.0, 2.0)]},
    "rare": {"duration": 60.0, "subset": "train", "annotations": [event(0.0, 60.0, 2)]},
    "mixed": {"duration": 60.0, "subset": "train", "annotations": [event(0.0, 60.0, 1), event(0.0, 60.0, 2)]},
    "silent": {"duration": 60.0, "subset": "train", "annotations": []},
    "more": {"duration": 8.0, "subset": "test", "annotations": [event(0.0, 8.0, 1)]},
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["simulated_corpus.py", *map(str, arguments)])
    simulated_corpus.main()


@pytest.fixture
def annotations_path(tmp_path: Path) -> Path:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"version": "1", "database": DATABASE}))
    return path


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
def test_an_event_is_kept_where_half_of_it_or_of_the_window_lies_inside(
    segment: list[float], kept: list[float] | None
) -> None:
    start, end = segment
    found = simulated_corpus.cut(Event(start, end, "alarm"), 10.0, 26.0)
    assert (found and [found.start, found.end]) == kept


def test_windows_have_events_of_the_most_frequent_classes_only(annotations_path: Path) -> None:
    windows = simulated_corpus.windows_of(read_annotations(annotations_path), num_classes=2, seconds=16.0, seed=3)
    assert windows.videos.keys() == {"long", "short", "more"}
    assert windows.labels == ("0", "1", "2")
    assert windows.videos["short"] == read_annotations(annotations_path).videos["short"]
    assert windows.videos["long"].duration == 16.0 and windows.videos["long"].split == "train"
    for kept in windows.videos["long"].events:
        assert 0 <= kept.start < kept.end <= 16.0
        assert kept.end - kept.start >= (2.0 if kept.label == "0" else 1.0)


@pytest.mark.parametrize("feature_set", ["i3d-vggish", "one-peace"])
def test_the_folder_has_annotations_features_noisy_features_and_a_list(
    feature_set: str, annotations_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "text.npy", np.random.default_rng(0).standard_normal((3, 1536), np.float32))
    text = ["--text-embeddings", tmp_path / "text.npy"] if feature_set == "one-peace" else []
    folder = tmp_path / "corpus"
    run(monkeypatch, annotations_path, folder, "--feature-set", feature_set, "--classes", 2, "--seed", 3, *text)
    annotations = read_annotations(folder / "annotations.json")
    assert annotations.videos.keys() == {"long", "short", "more"}
    for features, split in (("av_features", "train"), ("av_features", "test"), ("noisy_features", "test")):
        videos = FeatureFolder(annotations, folder / features, FEATURE_SETS[feature_set], split)
        examples = [videos[index] for index in range(len(videos))]
        assert all(example["audio_features"] is not None for example in examples)
    assert not (folder / "noisy_features" / "long_rgb.npy").exists()
    assert set((folder / "one_stream.txt").read_text().split()) <= {"short", "more"}
    with pytest.raises(SystemExit, match="exists"):
        run(monkeypatch, annotations_path, folder, "--feature-set", feature_set, *text)


def test_a_missing_file_is_named(annotations_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="absent.json"):
        run(monkeypatch, tmp_path / "absent.json", tmp_path / "corpus", "--feature-set", "i3d-vggish")
    with pytest.raises(SystemExit, match="text_embeddings"):
        run(monkeypatch, annotations_path, tmp_path / "corpus", "--feature-set", "one-peace")
