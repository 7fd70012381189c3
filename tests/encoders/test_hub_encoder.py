import json
import pickle
import re
import shutil
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    BertConfig,
    BertModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    HubertConfig,
    HubertModel,
    PeAudioConfig,
    PeAudioFeatureExtractor,
    PeAudioModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    VideoMAEConfig,
    VideoMAEImageProcessorPil,
    VideoMAEModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    VJEPA2Config,
    VJEPA2Model,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.utils import is_torchvision_available

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.encoders import hub_encoder
from esg_transformers.encoders.hub_encoder import HubEncoder, SoundModel
from esg_transformers.media.container import probe
from esg_transformers.media.video import read_frames
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid

pytestmark = pytest.mark.slow

GRID = FeatureGrid(frame_rate=8, stride=4, window=4)  # window g: seconds 0.5 g to 0.5 g + 0.5
SECONDS = 5
NUM_STEPS = 10
LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
PICTURE = {"image_size": 32, "patch_size": 16}
TEXT = {**LAYERS, "vocab_size": 32, "max_position_embeddings": 8}
SQUARE = {"height": 32, "width": 32}
CONVOLUTIONS = {  # one frame every 320 samples, 20 ms, as published
    "num_feat_extract_layers": 3,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (10, 8, 4),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def clip():
    config = CLIPConfig(text_config=TEXT, vision_config=LAYERS | PICTURE, projection_dim=12)
    return CLIPModel(config), CLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE)


def siglip():
    return SiglipModel(SiglipConfig(text_config=TEXT, vision_config=LAYERS | PICTURE)), SiglipImageProcessorPil(
        size=SQUARE
    )


def vit_classifier():
    return ViTForImageClassification(ViTConfig(**LAYERS, **PICTURE)), ViTImageProcessorPil(size=SQUARE)


def videomae():
    config = VideoMAEConfig(**LAYERS, **PICTURE, num_frames=4, tubelet_size=2)
    return VideoMAEModel(config), VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)


def vjepa2():
    config = VJEPA2Config(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        pred_hidden_size=16,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
        pred_num_mask_tokens=2,
        crop_size=32,
        patch_size=16,
        frames_per_clip=64,
    )
    return VJEPA2Model(config), None


def ast():
    config = ASTConfig(**LAYERS, patch_size=8, num_mel_bins=16, max_length=64, frequency_stride=8, time_stride=8)
    return ASTModel(config), ASTFeatureExtractor(num_mel_bins=16, max_length=64)


def clap():
    audio = {
        "num_mel_bins": 16,
        "spec_size": 64,
        "patch_size": 4,
        "patch_stride": (4, 4),
        "window_size": 2,
        "depths": [1, 1],
        "num_hidden_layers": 2,
        "num_attention_heads": [2, 2],
        "patch_embeds_hidden_size": 16,
        "hidden_size": 32,
        "projection_dim": 12,
    }
    config = ClapConfig(text_config=TEXT, audio_config=audio, projection_dim=12)
    return ClapModel(config), ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation="rand_trunc")


def pe_audio():
    sound = {"encoder_hidden_size": 8, "downsampling_ratios": [8, 10], "codebook_dim": 8}
    audio = {**LAYERS, "num_key_value_heads": 2, "head_dim": 8, "dac_config": sound}
    model = PeAudioModel(PeAudioConfig(audio_config=audio, text_config=TEXT | {"model_type": "bert"}))
    return model, PeAudioFeatureExtractor(sampling_rate=16000, hop_length=80)


def whisper():
    config = WhisperConfig(
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        num_mel_bins=16,
        max_source_positions=100,
        vocab_size=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return WhisperModel(config), WhisperFeatureExtractor(feature_size=16, chunk_length=2)


def wav2vec2():
    return Wav2Vec2Model(Wav2Vec2Config(**LAYERS, **CONVOLUTIONS)), Wav2Vec2FeatureExtractor()


def hubert():
    return HubertModel(HubertConfig(**LAYERS, **CONVOLUTIONS)), Wav2Vec2FeatureExtractor()


def bert():
    return BertModel(BertConfig(**TEXT)), None


IMAGE_MODELS = {clip: 12, siglip: 16, vit_classifier: 16}  # and the size of their features
VIDEO_MODELS = {videomae: 16, vjepa2: 24}
SOUND_MODELS = {ast: 16, clap: 12, pe_audio: 16}
FRAME_MODELS = {whisper: 16, wav2vec2: 16, hubert: 16}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """`saved(clip)`: the folder of a tiny checkpoint with random weights; one for each."""
    root = tmp_path_factory.mktemp("models")

    def save(make):
        folder = root / make.__name__
        if not folder.exists():
            torch.manual_seed(0)
            model, processor = make()
            for parameter in model.parameters():  # away from zero, so that features tell inputs apart
                torch.nn.init.normal_(parameter, std=0.3)
            model.save_pretrained(folder)
            if processor is not None:
                processor.save_pretrained(folder)
            if make is vjepa2:  # its own processor cannot be made here; these are its settings, for pictures of 32
                write_video_settings(folder, "VJEPA2VideoProcessor")
        return str(folder)

    return save


def write_video_settings(folder, processor_type):
    settings = {
        "video_processor_type": processor_type,
        "do_resize": True,
        "size": {"shortest_edge": 36},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": 32,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    (folder / "video_preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_clip(path, picture=True, sound=True, seconds=SECONDS):
    """mp4 at 24 frames/s: black until second 3, then coloured; silent, with a tone from second 2 to 3."""
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("libx264", rate=24)
            video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        if sound:
            audio = container.add_stream("aac", rate=16000, layout="mono")
        for index in range(24 * seconds if picture else 0):
            image = np.zeros((32, 48, 3), np.uint8)
            if index >= 72:
                image[:16, :24] = (250, 120, 20)
                image[16:] = (20, 60, 250)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(video.encode(frame))
        if picture:
            container.mux(video.encode())
        if sound:
            frame = av.AudioFrame.from_ndarray(beep(seconds)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def beep(seconds, rate=16000):
    time = np.arange(seconds * rate) / rate
    return (0.5 * np.sin(2 * np.pi * 1000 * time) * ((time >= 2) & (time < 3))).astype(np.float32)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("media") / "clip.mp4")


def steps_that_differ(features, others):
    """Steps that differ by more than a fifth of the greatest difference."""
    difference = np.abs(features - others).max(axis=1)
    assert difference.max() > 1e-3
    return np.flatnonzero(difference > 0.2 * difference.max()).tolist()


@pytest.mark.parametrize("make", [*IMAGE_MODELS, *VIDEO_MODELS])
def test_what_changes_at_second_3_changes_the_visual_features_from_there_on(saved, video, make):
    encoder = HubEncoder(saved(make), None, GRID)
    features = encoder(video)
    assert encoder.feature_spec.visual_size == (IMAGE_MODELS | VIDEO_MODELS)[make]
    assert features.visual.shape == (NUM_STEPS, encoder.feature_spec.visual_size)
    assert features.visual.dtype == np.float32
    assert (features.grid, features.audio) == (GRID, None)
    # Step 6 is the window from second 3 on.
    assert steps_that_differ(features.visual, features.visual[0]) == [6, 7, 8, 9]
    assert steps_that_differ(features.visual, features.visual[9]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("make", [*SOUND_MODELS, *FRAME_MODELS])
def test_a_tone_from_second_2_to_3_is_heard_in_its_windows(saved, make):
    hear = SoundModel(saved(make), GRID, "cpu")
    assert hear.size == (SOUND_MODELS | FRAME_MODELS)[make]
    features = np.stack([*hear([beep(SECONDS, hear.sampling_rate)], NUM_STEPS)])
    assert features.shape == (NUM_STEPS, hear.size)
    assert features.dtype == np.float32
    silence = np.stack([*hear([], NUM_STEPS)])
    # Whisper takes 2 s here: its attention carries the tone to the two other windows between seconds 2 and 4.
    assert steps_that_differ(features, silence) == ([4, 5, 6, 7] if make is whisper else [4, 5])


def test_a_video_has_both_streams_on_one_grid_and_they_are_the_same_again(saved, video):
    encoder = HubEncoder(saved(clip), saved(ast), GRID)
    features = encoder(video)
    assert len(features.visual) == len(features.audio) == GRID.num_steps(probe(video).duration) == NUM_STEPS
    assert features.duration == pytest.approx(SECONDS, abs=0.1)
    again = HubEncoder(saved(clip), saved(ast), GRID)(video)
    np.testing.assert_array_equal(again.visual, features.visual)
    np.testing.assert_array_equal(again.audio, features.audio)


def test_an_encoder_can_be_sent_to_another_process(saved, video):
    encoder = HubEncoder(saved(videomae), saved(whisper), GRID)
    sent = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(sent(video).visual, encoder(video).visual)
    np.testing.assert_array_equal(sent(video).audio, encoder(video).audio)


def test_an_image_feature_is_the_mean_over_the_pictures_of_its_window(saved, video):
    frames = list(read_frames(video, 8))
    model, processor = CLIPModel.from_pretrained(saved(clip)).eval(), CLIPImageProcessorPil.from_pretrained(saved(clip))
    with torch.no_grad():
        looks = model.get_image_features(**processor(frames, return_tensors="pt")).pooler_output.numpy()
    # Windows of 5 pictures, one every 3: 0 to 4, 3 to 7, ...
    features = HubEncoder(saved(clip), None, FeatureGrid(8, 3, 5))(video).visual
    expected = [looks[3 * g : 3 * g + 5].mean(axis=0) for g in range(len(features))]
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_a_clip_is_made_of_the_pictures_of_its_window_evenly_chosen(saved, video):
    frames = list(read_frames(video, 8))
    model, processor = VideoMAEModel.from_pretrained(saved(videomae)).eval(), videomae()[1]
    features = HubEncoder(saved(videomae), None, FeatureGrid(8, 16, 10))(video).visual
    assert len(features) == 2
    for step, feature in enumerate(features):
        # 4 of 10 pictures: 0, 3, 6 and 9
        inputs = processor([frames[16 * step + n] for n in (0, 3, 6, 9)], return_tensors="pt")
        with torch.no_grad():
            tokens = model(**inputs).last_hidden_state[0]
        np.testing.assert_allclose(feature, tokens.mean(dim=0), atol=1e-5)


def test_frames_of_a_model_are_averaged_over_the_windows_they_lie_in(saved):
    # Two seconds are 100 frames: window g has frames 25 g to 25 g + 24.
    waveform = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    extractor, model = (
        WhisperFeatureExtractor.from_pretrained(saved(whisper)),
        WhisperModel.from_pretrained(saved(whisper)),
    )
    inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        frames = model.eval().get_encoder()(**inputs).last_hidden_state[0].numpy()
    features = SoundModel(saved(whisper), GRID, "cpu")([waveform], 4)
    np.testing.assert_allclose([*features], frames.reshape(4, 25, 16).mean(axis=1), atol=1e-5)


def test_a_long_sound_is_given_in_stretches_of_whole_windows(saved):
    # Whisper takes 2 s here: windows of 0.5 s come four at a time, and each stretch is a sound of its own.
    waveform = np.random.default_rng(0).normal(0, 0.1, 80000).astype(np.float32)
    hear = SoundModel(saved(whisper), GRID, "cpu")
    features = [*hear([waveform], NUM_STEPS)]
    np.testing.assert_allclose(features[4:8], [*hear([waveform[32000:64000]], 4)], atol=1e-6)
    # 2.5 s more of windows than of sound are silence.
    silent = [*hear([], NUM_STEPS)]
    np.testing.assert_allclose([*hear([waveform], NUM_STEPS + 4)][12:], silent[4:6], atol=1e-6)


@pytest.mark.parametrize("grid", [GRID, FeatureGrid(10, 3, 5)], ids=str)
@pytest.mark.parametrize("audio", [ast, whisper])
@pytest.mark.parametrize("visual", [clip, videomae])
def test_blocks_of_any_size_have_the_features_of_the_whole_file(saved, video, visual, audio, grid):
    encoder = HubEncoder(saved(visual), saved(audio), grid)
    whole = encoder(video)
    for num_steps in (1, 7, 64):
        blocks = list(encoder.blocks(video, num_steps))
        assert [len(block.visual) for block in blocks[:-1]] == [num_steps] * (len(blocks) - 1)
        assert {block.duration for block in blocks} == {whole.duration}
        np.testing.assert_array_equal(np.concatenate([block.visual for block in blocks]), whole.visual)
        np.testing.assert_array_equal(np.concatenate([block.audio for block in blocks]), whole.audio)


def test_memory_does_not_grow_with_the_length_of_the_file(saved, tmp_path):
    encoder = HubEncoder(saved(clip), saved(whisper), FeatureGrid(2, 1, 1))
    peaks = []
    for minutes in (1, 1, 4):  # the first time fills caches
        path = write_clip(tmp_path / f"{minutes}.mp4", seconds=60 * minutes)
        tracemalloc.start()
        for block in encoder.blocks(path, num_steps=20):
            assert len(block.visual) == len(block.audio) == 20
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 3 minutes of pictures take 1.7 MB and of sound 11.5 MB.
    assert abs(peaks[2] - peaks[1]) < 3e5  # bytes


def test_a_file_without_sound_or_without_pictures_lacks_that_stream(saved, tmp_path):
    encoder = HubEncoder(saved(clip), saved(wav2vec2), GRID)
    mute = encoder(write_clip(tmp_path / "mute.mp4", sound=False))
    assert mute.audio is None
    assert mute.visual.shape == (NUM_STEPS, 12)
    blind = encoder(write_clip(tmp_path / "blind.mp4", picture=False))
    assert blind.visual is None
    assert blind.audio.shape == (NUM_STEPS, 16)
    only_sees = HubEncoder(saved(clip), None, GRID)
    assert (only_sees.feature_spec.visual_size, only_sees.feature_spec.audio_size) == (12, 1)
    with pytest.raises(ValueError, match=r"blind.mp4 has no pictures, and the encoder has no audio model"):
        only_sees(tmp_path / "blind.mp4")
    with pytest.raises(ValueError, match=r"mute.mp4 has no sound, and the encoder has no visual model"):
        HubEncoder(None, saved(wav2vec2), GRID)(tmp_path / "mute.mp4")


def test_an_untrained_pooler_is_not_used(saved, video):
    # A classifier is saved without a pooler: one with new random weights would give other features every time.
    first, second = (HubEncoder(saved(vit_classifier), None, GRID)(video).visual for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_version_names_both_models_and_changes_with_one_weight_but_not_with_the_place(saved, tmp_path):
    encoder = HubEncoder(saved(clip), saved(ast), GRID)
    assert encoder.feature_spec.encoder.name == "hub"
    assert re.fullmatch(r"1-clip@[0-9a-f]{12}\+ast@[0-9a-f]{12}", encoder.feature_spec.encoder.version)
    assert (
        HubEncoder(None, saved(ast), GRID).feature_spec.encoder.version
        == "1-none+" + encoder.feature_spec.encoder.version.partition("+")[2]
    )
    copy = tmp_path / "clip"
    shutil.copytree(saved(clip), copy)
    assert HubEncoder(str(copy), saved(ast), GRID).feature_spec.encoder.version == encoder.feature_spec.encoder.version
    weights = load_file(copy / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert HubEncoder(str(copy), saved(ast), GRID).feature_spec.encoder.version != encoder.feature_spec.encoder.version


def test_a_repository_of_the_cache_has_the_version_of_a_folder_of_its_name(saved, monkeypatch, tmp_path):
    # The layout of the Hub's cache, with the network off as in all tests.
    cache = tmp_path / "models--someone--clip"
    shutil.copytree(saved(clip), cache / "snapshots" / ("a" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert (
        HubEncoder("someone/clip", None, GRID).feature_spec.encoder.version
        == HubEncoder(saved(clip), None, GRID).feature_spec.encoder.version
    )


def test_local_folders_are_read_without_network(saved, video):
    code = """
import sys

def no_sockets(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        raise RuntimeError(event)

sys.addaudithook(no_sockets)
from esg_transformers.encoders.hub_encoder import FeatureGrid, HubEncoder
print(HubEncoder(sys.argv[1], sys.argv[2], FeatureGrid(8, 4, 4))(sys.argv[3]).visual.shape)
"""
    environment = {"PATH": "", "OMP_NUM_THREADS": "1"}  # without HF_HUB_OFFLINE
    command = [sys.executable, "-c", code, saved(clip), saved(whisper), str(video)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "(10, 12)\n"


@pytest.mark.parametrize(
    ("visual", "audio", "message"),
    [
        (bert, None, r"bert is not a model for picture features: BertModel has no get_video_features or .*`input_ids`"),
        (None, bert, r"bert is not a model for sound features: BertModel has no get_audio_features or .*`input_ids`"),
        (ast, None, r"ast is not a model for picture features: .* main input is `input_values`, not `pixel_values`"),
        (None, clip, r"clip is not a model for sound features"),
        (None, None, r"`visual_model` and `audio_model` are both None"),
    ],
)
def test_a_model_that_does_not_see_or_hear_is_refused(saved, visual, audio, message):
    with pytest.raises(ValueError, match=message):
        HubEncoder(visual and saved(visual), audio and saved(audio), GRID)


def test_what_is_no_folder_and_no_name_of_a_repository_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder at \S+/nowhere, and not a Hub repository either"):
        HubEncoder(str(tmp_path / "nowhere"), None)
    with pytest.raises(OSError, match=r"The model nobody/nothing could not be downloaded: \S.*"):
        HubEncoder("nobody/nothing", None)
    with pytest.raises(FileNotFoundError, match=r"has no config.json. Save the model with `save_pretrained`"):
        HubEncoder(str(tmp_path), None)


def test_weights_that_are_pickled_are_not_read(saved, tmp_path):
    shutil.copy(f"{saved(clip)}/config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(FileNotFoundError, match=r"has no model\*.safetensors"):
        HubEncoder(str(tmp_path), None)


def test_a_checkpoint_that_lacks_weights_is_refused(saved, tmp_path):
    shutil.copytree(saved(ast), tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of a ASTModel, such as layernorm.weight"):
        HubEncoder(None, str(tmp_path), GRID)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "model.safetensors"])
def test_a_folder_with_a_broken_or_missing_file_is_refused_by_name(saved, tmp_path, file):
    shutil.copytree(saved(clip), tmp_path / "clip")
    (tmp_path / "clip" / file).write_text("{")
    with pytest.raises(ValueError, match=r"clip cannot be loaded: ."):
        HubEncoder(str(tmp_path / "clip"), None, GRID)


def test_a_model_whose_processor_needs_torchvision_is_refused_by_name(saved, tmp_path):
    if is_torchvision_available():
        pytest.skip("torchvision is installed")
    DINOv3ViTModel(DINOv3ViTConfig(**LAYERS, **PICTURE)).save_pretrained(tmp_path / "dinov3")
    processor = {"image_processor_type": "DINOv3ViTImageProcessor"}
    (tmp_path / "dinov3" / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(ImportError, match=r"dinov3 can only be prepared with torchvision.*`pip install torchvision`"):
        HubEncoder(str(tmp_path / "dinov3"), None, GRID)
    shutil.copytree(saved(vjepa2), tmp_path / "video")
    write_video_settings(tmp_path / "video", "PeVideoVideoProcessor")
    with pytest.raises(ImportError, match=r"video can only be prepared with torchvision.*`pip install torchvision`"):
        HubEncoder(str(tmp_path / "video"), None, GRID)


@pytest.mark.parametrize(("window", "seconds"), [(1, "0.05"), (50, "2.5")])
def test_a_window_that_is_too_short_or_too_long_for_the_sound_is_refused(saved, window, seconds):
    message = rf"A window of the grid lasts {seconds} s; \S+whisper takes 0.1 to 2 s of sound"
    with pytest.raises(ValueError, match=message):
        HubEncoder(None, saved(whisper), FeatureGrid(20, 1, window))


def test_features_go_into_a_corpus_with_the_name_of_the_encoder(saved, video, tmp_path):
    encoder = HubEncoder(saved(siglip), None, GRID)
    features = encoder(video)
    example = {
        "video_id": "v",
        "duration": features.duration,
        "visual_features": features.visual,
        "audio_features": features.audio,
        "segments": np.array([[1.0, 2.0]], np.float32),
        "labels": np.array([0]),
    }
    write_corpus(
        tmp_path / "corpus",
        {"train": ExampleList([example], ("knock",), encoder.feature_spec)},
    )
    corpus = EventCorpus(tmp_path / "corpus", "train")
    assert corpus.feature_spec == encoder.feature_spec
    assert corpus[0]["audio_features"] is None
    np.testing.assert_array_equal(corpus[0]["visual_features"], features.visual.astype(np.float16))


def test_the_encoder_of_ones_own_in_the_documentation_works(video):
    text = Path(hub_encoder.__file__).with_name("README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(import .+?)```", text, re.DOTALL)
    names = {}
    exec(code, names)
    encoder = names["OnePeaceEncoder"](
        see=lambda frames: np.full(1536, np.mean(frames)), hear=lambda sound: np.full(1536, sound.std())
    )
    features = encoder(video)
    assert features.visual.shape == features.audio.shape == (17, 1536)  # 80 pictures: windows from 0, 4, ..., 64 on
    # Windows of a second, every 0.25 s: the first to see second 3 begins at 2.25 s; those that hear the tone, from
    # second 2 to 3, begin after 1 s and before 3 s.
    assert np.flatnonzero(features.visual[:, 0] > 1)[0] == 9
    assert np.flatnonzero(features.audio[:, 0] > 0.01).tolist() == list(range(5, 12))
