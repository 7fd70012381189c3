"""Models of strangers: their code does not run unless allowed, and their files are checked."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_esg_net
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization, EsgNetProcessor
from esg_transformers.cli.main import main
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.manifest import verify_corpus
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.localization.pipeline import TASK, AudioVisualEventLocalizationPipeline
from esg_transformers.models.esg_net import sharing_esg_net
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid, FeatureSpec
from esg_transformers.models.esg_net.sharing_esg_net import add_code


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder with the content of a push: weights, processor and code."""
    folder = tmp_path_factory.mktemp("saved")
    model, processor = tiny_esg_net(visual_size=6, audio_size=4), EsgNetProcessor(visual_size=6, audio_size=4)
    AudioVisualEventLocalizationPipeline(model=model, processor=processor, task=TASK).save_pretrained(folder)
    add_code(model, folder)
    add_code(processor, folder)
    return folder


@pytest.fixture
def evil(saved, tmp_path):
    """The same folder, whose code makes a file when it runs: the folder and that file."""
    folder, proof = shutil.copytree(saved, tmp_path / "evil"), tmp_path / "proof"
    code = list(folder.glob("*_esg_net.py"))
    assert len(code) == len(list(Path(sharing_esg_net.__file__).parent.glob("*_esg_net.py")))
    for path in code:
        path.write_text(f"open({str(proof)!r}, 'w')\n")
    return folder, proof


@pytest.mark.parametrize("trust", [{}, {"trust_remote_code": False}, {"trust_remote_code": True}])
def test_with_the_package_no_trust_is_needed_and_no_code_of_a_folder_runs(evil, trust):
    folder, proof = evil
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] and config["custom_pipelines"]
    assert type(AutoConfig.from_pretrained(folder, **trust)) is EsgNetConfig
    assert type(AutoModel.from_pretrained(folder, **trust)) is EsgNetForEventLocalization
    assert type(AutoProcessor.from_pretrained(folder, **trust)) is EsgNetProcessor
    assert type(pipeline(TASK, model=str(folder), **trust)) is AudioVisualEventLocalizationPipeline
    assert not proof.exists()
    assert not [name for name in sys.modules if name.startswith("transformers_modules.evil")]


class MakesAFile:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_in_place_of_the_weights_is_refused_and_not_run(saved, tmp_path, capfd, zipped):
    folder, proof = shutil.copytree(saved, tmp_path / "model"), tmp_path / "proof"
    (folder / "model.safetensors").unlink()
    state = {"weight": torch.zeros(2), "evil": MakesAFile(proof)}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    for load in (AutoModel.from_pretrained, EsgNetForEventLocalization.from_pretrained):
        with pytest.raises((OSError, ValueError, pickle.UnpicklingError)):
            load(folder)
    assert not proof.exists()
    capfd.readouterr()
    video = folder / "video.mp4"
    video.touch()  # looked at after the model
    assert main(["localize", str(video), "--model", str(folder)]) == 1
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    assert "model.safetensors" in errors.splitlines()[-1]
    assert not proof.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert proof.exists()  # it would have been made


def test_a_changed_shard_is_told_by_its_checksum(tmp_path):
    example = {
        "video_id": "a",
        "duration": 10.0,
        "visual_features": np.ones((19, 6), np.float16),
        "audio_features": np.ones((19, 4), np.float16),
        "segments": np.array([[0.1, 2.3]]),
        "labels": np.array([0]),
    }
    spec = FeatureSpec(FeatureGrid(10.0, 5, 10), 6, 4, EncoderId("test", "1"))
    write_corpus(tmp_path / "corpus", {"train": ExampleList([example], ("dog",), spec)})
    verify_corpus(tmp_path / "corpus")
    [shard] = (tmp_path / "corpus" / "data").iterdir()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="another sha256"):
        verify_corpus(tmp_path / "corpus")
