import json
import shutil

import numpy as np
import pytest


@pytest.fixture
def features(write_features):
    """Options that name sound features of four videos, with too few events to learn from: nothing but warnings."""
    return write_features("i3d-vggish")


def test_warnings_alone_exit_with_0_unless_strict(run, features):
    code, output, _ = run("corpus", "validate", features)
    assert code == 0
    assert "train: 2 videos, 4 events; validation: 1 videos, 2 events; test: 1 videos, 2 events; 2 classes" in output
    assert "warning: class with few events (2)" in output
    assert output.endswith("0 errors, 2 warnings\n")
    assert run("corpus", "validate", features, "--strict")[0] == 1


def test_errors_exit_with_1_and_are_told_by_kind_and_written_as_json(run, features, tmp_path):
    folder = features["--features"]
    (folder / "b_flow.npy").unlink()
    broken = np.load(folder / "c_rgb.npy")
    broken[0, 0] = np.nan
    np.save(folder / "c_rgb.npy", broken)
    code, output, _ = run("corpus", "validate", features, "--report", tmp_path / "report.json")
    assert code == 1
    assert "error: NaN or infinite (1)\n  video 'c': c_rgb.npy holds 1 values that are NaN or infinite" in output
    assert output.index("error: missing file (1)") < output.index("warning: ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(problem["severity"], problem["kind"], problem["video_id"]) for problem in report["problems"]] == [
        ("error", "missing file", "b"),
        ("error", "NaN or infinite", "c"),
        ("warning", "class with few events", None),
        ("warning", "class with few events", None),
    ]
    assert report["splits"]["train"]["videos"] == 2
    assert report["classes"]["alarm"] == {"train": 2, "validation": 1, "test": 1}


def test_problems_of_the_annotations_are_told_with_those_of_the_files(run, features):
    path = features["--annotations"]
    content = json.loads(path.read_text())
    content["database"]["b"]["annotations"] += [
        {"segment": [2.0, 99.0], "label": "alarm", "label_id": 0},
        {"segment": [2.0, 2.0], "label": "alarm", "label_id": 0},
    ]
    path.write_text(json.dumps(content))
    (features["--features"] / "b_flow.npy").unlink()
    code, output, _ = run("corpus", "validate", features)
    assert code == 1
    for kind in ("event outside the video", "event without length", "missing file"):
        assert f"error: {kind} (1)\n  video 'b': " in output
    assert run("corpus", "validate", "--annotations", path)[0] == 1


def test_only_the_first_problems_of_a_kind_are_listed(run, features):
    for path in features["--features"].glob("*.npy"):
        path.unlink()
    _, output, _ = run("corpus", "validate", features)
    assert "error: missing file (12)\n" in output
    assert output.count("is not there") == 5
    assert "\n  and 7 more\n" in output


def test_videos_are_checked_against_their_annotations(run, clips, tmp_path):
    shutil.copytree(clips / "videos", tmp_path / "videos")
    paths = sorted((tmp_path / "videos").iterdir())
    shutil.copy(paths[0], paths[-1])  # of test and of validation
    paths[1].write_bytes(b"not a video")
    words = ["--annotations", clips / "annotations.json", "--videos", tmp_path / "videos"]
    code, output, _ = run("corpus", "validate", *words)
    assert code == 1
    assert "error: leakage between splits (1)" in output
    assert f"error: unreadable file (1)\n  video {paths[1].stem!r}: " in output


def test_a_corpus_is_checked_with_the_labels_of_a_model(run, corpus, trained, tmp_path):
    code, output, _ = run("corpus", "validate", "--corpus", corpus, "--model", trained)
    assert code == 0, output
    shutil.copytree(trained, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["id2label"]["0"] = "siren"
    config["label2id"] = {label: int(index) for index, label in config["id2label"].items()}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    code, output, _ = run("corpus", "validate", "--corpus", corpus, "--model", tmp_path / "model")
    assert code == 1
    assert "error: other classes (1)" in output


def test_unclear_sources_are_refused(refused, corpus, features, tmp_path):
    assert "Give either --corpus, or --annotations" in refused("corpus", "validate")
    assert "Give either --corpus" in refused("corpus", "validate", "--corpus", corpus, features)
    assert "Give either --corpus" in refused("corpus", "validate", features | {"--feature-set": ""})
    assert "No folder at" in refused("corpus", "validate", features | {"--features": tmp_path / "nowhere"})
    assert "No model folder at" in refused("corpus", "validate", "--corpus", corpus, "--model", tmp_path / "nowhere")
    assert "is not a corpus" in refused("corpus", "validate", "--corpus", tmp_path)
