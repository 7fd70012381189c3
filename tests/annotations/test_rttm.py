import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.reading import AnnotationReading
from esg_transformers.annotations.rttm import scan_rttm, write_rttm


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.rttm"


def scan(path, content=None, label2id=None):
    if content is not None:
        path.write_bytes(content.encode())
    reading = AnnotationReading(path, "RTTM file", label2id)
    return scan_rttm(reading), reading.problems


def test_the_file_has_durations_in_place_of_ends_and_scores_as_confidence(path):
    video = AnnotatedVideo("a", None, "train", (Event(0.1, 0.3, "dog_barking", 0.75), Event(1.5, 4.0, "alarm")))
    write_rttm(Annotations({"a": video}, ("alarm", "dog_barking")), path)
    assert path.read_text().splitlines() == [
        "SPEAKER a 1 0.1 0.2 <NA> <NA> dog_barking 0.75 <NA>",
        "SPEAKER a 1 1.5 2.5 <NA> <NA> alarm <NA> <NA>",
    ]


def test_reading_gives_back_ends_to_the_last_digit_and_labels_with_spaces_where_they_are_known(path):
    labels = ("dog barking", "Hund\u00a0🐕")
    events = (
        Event(0.1, 1 / 3, labels[0], 0.75),
        Event(1e-7, 12345.678901234567, labels[1]),
        Event(3.0, 3.3, labels[1]),
    )
    videos = {"b": AnnotatedVideo("b", None, "train", ()), "-a": AnnotatedVideo("-a", None, "train", events)}
    annotations = Annotations(videos, labels)
    write_rttm(annotations, path)
    assert scan(path, label2id=annotations.label2id) == (annotations, [])
    assert scan(path)[0].labels == ("Hund_🐕", "dog_barking")


def test_lines_that_are_no_events_are_ignored_or_problems(path):
    lines = (
        ";; a comment",
        "SPKR-INFO a 1 <NA> <NA> <NA> unknown A <NA> <NA>",
        "SPEAKER a 1 1.50 0.50 <NA> <NA> A <NA>",  # nine fields, as older files have
        "SPEAKER a 1 1.50",
        "SPEAKER a 1 1.50 0.00 <NA> <NA> A <NA> <NA>",
        "SPEAKER a 1 1.50 1e-9999999999999999999999 <NA> <NA> A <NA> <NA>",
        "SPEAKER a 1 1.50 nan <NA> <NA> A <NA> <NA>",
    )
    annotations, problems = scan(path, "\r\n".join(lines))
    assert annotations.videos["a"].events == (Event(1.5, 2.0, "A"),)
    expected = [
        ("error", "bad row", "line 4 has 4 fields, expected 10: SPEAKER a 1 1.50"),
        ("warning", "line of another type", "1 lines of type 'SPKR-INFO'"),
        ("error", "event without length", "event 'A' from 1.5 to 1.5 s"),
        ("error", "bad event", "event 'A' from 1.5 to '1.50 + 1e-9999999999999999999999' s"),
        ("error", "bad event", "event 'A' from 1.5 to '1.50 + nan' s"),
    ]
    for problem, (severity, kind, fact) in zip(problems, expected, strict=True):
        assert (problem.severity, problem.kind) == (severity, kind)
        assert fact in problem.message


def test_ids_with_spaces_and_labels_that_would_be_one_are_refused(path):
    video = AnnotatedVideo("site 3", None, "train", ())
    with pytest.raises(ValueError, match="video 'site 3'"):
        write_rttm(Annotations({"site 3": video}, ()), path)
    with pytest.raises(ValueError, match=r"\['dog barking', 'dog_barking'\].* 'dog_barking'"):
        write_rttm(Annotations({}, ("dog barking", "dog_barking")), path)
    assert not path.exists()
