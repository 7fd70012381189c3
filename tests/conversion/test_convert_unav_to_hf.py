"""The conversion of UnAV checkpoints, from the names and shapes of a small model of the authors' code.

Names and shapes are those of tests/models/unav/reference_outputs.npz (made as described beside it); the weights here
are random. The tests there check the outputs.
"""

import json
import os
import pickle
import re
from pathlib import Path

import convert_unav_to_hf as script
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from esg_transformers import UnavForEventLocalization

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def upstream_shapes():
    reference = np.load(ROOT / "tests" / "models" / "unav" / "reference_outputs.npz", allow_pickle=False)
    shapes = [tuple(map(int, shape.split(","))) if shape else () for shape in reference["shapes"].tolist()]
    return dict(zip(reference["names"].tolist(), shapes, strict=True))


@pytest.fixture
def checkpoint(upstream_shapes):
    """As torch.save gets it in UnAV's train.py; raw weights differ from averaged ones."""
    generator = torch.Generator().manual_seed(0)
    raw = {name: torch.randn(shape, generator=generator) for name, shape in upstream_shapes.items()}
    return {"epoch": 7, "state_dict": raw, "state_dict_ema": {name: tensor + 1 for name, tensor in raw.items()}}


def run(checkpoint, folder, *options):
    """The exit code of the script on a checkpoint; the result is in `folder`/model."""
    torch.save(checkpoint, folder / "model_best.pth.tar")
    return script.main([str(folder / "model_best.pth.tar"), str(folder / "model"), *options])


def assert_nothing_written(folder):
    assert [path.name for path in folder.iterdir()] == ["model_best.pth.tar"]


@pytest.mark.parametrize(("option", "name"), [("--ema", "state_dict_ema"), ("--raw", "state_dict")])
def test_every_number_of_the_checkpoint_is_in_the_model_once(option, name, checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path, option, "--verify") == 0
    assert "every tensor and the outputs compared" in capsys.readouterr().out
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert len(written) == len(checkpoint[name]) + 1  # and the count of positive points, which UnAV does not save
    assert written.pop("loss_normalizer") == 250

    def numbers(tensors):
        return torch.cat([tensor.flatten() for tensor in tensors.values()]).sort().values

    assert torch.equal(numbers(written), numbers(checkpoint[name]))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("backbone.embd_A.1.conv.weight", "audio_stream.embeddings.1.conv.conv.weight"),
        ("backbone.self_att_V.0.attn.key_conv.conv.weight", "visual_stream.blocks.0.attention.key.conv.conv.weight"),
        ("backbone.ori_cross_att_Av.ln12.bias", "pyramid.0.audio.query_norm.bias"),
        ("backbone.cross_att_Va.2.attn.value.weight", "pyramid.3.visual.attention.value.linear.weight"),
        ("dependency_block.cooccur_branch.mlp.3.bias", "dependency_block.cooccurrence.down_proj.bias"),
        ("cls_head.cls_head.conv.bias", "classification_head.output.conv.bias"),
        ("reg_head.scale.3.scale", "level_scale.3"),
    ],
)
def test_a_tensor_goes_where_its_name_says(source, target, checkpoint, tmp_path):
    assert run(checkpoint, tmp_path) == 0
    written = load_file(tmp_path / "model" / "model.safetensors")[target]
    assert torch.equal(written.flatten(), checkpoint["state_dict_ema"][f"module.{source}"].flatten())


def test_sizes_grid_and_encoder_are_written_with_the_model(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path, "--max-seq-len", "48") == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    expected = {"model_type": "unav", "hidden_size": 16, "head_size": 12, "pyramid_levels": 4, "num_stem_layers": 2}
    expected |= {"dependency_size": 128, "visual_size": 2048, "audio_size": 128, "max_seq_len": 48, "frame_rate": 25.0}
    assert {name: config[name] for name in expected} == expected
    assert len(config["id2label"]) == 5
    processor = json.loads((tmp_path / "model" / "processor_config.json").read_text())
    assert (processor["frame_rate"], processor["feature_stride"], processor["feature_window"]) == (25.0, 8, 24)
    assert processor["encoder"] == {"name": "i3d-vggish", "version": "unav100"}


def test_a_checkpoint_without_a_dependency_block_converts(checkpoint, tmp_path):
    weights = checkpoint["state_dict_ema"]
    checkpoint["state_dict_ema"] = {name: x for name, x in weights.items() if "dependency_block" not in name}
    assert run(checkpoint, tmp_path, "--verify") == 0
    assert json.loads((tmp_path / "model" / "config.json").read_text())["use_dependency"] is False


def test_the_example_of_the_model_card_runs(checkpoint, tmp_path, monkeypatch):
    assert run(checkpoint, tmp_path) == 0
    card = (tmp_path / "model" / "README.md").read_text()
    assert "epoch 7" in card and re.search(r"sha256 `[0-9a-f]{64}`", card)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], names)
    assert names["events"]["segments"].shape == (len(names["events"]["scores"]), 2)


def test_class_names_come_from_the_annotations(checkpoint, tmp_path):
    labels = ["alarm", "dog", "door", "rain", "speech"]
    events = [{"segment": [0.0, 1.0], "label": label, "label_id": index} for index, label in enumerate(labels)]
    database = {"database": {"video": {"duration": 9.0, "subset": "train", "annotations": events[::-1]}}}
    (tmp_path / "annotations.json").write_text(json.dumps(database))
    assert run(checkpoint, tmp_path, "--labels", str(tmp_path / "annotations.json")) == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["id2label"] == {str(index): label for index, label in enumerate(labels)}


def test_annotations_of_other_classes_are_refused(checkpoint, tmp_path, capsys):
    event = {"segment": [0.0, 1.0], "label": "alarm", "label_id": 0}
    database = {"database": {"video": {"duration": 9.0, "subset": "train", "annotations": [event]}}}
    (tmp_path / "annotations.json").write_text(json.dumps(database))
    assert run(checkpoint, tmp_path, "--labels", str(tmp_path / "annotations.json")) == 1
    assert "5 classes and the labels file 1" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_another_feature_set_is_refused(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path, "--feature-set", "one-peace") == 1
    assert "2048 visual and 128 audio channels; one-peace features have 1536 and 1536" in capsys.readouterr().err
    assert_nothing_written(tmp_path)


def test_unknown_and_missing_tensors_are_named_with_the_nearest(checkpoint, tmp_path, capsys):
    weights = checkpoint["state_dict_ema"]
    weights["module.cls_head.norm.1.wieght"] = weights.pop("module.cls_head.norm.1.weight")
    assert run(checkpoint, tmp_path) == 1
    error = capsys.readouterr().err
    missing = "`classification_head.layers.1.norm.weight`"
    assert f"unknown `module.cls_head.norm.1.wieght` (1, 12, 1), nearest of this shape: {missing}\n" in error
    assert f"missing {missing} (12,), nearest of this shape: `module.cls_head.norm.1.wieght`\n" in error
    assert_nothing_written(tmp_path)


def test_a_missing_tensor_that_tells_a_size_is_named(checkpoint, tmp_path, capsys):
    del checkpoint["state_dict_ema"]["module.cls_head.cls_head.conv.weight"]
    assert run(checkpoint, tmp_path) == 1
    assert "no tensor for `classification_head.output.conv.weight`" in capsys.readouterr().err


def test_a_tensor_of_another_shape_is_named(checkpoint, tmp_path, capsys):
    name = "module.backbone.self_att_V.1.attn.proj.weight"
    checkpoint["state_dict_ema"][name] = torch.zeros(16, 8, 1)
    assert run(checkpoint, tmp_path) == 1
    assert f"`{name}` has shape (16, 8, 1) for (16, 16)" in capsys.readouterr().err


def test_a_tensor_that_is_there_twice_is_refused(checkpoint, tmp_path, capsys):
    weights = checkpoint["state_dict_ema"]
    weights["reg_head.scale.0.scale"] = weights["module.reg_head.scale.0.scale"]
    assert run(checkpoint, tmp_path) == 1
    assert "`level_scale.0` twice" in capsys.readouterr().err


def test_a_position_table_that_does_not_fit_the_pyramid_is_refused(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path, "--max-seq-len", "50") == 1
    assert "multiple of 8" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{"model": {}}, {"state_dict_ema": {"a": 1}}, [1, 2], torch.zeros(2)])
def test_a_file_that_holds_something_else_is_refused(content, tmp_path, capsys):
    assert run(content, tmp_path) == 1
    assert "has no tensors under 'state_dict_ema'" in capsys.readouterr().err


def test_a_truncated_file_is_refused(checkpoint, tmp_path, capsys):
    path = tmp_path / "model_best.pth.tar"
    torch.save(checkpoint, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert script.main([str(path), str(tmp_path / "model")]) == 1
    assert "truncated" in capsys.readouterr().err
    assert_nothing_written(tmp_path)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_code_in_a_checkpoint_is_not_run(save, tmp_path, capsys):
    save({"state_dict_ema": Malicious(str(tmp_path / "harm"))}, tmp_path / "model_best.pth.tar")
    assert script.main([str(tmp_path / "model_best.pth.tar"), str(tmp_path / "model")]) == 1
    assert "code, which is not run" in capsys.readouterr().err
    assert_nothing_written(tmp_path)


def test_a_missing_file_and_an_existing_folder_are_refused(checkpoint, tmp_path, capsys):
    assert script.main([str(tmp_path / "none.pth.tar"), str(tmp_path / "model")]) == 1
    assert "No checkpoint at" in capsys.readouterr().err
    (tmp_path / "model").mkdir()
    assert run(checkpoint, tmp_path) == 1
    assert "exists already" in capsys.readouterr().err
    assert list((tmp_path / "model").iterdir()) == []


def test_a_failed_verification_leaves_nothing(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "check_written", lambda *given: _raise(ValueError("differs in x")))
    assert run(checkpoint, tmp_path, "--verify") == 1
    assert "differs in x" in capsys.readouterr().err
    assert_nothing_written(tmp_path)


def test_verification_names_what_was_written_wrong(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path) == 0
    folder = tmp_path / "model"
    tensors = load_file(folder / "model.safetensors")
    model = UnavForEventLocalization.from_pretrained(folder)
    changed = tensors | {"level_scale.2": tensors["level_scale.2"] + 1}
    with pytest.raises(ValueError, match=r"differs from the checkpoint in level_scale\.2\."):
        script.check_written(folder, changed, model)
    with torch.no_grad():
        model.boundary_head.output.conv.bias += 1
    with pytest.raises(ValueError, match=r"differs from the checkpoint in offsets \(output\)\."):
        script.check_written(folder, tensors, model)


def _raise(error):
    raise error
