import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.subtitles import write_srt, write_webvtt


@pytest.fixture
def found():
    events = (Event(3661.0005, 3662.9996, "R&B <live>"), Event(0.04, 31.89, "dog barking", 0.914))
    videos = {"a": AnnotatedVideo("a", 4000.0, "test", events), "b": AnnotatedVideo("b", 10.0, "test", ())}
    return Annotations(videos, ("R&B <live>", "dog barking"))


def test_webvtt_has_a_file_for_each_video_with_cues_in_the_order_of_time(found, tmp_path):
    write_webvtt(found, tmp_path / "subtitles")
    assert (tmp_path / "subtitles" / "a.vtt").read_text(encoding="utf-8") == (
        "WEBVTT\n\n00:00:00.040 --> 00:00:31.890\ndog barking (0.91)\n"
        "\n01:01:01.000 --> 01:01:03.000\nR&amp;B &lt;live&gt;\n"
    )
    assert (tmp_path / "subtitles" / "b.vtt").read_text() == "WEBVTT\n"


def test_srt_counts_its_cues_and_escapes_nothing(found, tmp_path):
    write_srt(found, tmp_path)
    assert (tmp_path / "a.srt").read_text(encoding="utf-8") == (
        "1\n00:00:00,040 --> 00:00:31,890\ndog barking (0.91)\n\n2\n01:01:01,000 --> 01:01:03,000\nR&B <live>\n\n"
    )
    assert (tmp_path / "b.srt").read_text() == ""


def test_a_cue_shorter_than_a_millisecond_has_one(tmp_path):
    video = AnnotatedVideo("a", None, "train", (Event(1.0, 1.0001, "click"),))
    write_srt(Annotations({"a": video}, ("click",)), tmp_path / "clip.srt")
    assert "00:00:01,000 --> 00:00:01,001" in (tmp_path / "clip.srt").read_text()
