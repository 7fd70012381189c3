import wave

import numpy as np
import pytest

from esg_transformers.annotations.events import AnnotatedVideo, Annotations, Event
from esg_transformers.corpora.video_folder import VideoFolder
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.localization.collator import EventLocalizationCollator
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.simulation.clips import write_clip
from esg_transformers.simulation.picture import FRAME_RATE, HEIGHT, WIDTH
from esg_transformers.simulation.sound import SAMPLING_RATE

ENCODER = SpectralEncoder()
ANNOTATIONS = Annotations(
    {
        "clip": AnnotatedVideo("clip", 2.0, "train", (Event(0.5, 1.5, "speech"), Event(0.0, 2.0, "alarm"))),
        "quiet room": AnnotatedVideo("quiet room", 1.0, "train", ()),
        "held.out": AnnotatedVideo("held.out", 2.0, "test", (Event(0.0, 1.0, "alarm"),)),
    },
    labels=("alarm", "speech"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clip with picture and sound, and a recording of sound alone; the video of the test split is not there."""
    folder = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (2 * FRAME_RATE, HEIGHT, WIDTH, 3), np.uint8)
    write_clip(folder / "clip.mp4", frames, random.uniform(-0.5, 0.5, 2 * SAMPLING_RATE).astype(np.float32))
    with wave.open(str(folder / "quiet room.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(SAMPLING_RATE)
        file.writeframes(bytes(2 * SAMPLING_RATE))
    (folder / "notes.txt").write_text("not a video")
    return folder


def test_a_video_is_read_as_an_example_with_its_events(folder):
    dataset = VideoFolder(ANNOTATIONS, folder, ENCODER, "train")
    assert len(dataset) == 2
    assert dataset.video_ids == ("clip", "quiet room")
    example = dataset[0]
    assert (example["video_id"], example["duration"]) == ("clip", 2.0)
    # 20 frames at 10 frames/s; windows of 4 start at frames 0, 2, ..., 16. AAC's last frame may make room for one more.
    assert len(example["visual_features"]) == len(example["audio_features"]) in (9, 10)
    assert (example["visual_features"].shape[1], example["audio_features"].shape[1]) == (175, 195)
    np.testing.assert_array_equal(example["segments"], np.array([[0.5, 1.5], [0.0, 2.0]], np.float32))
    assert example["labels"].tolist() == [1, 0]


def test_a_recording_without_picture_is_an_example_too(folder):
    example = VideoFolder(ANNOTATIONS, folder, ENCODER, "train")[1]
    assert example["visual_features"] is None
    assert example["audio_features"].shape == (4, 195)  # 10 frames: windows of 4 start at frames 0, 2, 4, 6
    assert example["segments"].shape == (0, 2)
    assert example["labels"].shape == (0,)


def test_the_folder_says_what_its_features_are_and_fits_the_collator(folder):
    dataset = VideoFolder(ANNOTATIONS, folder, ENCODER, "train")
    assert (dataset.labels, dataset.feature_spec) == (("alarm", "speech"), ENCODER.feature_spec)
    assert str(dataset.feature_spec.encoder) == "spectral 1"
    processor = EsgNetProcessor.for_features(dataset.feature_spec)
    batch = EventLocalizationCollator(processor)(list(dataset))
    assert batch["class_labels"].tolist() == [[1, 0], [-100, -100]]


def test_missing_videos_are_counted_and_named(folder):
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 1 videos of split 'test': held\.out\. .*\.mp4, \.mkv"):
        VideoFolder(ANNOTATIONS, folder, ENCODER, "test")


def test_only_the_first_missing_videos_are_named(tmp_path):
    videos = {name: AnnotatedVideo(name, 1.0, "train", ()) for name in "abcdefg"}
    with pytest.raises(FileNotFoundError, match=r"lacks 7 of the 7 videos of split 'train': a, b, c, d, e, \.\.\.\."):
        VideoFolder(Annotations(videos, ("alarm",)), tmp_path, ENCODER, "train")


def test_a_missing_folder_and_an_unknown_split_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="No video folder at .*nowhere"):
        VideoFolder(ANNOTATIONS, tmp_path / "nowhere", ENCODER, "train")
    with pytest.raises(ValueError, match=r"No video is in split 'val'.*'train' \(2 videos\), 'test' \(1 videos\)"):
        VideoFolder(ANNOTATIONS, folder, ENCODER, "val")


def test_a_file_that_is_no_video_is_named_when_it_is_read(tmp_path):
    (tmp_path / "held.out.mp4").write_bytes(b"not a video")
    dataset = VideoFolder(ANNOTATIONS, tmp_path, ENCODER, "test")
    with pytest.raises(ValueError, match=r"held\.out\.mp4"):
        dataset[0]


def test_a_suffix_in_capitals_is_found(tmp_path):
    (tmp_path / "CLIP.MP4").touch()
    video = AnnotatedVideo("CLIP", 2.0, "train", ())
    assert len(VideoFolder(Annotations({"CLIP": video}, ("alarm",)), tmp_path, SpectralEncoder(), "train")) == 1
