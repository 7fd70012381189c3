from pathlib import Path

import pytest

import esg_transformers.annotations
from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.formats import (
    FORMATS,
    format_for,
    format_of,
    read_annotations,
    scan_annotations,
    write_annotations,
)

UNAV100 = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "unav100_annotations.json"
READABLE = [name for name, form in FORMATS.items() if form.scan is not None]
# Times that are whole frames at 25 per second and whole milliseconds, ids and labels without spaces: every format holds
# them.
LABELS = ("alarm", "dog_barking", "Hund🐕")
EVENTS = (Event(0.04, 2.0, "Hund🐕", 0.75), Event(1.0, 1.6, "dog_barking", 0.5), Event(1.0, 3.0, "alarm", 0.25))
FOUND = Annotations(
    {
        "-a.1": AnnotatedVideo("-a.1", 10.5, "test", EVENTS),
        "b": AnnotatedVideo("b", 3.0, "validation", ()),
    },
    LABELS,
)


def without(annotations, what):
    """Annotations without the contents in `what`, as a format that cannot hold them returns them."""
    videos = {}
    for video in annotations.videos.values():
        events = tuple(
            Event(event.start, event.end, event.label, None if "scores" in what else event.score)
            for event in video.events
        )
        duration = None if "durations" in what else video.duration
        split = "train" if "splits" in what else video.split
        videos[video.video_id] = AnnotatedVideo(video.video_id, duration, split, events)
    return Annotations(videos, annotations.labels)


@pytest.mark.parametrize("name", READABLE)
def test_every_format_reads_back_the_contents_it_holds_and_warns_of_the_others(name, tmp_path, caplog):
    path = tmp_path / "events"
    write_annotations(FOUND, path, name, frame_rate=25.0)
    assert all(what in caplog.text for what in FORMATS[name].loses)
    assert ("cannot hold" in caplog.text) == bool(FORMATS[name].loses)
    kept = without(FOUND, FORMATS[name].loses)
    read = read_annotations(path, name, label2id=FOUND.label2id, frame_rate=25.0)
    assert set(read.videos["-a.1"].events) == set(kept.videos["-a.1"].events)
    assert read.videos["-a.1"].duration == kept.videos["-a.1"].duration
    assert read.videos["-a.1"].split == kept.videos["-a.1"].split
    assert read.videos["b"] == kept.videos["b"]
    assert (list(read.videos), read.labels) == (["-a.1", "b"], LABELS)


@pytest.mark.parametrize("name", READABLE)
def test_the_format_of_a_file_or_a_folder_is_recognized(name, tmp_path):
    path = tmp_path / f"events{FORMATS[name].suffix}"
    if FORMATS[name].suffix in (".txt", ".eaf"):
        path = tmp_path / "events"
    write_annotations(FOUND, path, name, frame_rate=25.0)
    assert format_of(path) == name


def test_the_table_of_the_readme_is_that_of_the_code():
    readme = Path(esg_transformers.annotations.__file__).with_name("README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:6]] for line in readme.splitlines() if line.startswith("| `")]
    assert rows[: len(FORMATS)] == [
        [f"`{name}`", form.suffix, "yes" if form.scan else "no", "yes", ", ".join(form.loses)]
        for name, form in FORMATS.items()
    ]


def test_a_new_file_has_the_format_of_its_suffix_and_json_is_unav_s():
    paths = ("a.json", "a.CSV", "b/a.tsv", "a.rttm", "a.txt", "a.eaf", "a.vtt", "a.srt")
    names = ["unav", "csv", "desed", "rttm", "audacity", "elan", "webvtt", "srt"]
    assert [format_for(path) for path in paths] == names
    with pytest.raises(ValueError, match="folder .*unav, activitynet-results"):
        format_for("folder")


def test_unknown_and_unreadable_formats_are_refused(tmp_path):
    path = tmp_path / "events.json"
    with pytest.raises(FileNotFoundError, match=r"No annotations at .*events\.json"):
        read_annotations(path)
    path.write_text('{"videos": []}')
    with pytest.raises(ValueError, match=r"events\.json is JSON of an unknown format"):
        read_annotations(path)
    with pytest.raises(ValueError, match=r"neither \.txt \(audacity\) nor \.eaf \(elan\)"):
        read_annotations(tmp_path)
    for name in ("a.txt", "a.eaf"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="both audacity and elan"):
        read_annotations(tmp_path)
    with pytest.raises(ValueError, match="'srt' is only written.*: unav, activitynet-results"):
        read_annotations(tmp_path / "a.srt", "srt")
    with pytest.raises(ValueError, match="format 'xml'.*: unav, activitynet-results"):
        write_annotations(FOUND, path, "xml")


@pytest.mark.parametrize(
    ("video_id", "event", "message"),
    [
        ("../a", Event(0.0, 1.0, "alarm"), "video '../a': "),
        ("a", Event(0.0, 1.0, "a\tb"), "text without control characters"),
        ("a", Event(1.0, 0.0, "alarm"), "0 <= start < end"),
        ("a", Event(0.0, 1.0, "alarm", float("nan")), "score nan"),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_annotations_that_no_reader_accepts_are_not_written(name, video_id, event, message, tmp_path):
    annotations = Annotations({video_id: AnnotatedVideo(video_id, 10.0, "train", (event,))}, (event.label,))
    with pytest.raises(ValueError, match=message):
        write_annotations(annotations, tmp_path / "events", name, frame_rate=25.0)
    assert not list(tmp_path.iterdir())


def test_durations_splits_and_classes_can_be_given_when_reading(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0\t9.505\talarm\n")
    annotations = read_annotations(path, label2id={"speech": 0, "alarm": 1}, durations={"a": 9.5}, split="test")
    assert annotations == Annotations(
        {"a": AnnotatedVideo("a", 9.5, "test", (Event(0.0, 9.5, "alarm"),))}, ("speech", "alarm")
    )
    reading, annotations = scan_annotations(path, label2id={"speech": 0})
    assert [problem.kind for problem in reading.problems] == ["unknown label"]
    assert annotations.videos["a"].events == ()
    with pytest.raises(ValueError, match=r"a\.txt .*set of Audacity labels\. Problems found: 1"):
        read_annotations(path, label2id={"speech": 0})


@pytest.mark.slow
@pytest.mark.skipif(not UNAV100.is_file(), reason="the UnAV-100 annotation file is not beside the repository")
def test_the_published_annotations_come_back_from_csv_as_they_were(tmp_path):
    annotations = read_annotations(UNAV100)
    write_annotations(annotations, tmp_path / "unav100.csv")
    assert read_annotations(tmp_path / "unav100.csv", label2id=annotations.label2id) == annotations
