import pytest

from esg_transformers.annotations.audacity import scan_audacity, write_audacity
from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.reading import AnnotationReading


@pytest.fixture
def scan():
    def scan(path):
        reading = AnnotationReading(path, "set of Audacity labels")
        return scan_audacity(reading), [problem.kind for problem in reading.problems]

    return scan


def test_the_labels_of_audacity_s_manual_are_read(scan, tmp_path):
    # "Importing and Exporting Labels": a point label, a region label, and one with a frequency range.
    path = tmp_path / "site 3.txt"
    path.write_text(
        "2.150000\t2.150000\tpoint label\n3.400000\t6.100000\tregion label\n"
        "2.000000\t2.500000\thigh 6334.588867 Hz\n\\\t-1.000000\t6334.588867\n"
    )
    annotations, problems = scan(path)
    events = (Event(3.4, 6.1, "region label"), Event(2.0, 2.5, "high 6334.588867 Hz"))
    assert annotations.videos == {"site 3": AnnotatedVideo("site 3", None, "train", events)}
    assert problems == ["event without length"]  # the point


def test_labels_survive_writing_and_reading_in_a_folder_and_in_a_file(scan, tmp_path):
    events = (Event(0.1, 1 / 3, 'dog "Rex", barking'), Event(0.1, 12345.678, "Hund \u2028 bellt 🐕"))
    videos = {
        "a.b": AnnotatedVideo("a.b", None, "train", events),
        "c": AnnotatedVideo("c", None, "train", ()),
    }
    annotations = Annotations(videos, tuple(sorted(event.label for event in events)))
    write_audacity(annotations, tmp_path / "labels")
    assert scan(tmp_path / "labels") == (annotations, [])
    assert (tmp_path / "labels" / "c.txt").read_text() == ""
    alone = Annotations({"c": videos["c"]}, ())
    write_audacity(alone, tmp_path / "c.txt")
    assert scan(tmp_path / "c.txt") == (alone, [])


def test_lines_that_are_no_labels_are_problems(scan, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"0\t1\tdog\r\n\r\n0,5\t1\tdog\r\n0\t1\r\n3\r\n0\t1\tdog\tcat\r\n")
    annotations, problems = scan(path)
    assert annotations.videos["a"].events == (Event(0.0, 1.0, "dog"),)
    assert problems == ["bad event", "bad label", "bad event", "bad label"]
