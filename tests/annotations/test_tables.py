import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.annotations.tables import scan_csv, scan_desed, write_csv, write_desed

EVENTS = (Event(0.1, 1 / 3, 'dog "Rex", barking', 0.75), Event(12345.678, 12345.679, "Hund 🐕", 1e-9))
LABELS = tuple(sorted(event.label for event in EVENTS))
UNSCORED = tuple(Event(event.start, event.end, event.label) for event in EVENTS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events"


def scan(function, path, content=None, label2id=None):
    if content is not None:
        path.write_bytes(content.encode())
    reading = AnnotationReading(path, "table of events", label2id)
    return function(reading), reading.problems


def test_csv_gives_back_all_that_was_written_but_the_order_of_classes(path):
    videos = {
        "-a_1": AnnotatedVideo("-a_1", 20_000.5, "test", EVENTS),
        "b, c": AnnotatedVideo("b, c", None, "validation", ()),
        "d": AnnotatedVideo("d", 1 / 3, "train", ()),
    }
    write_csv(Annotations(videos, LABELS), path)
    assert scan(scan_csv, path) == (Annotations(videos, LABELS), [])
    assert path.read_text(encoding="utf-8").splitlines()[:2] == [
        "video_id,start,end,label,score,duration,split",
        '-a_1,0.1,0.3333333333333333,"dog ""Rex"", barking",0.75,20000.5,test',
    ]


def test_the_columns_of_csv_come_in_any_order_and_some_may_be_missing(path):
    content = "\ufefflabel, end,start,video_id\r\nalarm,2,1.5,a\r\n,,,b\r\n\r\n"
    annotations, problems = scan(scan_csv, path, content)
    assert annotations.videos == {
        "a": AnnotatedVideo("a", None, "train", (Event(1.5, 2.0, "alarm"),)),
        "b": AnnotatedVideo("b", None, "train", ()),
    }
    assert problems == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column 'video_id': it is empty"),
        ("video_id,start,label\n", r"has no column 'end': its columns are \['video_id', 'start', 'label'\]"),
        ("video_id;start;end;label\n", "separated by a semicolon, expected a comma"),
        ("video_id,start,end,label,label\n", "has two columns for 'label'"),
        ('video_id,start,end,label\na,1,2,"alarm\nb,1,2,alarm\n', "cannot be read as a table of events: line 3"),
        ("video_id,start,end,label\na,1,2," + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_csv_that_cannot_be_read_is_refused_with_the_reason(path, content, message):
    with pytest.raises(ValueError, match=message):
        scan(scan_csv, path, content)


def test_invalid_rows_of_csv_are_problems_and_the_rest_is_read(path):
    rows = ("a,1,2,alarm,9.5,", "a,1,2", "a,,2,alarm,,", "a,1,2,alarm,9,", "../b,1,2,alarm,,", "c,1,2,,x,test")
    annotations, problems = scan(scan_csv, path, "\n".join(("video_id,start,end,label,duration,note", *rows)))
    assert list(annotations.videos) == ["a", "c"]
    assert annotations.videos["a"].events == (Event(1.0, 2.0, "alarm"), Event(1.0, 2.0, "alarm"))
    expected = [
        (None, "unknown column", "'note'"),
        (None, "bad row", "line 3 has 3 columns"),
        ("a", "bad duration", "9.0 here and 9.5 before"),
        ("../b", "unsafe video id", "/ \\ :"),
        ("a", "bad event", "event 'alarm' from '' to 2.0 s"),
        ("a", "duplicate event", "event 'alarm' from 1 to 2 s"),
        ("c", "bad duration", "'x'"),
        ("c", "bad label", "event '' from 1.0 to 2.0 s"),
    ]
    for problem, (video_id, kind, fact) in zip(problems, expected, strict=True):
        assert (problem.video_id, problem.kind) == (video_id, kind)
        assert fact in problem.message


def test_desed_gives_back_times_and_labels_and_files_without_events(path):
    videos = {"a.b": AnnotatedVideo("a.b", None, "train", UNSCORED), "c": AnnotatedVideo("c", None, "train", ())}
    write_desed(Annotations(videos, LABELS), path)
    assert scan(scan_desed, path) == (Annotations(videos, LABELS), [])
    assert path.read_text(encoding="utf-8").splitlines()[-1] == "c.wav\t\t\t"


@pytest.mark.parametrize("onset", ["onset", "event_onset"])
def test_both_kinds_of_names_of_desed_s_columns_are_read(path, onset):
    header = f"filename\t{onset}\t{onset.replace('on', 'off')}\tevent_label\n"
    annotations, problems = scan(scan_desed, path, f"{header}Y1.wav\t0.5\t1.25\tDog\nY2.wav\t\t\t\nY3\t0\t1\tDog\n")
    events = {video_id: video.events for video_id, video in annotations.videos.items()}
    assert events == {"Y1": (Event(0.5, 1.25, "Dog"),), "Y2": (), "Y3": (Event(0.0, 1.0, "Dog"),)}
    assert problems == []


def test_desed_s_weak_labels_and_comma_separated_files_are_refused(path):
    with pytest.raises(ValueError, match=r"has no column 'onset': its columns are \['filename', 'event_labels'\]"):
        scan(scan_desed, path, "filename\tevent_labels\nY1.wav\tDog,Cat\n")
    with pytest.raises(ValueError, match="separated by a comma, expected a tab"):
        scan(scan_desed, path, "filename,onset,offset,event_label\n")
