import json

import pytest

from esg_transformers.annotations.activitynet import (
    scan_activitynet_results,
    scan_unav_results,
    write_activitynet_results,
    write_unav_results,
)
from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.reading import AnnotationReading

LABELS = ("speech", "alarm")  # not in alphabetical order
VIDEOS = {
    "-a": AnnotatedVideo("-a", None, "train", (Event(0.1, 1 / 3, "alarm", 0.75), Event(2.0, 3.0, "speech", 1e-9))),
    "b": AnnotatedVideo("b", None, "train", ()),
}
FOUND = Annotations(VIDEOS, LABELS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "found.json"


def scan(function, path, label2id=FOUND.label2id):
    reading = AnnotationReading(path, "result file", label2id)
    return function(reading), reading.problems


def test_results_are_written_as_activitynet_s_evaluator_reads_them_and_read_back(path):
    write_activitynet_results(FOUND, path)
    alarm = {"label": "alarm", "score": 0.75, "segment": [0.1, 1 / 3]}
    speech = {"label": "speech", "score": 1e-9, "segment": [2.0, 3.0]}
    assert json.loads(path.read_text()) == {
        "version": "esg-transformers",
        "results": {"-a": [alarm, speech], "b": []},
        "external_data": {},
    }
    assert scan(scan_activitynet_results, path) == (FOUND, [])
    assert scan(scan_activitynet_results, path, None)[0].labels == ("alarm", "speech")


def test_results_are_written_as_unav_s_evaluator_reads_them_and_read_back(path):
    write_unav_results(FOUND, path)
    alarm = {"segment": [0.1, 1 / 3], "label_id": 1, "scores": 0.75}
    speech = {"segment": [2.0, 3.0], "label_id": 0, "scores": 1e-9}
    assert json.loads(path.read_text()) == {"database": {"-a": [alarm, speech], "b": []}}
    assert scan(scan_unav_results, path) == (FOUND, [])
    with pytest.raises(ValueError, match="found.json .*`label2id`.* --labels FILE`"):
        scan(scan_unav_results, path, None)


@pytest.mark.parametrize("write", [write_activitynet_results, write_unav_results])
def test_true_events_and_scores_that_are_no_numbers_are_not_written_as_results(write, path):
    path.write_text("old")
    for score, message in ((None, "video 'a'"), (float("nan"), "JSON compliant")):
        video = AnnotatedVideo("a", None, "train", (Event(0.0, 1.0, "alarm", score),))
        with pytest.raises(ValueError, match=message):
            write(Annotations({"a": video}, LABELS), path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_invalid_results_are_problems_and_the_rest_is_read(path):
    good = {"label": "alarm", "score": 0.5, "segment": [0, 1]}
    bad = [3, {**good, "segment": [0]}, {**good, "score": None}, {**good, "score": "high"}, {**good, "label": "cat"}]
    path.write_text(json.dumps({"results": {"a": [good, *bad], "b": {}, "../c": [good]}}))
    annotations, problems = scan(scan_activitynet_results, path)
    assert annotations.videos["a"].events == (Event(0.0, 1.0, "alarm", 0.5),)
    assert sorted(problem.kind for problem in problems) == sorted(
        ["bad event"] * 5 + ["unknown label", "unsafe video id"]
    )


@pytest.mark.parametrize("label_id", [2, -1, "1", True, None, [1]])
def test_a_class_number_that_is_not_known_is_a_problem(path, label_id):
    path.write_text(json.dumps({"database": {"a": [{"segment": [0, 1], "label_id": label_id, "scores": 0.5}]}}))
    [problem] = scan(scan_unav_results, path)[1]
    assert (problem.video_id, problem.kind) == ("a", "bad label id")
    assert f'"label_id" is {label_id!r}' in problem.message
    assert "0 ... 1" in problem.message


def test_a_video_given_twice_is_a_problem_and_another_layout_an_error(path):
    path.write_text('{"results": {"a": [], "a": []}}')
    [problem] = scan(scan_activitynet_results, path)[1]
    assert problem.kind == "repeated video"
    assert "'a'" in problem.message
    with pytest.raises(ValueError, match=r'found\.json has no "database".* result file'):
        scan(scan_unav_results, path)
