import json
import re
import shutil
import wave
from dataclasses import replace

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.feature_sets import FeatureSet
from esg_transformers.corpora.validation import validate_corpus, validate_features, validate_splits, validate_videos
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec

GRID = FeatureGrid(frame_rate=10.0, stride=5, window=10)  # 10 s hold 19 steps
FEATURE_SET = FeatureSet("test", GRID, ("_rgb", "_flow"), ("_sound",), visual_size=8, audio_size=3)
EVENTS = (Event(1.0, 4.0, "dog"),)
SPLITS = {"a": "train", "b": "train", "c": "validation", "d": "test"}


def annotated(splits=SPLITS, duration=10.0, events=EVENTS):
    videos = {video_id: AnnotatedVideo(video_id, duration, split, events) for video_id, split in splits.items()}
    return Annotations(videos, ("dog",))


def found(problems):
    """Severity, kind and video of each problem, sorted."""
    return sorted((problem.severity, problem.kind, problem.video_id) for problem in problems)


@pytest.fixture
def features_dir(tmp_path):
    random = np.random.default_rng(0)
    for video_id in SPLITS:
        for suffix, size in (("_rgb", 4), ("_flow", 4), ("_sound", 3)):
            np.save(tmp_path / f"{video_id}{suffix}.npy", random.normal(size=(19, size)).astype(np.float16))
    return tmp_path


# Splits and classes


def test_classes_are_counted_in_train_and_where_they_are_scored():
    five = tuple(Event(start, start + 1.0, "dog") for start in range(5))
    videos = {
        "a": AnnotatedVideo("a", 10.0, "train", five + five[:4] + (Event(1.0, 2.0, "cat"),)),
        "b": AnnotatedVideo("b", 10.0, "validation", ()),
        "c": AnnotatedVideo("c", 10.0, "test", (Event(1.0, 2.0, "bird"),)),
    }
    problems = validate_splits(Annotations(videos, ("bird", "cat", "dog", "fish")))
    assert [(problem.severity, problem.kind) for problem in problems] == [
        ("warning", "class not in train"),
        ("warning", "class with few events"),
        ("warning", "class without events"),
    ]
    assert [str(problem).split()[0] for problem in problems] == ["'bird'", "'cat'", "'fish'"]


def test_train_and_validation_are_missed_but_a_test_split_alone_lacks_no_classes():
    problems = validate_splits(annotated({"d": "test"}))
    assert found(problems) == [("warning", "missing split", None)] * 2


# Feature files


def test_sound_feature_files_have_no_problems(features_dir):
    assert validate_features(annotated(), features_dir, FEATURE_SET) == []


def test_everything_wrong_with_feature_files_is_found_at_once(features_dir):
    def save(name, array):
        np.save(features_dir / name, array)

    (features_dir / "a_rgb.npy").unlink()
    whole = (features_dir / "a_flow.npy").read_bytes()
    (features_dir / "a_flow.npy").write_bytes(whole[:-10])
    (features_dir / "a_sound.npy").write_bytes(b"not an array")
    save("b_rgb.npy", np.ones((19, 5), np.float16))
    save("b_flow.npy", np.ones((19, 4), np.int32))
    save("b_sound.npy", np.array([{}], dtype=object))  # needs pickle, which is never read
    save("c_rgb.npy", np.zeros((19, 4), np.float32))
    bad = np.random.default_rng(1).normal(size=(19, 4)).astype(np.float32)
    bad[3, 1:3] = np.nan, np.inf
    save("c_flow.npy", bad)
    save("d_rgb.npy", np.float32(3.0))
    save("d_sound.npy", np.random.default_rng(1).normal(size=(38, 3)))  # of a clock twice as fast
    save("e_sound.npy", np.ones((19, 3)))
    problems = validate_features(annotated(), features_dir, FEATURE_SET)
    assert found(problems) == [
        ("error", "NaN or infinite", "c"),
        ("error", "missing file", "a"),
        ("error", "not floats", "b"),
        ("error", "other grid or duration", "d"),
        ("error", "streams of different length", "d"),
        ("error", "unreadable file", "a"),
        ("error", "unreadable file", "a"),
        ("error", "unreadable file", "b"),
        ("error", "wrong width", "b"),
        ("error", "wrong width", "d"),
        ("warning", "features that never change", "c"),
        ("warning", "file without annotations", None),
    ]
    by_kind = {(problem.kind, problem.video_id): problem.message for problem in problems}
    for (kind, video_id), facts in {
        ("NaN or infinite", "c"): ("c_flow.npy", "2 values"),
        ("other grid or duration", "d"): ("d_sound.npy", "38 steps", "10 s", "19"),
        ("wrong width", "b"): ("b_rgb.npy", "(19, 5)", "(steps, 4)"),
        ("file without annotations", None): ("e_sound.npy",),
    }.items():
        assert all(fact in by_kind[kind, video_id] for fact in facts)


@pytest.mark.parametrize(
    ("visual_steps", "audio_steps", "severity"), [(19, 18, "warning"), (18, 22, "warning"), (17, 22, "error")]
)
def test_streams_of_different_length_are_a_warning_up_to_10_percent_and_two_steps(
    features_dir, visual_steps, audio_steps, severity
):
    # 10 % of 22 steps and two are 4.2.
    random = np.random.default_rng(1)
    np.save(features_dir / "a_rgb.npy", random.normal(size=(visual_steps, 4)))
    np.save(features_dir / "a_flow.npy", random.normal(size=(visual_steps, 4)))
    np.save(features_dir / "a_sound.npy", random.normal(size=(audio_steps, 3)))
    (problem,) = validate_features(annotated(), features_dir, FEATURE_SET)
    assert (problem.severity, problem.video_id) == (severity, "a")
    assert f"{min(visual_steps, audio_steps)} to {max(visual_steps, audio_steps)} steps" in problem.message


def test_two_clocks_are_checked_each_by_its_own(features_dir):
    fast = replace(FEATURE_SET, audio_grid=FeatureGrid(frame_rate=10.0, stride=2, window=10))  # 46 steps in 10 s
    for video_id in SPLITS:
        np.save(features_dir / f"{video_id}_sound.npy", np.random.default_rng(ord(video_id)).normal(size=(46, 3)))
    assert validate_features(annotated(), features_dir, fast) == []
    assert {problem.kind for problem in validate_features(annotated(), features_dir, FEATURE_SET)} == {
        "other grid or duration",
        "streams of different length",
    }


def test_the_same_features_under_two_ids_are_leakage_between_splits_only(features_dir):
    for suffix in ("_rgb", "_flow"):
        shutil.copy(features_dir / f"a{suffix}.npy", features_dir / f"d{suffix}.npy")
    shutil.copy(features_dir / "a_sound.npy", features_dir / "b_sound.npy")
    problems = validate_features(annotated(), features_dir, FEATURE_SET)
    assert found(problems) == [("error", "leakage between splits", "d"), ("warning", "same content twice", "b")]
    assert re.fullmatch("video 'd': .*visual features in test .* 'a' in train", str(problems[1]))


def test_durations_that_are_not_known_are_an_error_and_hide_nothing_else(features_dir):
    np.save(features_dir / "a_rgb.npy", np.ones((19, 5)))
    problems = validate_features(annotated({"a": "train"}, duration=None), features_dir, FEATURE_SET)
    kinds = [problem.kind for problem in problems if problem.video_id == "a"]
    assert kinds == ["unknown duration", "wrong width"]
    with pytest.raises(FileNotFoundError, match="No feature folder at"):
        validate_features(annotated(), features_dir / "elsewhere", FEATURE_SET)


# Videos


def write_sound(path, duration):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(bytes(2 * 8000 * duration))


def write_pictures(path, duration):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in np.linspace(0, 255, 2 * duration).astype(np.uint8):
            picture = np.full((32, 32, 3), level)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_everything_wrong_with_video_files_is_found_at_once(tmp_path):
    for name, duration in (("a", 10), ("c", 10), ("e", 10)):
        write_sound(tmp_path / f"{name}.wav", duration)
    write_pictures(tmp_path / "b.MP4", 8)
    write_sound(tmp_path / "b.wav", 8)
    (tmp_path / "d.mkv").write_text("not a video")
    (tmp_path / "notes.txt").write_text("of no suffix of videos")
    events = (Event(1.0, 8.9, "dog"), Event(1.0, 9.5, "dog"))  # the second ends 1.5 s after the file of b
    problems = validate_videos(annotated(SPLITS | {"f": "test"}, events=events), tmp_path)
    assert found(problems) == [
        ("error", "event outside the video", "b"),
        ("error", "leakage between splits", "c"),
        ("error", "missing file", "f"),
        ("error", "unreadable file", "d"),
        ("warning", "file without annotations", None),
        ("warning", "no picture", "a"),
        ("warning", "no picture", "c"),
        ("warning", "no sound", "b"),
        ("warning", "other duration", "b"),
        ("warning", "several files of one video", "b"),
    ]
    with pytest.raises(FileNotFoundError, match="No video folder at"):
        validate_videos(annotated(), tmp_path / "elsewhere")


# Corpora


def example(video_id, **changes):
    random = np.random.default_rng(ord(video_id))
    return {
        "video_id": video_id,
        "duration": 10.0,
        "visual_features": random.normal(size=(19, 4)).astype(np.float16),
        "audio_features": random.normal(size=(19, 3)).astype(np.float16),
        "segments": np.array([[1.0, 4.0], [2.0, 9.0]]),
        "labels": np.array([0, 1]),
    } | changes


def write_small_corpus(folder, splits, **changes):
    labels, spec = changes.get("labels", ["cat", "dog"]), FeatureSpec(GRID, 4, 3, EncoderId("test", "1"))
    spec = replace(spec, **{name: value for name, value in changes.items() if name != "labels"})
    lists = {split: ExampleList(examples, tuple(labels), spec) for split, examples in splits.items()}
    write_corpus(folder, lists, videos_per_shard=2)


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    silent = example("c", audio_features=None, segments=np.zeros((0, 2)), labels=np.zeros(0, np.int64))
    write_small_corpus(folder, {"train": [example("a"), example("b"), silent], "test": [example("d")]})
    return folder


def test_a_sound_corpus_has_no_problems_and_gives_its_annotations(corpus):
    annotations, problems = validate_corpus(corpus, {"cat": 0, "dog": 1})
    assert problems == []
    assert annotations.labels == ("cat", "dog")
    assert {video.video_id: video.split for video in annotations.videos.values()} == {
        "a": "train",
        "b": "train",
        "c": "train",
        "d": "test",
    }
    assert annotations.videos["a"].events == (Event(1.0, 4.0, "cat"), Event(2.0, 9.0, "dog"))
    assert annotations.videos["c"].events == ()


def test_everything_wrong_with_the_files_of_a_corpus_is_found_at_once(corpus):
    test, first, second = sorted((corpus / "data").iterdir())
    content = bytearray(test.read_bytes())
    content[-20] ^= 1  # in the footer
    test.write_bytes(content)
    first.write_bytes(first.read_bytes()[:-100])
    second.unlink()
    (corpus / "notes.txt").write_text("mine")
    _, problems = validate_corpus(corpus)
    kinds = {(problem.severity, problem.kind) for problem in problems}
    assert {
        ("error", "missing file"),
        ("error", "bad shard"),
        ("error", "unreadable file"),
        ("warning", "stray file"),
    } == kinds
    messages = " ".join(map(str, problems))
    assert all(name in messages for name in (first.name, second.name, test.name, "notes.txt"))


def rewrite(path, changes):
    """Change columns of a shard as no writer of this package does: `{name: function of the column's list}`."""
    table = pq.read_table(path)
    for name, change in changes.items():
        field = table.schema.field(name)
        is_extension = isinstance(field.type, pa.ExtensionType)
        rows = change(table.column(name).to_pylist())
        if is_extension:  # features, which pyarrow 16 takes as numbers of NumPy only
            halves = [[list(map(np.float16, step)) for step in video] for video in rows]
            values = pa.ExtensionArray.from_storage(field.type, pa.array(halves, field.type.storage_type))
        else:
            values = pa.array(rows, field.type)
        table = table.set_column(table.schema.get_field_index(name), field, values)
    pq.write_table(table, path)


def test_everything_wrong_with_the_rows_of_a_corpus_is_found_at_once(corpus):
    def break_events(rows):
        rows[0] = [
            {"start": 1.0, "end": 12.0, "label": 0},
            {"start": 3.0, "end": 3.0, "label": 0},
            {"start": 1.0, "end": 2.0, "label": 7},
        ]
        rows[1] = [{"start": 1.0, "end": 2.0, "label": 0}] * 2
        return rows

    def break_features(rows):
        rows[0][2][1] = float("nan")
        rows[1] = rows[1][:9]
        return rows

    shards = sorted((corpus / "data").glob("train-*"))
    rewrite(shards[0], {"events": break_events, "visual_features": break_features})
    rewrite(corpus / "data" / "test-00000-of-00001.parquet", {"video_id": lambda ids: ["a"]})
    rewrite(shards[1], {"has_visual": lambda values: [False]})
    annotations, problems = validate_corpus(corpus)
    assert found(problem for problem in problems if problem.kind != "bad shard") == [
        ("error", "NaN or infinite", "a"),
        ("error", "event outside the video", "a"),
        ("error", "event without length", "a"),
        ("error", "leakage between splits", "a"),
        ("error", "other grid or duration", "b"),
        ("error", "streams of different length", "b"),
        ("error", "streams of different length", "c"),
        ("error", "unknown label", "a"),
        ("warning", "duplicate event", "b"),
    ]
    assert len(annotations.videos) == 3


def test_the_same_features_in_two_splits_of_a_corpus_are_leakage(tmp_path):
    copied = example("a") | {"video_id": "z"}
    write_small_corpus(tmp_path / "corpus", {"train": [example("a"), example("b")], "test": [copied]})
    _, problems = validate_corpus(tmp_path / "corpus")
    assert found(problems) == [("error", "leakage between splits", "z")] * 2  # seen and heard


def test_shards_of_another_corpus_and_other_classes_are_named(corpus, tmp_path):
    write_small_corpus(tmp_path / "other", {"train": [example("e")], "test": [example("f")]}, labels=["cow", "dog"])
    name = "test-00000-of-00001.parquet"
    shutil.copy(tmp_path / "other" / "data" / name, corpus / "data" / name)
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["splits"]["test"] = json.loads((tmp_path / "other" / "corpus.json").read_text())["splits"]["test"]
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    _, problems = validate_corpus(corpus, {"bird": 0, "cat": 1})
    messages = [problem.message for problem in problems if problem.kind == "bad shard"]
    assert len(messages) == 1 and "differ in labels" in messages[0]
    other_classes = [problem.message for problem in problems if problem.kind == "other classes"]
    assert [message.partition("differ in ")[2] for message in other_classes] == ["'bird', 'dog'"]
    assert {problem.video_id for problem in problems if problem.kind == "unknown label"} == {"a", "b", "f"}


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"corpus\.json"):
        validate_corpus(tmp_path)
