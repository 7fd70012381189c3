"""The encoder on real clips, with random weights; its optical flow is the difference of pictures."""

import importlib.util
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from esg_transformers import FeatureGrid, I3dConfig, I3dModel, I3dProcessor, VggishConfig, VggishModel, VggishProcessor
from esg_transformers.encoders.i3d.processing_i3d import resize_frame
from esg_transformers.encoders.i3d_vggish import I3dVggishEncoder, pad_to_multiple_of_8, raft_optical_flow
from esg_transformers.media.audio import read_waveform
from esg_transformers.media.video import read_frames

pytestmark = pytest.mark.slow

SECONDS = 1.28  # 32 frames: windows from frame 0 and from frame 8


def brightness_flow(frame, following):
    """The change of red as motion to the right, of green as motion down, in pixels."""
    return (following[..., :2].astype(np.float32) - frame[..., :2]) / 8


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    rgb, flow = I3dModel(I3dConfig()), I3dModel(I3dConfig(num_channels=2))
    return rgb, flow, VggishModel(VggishConfig(intermediate_size=16, hidden_size=128))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A lossless clip, as lossy ones decode differently with each version of FFmpeg."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    write_clip(path)
    return path


def write_clip(path, picture=True, sound=True):
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("ffv1", rate=25)
            video.width, video.height, video.pix_fmt = 80, 60, "bgr0"
        if sound:
            audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for index in range(32 if picture else 0):
            frame = av.VideoFrame.from_ndarray(random.integers(0, 256, (60, 80, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        if picture:
            container.mux(video.encode())
        if sound:
            samples = (random.uniform(-1, 1, (1, round(SECONDS * 16000))) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())


def test_each_feature_sees_its_24_frames_and_hears_their_0_96_seconds(models, clip):
    encoder = I3dVggishEncoder(*models, optical_flow=brightness_flow)
    features = encoder(clip)
    assert features.grid == encoder.feature_spec.grid == FeatureGrid(25.0, 8, 24)
    assert features.visual.shape == (2, encoder.feature_spec.visual_size) == (2, 2048)
    assert features.audio.shape == (2, encoder.feature_spec.audio_size) == (2, 128)
    assert features.visual.dtype == features.audio.dtype == np.float32

    rgb, flow, vggish = models
    frames = [resize_frame(frame) for frame in read_frames(clip, 25.0)]
    frames.append(frames[-1])  # the last one stays
    window = np.stack(frames[8:32])
    motion = np.stack([brightness_flow(*pair) for pair in pairwise(frames[8:33])])
    sound = np.pad(read_waveform(clip, 16000)[5120:], (0, 400))[:15600]  # from 0.32 s on; silence follows
    with torch.inference_mode():
        expected = [
            rgb(**I3dProcessor("rgb")(window)).pooler_output,
            flow(**I3dProcessor("flow")(motion)).pooler_output,
            vggish(**VggishProcessor()(sound, 16000)).pooler_output,
        ]
    found = (features.visual[1:, :1024], features.visual[1:, 1024:], features.audio[1:])
    for stream, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(stream, other, atol=1e-5)


def test_without_flow_there_are_1024_visual_channels_and_another_name(models):
    rgb, flow, vggish = models
    encoder = I3dVggishEncoder(rgb, None, vggish)
    both = I3dVggishEncoder(rgb, flow, vggish, optical_flow=brightness_flow)
    assert (encoder.feature_spec.encoder.name, both.feature_spec.encoder.name) == ("i3d_rgb-vggish", "i3d-vggish")
    assert (encoder.feature_spec.visual_size, both.feature_spec.visual_size) == (1024, 2048)


def test_the_version_changes_with_the_weights(models):
    rgb, _, vggish = models
    other = VggishModel(vggish.config)
    other.load_state_dict(vggish.state_dict())
    assert (
        I3dVggishEncoder(rgb, None, other).feature_spec.encoder.version
        == I3dVggishEncoder(rgb, None, vggish).feature_spec.encoder.version
    )
    with torch.no_grad():
        other.dense[2].bias[0] += 1
    assert (
        I3dVggishEncoder(rgb, None, other).feature_spec.encoder.version
        != I3dVggishEncoder(rgb, None, vggish).feature_spec.encoder.version
    )


@pytest.mark.parametrize(("flow", "num_read"), [(False, 24), (True, 25)], ids=["rgb", "rgb and flow"])
def test_no_more_frames_are_read_than_the_features_need(flow, num_read, models):
    count = 0

    def frames():
        nonlocal count
        while True:
            count += 1
            yield np.zeros((60, 80, 3), np.uint8)

    encoder = I3dVggishEncoder(models[0], models[1] if flow else None, models[2], brightness_flow if flow else None)
    [feature] = encoder.picture_features(frames(), num_steps=1)
    assert feature.shape == (encoder.feature_spec.visual_size,)
    assert count == num_read


def test_where_the_pictures_end_the_last_one_stays(models):
    encoder = I3dVggishEncoder(models[0], None, models[2])
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), np.uint8))
    [feature] = encoder.picture_features(frames, num_steps=1)
    [expected] = encoder.picture_features([*frames, *[frames[1]] * 22], num_steps=1)
    np.testing.assert_array_equal(feature, expected)


def test_no_frames_are_refused(models):
    with pytest.raises(ValueError, match="no frames"):
        next(I3dVggishEncoder(models[0], None, models[2]).picture_features([], num_steps=1))


def test_sound_in_blocks_is_the_same_as_sound_at_once(models):
    encoder = I3dVggishEncoder(models[0], None, models[2])
    processor = VggishProcessor()
    waveform = np.random.default_rng(0).uniform(-1, 1, processor.num_samples(40)).astype(np.float32)
    with torch.inference_mode():
        at_once = models[2](**processor(waveform, 16000)).pooler_output
    stretches = np.split(waveform, range(10_000, len(waveform), 10_000))
    np.testing.assert_allclose([*encoder.sound_features(stretches, 40)], at_once, atol=1e-6)
    longer = [*encoder.sound_features(stretches, 43)]  # 3 steps more than there is sound for
    np.testing.assert_allclose(longer[:40], at_once, atol=1e-6)
    assert len(longer) == 43


def test_no_more_sound_is_read_than_10_s_of_features_need(models):
    count = 0

    def seconds():
        nonlocal count
        while True:
            count += 1
            yield np.zeros(16_000, np.float32)

    features = I3dVggishEncoder(models[0], None, models[2]).sound_features(seconds(), num_steps=100_000)
    next(features)
    assert count == 11  # 32 patches end with second 31 x 0.32 + 0.975 = 10.895


def test_blocks_and_bytes_have_the_features_of_the_whole_file(models, clip):
    encoder = I3dVggishEncoder(models[0], None, models[2])
    whole, blocks = encoder(clip.read_bytes()), list(encoder.blocks(clip, num_steps=1))
    assert [block.visual.shape for block in blocks] == [(1, 1024), (1, 1024)]
    assert {block.duration for block in blocks} == {whole.duration}
    np.testing.assert_array_equal(np.concatenate([block.visual for block in blocks]), whole.visual)
    np.testing.assert_array_equal(np.concatenate([block.audio for block in blocks]), whole.audio)


def test_a_silent_film_has_no_audio_and_a_sound_file_has_no_visual(models, tmp_path):
    encoder = I3dVggishEncoder(models[0], None, models[2])
    write_clip(tmp_path / "film.mkv", sound=False)
    film = encoder(tmp_path / "film.mkv")
    assert film.audio is None and film.visual.shape == (2, 1024)
    write_clip(tmp_path / "sound.mkv", picture=False)
    sound = encoder(tmp_path / "sound.mkv")
    assert sound.visual is None and sound.audio.shape == (2, 128)


def test_models_in_each_others_place_are_refused(models):
    rgb, flow, vggish = models
    with pytest.raises(ValueError, match="`i3d_rgb` takes 2 channels a frame; expected 3"):
        I3dVggishEncoder(flow, None, vggish)
    with pytest.raises(ValueError, match="`i3d_flow` takes 3 channels a frame; expected 2"):
        I3dVggishEncoder(rgb, rgb, vggish)


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision_flow_is_refused_with_the_way_out(models):
    with pytest.raises(ImportError, match=r"`pip install torchvision`.*`i3d_flow=None`"):
        raft_optical_flow()
    with pytest.raises(ImportError, match="torchvision"):
        I3dVggishEncoder(*models)


def test_pictures_are_padded_to_multiples_of_8_with_their_edges_an_odd_pixel_behind():
    pictures = torch.arange(5.0).repeat(8, 1)[None, None]  # 8 rows of 0 1 2 3 4
    padded = pad_to_multiple_of_8(pictures)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[0, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 4, 4]  # 3 columns: 1 before, 2 behind


def test_a_missing_file_is_refused(models, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        I3dVggishEncoder(models[0], None, models[2])(tmp_path / "nowhere.mp4")
