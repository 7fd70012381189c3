import json

import numpy as np
import pytest

from esg_transformers.data.annotations import read_unav_annotations
from esg_transformers.data.corpus import EventCorpus, verify_corpus
from esg_transformers.encoders.spectral import SpectralEncoder


@pytest.fixture
def options(clips, tmp_path):
    return {
        "--videos": clips / "videos",
        "--annotations": clips / "annotations.json",
        "--output": tmp_path / "corpus",
        "--num-workers": 0,
    }


def rewritten(annotations, path, change):
    """A copy of an annotation file with one thing changed by `change(database)`."""
    content = json.loads(annotations.read_text())
    change(content["database"])
    path.write_text(json.dumps(content))
    return path


def test_the_corpus_holds_the_features_and_events_of_every_clip(clips, corpus):
    annotations, encoder = read_unav_annotations(clips / "annotations.json"), SpectralEncoder()
    verify_corpus(corpus)
    for split, number in (("train", 4), ("validation", 3), ("test", 3)):
        dataset = EventCorpus(corpus, split)
        assert len(dataset) == number
        assert (dataset.labels, dataset.grid) == (annotations.labels, encoder.grid)
        assert dataset.encoder == {"name": "spectral", "version": "1"}
        for example in dataset:
            video = annotations.videos[example["video_id"]]
            expected = [[event.start, event.end] for event in video.events]
            np.testing.assert_allclose(example["segments"].reshape(-1, 2), np.reshape(expected, (-1, 2)), rtol=1e-6)
    features = encoder(clips / "videos" / f"{example['video_id']}.mp4")
    np.testing.assert_array_equal(example["visual_features"], features.visual.astype(np.float16))
    np.testing.assert_array_equal(example["audio_features"], features.audio.astype(np.float16))


def test_an_existing_corpus_is_replaced_only_when_asked(run, refused, options):
    code, printed, _ = run("encode", options)
    assert (code, printed) == (0, f"Wrote 10 videos to {options['--output']}.\n")
    manifest = (options["--output"] / "corpus.json").read_bytes()
    assert "There is a corpus at" in refused("encode", options)
    assert run("encode", options, "--overwrite")[0] == 0
    assert (options["--output"] / "corpus.json").read_bytes() == manifest


def test_a_missing_annotation_file_is_named(refused, options, tmp_path):
    message = refused("encode", options | {"--annotations": tmp_path / "nowhere.json"})
    assert message == f"No annotation file at {tmp_path / 'nowhere.json'}."
    assert list(tmp_path.iterdir()) == []


def test_missing_videos_are_named(refused, options, tmp_path):
    message = refused("encode", options | {"--videos": tmp_path / "nowhere"})
    assert message == f"No video folder at {tmp_path / 'nowhere'}."
    (tmp_path / "empty").mkdir()
    message = refused("encode", options | {"--videos": tmp_path / "empty"})
    assert "lacks 4 of the 4 videos of split 'train': workshop_train_0000, " in message
    assert not options["--output"].exists()


def test_an_event_that_ends_before_it_starts_is_named(refused, options, clips, tmp_path):
    def turn_round(database):
        database["workshop_train_0000"]["annotations"][0]["segment"].reverse()

    annotations = rewritten(clips / "annotations.json", tmp_path / "wrong.json", turn_round)
    message = refused("encode", options | {"--annotations": annotations})
    assert "Problems found: 1.\n- video 'workshop_train_0000': event 'machine running' from " in message
    assert "needs 0 <= start < end" in message
    assert not options["--output"].exists()


def test_a_duration_that_is_not_that_of_the_file_is_refused_and_nothing_is_left(refused, options, clips, tmp_path):
    def lengthen(database):
        database["workshop_test_0001"]["duration"] = 60.0

    annotations = rewritten(clips / "annotations.json", tmp_path / "wrong.json", lengthen)
    message = refused("encode", options | {"--annotations": annotations})
    assert message.startswith("Video 'workshop_test_0001' of split 'test' cannot be stored: ")
    assert "a video of 60 s has 299 at 10 frames/s" in message  # 600 frames: windows of 4 start at 0, 2, ..., 596
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.json"]
