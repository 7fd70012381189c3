import json
import shutil

import pytest

from esg_transformers.data.corpus import EventCorpus
from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid
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
    assert {line.rsplit(maxsplit=1)[0] for line in lines[14:]} == labels


def test_the_found_events_are_written_in_the_layout_of_activitynet(run, corpus, trained, tmp_path):
    path = tmp_path / "found.json"
    options = {"--corpus": corpus, "--model": trained, "--split": "validation", "--batch-size": 2, "--output": path}
    assert run("evaluate", options)[0] == 0
    content = json.loads(path.read_text())
    assert content.keys() == {"version", "results", "external_data"}
    assert tuple(content["results"]) == EventCorpus(corpus, "validation").video_ids
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


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
    assert message.startswith("The test split is on a feature grid of 16 frames/s, stride 4, window 16; this model")


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
    dataset.grid = FeatureGrid(25.0, 8, 24)
    for part in new_model(dataset, "tiny"):
        part.save_pretrained(tmp_path)
    message = refused("evaluate", "--corpus", corpus, "--model", tmp_path)
    assert "is on a feature grid of 10 frames/s, stride 2, window 4; this model was trained on 25 frames/s" in message


def test_weights_cut_short_are_refused_without_a_traceback(refused, trained, corpus, tmp_path):
    shutil.copytree(trained, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "do not load" in refused("evaluate", "--model", tmp_path / "model", "--corpus", corpus)


@pytest.mark.parametrize("name", ["mistyped", "./mistyped", "some/where/mistyped"])
def test_a_mistyped_folder_is_not_looked_for_on_the_hub(refused, corpus, name):
    assert f"No folder at {name}" in refused("evaluate", "--model", name, "--corpus", corpus)
