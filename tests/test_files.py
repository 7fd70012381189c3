import hashlib
import os
import subprocess
import sys

import pytest

from esg_transformers.files import blocks_of, new_folder, replacing, replacing_files, replacing_path, sha256_of


def test_a_text_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "events.json"
    path.write_text("old")
    with replacing(path) as file:
        file.write("é\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert [path.name for path in tmp_path.iterdir()] == ["events.json"]


@pytest.mark.parametrize("replacing", [replacing, replacing_path])
def test_after_an_error_the_old_file_is_there_and_nothing_else(replacing, tmp_path):
    path = tmp_path / "events.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write_text("new") if replacing is replacing_path else file.write("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["events.json"]


def test_a_file_name_of_the_greatest_length_can_be_written(tmp_path):
    path = tmp_path / ("a" * 250 + ".json")
    with replacing(path) as file:
        file.write("new")
    assert path.read_text() == "new"


def test_a_half_written_video_does_not_look_like_a_video(tmp_path):
    with replacing_path(tmp_path / "clip.mp4") as partial:
        assert partial.parent == tmp_path and partial.suffix != ".mp4" and partial.name.startswith(".")
        partial.write_bytes(b"\0")
    assert (tmp_path / "clip.mp4").read_bytes() == b"\0"


def test_files_of_a_folder_are_replaced_together_and_others_stay(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    (folder / "notes.txt").write_text("mine")
    with replacing_files(folder) as partial:
        (partial / "config.json").write_text("new")
        assert (folder / "config.json").read_text() == "old"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"config.json": "new", "notes.txt": "mine"}


def test_after_an_error_no_file_of_a_folder_is_replaced(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing_files(tmp_path / "model") as partial:
        (partial / "config.json").write_text("new")
        raise ZeroDivisionError
    assert not list((tmp_path / "model").iterdir())


def test_files_left_by_a_killed_process_are_not_taken_for_new_ones(tmp_path):
    code = """if True:
        import os, sys
        from pathlib import Path
        from esg_transformers.files import replacing_files
        with replacing_files(Path(sys.argv[1])) as partial:
            (partial / "stale.json").write_text("stale")
            os.kill(os.getpid(), 9)
    """
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    with replacing_files(tmp_path) as partial:
        (partial / "config.json").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_new_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "models" / "new"
    with new_folder(path) as partial:
        (partial / "config.json").write_text("{}")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["config.json"]
    assert [file.name for file in path.parent.iterdir()] == ["new"]


def test_after_an_error_there_is_no_new_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "new"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_refused_as_new(tmp_path):
    with pytest.raises(FileExistsError, match=str(tmp_path)), new_folder(tmp_path):
        pass


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_the_checksum_of_a_file_is_that_of_its_bytes(size, tmp_path):
    path, content = tmp_path / "file", os.urandom(size)
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    assert max(map(len, blocks_of(path)), default=0) <= 2**20
