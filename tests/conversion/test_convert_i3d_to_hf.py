"""The conversion of I3D, from the names and shapes of the public implementations to the outputs they give.

tests/encoders/fixtures/README.md describes how the reference was made.
"""

import os
import pickle
import re
from pathlib import Path

import convert_i3d_to_hf as script
import numpy as np
import pytest
import torch

from esg_transformers import I3dConfig, I3dModel, I3dProcessor

ROOT = Path(__file__).parents[2]

REFERENCE = np.load(ROOT / "tests" / "encoders" / "fixtures" / "i3d.npz", allow_pickle=False)


def weights_of(stream):
    """The weights of the reference."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, sizes in zip(REFERENCE[f"{stream}_names"], REFERENCE[f"{stream}_shapes"], strict=True):
        shape = tuple(map(int, sizes.split(","))) if sizes else ()
        if name.endswith(("running_var", "batch3d.weight")):
            array = random.uniform(0.5, 1.5, shape)
        else:
            array = random.normal(0, (2 / max(np.prod(shape[1:]), 200)) ** 0.5, shape)
        tensors[str(name)] = torch.zeros((), dtype=torch.long) if shape == () else torch.from_numpy(array).float()
    return tensors


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(1)
    rgb = random.integers(0, 256, (24, 150, 200, 3), dtype=np.uint8)
    return {"rgb": rgb, "flow": random.normal(0, 10, (24, 256, 344, 2)).astype(np.float32)}


@pytest.fixture(scope="module")
def weights():
    return weights_of("rgb")


@pytest.fixture(scope="module")
def converted(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("i3d")
    torch.save(weights, folder / "i3d_rgb.pt")
    assert script.main([str(folder / "i3d_rgb.pt"), str(folder / "i3d-rgb")]) == 0
    return folder / "i3d-rgb"


def assert_nothing_written(folder):
    assert [path.name for path in folder.iterdir()] == ["i3d_rgb.pt"]


def features(folder, frames):
    model, processor = I3dModel.from_pretrained(folder), I3dProcessor.from_pretrained(folder)
    with torch.inference_mode():
        return model(**processor(frames)).pooler_output[0]


@pytest.mark.slow
def test_rgb_features_are_those_of_video_features(converted, inputs):
    np.testing.assert_allclose(features(converted, inputs["rgb"]), REFERENCE["rgb"], atol=1e-4)


@pytest.mark.slow
def test_flow_features_are_those_of_video_features(inputs, tmp_path, capsys):
    torch.save(weights_of("flow"), tmp_path / "i3d_flow.pt")
    assert script.main([str(tmp_path / "i3d_flow.pt"), str(tmp_path / "model"), "--verify"]) == 0
    assert "the flow stream, without its classifier. Every tensor compared." in capsys.readouterr().out
    np.testing.assert_allclose(features(tmp_path / "model", inputs["flow"]), REFERENCE["flow"], atol=1e-4)


@pytest.mark.slow
def test_with_its_epsilon_odd_numbers_of_frames_give_the_features_of_kinetics_i3d_pytorch(converted, inputs):
    model = I3dModel.from_pretrained(converted, config=I3dConfig(batch_norm_eps=1e-3))
    with torch.inference_mode():
        found = model(**I3dProcessor()(inputs["rgb"][:17])).pooler_output[0]  # 17, 9, 5, 3 frames on its way
    np.testing.assert_allclose(found, REFERENCE["odd"], atol=1e-4)


@pytest.mark.slow
def test_the_example_of_the_model_card_runs(converted, monkeypatch):
    card = (converted / "README.md").read_text()
    assert "i3d_rgb.pt" in card and re.search(r"sha256 `[0-9a-f]{64}`", card)
    monkeypatch.chdir(converted.parent)
    example = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    names = {}
    exec(example.replace("model(**processor(frames)).pooler_output", "features = model(**processor(frames))"), names)
    assert names["features"].pooler_output.shape == (1, 1024)


def test_files_from_before_pytorch_counted_batches_convert(weights, tmp_path):
    torch.save({k: v for k, v in weights.items() if "num_batches" not in k}, tmp_path / "i3d_rgb.pt")
    assert script.main([str(tmp_path / "i3d_rgb.pt"), str(tmp_path / "model")]) == 0


def test_unknown_and_missing_tensors_are_named(weights, tmp_path, capsys):
    changed = dict(weights)
    changed["mixed_3b.branch_9.conv3d.weight"] = changed.pop("mixed_3b.branch_0.conv3d.weight")
    torch.save(changed, tmp_path / "i3d_rgb.pt")
    assert script.main([str(tmp_path / "i3d_rgb.pt"), str(tmp_path / "model")]) == 1
    error = capsys.readouterr().err
    assert "unknown `mixed_3b.branch_9.conv3d.weight`" in error
    assert "missing `layers.mixed_3b.branch_0.conv.weight`" in error
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Conv3d_1a_7x7.conv3d.weight": torch.zeros(64, 3, 7, 7, 7)}, r"conv3d_1a_7x7\.conv3d\.weight"),
        ({script.FIRST: torch.zeros(64, 4, 7, 7, 7)}, r"conv3d_1a_7x7\.conv3d\.weight"),
        ({"state_dict": {}}, r"\['state_dict'\]; expected tensors"),
        ([1, 2], "list; expected tensors"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(content, message, tmp_path, capsys):
    torch.save(content, tmp_path / "i3d_rgb.pt")
    assert script.main([str(tmp_path / "i3d_rgb.pt"), str(tmp_path / "model")]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert_nothing_written(tmp_path)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_code_in_a_file_is_not_run(save, tmp_path, capsys):
    save({script.FIRST: Malicious(str(tmp_path / "harm"))}, tmp_path / "i3d_rgb.pt")
    assert script.main([str(tmp_path / "i3d_rgb.pt"), str(tmp_path / "model")]) == 1
    assert "code, which is not run" in capsys.readouterr().err
    assert_nothing_written(tmp_path)


def test_a_missing_file_and_an_existing_folder_are_refused(weights, tmp_path, capsys):
    assert script.main([str(tmp_path / "none.pt"), str(tmp_path / "model")]) == 1
    assert "No checkpoint at" in capsys.readouterr().err
    torch.save(weights, tmp_path / "i3d_rgb.pt")
    (tmp_path / "model").mkdir()
    assert script.main([str(tmp_path / "i3d_rgb.pt"), str(tmp_path / "model")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert list((tmp_path / "model").iterdir()) == []
