import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.feature_sets import FEATURE_SETS
from esg_transformers.corpora.manifest import verify_corpus
from esg_transformers.encoders.hub_encoder import HubEncoder
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid


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
        assert (dataset.labels, dataset.feature_spec) == (annotations.labels, encoder.feature_spec)
        assert str(dataset.feature_spec.encoder) == "spectral 1"
        for example in dataset:
            video = annotations.videos[example["video_id"]]
            expected = [[event.start, event.end] for event in video.events]
            np.testing.assert_allclose(example["segments"].reshape(-1, 2), np.reshape(expected, (-1, 2)), rtol=1e-6)
    features = encoder(clips / "videos" / f"{example['video_id']}.mp4")
    np.testing.assert_array_equal(example["visual_features"], features.visual.astype(np.float16))
    np.testing.assert_array_equal(example["audio_features"], features.audio.astype(np.float16))


def test_an_existing_corpus_is_replaced_only_when_asked(run, refused, options):
    code, printed, _ = run("corpus", "build", options)
    assert (code, printed) == (0, f"Wrote 10 videos to {options['--output']}.\n")
    manifest = (options["--output"] / "corpus.json").read_bytes()
    assert "There is a corpus at" in refused("corpus", "build", options)
    assert run("corpus", "build", options, "--overwrite")[0] == 0
    assert (options["--output"] / "corpus.json").read_bytes() == manifest


def test_a_missing_annotation_file_is_named(refused, options, tmp_path):
    message = refused("corpus", "build", options | {"--annotations": tmp_path / "nowhere.json"})
    assert message == f"No annotations at {tmp_path / 'nowhere.json'}."
    assert list(tmp_path.iterdir()) == []


def test_missing_videos_are_named(refused, options, tmp_path):
    message = refused("corpus", "build", options | {"--videos": tmp_path / "nowhere"})
    assert message == f"No video folder at {tmp_path / 'nowhere'}."
    (tmp_path / "empty").mkdir()
    message = refused("corpus", "build", options | {"--videos": tmp_path / "empty"})
    assert "lacks 4 of the 4 videos of split 'train': workshop_train_0000, " in message
    assert not options["--output"].exists()


def test_an_event_that_ends_before_it_starts_is_named(refused, options, clips, tmp_path):
    def turn_round(database):
        database["workshop_train_0000"]["annotations"][0]["segment"].reverse()

    annotations = rewritten(clips / "annotations.json", tmp_path / "wrong.json", turn_round)
    message = refused("corpus", "build", options | {"--annotations": annotations})
    assert "Problems found: 1.\n- video 'workshop_train_0000': event 'machine running' from " in message
    assert "needs 0 <= start < end" in message
    assert not options["--output"].exists()


def test_a_duration_that_is_not_that_of_the_file_is_refused_and_no_corpus_is_left(
    run, refused, options, clips, tmp_path
):
    def lengthen(database):
        database["workshop_test_0001"]["duration"] = 60.0

    annotations = rewritten(clips / "annotations.json", tmp_path / "wrong.json", lengthen)
    message = refused("corpus", "build", options | {"--annotations": annotations})
    assert message.startswith("Video 'workshop_test_0001' of split 'test' cannot be stored: ")
    assert "a video of 60 s has 299 at 10 frames/s" in message  # 600 frames: windows of 4 start at 0, 2, ..., 596
    # What is finished waits for the next build, in which the annotation is right.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".corpus.partial", "wrong.json"]
    code, printed, _ = run("corpus", "build", options)
    assert (code, printed) == (0, f"Wrote 10 videos to {options['--output']}.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "wrong.json"]


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_build_that_is_killed_goes_on_and_gives_the_same_bytes_without_processes(run, options, tmp_path):
    options |= {"--videos-per-shard": 1}
    whole = tmp_path / "whole" / "corpus"
    assert run("corpus", "build", options | {"--output": whole})[0] == 0
    words = [str(word) for option in (options | {"--num-workers": 2}).items() for word in option]
    command = [sys.executable, "-m", "esg_transformers", "corpus", "build", *words]
    killed = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    records = tmp_path / ".corpus.partial" / "records"
    while not list(records.glob("*.json")):
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not options["--output"].exists()
    assert run("corpus", "build", options)[0] == 0
    assert hashes(options["--output"]) == hashes(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "whole"]


def test_a_corpus_of_published_feature_files_holds_what_is_in_them(run, write_features, tmp_path):
    source = write_features("one-peace")
    assert run("corpus", "build", source, "--output", tmp_path / "corpus", "--num-workers", 0)[0] == 0
    train = EventCorpus(tmp_path / "corpus", "train")
    assert (train.video_ids, train.feature_spec.grid) == (("-a_1", "b"), FeatureGrid(16.0, 4, 16))
    assert str(train.feature_spec.encoder) == "one-peace unav100"
    stored = np.load(source["--features"] / "b_one_peace_audio.npy").astype(np.float16)
    np.testing.assert_array_equal(train[1]["audio_features"], stored)


def test_feature_files_of_ones_own_are_described_by_a_json_file_and_put_on_one_grid(
    run, refused, write_features, tmp_path
):
    source = write_features("one-peace")
    own = {"name": "ours", "version": "3", "audio_grid": {"frame_rate": 10, "stride": 2, "window": 2}}
    description = asdict(replace(FEATURE_SETS["one-peace"])) | own
    (tmp_path / "ours.json").write_text(json.dumps(description))
    for video_id in ("-a_1", "b", "c", "d"):  # 10 s are 100 frames: 50 windows of 2
        ramp = np.repeat(np.arange(50, dtype=np.float32)[:, None], 1536, axis=1)
        np.save(source["--features"] / f"{video_id}_one_peace_audio.npy", ramp)
    source |= {"--feature-set": tmp_path / "ours.json", "--output": tmp_path / "corpus", "--num-workers": 0}
    message = refused("corpus", "build", source)
    for fact in ("16 frames/s, stride 4, window 16", "10 frames/s, stride 2, window 2", "--grid"):
        assert fact in message
    assert run("corpus", "build", source, "--grid", "5,1,1")[0] == 0
    train = EventCorpus(tmp_path / "corpus", "train")
    assert str(train.feature_spec.encoder) == "ours 3"
    assert train.feature_spec.grid == FeatureGrid(5.0, 1, 1)
    # Both grids have a step every 0.2 s, centred at 0.1, 0.3, ... s.
    assert train[0]["audio_features"][:, 7].tolist() == list(range(50))
    assert train[0]["visual_features"].shape == (50, 1536)


def test_durations_that_the_annotations_do_not_say_are_those_of_the_videos(run, refused, clips, options, tmp_path):
    (tmp_path / "events.csv").write_text(
        "video_id,start,end,label,split\nworkshop_train_0000,1.0,2.5,knock,train\n", encoding="utf-8"
    )
    assert run("corpus", "build", options | {"--annotations": tmp_path / "events.csv"})[0] == 0
    [example] = EventCorpus(options["--output"], "train")
    assert example["duration"] == pytest.approx(6.0, abs=0.1)
    (tmp_path / "events.csv").write_text("video_id,start,end,label,split\nelsewhere,1.0,2.5,knock,train\n")
    message = refused("corpus", "build", options | {"--annotations": tmp_path / "events.csv"}, "--overwrite")
    assert "lacks 1 of the 1 videos of split 'train': elsewhere." in message


def test_the_grid_of_the_encoder_can_be_chosen(run, options):
    assert run("corpus", "build", options, "--grid", "20,5,10")[0] == 0
    assert EventCorpus(options["--output"], "train").feature_spec.grid == FeatureGrid(20.0, 5, 10)


def test_videos_are_encoded_with_models_of_transformers(run, refused, clips, options, tmp_path):
    torch.manual_seed(0)
    size = {"height": 32, "width": 32}
    config = ViTConfig(image_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ViTModel(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size=size).save_pretrained(tmp_path / "vit")
    options |= {"--encoder": "hub", "--visual-model": tmp_path / "vit", "--grid": "4,4,4"}
    assert run("corpus", "build", options)[0] == 0
    train = EventCorpus(options["--output"], "train")
    encoder = HubEncoder(str(tmp_path / "vit"), None, FeatureGrid(4, 4, 4))
    assert train.feature_spec == encoder.feature_spec
    assert (train.feature_spec.visual_size, train[0]["audio_features"]) == (16, None)
    features = encoder(clips / "videos" / f"{train.video_ids[0]}.mp4")
    np.testing.assert_allclose(train[0]["visual_features"], features.visual, atol=1e-2)
    message = refused("corpus", "build", options | {"--visual-model": tmp_path / "nowhere"}, "--overwrite")
    assert message.startswith(f"No folder at {tmp_path / 'nowhere'}, and not a Hub repository either")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--encoder": "hub"}, "--encoder hub needs --visual-model, --audio-model, or both."),
        (
            {"--encoder": "spectral", "--audio-model": "a/b", "--vggish-model": "c"},
            "--encoder spectral takes no models; got --audio-model, --vggish-model.",
        ),
        (
            {"--audio-model": "a/b", "--i3d-rgb-model": "c"},
            "--encoder hub takes --visual-model, --audio-model; got --i3d-rgb-model.",
        ),
        (
            {"--i3d-flow-model": "a"},
            "--encoder i3d-vggish needs --i3d-rgb-model and --vggish-model; --i3d-flow-model adds flow.",
        ),
        ({"--videos": ""}, "Give either --videos, or both of --features and --feature-set."),
        ({"--features": "f"}, "Give either --videos, or both of --features and --feature-set."),
        ({"--videos": "", "--features": "f"}, "Give either --videos, or both of --features and --feature-set."),
        (
            {"--videos": "", "--features": "f", "--feature-set": "one-peace", "--encoder": "spectral"},
            "--encoder and its models apply to --videos: feature files are encoded already.",
        ),
        (
            {"--videos": "", "--features": "f", "--feature-set": "two-peace"},
            "'two-peace' is neither a published feature set (i3d-vggish, one-peace) nor a JSON file that describes "
            "one.",
        ),
        ({"--num-workers": -1}, "Give videos_per_shard >= 1 and num_workers >= 0; got 128 and -1."),
    ],
)
def test_options_that_do_not_go_together_are_refused(refused, options, change, message):
    assert refused("corpus", "build", options | change) == message


def test_a_grid_that_is_none_is_refused(run, options):
    with pytest.raises(SystemExit) as ended:
        run("corpus", "build", options, "--grid", "25,8")
    assert ended.value.code == 2
