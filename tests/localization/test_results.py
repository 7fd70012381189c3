import json

import pytest

from esg_transformers.localization.results import annotations_of_results, write_predictions


def test_found_events_become_annotations_with_scores_of_the_test_split():
    events = [{"start": 0.5, "end": 2.0, "label": "speech", "score": 0.75}]
    annotations = annotations_of_results(["a", "b"], [events, []], [3.0, None])
    assert annotations.labels == ("speech",)
    assert [(video.video_id, video.duration, video.split) for video in annotations.videos.values()] == [
        ("a", 3.0, "test"),
        ("b", None, "test"),
    ]
    [event] = annotations.videos["a"].events
    assert (event.start, event.end, event.label, event.score) == (0.5, 2.0, "speech", 0.75)
    with pytest.raises(ValueError, match="zip"):
        annotations_of_results(["a", "b"], [events])


def test_predictions_are_written_in_the_layout_of_activitynet_in_one_step(tmp_path):
    path = tmp_path / "found.json"
    path.write_text("an older result")
    write_predictions(path, ["a", "b"], [[{"start": 0.5, "end": 2.0, "label": "alarm", "score": 0.75}], []])
    assert json.loads(path.read_text()) == {
        "version": "esg-transformers",
        "results": {"a": [{"label": "alarm", "score": 0.75, "segment": [0.5, 2.0]}], "b": []},
        "external_data": {},
    }
    assert list(tmp_path.iterdir()) == [path]


def test_predictions_that_cannot_be_written_leave_the_older_ones(tmp_path):
    path = tmp_path / "found.json"
    path.write_text("an older result")
    with pytest.raises(TypeError):
        write_predictions(path, ["a"], [[{"start": 0.5, "end": 2.0, "label": "alarm", "score": object()}]])
    assert path.read_text() == "an older result"
    assert list(tmp_path.iterdir()) == [path]
