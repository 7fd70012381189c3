import json
import re
import shutil
from dataclasses import replace

import pytest

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.training.model import new_model


def test_the_scores_of_a_split_are_printed_by_overlap_and_by_class(run, corpus, trained):
    code, printed, _ = run("evaluate", "--corpus", corpus, "--model", trained)
    assert code == 0
    dataset = EventCorpus(corpus, "test")
    num_events = sum(len(example["labels"]) for example in dataset)
    lines = printed.splitlines()
    assert lines[0] == f"3 videos, {num_events} events, percent"
    assert lines[2].split() == ["test"]
    overlaps = {line.split()[0]: float(line.split()[-1]) for line in lines[3:12]}
    assert list(overlaps) == [f"mAP@0.{tenth}" for tenth in range(1, 10)]
    assert lines[12].startswith("average mAP ")
    assert float(lines[12].split()[-1]) == pytest.approx(sum(overlaps.values()) / 9, abs=0.11)  # of rounded numbers
    labels = {dataset.labels[label] for example in dataset for label in example["labels"]}
    assert {line.rsplit(maxsplit=1)[0] for line in lines[14 : 14 + len(labels)]} == labels
    empty, title, _, head, *rows = lines[14 + len(labels) :]
    assert (empty, title) == ("", "At the thresholds of the pipeline, tIoU 0.5:")
    assert head.split() == ["precision", "recall", "F1", "false", "alarms/h"]
    assert rows[-1].startswith("all classes")


def test_the_found_events_are_written_in_the_layout_of_activitynet(run, corpus, trained, tmp_path):
    path = tmp_path / "found.json"
    options = {"--corpus": corpus, "--model": trained, "--split": "validation", "--batch-size": 2, "--output": path}
    assert run("evaluate", options)[0] == 0
    content = json.loads(path.read_text())
    assert content.keys() == {"version", "results", "external_data"}
    assert tuple(content["results"]) == EventCorpus(corpus, "validation").video_ids
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_report_holds_what_is_printed_and_drawn(run, corpus, trained, tmp_path):
    report, picture, found = (tmp_path / name for name in ("report.json", "errors.png", "found.json"))
    source = {"--corpus": corpus, "--model": trained}
    code, printed, _ = run("evaluate", source, "--bootstrap", 40, "--report", report, "--errors", picture)
    assert code == 0
    content = json.loads(report.read_text())
    assert content["videos"] == 3 and content["split"] == "test"
    low, high = content["intervals"]["average_map"]
    figure = content["metrics"]["average_map"]
    assert low <= figure <= high
    assert f"average mAP   {100 * figure:>14.1f}  [{100 * low:5.1f}, {100 * high:5.1f}]" in printed
    assert set(content["thresholds"].values()) == {0.3}
    recall = content["detections"]["micro"]["recall"]
    assert f"{100 * recall:.1f}" in printed.split("all classes")[1]
    assert content["errors"]["map"] == content["metrics"]["mAP@0.5"]
    assert "double detection" in printed and "others at once" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not found.exists()


def test_a_model_is_compared_with_what_another_one_found(run, corpus, trained, tmp_path, caplog):
    found, report = tmp_path / "found.json", tmp_path / "report.json"
    source = {"--corpus": corpus, "--model": trained}
    assert run("evaluate", source, "--output", found)[0] == 0
    code, printed, _ = run("evaluate", source, "--against", found, "--bootstrap", 40, "--report", report)
    assert code == 0
    assert f"Difference to {found}, in percentage points:" in printed
    assert re.search(r"average mAP +[+-]0\.0  \[ *-?0\.0, +-?0\.0\] +1\.000", printed)
    assert json.loads(report.read_text())["comparison"]["average_map"]["p_value"] == 1.0

    content = json.loads(found.read_text())
    content["results"] |= {"another video": []}
    content["results"] |= {video_id: [] for video_id in EventCorpus(corpus, "test").video_ids}
    found.write_text(json.dumps(content))
    assert run("evaluate", source, "--against", found, "--bootstrap", 40, "--report", report)[0] == 0
    assert f"1 videos of {found} are not in the split and are ignored." in caplog.text
    content = json.loads(report.read_text())
    assert content["comparison"]["average_map"]["difference"] == pytest.approx(content["metrics"]["average_map"])


def test_results_that_lack_a_video_of_the_split_are_refused(refused, run, corpus, trained, tmp_path):
    found, source = tmp_path / "found.json", {"--corpus": corpus, "--model": trained}
    video_ids = EventCorpus(corpus, "test").video_ids
    found.write_text(json.dumps({"results": {video_id: [] for video_id in video_ids[1:]}}))
    assert f"lacks 1 of the 3 videos of the split; the first is '{video_ids[0]}'" in refused(
        "evaluate", source, "--against", found
    )
    event = {"label": "whale", "score": 0.5, "segment": [0.0, 1.0]}
    found.write_text(json.dumps({"results": {video_id: [event] for video_id in video_ids}}))
    assert "'whale'" in refused("evaluate", source, "--against", found)


def test_what_cannot_be_measured_is_refused_before_the_work(refused, tmp_path):
    words = ["evaluate", "--corpus", "c", "--model", "m"]
    assert "draw at least 40" in refused(*words, "--bootstrap", 10)
    assert refused(*words, "--errors", tmp_path / "errors.pdf").endswith("errors.pdf; its suffix must be .png.")
    assert "there is no folder" in refused(*words, "--report", tmp_path / "nowhere" / "report.json")


def test_a_model_that_is_not_there_is_named(refused, corpus, tmp_path):
    assert str(tmp_path) in refused("evaluate", "--corpus", corpus, "--model", tmp_path)


def test_a_split_that_a_corpus_does_not_have_is_named(refused, corpus, trained):
    message = refused("evaluate", "--corpus", corpus, "--model", trained, "--split", "val")
    assert message == f"The corpus {corpus} has no split 'val'; it has train, validation, test."


def test_a_result_file_in_no_folder_is_refused_before_the_work(refused, tmp_path):
    message = refused("evaluate", "--corpus", "c", "--model", "m", "--output", tmp_path / "nowhere" / "found.json")
    assert message.endswith(f"there is no folder {tmp_path / 'nowhere'}. Make it first.")


def test_features_of_another_kind_than_those_of_the_model_are_refused(refused, trained, write_features):
    source = write_features("one-peace")
    annotations = source["--annotations"]
    annotations.write_text(annotations.read_text().replace('"speech"', '"person speaking"'))
    message = refused("evaluate", source, "--model", trained)
    assert message.startswith("The test split is on a feature grid of 16 frames/s, stride 4, window 16; expected")


def test_an_event_of_a_class_that_the_model_does_not_know_is_named(refused, trained, write_features):
    message = refused("evaluate", write_features("one-peace"), "--model", trained)
    assert "event 'speech' from 1.0 to 4.5 s has a label that is not among the 4 known; the nearest known" in message


def test_a_corpus_with_other_classes_than_the_model_is_refused(refused, corpus, tmp_path):
    dataset = EventCorpus(corpus, "test")
    dataset.labels = (*dataset.labels, "rain")
    for part in new_model(dataset, "tiny"):
        part.save_pretrained(tmp_path)
    message = refused("evaluate", "--corpus", corpus, "--model", tmp_path)
    assert message.startswith("The test split has 4 classes and the model 5; they differ in ['rain'].")


def test_a_corpus_on_another_grid_than_the_model_is_refused(refused, corpus, tmp_path):
    dataset = EventCorpus(corpus, "test")
    dataset.feature_spec = replace(dataset.feature_spec, grid=FeatureGrid(25.0, 8, 24))
    for part in new_model(dataset, "tiny"):
        part.save_pretrained(tmp_path)
    message = refused("evaluate", "--corpus", corpus, "--model", tmp_path)
    assert "is on a feature grid of 10 frames/s, stride 2, window 4; expected 25 frames/s" in message


def test_weights_cut_short_are_refused_without_a_traceback(refused, trained, corpus, tmp_path):
    shutil.copytree(trained, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "do not load" in refused("evaluate", "--model", tmp_path / "model", "--corpus", corpus)


@pytest.mark.parametrize("name", ["mistyped", "./mistyped", "some/where/mistyped"])
def test_a_mistyped_folder_is_not_looked_for_on_the_hub(refused, corpus, name):
    assert f"No folder at {name}" in refused("evaluate", "--model", name, "--corpus", corpus)
