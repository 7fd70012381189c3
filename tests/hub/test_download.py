"""Models of a Hub as an encoder: downloaded once, then read from the cache."""

import json
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from esg_transformers import FeatureGrid
from esg_transformers.encoders.hub_encoder import HubEncoder

GRID = FeatureGrid(frame_rate=8, stride=4, window=4)
LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with two models, `clip` and `ast`, and a video of 3 s, `video.mkv`."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    text = {**LAYERS, "vocab_size": 32, "max_position_embeddings": 8}
    vision = {**LAYERS, "image_size": 32, "patch_size": 16}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    spectra = {"patch_size": 8, "num_mel_bins": 16, "max_length": 64, "frequency_stride": 8, "time_stride": 8}
    ast = ASTModel(ASTConfig(**LAYERS, **spectra))
    size = {"height": 32, "width": 32}
    for part in (clip, CLIPImageProcessorPil(size=size, crop_size=size)):
        part.save_pretrained(folder / "clip")
    for part in (ast, ASTFeatureExtractor(num_mel_bins=16, max_length=64)):
        part.save_pretrained(folder / "ast")

    random = np.random.default_rng(0)
    with av.open(str(folder / "video.mkv"), "w") as container:
        video, audio = (
            container.add_stream("ffv1", rate=8),
            container.add_stream("pcm_s16le", rate=16000, layout="mono"),
        )
        video.width, video.height, video.pix_fmt = 48, 32, "bgr0"
        for index in range(24):
            frame = av.VideoFrame.from_ndarray(random.integers(0, 256, (32, 48, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 8)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        samples = random.integers(-9999, 9999, (1, 48000)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return folder


UPLOAD = """
import sys
from huggingface_hub import HfApi
for name in ("clip", "ast"):
    HfApi().create_repo(f"user/{name}", private=True)
    HfApi().upload_folder(repo_id=f"user/{name}", folder_path=f"{sys.argv[1]}/{name}")
print("null")
"""
ENCODE = """
import json, sys
import numpy as np
from esg_transformers import FeatureGrid
from esg_transformers.encoders.hub_encoder import HubEncoder
visual_model, audio_model, video, output = sys.argv[1:]
try:
    encoder = HubEncoder(visual_model, audio_model, FeatureGrid(8, 4, 4))
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
else:
    features = encoder(video)
    np.savez(output, visual=features.visual, audio=features.audio)
    print(json.dumps(encoder.feature_spec.encoder.version))
"""


@pytest.fixture(scope="module")
def encode(hub_of_module, environment, python, saved, tmp_path_factory):
    """`encode(visual_model, audio_model)` in a fresh process: its version or error, and its features; all processes
    have one cache."""
    python(hub_of_module, UPLOAD, saved)
    variables, output = environment(hub_of_module), tmp_path_factory.mktemp("features") / "features.npz"

    def run(visual_model, audio_model, offline=False):
        words = [sys.executable, "-c", ENCODE, visual_model, audio_model, saved / "video.mkv", output]
        output.unlink(missing_ok=True)
        environment = variables | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        features = dict(np.load(output)) if output.exists() else None
        return json.loads(done.stdout.splitlines()[-1]), features

    return run


def test_models_of_the_hub_are_those_of_folders_and_are_downloaded_once(hub, encode, saved):
    hub.requests.clear()
    version, features = encode("user/clip", "user/ast")
    local = HubEncoder(str(saved / "clip"), str(saved / "ast"), GRID)
    assert version == local.feature_spec.encoder.version
    expected = local(saved / "video.mkv")
    assert features["visual"].shape == (6, 12) and features["audio"].shape == (6, 16)
    np.testing.assert_array_equal(features["visual"], expected.visual)
    np.testing.assert_array_equal(features["audio"], expected.audio)
    for name in ("clip", "ast"):
        assert f"GET /user/{name}/resolve/" in " ".join(hub.requests)
        assert not [request for request in hub.requests if request.endswith(("README.md", ".gitattributes"))]

    hub.requests.clear()
    again, features = encode("user/clip", "user/ast", offline=True)
    assert hub.requests == []
    assert again == version
    np.testing.assert_array_equal(features["visual"], expected.visual)
    np.testing.assert_array_equal(features["audio"], expected.audio)


def test_a_repository_that_is_not_there_is_one_error_that_names_it(hub, encode):
    (error, message), _ = encode("user/nothing", "user/ast")
    assert error == "OSError"
    assert message.startswith("The model user/nothing could not be downloaded: ")
    assert "no model" in message and "(404)" in message and "\n" not in message
