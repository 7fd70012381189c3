import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.label_studio import scan_label_studio, write_label_studio
from esg_transformers.annotations.reading import AnnotationReading


def region(start, end, *labels, **others):
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}
    names = {"id": "1", "from_name": "videoLabels", "to_name": "video"}
    return {"type": "timelinelabels", "value": value, **names, **others}


def task(*regions, video="/data/upload/42/0a1b2c3d-opossum.mp4", **annotation):
    return {"id": 7, "data": {"video": video}, "annotations": [{"result": list(regions), **annotation}]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "export.json"


def scan(path, tasks, frame_rate=25.0, **others):
    path.write_text(json.dumps(tasks))
    reading = AnnotationReading(path, "Label Studio file", **others)
    return scan_label_studio(reading, frame_rate), reading.problems


def kinds(problems):
    return [(problem.severity, problem.kind) for problem in problems]


def test_frames_count_from_one_and_the_last_one_belongs_to_the_event(path):
    # The regions of label_studio_ml/examples/yolo/tests/test_timeline_labels_1.json, label-studio-ml-backend
    # commit f448881, at the 25 frames per second of its labelling configuration.
    annotations, problems = scan(path, [task(region(1, 10, "Car"), region(5, 15, "croquet_ball"))])
    assert problems == []
    assert annotations.labels == ("Car", "croquet_ball")
    assert annotations.videos["opossum"].events == (Event(0.0, 0.4, "Car"), Event(0.16, 0.6, "croquet_ball"))


def test_the_simplified_export_gives_the_same_as_the_full_one(path):
    simplified = {
        "id": 7,
        "video": "/data/upload/42/0a1b2c3d-opossum.mp4",
        "videoLabels": [{"ranges": [{"start": 1, "end": 10}], "timelinelabels": ["Car"]}],
        "annotator": 1,
    }
    assert scan(path, [simplified]) == scan(path, [task(region(1, 10, "Car"))])


def test_a_region_with_two_labels_is_two_events(path):
    annotations, _ = scan(path, [task(region(26, 50, "siren", "shouting"))])
    assert annotations.videos["opossum"].events == (Event(1.0, 2.0, "siren"), Event(1.0, 2.0, "shouting"))


def test_a_region_of_one_frame_lasts_one_frame(path):
    annotations, _ = scan(path, [task(region(3, 3, "clap"))], frame_rate=10)
    assert annotations.videos["opossum"].events == (Event(0.2, 0.3, "clap"),)


def test_an_annotation_counts_more_than_a_prediction_and_loses_the_score_it_came_with(path):
    with_both = task(region(1, 25, "siren", score=0.7))
    with_both["predictions"] = [{"result": [region(1, 50, "horn", score=0.9)]}]
    annotations, _ = scan(path, [with_both])
    assert annotations.videos["opossum"].events == (Event(0.0, 1.0, "siren"),)


def test_a_prediction_gives_scored_events_where_nobody_annotated(path):
    predicted = {"data": {"video": "gate.mp4"}, "predictions": [{"result": [region(1, 25, "siren", score=0.7)]}]}
    annotations, _ = scan(path, [predicted])
    assert annotations.videos["gate"].events == (Event(0.0, 1.0, "siren", 0.7),)


def test_an_annotation_without_regions_is_a_video_without_events(path):
    annotations, problems = scan(path, [task()])
    assert annotations.videos["opossum"].events == ()
    assert problems == []


@pytest.mark.parametrize("unannotated", [task(region(1, 2, "siren"), was_cancelled=True), {"data": {"video": "a.mp4"}}])
def test_a_task_without_annotation_is_ignored_and_is_no_negative(path, unannotated):
    annotations, problems = scan(path, [unannotated])
    assert annotations.videos == {}
    assert kinds(problems) == [("warning", "not annotated")]


def test_of_several_annotations_the_ground_truth_counts_and_without_one_they_are_a_problem(path):
    twice = task(region(1, 25, "siren"))
    twice["annotations"].append({"result": [region(1, 50, "horn")]})
    annotations, problems = scan(path, [twice])
    assert annotations.videos == {}
    assert kinds(problems) == [("error", "several annotations")]
    twice["annotations"][1]["ground_truth"] = True
    annotations, problems = scan(path, [twice])
    assert annotations.videos["opossum"].events == (Event(0.0, 2.0, "horn"),)
    assert problems == []


def test_two_tasks_of_one_video_are_a_problem(path):
    annotations, problems = scan(path, [task(region(1, 25, "siren")), task(video="/other/opossum.mp4")])
    assert len(annotations.videos["opossum"].events) == 1
    assert kinds(problems) == [("error", "repeated video")]


def test_regions_of_other_types_and_copies_of_rectangles_are_counted_and_ignored(path):
    copy = {"type": "timelinelabels", "value": {"sequence": [{"frame": 1}], "framesCount": 9}}
    annotations, problems = scan(path, [task(copy, {"type": "choices", "value": {}}, region(1, 25, "siren"))])
    assert len(annotations.videos["opossum"].events) == 1
    assert kinds(problems) == [("warning", "other regions")]
    assert problems[0].message.startswith("2 regions")


def test_the_last_frame_may_end_after_the_video_does(path):
    annotations, problems = scan(path, [task(region(1, 251, "siren"))], durations={"opossum": 10.02})  # 250.5 frames
    assert annotations.videos["opossum"].events == (Event(0.0, 10.02, "siren"),)
    assert problems == []
    _, problems = scan(path, [task(region(1, 252, "siren"))], durations={"opossum": 10.02})
    assert kinds(problems) == [("error", "event outside the video")]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (task(region(0, 5, "siren")), "bad event"),  # frames count from 1
        (task(region(1.5, 5, "siren")), "bad event"),
        (task(region(None, 5, "siren")), "bad event"),
        (task(region(True, 5, "siren")), "bad event"),
        (task(region(1, 10**400, "siren")), "bad event"),
        (task(region(9, 5, "siren")), "bad event"),
        (task(region(1, 5)), "bad event"),
        (task(region(1, 5, "")), "bad label"),
        (task({"type": "timelinelabels"}), "bad event"),
        ({"data": {}}, "bad task"),
        (task("siren"), "bad task"),
        (task(video="../.."), "unsafe video id"),
    ],
)
def test_invalid_tasks_and_regions_are_problems(path, bad, kind):
    _, problems = scan(path, [bad])
    assert kinds(problems) == [("error", kind)]


def test_many_labels_times_many_ranges_do_not_make_a_small_file_huge(path):
    both = {"ranges": [{"start": 1, "end": 2}] * 2000, "timelinelabels": ["a"] * 2000}
    annotations, problems = scan(path, [task({"type": "timelinelabels", "value": both})])
    assert annotations.videos["opossum"].events == ()
    assert kinds(problems) == [("error", "bad event")]


@pytest.mark.parametrize("frame_rate", [None, 0, -25, float("nan"), float("inf")])
def test_reading_and_writing_without_a_frame_rate_say_how_to_give_it(path, frame_rate):
    with pytest.raises(ValueError, match="--frame-rate"):
        scan(path, [task()], frame_rate=frame_rate)
    with pytest.raises(ValueError, match="--frame-rate"):
        write_label_studio(Annotations({}, ()), path, frame_rate)


@pytest.mark.parametrize("content", [{}, {"id": 1}, ["a"], 7, None])
def test_another_layout_is_refused(path, content):
    with pytest.raises(ValueError, match=r"export\.json .*list of tasks"):
        scan(path, content)


def test_an_event_shorter_than_a_frame_keeps_one_and_stays_in_the_video(path):
    video = AnnotatedVideo("a", 10.0, "train", (Event(9.99, 10.0, "clap"), Event(1.0, 1.001, "clap")))
    write_label_studio(Annotations({"a": video}, ("clap",)), path, 25)
    results = json.loads(path.read_text())[0]["annotations"][0]["result"]
    assert [result["value"]["ranges"] for result in results] == [
        [{"start": 250, "end": 250}],
        [{"start": 26, "end": 26}],
    ]


def test_a_file_with_scores_is_of_predictions(path):
    videos = {
        "a": AnnotatedVideo("a", None, "train", (Event(0.0, 1.0, "clap", 0.5),)),
        "b": AnnotatedVideo("b", None, "train", ()),
    }
    write_label_studio(Annotations(videos, ("clap",)), path, 25)
    first, second = json.loads(path.read_text())
    assert first["predictions"][0]["result"][0]["score"] == 0.5
    assert second == {"data": {"video": "b.mp4"}, "predictions": [{"result": []}]}


IDS = st.text(st.characters(exclude_categories=["C"], exclude_characters="/\\:"), min_size=1, max_size=9).filter(
    lambda name: name not in (".", "..")
)
FRAMES = st.tuples(st.integers(0, 10_000), st.integers(1, 500), st.sampled_from(["a", "dog, barking", "日"]))


@settings(max_examples=60, deadline=None)
@given(
    content=st.dictionaries(IDS, st.lists(FRAMES, max_size=4), max_size=3),
    frame_rate=st.sampled_from([10, 24.0, 25, 29.97, 30, 60]),
    score=st.sampled_from([None, 0.25]),
)
def test_events_at_frames_survive_writing_and_reading(tmp_path_factory, content, frame_rate, score):
    path = tmp_path_factory.mktemp("tasks") / "tasks.json"
    videos = {
        video_id: AnnotatedVideo(
            video_id,
            None,
            "train",
            tuple(
                Event(start / frame_rate, (start + length) / frame_rate, label, score)
                for start, length, label in events
            ),
        )
        for video_id, events in content.items()
    }
    labels = sorted({event.label for video in videos.values() for event in video.events})
    annotations = Annotations(videos, tuple(labels))
    write_label_studio(annotations, path, frame_rate)
    assert scan(path, json.loads(path.read_text()), frame_rate)[0] == annotations
