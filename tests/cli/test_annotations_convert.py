import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.formats import read_annotations, write_annotations
from esg_transformers.annotations.unav import read_unav_annotations


@pytest.fixture
def found(tmp_path):
    """Found events of two videos, in a file of ActivityNet's results."""
    videos = {
        "a": AnnotatedVideo("a", None, "train", (Event(0.5, 2.0, "dog barking", 0.75),)),
        "b": AnnotatedVideo("b", None, "train", ()),
    }
    path = tmp_path / "found.json"
    write_annotations(Annotations(videos, ("dog barking",)), path, "activitynet-results")
    return path


def test_found_events_become_subtitles_and_a_warning_tells_what_is_lost(run, found, clips, tmp_path, caplog):
    folder = tmp_path / "subtitles"
    assert run("annotations", "convert", found, folder, "--to", "webvtt") == (
        0,
        f"Wrote 1 events of 2 videos to {folder} (webvtt).\n",
        "",
    )
    assert sorted(path.name for path in folder.iterdir()) == ["a.vtt", "b.vtt"]
    assert "dog barking (0.75)" in (folder / "a.vtt").read_text()
    assert not caplog.records
    assert run("annotations", "convert", clips / "annotations.json", tmp_path / "events.rttm")[0] == 0
    assert "events.rttm has no durations and splits: format 'rttm' cannot hold them." in caplog.text


def test_formats_are_told_by_suffix_and_content_and_nothing_is_lost_on_the_way(run, clips, tmp_path):
    annotations = clips / "annotations.json"
    assert run("annotations", "convert", annotations, tmp_path / "events.csv")[0] == 0
    assert run("annotations", "convert", tmp_path / "events.csv", tmp_path / "events.json")[0] == 0
    assert read_unav_annotations(tmp_path / "events.json") == read_unav_annotations(annotations)


def test_durations_are_measured_from_the_videos_and_classes_and_splits_may_be_said(run, clips, tmp_path, caplog):
    labels = read_annotations(clips / "annotations.json").labels
    video_id = "workshop_test_0000"
    (tmp_path / "events.tsv").write_text(
        f"filename\tonset\toffset\tevent_label\n{video_id}.wav\t0.5\t2\t{labels[-1]}\nelsewhere.wav\t\t\t\n"
    )
    given = {"--videos": clips / "videos", "--split": "test", "--labels": clips / "annotations.json"}
    assert run("annotations", "convert", tmp_path / "events.tsv", tmp_path / "events.csv", given)[0] == 0
    assert "videos lacks 1 of 2 videos; their durations stay unknown: elsewhere." in caplog.text
    annotations = read_annotations(tmp_path / "events.csv", label2id={label: i for i, label in enumerate(labels)})
    video = annotations.videos[video_id]
    assert video.duration == pytest.approx(6.0, abs=0.1)
    assert (video.split, video.events) == ("test", (Event(0.5, 2.0, labels[-1]),))
    assert annotations.videos["elsewhere"].duration is None


def test_unav_s_results_take_the_class_numbers_of_the_labels_that_are_given(run, refused, found, tmp_path):
    truth = tmp_path / "truth.json"
    videos = {"a": AnnotatedVideo("a", 10.0, "test", tuple(Event(0, 1, label) for label in ("alarm", "dog barking")))}
    write_annotations(Annotations(videos, ("alarm", "dog barking")), truth)
    path = tmp_path / "unav.json"
    assert run("annotations", "convert", found, path, "--to", "unav-results", "--labels", truth)[0] == 0
    assert '"label_id": 1' in path.read_text()
    assert "--labels FILE`" in refused("annotations", "convert", path, tmp_path / "found.csv")
    assert run("annotations", "convert", path, tmp_path / "found.csv", "--labels", truth)[0] == 0
    assert read_annotations(tmp_path / "found.csv").videos == read_annotations(found).videos


def test_what_cannot_be_converted_is_named_and_nothing_is_written(refused, found, tmp_path):
    def refusal(*words):
        return refused("annotations", "convert", *words)

    assert "No annotations at nowhere.csv" in refusal("nowhere.csv", tmp_path / "a.csv")
    assert "there is no folder" in refusal(found, tmp_path / "nowhere" / "a.csv")
    assert "Formats: unav" in refusal(found, tmp_path / "subtitles")
    assert "duration of 2 of 2 videos" in refusal(found, tmp_path / "a.json")
    assert "`--frame-rate`" in refusal(found, tmp_path / "a.json", "--to", "label-studio")
    assert "No video folder at nowhere" in refusal(found, tmp_path / "a.csv", "--videos", "nowhere")
    assert "video '../b'" in refusal(_with_id(found, "../b"), tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def _with_id(path, video_id):
    path.write_text(path.read_text().replace('"b"', f'"{video_id}"'))
    return path
