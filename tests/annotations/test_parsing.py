import pytest

from esg_transformers.annotations.parsing import MAX_FILE_SIZE, read_annotation_json, read_annotation_text


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.json"


def test_a_byte_order_mark_is_no_part_of_the_text(path):
    path.write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_annotation_text(path) == "a\r\nb"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe{}", r"events\.json .*UTF-8 text: byte 0 is 0xff"),
        (b"[" * 100_000, r"events\.json .*nested too deeply"),
        (b'{"database": ' + b"9" * 5000 + b"}", r"events\.json is not a JSON file"),
        (b"{", r"events\.json is not a JSON file"),
    ],
)
def test_text_that_is_no_json_gives_one_error_that_names_the_file(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_annotation_json(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        read_annotation_text(tmp_path / "absent.json")
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        read_annotation_text(tmp_path)


def test_a_file_above_the_limit_is_not_read(path):
    with path.open("wb") as file:
        file.truncate(MAX_FILE_SIZE + 2**20)  # a hole: no memory or disk is used
    with pytest.raises(ValueError, match=r"events\.json has 257 MiB.* 256 MiB"):
        read_annotation_text(path)


def test_keys_that_occur_twice_in_one_object_are_returned(path):
    path.write_text('{"a": 1, "a": 2, "b": {"c": 1}, "d": {"c": 1, "e": 1, "e": 2}}')
    content, repeated = read_annotation_json(path)
    assert content["a"] == 2
    assert sorted(repeated) == ["a", "e"]
