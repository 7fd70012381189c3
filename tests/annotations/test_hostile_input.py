"""Every annotation reader with broken, hostile and huge files, and every writer with odd names."""

import json
import math
import random
import re
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.annotations.formats import FORMATS, read_annotations, scan_annotations, write_annotations
from esg_transformers.annotations.values import is_safe_video_id

pytestmark = pytest.mark.slow

READERS = [name for name, form in FORMATS.items() if form.scan is not None]
JSON_READERS = [name for name in READERS if FORMATS[name].suffix == ".json"]
LABEL2ID = {"barking": 0, "alarm": 1}
EXAMPLE = Annotations(
    {
        "gate": AnnotatedVideo("gate", 9.0, "train", (Event(0.4, 2.0, "alarm", 0.5), Event(1.0, 3.0, "barking", 0.25))),
        "yard": AnnotatedVideo("yard", 7.0, "train", ()),
    },
    tuple(LABEL2ID),
)
NASTY = [
    *(
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"\\u0000",
        b"\r",
        b"\n",
        b"\t",
        b" ",
        b'"',
        b"'",
        b",",
        b":",
        b"\\",
    ),
    *(b"[", b"]", b"{", b"}", b"<", b">", b"&", b"/", b"../", b"/etc/passwd", b"C:\\", b"&a;", b"<!--", b"<![CDATA["),
    *(b"-", b"1", b"0", b".", b"1e999", b"-1e999", b"NaN", b"Infinity", b"9" * 400, b"null", b"true", b"<NA>", b";;"),
]
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([2**53, 10**400, 1e308, 5e-324, -0.0, float("nan"), float("inf")])
)
WORDS = st.one_of(
    st.text(st.characters(), max_size=5),
    st.sampled_from(
        ["../a", "/etc/passwd", "a\\b", "C:a", "..", "", "a\x00b", "\ud800", "a" * 300, "alarm", "1", "train"]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)
fuzzed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def valid_bytes(name):
    """A valid file of a format, as its writer makes it; the file of one video for formats with one file per video."""
    with tempfile.TemporaryDirectory() as folder:
        write_annotations(EXAMPLE, Path(folder) / "annotations", name, frame_rate=25)
        written = Path(folder) / "annotations"
        return (written / f"gate{FORMATS[name].suffix}" if written.is_dir() else written).read_bytes()


def hostile(tmp_path, name, content):
    path = tmp_path / f"hostile{FORMATS[name].suffix}"
    path.write_bytes(content)
    return path


def assert_refused_or_valid(path, name):
    """Reading raises one error that names the file, or returns annotations that fulfil every rule."""
    options = {"label2id": LABEL2ID if name == "unav-results" else None, "frame_rate": 25}
    try:
        _, annotations = scan_annotations(path, name, **options)
    except (ValueError, FileNotFoundError) as error:
        assert str(path) in str(error)
        return None
    for video_id, video in annotations.videos.items():
        assert is_safe_video_id(video_id)
        assert video.video_id == video_id
        assert video.duration is None or 0 < video.duration < math.inf
        for event in video.events:
            assert 0 <= event.start < event.end < math.inf
            assert event.end <= (video.duration or math.inf)
            assert event.label in annotations.labels
            assert not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", event.label)
            assert event.score is None or math.isfinite(event.score)
    try:
        accepted = read_annotations(path, name, **options)
    except ValueError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 10_000
    else:
        assert accepted == annotations
        assert all(label.encode("utf-8").strip() for label in accepted.labels)
    return annotations


@pytest.mark.parametrize("name", READERS)
@fuzzed
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
)
def test_anything_at_all_is_refused_or_valid(tmp_path, name, content):
    assert_refused_or_valid(hostile(tmp_path, name, content), name)


@pytest.mark.parametrize("name", READERS)
@fuzzed
@given(seed=st.integers(0, 2**32), num_changes=st.integers(1, 4))
def test_a_damaged_file_is_refused_or_valid(tmp_path, name, seed, num_changes):
    chance = random.Random(seed)
    content = valid_bytes(name)
    for _ in range(num_changes):
        start = chance.randrange(len(content) + 1)
        end = start + chance.choice([0, 0, 1, 2, 5, 20])
        inserted = chance.choice([*NASTY, content[start : start + 60]])
        content = content[:start] + inserted + content[end:]
    assert_refused_or_valid(hostile(tmp_path, name, content), name)


def places(value, place=()):
    """Paths (keys and indices) to all values in a JSON value."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*place, key))


def replaced(value, place, new):
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize("name", JSON_READERS)
@fuzzed
@given(data=st.data())
def test_any_value_at_any_place_of_a_json_file_is_refused_or_valid(tmp_path, name, data):
    content = json.loads(valid_bytes(name))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(list(places(content))))
        content = replaced(content, place, data.draw(VALUES))
    assert_refused_or_valid(hostile(tmp_path, name, json.dumps(content).encode()), name)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("video_id", ["../a", "/etc/passwd", "a\\\\b", "..", "C:a", "a\\u0000b", "\\ud800", "a" * 300])
def test_an_id_that_leaves_its_folder_is_never_returned(tmp_path, name, video_id):
    content = valid_bytes(name).replace(b"gate", video_id.encode())
    assert_refused_or_valid(hostile(tmp_path, name, content), name)


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_changes_nothing(tmp_path, name):
    valid = assert_refused_or_valid(hostile(tmp_path, name, valid_bytes(name)), name)
    assert valid is not None
    assert assert_refused_or_valid(hostile(tmp_path, name, b"\xef\xbb\xbf" + valid_bytes(name)), name) == valid


@pytest.mark.parametrize("name", READERS)
def test_text_that_is_not_utf8_is_refused_with_the_place(tmp_path, name):
    for content in (
        valid_bytes(name).decode().replace("a", "é").encode("latin-1"),
        valid_bytes(name).decode().encode("utf-16"),
    ):
        with pytest.raises(ValueError, match=r"hostile\.\w+ is not UTF-8 text: byte \d+ is 0x"):
            scan_annotations(hostile(tmp_path, name, content), name, frame_rate=25, label2id=LABEL2ID)


@pytest.mark.parametrize("name", READERS)
def test_an_empty_file_a_missing_file_and_an_empty_folder_are_refused_or_valid(tmp_path, name):
    empty = assert_refused_or_valid(hostile(tmp_path, name, b""), name)
    assert empty is None or name in ("audacity", "rttm")  # whose file is empty if there are no events
    with pytest.raises(FileNotFoundError, match="not_there"):
        scan_annotations(tmp_path / f"not_there{FORMATS[name].suffix}", name, frame_rate=25, label2id=LABEL2ID)
    folder = tmp_path / f"folder{FORMATS[name].suffix}"
    folder.mkdir()
    assert assert_refused_or_valid(folder, name) is None


@pytest.mark.parametrize("name", JSON_READERS)
def test_json_nested_to_any_depth_is_refused_or_valid(tmp_path, name):
    content = json.loads(valid_bytes(name))
    deepest = max(places(content), key=len)
    for depth in (10, 100, *range(900, 1001, 3), 100_000):
        text = json.dumps(replaced(content, deepest, "HERE")).replace('"HERE"', "[" * depth + "]" * depth)
        assert_refused_or_valid(hostile(tmp_path, name, text.encode()), name)


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "document_type",
    [
        f'<!DOCTYPE a [<!ENTITY e0 "dog">{ENTITIES}]>',  # a billion dogs
        '<!DOCTYPE a [<!ENTITY e9 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE a [<!ENTITY % e9 SYSTEM "file:///etc/passwd"> %e9;]>',
    ],
)
def test_xml_entities_are_not_read(tmp_path, document_type):
    text = valid_bytes("elan").decode().replace("alarm", "&e9;").replace("?>", f"?>{document_type}", 1)
    with pytest.raises(ValueError, match=r"hostile\.eaf .*<!DOCTYPE"):
        scan_annotations(hostile(tmp_path, "elan", text.encode()))


def test_xml_nested_to_any_depth_is_refused_or_valid(tmp_path):
    for depth in (1000, 300_000):
        text = valid_bytes("elan").decode().replace("alarm", "<a>" * depth + "</a>" * depth)
        assert_refused_or_valid(hostile(tmp_path, "elan", text.encode()), "elan")


def test_a_million_events_of_one_video_are_one_problem(tmp_path):
    lines = "".join(f"{time}.0\t{time}.5\talarm\n" for time in range(1_000_000))
    path = hostile(tmp_path, "audacity", lines.encode())
    with pytest.raises(ValueError, match="Problems found: 1.\n- video 'hostile': .*1,000,000 events.*100,000"):
        read_annotations(path)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
ODD_NAMES = st.one_of(
    NAMES, st.sampled_from(["a b", "-a", "#a", ";;a", "<NA>", "a,b", 'a"b', "%41", "?d=a", "a.mp4", "\u2028"])
)
EVENTS = st.tuples(st.integers(0, 5000), st.integers(1, 500), ODD_NAMES, st.floats(0, 1))


@pytest.mark.parametrize("name", READERS)
@fuzzed
@given(content=st.dictionaries(ODD_NAMES, st.lists(EVENTS, max_size=4), min_size=1, max_size=3))
def test_written_annotations_are_read_back_with_odd_names(tmp_path_factory, name, content):
    # Times are whole frames at 25 per second, and so whole milliseconds: every format holds them.
    holds_scores = "scores" not in FORMATS[name].loses
    videos = {
        video_id: AnnotatedVideo(
            video_id,
            300.0,
            "train",
            tuple(
                Event(start / 25, (start + length) / 25, label, score if holds_scores else None)
                for start, length, label, score in sorted(events)
            ),
        )
        for video_id, events in content.items()
    }
    labels = sorted({event.label for video in videos.values() for event in video.events})
    annotations = Annotations(videos, tuple(labels))
    path = tmp_path_factory.mktemp("written") / "annotations"
    try:
        write_annotations(annotations, path, name, frame_rate=25)
    except ValueError:
        assert not path.exists() or list(path.iterdir()) == []
        return
    read = read_annotations(path, name, label2id=annotations.label2id, durations=annotations.durations(), frame_rate=25)
    assert read.labels == annotations.labels
    assert {video_id: sorted(video.events, key=str) for video_id, video in read.videos.items()} == {
        video_id: sorted(video.events, key=str) for video_id, video in annotations.videos.items()
    }
