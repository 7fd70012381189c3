import re

import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations
from esg_transformers.annotations.folders import files_to_read, files_to_write


def annotations(*video_ids):
    return Annotations({video_id: AnnotatedVideo(video_id, None, "train", ()) for video_id in video_ids}, ())


def test_the_files_of_a_folder_are_read_by_name_and_other_files_left(tmp_path):
    for name in ("b.txt", "a.TXT", "notes.md"):
        (tmp_path / name).write_text("")
    (tmp_path / "c.txt").mkdir()
    assert files_to_read(tmp_path, ".txt") == [tmp_path / "a.TXT", tmp_path / "b.txt"]
    assert files_to_read(tmp_path / "notes.md", ".txt") == [tmp_path / "notes.md"]
    with pytest.raises(ValueError, match=r"no \.eaf file"):
        files_to_read(tmp_path, ".eaf")


def test_one_video_goes_to_a_file_that_has_the_suffix_and_all_else_to_a_folder(tmp_path):
    assert files_to_write(annotations("a"), tmp_path / "x.srt", ".srt") == {"a": tmp_path / "x.srt"}
    folder = tmp_path / "x"
    assert files_to_write(annotations("a"), folder, ".srt") == {"a": folder / "a.srt"}
    assert files_to_write(annotations("a", "b"), folder, ".srt") == {"a": folder / "a.srt", "b": folder / "b.srt"}
    assert folder.is_dir()


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path):
    path = tmp_path / "x.srt"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"x\.srt is a file.* folder .*2 videos"):
        files_to_write(annotations("a", "b"), path, ".srt")
    assert path.read_text() == "old"


@pytest.mark.parametrize("video_id", ["../a", "/etc/a", "..", "a\\b", "C:a", ""])
def test_no_file_is_named_after_an_id_that_leaves_the_folder(tmp_path, video_id):
    with pytest.raises(ValueError, match=re.escape(repr(video_id))):
        files_to_write(annotations("b", video_id), tmp_path / "x", ".srt")
    assert not list(tmp_path.iterdir())
