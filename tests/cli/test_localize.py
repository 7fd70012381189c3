import base64
import json

import pytest

from esg_transformers.data.corpus import EventCorpus

LOW = {"--threshold": 0.001}  # the model has hardly been trained


@pytest.fixture
def video(clips):
    return clips / "videos" / "workshop_test_0000.mp4"


def test_the_events_of_a_video_are_printed_in_the_order_of_time(run, trained, video):
    code, printed, _ = run("localize", video, "--model", trained, LOW)
    assert code == 0
    first, columns, *rows = printed.splitlines()
    assert first == f"{video.stem}: {len(rows)} events"
    assert columns.split() == ["start", "end", "score", "label"]
    starts = [float(row.split()[0]) for row in rows]
    assert rows
    assert starts == sorted(starts)


def test_a_video_without_events_above_the_threshold_says_so(run, trained, video):
    assert run("localize", video, "--model", trained, "--threshold", 1)[1] == f"{video.stem}: 0 events\n"


def test_the_events_of_videos_are_written_in_the_layout_of_activitynet(run, trained, clips, video, tmp_path):
    videos = [video, clips / "videos" / "workshop_test_0001.mp4"]
    path = tmp_path / "found.json"
    code, printed, _ = run("localize", *videos, "--model", trained, LOW, "--output", path)
    content = json.loads(path.read_text())
    num_events = sum(map(len, content["results"].values()))
    assert (code, printed) == (0, f"Wrote {num_events} events of 2 videos to {path}.\n")
    assert content.keys() == {"version", "results", "external_data"}
    assert list(content["results"]) == ["workshop_test_0000", "workshop_test_0001"]
    for events in content["results"].values():
        assert events
        for event in events:
            assert event.keys() == {"label", "score", "segment"}
            start, end = event["segment"]
            assert 0 <= start < end <= 6.1  # the sound of an AAC file ends a little later
            assert 0.001 < event["score"] < 1
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_split_of_a_corpus_gives_the_events_of_its_videos(run, trained, corpus, clips, tmp_path):
    options = {"--model": trained, "--output": tmp_path / "found.json"} | LOW
    assert run("localize", "--corpus", corpus, "--split", "test", options)[0] == 0
    of_corpus = json.loads((tmp_path / "found.json").read_text())["results"]
    assert tuple(of_corpus) == EventCorpus(corpus, "test").video_ids
    [video_id, *_] = of_corpus
    assert run("localize", clips / "videos" / f"{video_id}.mp4", options)[0] == 0
    [of_file] = json.loads((tmp_path / "found.json").read_text())["results"].values()
    # The corpus keeps features in float16, and its durations are the annotated ones.
    best, expected = of_corpus[video_id][0], of_file[0]
    assert best["label"] == expected["label"]
    assert best["score"] == pytest.approx(expected["score"], rel=0.02)
    assert best["segment"] == pytest.approx(expected["segment"], abs=0.1)


def test_a_timeline_is_drawn_as_a_picture_or_as_a_page(run, trained, video, tmp_path):
    for name in ("timeline.png", "timeline.html"):
        assert run("localize", video, "--model", trained, LOW, "--timeline", tmp_path / name)[0] == 0
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    page = (tmp_path / "timeline.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert base64.b64encode(video.read_bytes()).decode() in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["timeline.html", "timeline.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give either video files, or a corpus (--corpus, or --annotations, --features, --feature-set)."),
        (["a.mp4", "--corpus", "c"], "Give either video files, or a corpus"),
        (["a.mp4", "b.mp4", "--timeline", "t.png"], "--timeline draws one video; got 2."),
        (["1/a.mp4", "2/a.mp4"], "Events are told apart by the name of their file; 'a' is given more than once."),
        (["--corpus", "c", "--timeline", "t.png"], "--timeline draws one video; got 0."),
        (["a.mp4", "--timeline", "t.txt"], "--timeline writes a .png or an .html; got t.txt."),
        (
            ["a.mp4", "--output", "nowhere/found.json"],
            "nowhere/found.json cannot be written: there is no folder nowhere.",
        ),
        (["--features", "f"], "Give either --corpus, or all of --annotations, --features and --feature-set."),
    ],
)
def test_options_that_do_not_go_together_are_refused(refused, trained, words, message):
    assert refused("localize", *words, "--model", trained).startswith(message)


def test_a_file_that_is_no_video_is_named_and_no_result_is_written(refused, trained, video, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"this is not a video")
    message = refused("localize", video, path, "--model", trained, "--output", tmp_path / "found.json")
    assert message.startswith(f"{path} cannot be read as video or sound")
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_video_is_named(refused, trained, tmp_path):
    assert str(tmp_path / "nowhere.mp4") in refused("localize", tmp_path / "nowhere.mp4", "--model", trained)


def test_a_model_on_published_features_takes_them_and_no_video(run, refused, write_features, video, tmp_path):
    source = write_features("one-peace")
    quick = {"--size": "tiny", "--epochs": 1, "--warmup-epochs": 0, "--output": tmp_path}
    assert run("train", source, quick)[0] == 0
    code, printed, _ = run("localize", source, "--model", tmp_path, "--threshold", 0)
    assert code == 0
    assert printed.startswith("d: ")
    message = refused("localize", video, "--model", tmp_path)
    assert message.startswith("The model was trained on one-peace unav100, which cannot be made here")
