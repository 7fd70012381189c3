"""Encoders from the command line, with networks of random weights."""

from argparse import Namespace

import numpy as np
import pytest
import torch

from esg_transformers import I3dConfig, I3dModel, VggishConfig, VggishModel
from esg_transformers.annotations import AnnotatedVideo, Annotations, Event, write_annotations
from esg_transformers.cli.encoders import open_encoder, open_encoder_of_model
from esg_transformers.cli.options import MODELS_OF_ENCODER
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.encoders.i3d_vggish import GRID
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid
from esg_transformers.simulation.clips import write_clip
from esg_transformers.simulation.picture import FRAME_RATE, HEIGHT, WIDTH
from esg_transformers.simulation.sound import SAMPLING_RATE
from esg_transformers.training.model import new_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folders of I3D for pictures and for flow, and of a small VGGish."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    I3dModel(I3dConfig()).save_pretrained(folder / "rgb")
    I3dModel(I3dConfig(num_channels=2)).save_pretrained(folder / "flow")
    VggishModel(VggishConfig(intermediate_size=16, hidden_size=128)).save_pretrained(folder / "vggish")
    return folder


@pytest.mark.slow
def arguments_of(encoder=None, **models):
    unset = {name: None for names in MODELS_OF_ENCODER.values() for name in names}
    return Namespace(encoder=encoder, **(unset | {name: str(path) for name, path in models.items()}))


def test_videos_are_encoded_and_localized_with_i3d_and_vggish(run, networks, tmp_path):
    clip = tmp_path / "videos" / "short.mp4"
    clip.parent.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (FRAME_RATE, HEIGHT, WIDTH, 3), np.uint8)
    write_clip(clip, pictures, np.zeros(SAMPLING_RATE, np.float32))  # 1 s: a single window of 24 frames
    videos = {"short": AnnotatedVideo("short", 1.0, "test", (Event(0.2, 0.9, "alarm"),))}
    write_annotations(Annotations(videos, ("alarm",)), tmp_path / "events.json")
    models = {"--i3d-rgb-model": networks / "rgb", "--vggish-model": networks / "vggish"}
    source = {"--videos": tmp_path / "videos", "--annotations": tmp_path / "events.json", "--num-workers": 0}
    assert run("corpus", "build", source, models, "--encoder", "i3d-vggish", "--output", tmp_path / "corpus")[0] == 0
    corpus = EventCorpus(tmp_path / "corpus", "test")
    spec = corpus.feature_spec
    assert (spec.encoder.name, spec.grid, spec.visual_size, spec.audio_size) == ("i3d_rgb-vggish", GRID, 1024, 128)

    model, processor = new_model(corpus, "tiny")
    model.save_pretrained(tmp_path / "model"), processor.save_pretrained(tmp_path / "model")
    code, printed, _ = run("localize", clip, "--model", tmp_path / "model", models, "--threshold", 0)
    assert code == 0
    assert printed.startswith("short: ")


def test_an_i3d_of_flow_in_the_place_of_pictures_and_another_network_are_refused(networks):
    given = {"i3d_rgb_model": networks / "flow", "vggish_model": networks / "vggish"}
    with pytest.raises(ValueError, match="`i3d_rgb` takes 2 channels a frame; expected 3"):
        open_encoder(arguments_of("i3d-vggish", **given), None, None)
    given["i3d_rgb_model"] = networks / "vggish"
    with pytest.raises(ValueError, match="vggish holds a VggishModel; expected a I3dModel"):
        open_encoder(arguments_of(**given), None, None)
    given["i3d_rgb_model"] = networks / "nowhere"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_encoder(arguments_of(**given), None, None)


def test_i3d_and_vggish_have_one_grid(networks):
    given = {"i3d_rgb_model": networks / "rgb", "vggish_model": networks / "vggish"}
    with pytest.raises(ValueError, match="25 frames/s, stride 8, window 24; got 10 frames/s"):
        open_encoder(arguments_of(**given), FeatureGrid(10, 2, 4), None)


@pytest.mark.parametrize(
    ("encoder", "name", "advice"),
    [
        (None, "hub", "no encoder is given. Give --encoder hub with --visual-model, --audio-model or both."),
        (None, "i3d-vggish", "Give --encoder i3d-vggish with --i3d-rgb-model, --i3d-flow-model and --vggish-model."),
        (None, "i3d_rgb-vggish", "Give --encoder i3d-vggish with --i3d-rgb-model and --vggish-model."),
        (None, "one-peace", "No command makes such features"),
        ("spectral", "hub", "--encoder spectral is another one. Give --encoder hub"),
        ("hub", "spectral", "--encoder hub is another one. Give --encoder spectral."),
        (None, None, "an unnamed encoder; no encoder is given. Give --encoder."),
    ],
)
def test_an_encoder_other_than_the_one_of_the_model_is_refused_before_it_is_opened(encoder, name, advice):
    of_model = EncoderId(name, "1") if name else None
    with pytest.raises(ValueError, match="The model was trained on features of ") as refusal:
        open_encoder_of_model(arguments_of(encoder), of_model, GRID, None)
    assert advice in str(refusal.value)


def test_the_encoder_that_the_pipeline_has_need_not_be_opened():
    assert open_encoder_of_model(arguments_of(), EncoderId("spectral", "1"), GRID, None) is None
    encoder = open_encoder_of_model(arguments_of("spectral"), None, GRID, None)
    assert (encoder.feature_spec.encoder.name, encoder.feature_spec.grid) == ("spectral", GRID)
