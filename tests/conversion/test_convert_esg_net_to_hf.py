"""The conversion of ESG-Net checkpoints: of real, short training runs, and of files as the UnAV code family saves them.

No official ESG-Net checkpoint exists; the files here hold a model's own weights under other names.
"""

import json
import os
import pickle
from pathlib import Path

import convert_esg_net_to_hf as script
import numpy as np
import pytest
import torch
from model_folders import check_tensors, digest
from safetensors.torch import load_file

from esg_transformers import EsgNetForEventLocalization, EsgNetProcessor, FeatureGrid
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureSpec
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.loop import train
from esg_transformers.training.lora import add_lora
from esg_transformers.training.model import new_model

ROOT = Path(__file__).parents[2]

TABLE = """\
# heads, in the names of another repository
^cls_head\\.tower\\.(\\d+)\\. -> classification_head.layers.\\1.

^cls_head\\. -> classification_head.
^esg\\. -> model.
"""


class Videos(torch.utils.data.Dataset):
    """Four videos of noise with an event each."""

    labels = ("alarm", "speech")
    feature_spec = FeatureSpec(FeatureGrid(frame_rate=10.0, stride=2, window=4), 6, 4, EncoderId("noise", "1"))
    video_ids = tuple(f"video_{index}" for index in range(4))
    durations = (6.2,) * 4

    def __len__(self):
        return 4

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        return {
            "video_id": f"video_{index}",
            "duration": 6.2,
            "visual_features": random.normal(size=(30, 6)).astype(np.float32),
            "audio_features": random.normal(size=(30, 4)).astype(np.float32),
            "segments": np.array([[1.0, 3.0]]),
            "labels": np.array([index % 2]),
        }


def train_run(folder, lora_rank=None):
    """Two epochs of two steps; the average lags behind the weights."""
    model, processor = new_model(Videos(), "tiny")
    if lora_rank is not None:
        add_lora(model, lora_rank)
    arguments = LocalizationTrainingArguments(
        epochs=2, warmup_epochs=0, batch_size=2, learning_rate=1e-2, ema_decay=0.5, tracker="none"
    )
    train(model, processor, Videos(), Videos(), folder, arguments)
    return folder


@pytest.fixture(scope="module")
def training_run(tmp_path_factory):
    return train_run(tmp_path_factory.mktemp("run") / "output")


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """A tiny model, and a folder with its config and processor only."""
    model, processor = new_model(Videos(), "tiny", seed=3)
    folder = tmp_path_factory.mktemp("described")
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, folder


def under_other_names(model):
    """The weights of a model as another repository of the family might save them."""
    weights = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("classification_head.layers.", "cls_head.tower.")
        name = name.replace("classification_head.", "cls_head.")
        name = f"esg.{name.removeprefix('model.')}" if name.startswith("model.") else name
        weights[f"module.{name}"] = tensor.clone()
    del weights["module.loss_normalizer"]  # which the family does not save
    return weights


def save(weights, folder):
    """A `.pth.tar` file whose raw weights are one more than the averaged ones, and the table for its names."""
    raw = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"epoch": 7, "state_dict": raw, "state_dict_ema": weights}, folder / "release.pth.tar")
    (folder / "table.txt").write_text(TABLE)
    return folder / "release.pth.tar"


def run(*words):
    return script.main([str(word) for word in words])


def refusal(capsys, *words):
    """Message of a conversion that fails, without a traceback."""
    assert run(*words) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    return printed.err


# training runs


def assert_same(written, expected):
    assert written.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(written[name], expected[name])] == []


@pytest.mark.slow
def test_the_weights_asked_for_are_converted_from_the_last_checkpoint(training_run, tmp_path):
    last = training_run / "checkpoints" / "step-00000004"
    average, raw = load_file(last / "average.safetensors"), load_file(last / "model.safetensors")
    assert any(not torch.equal(average[name], raw[name]) for name in average)
    for name, expected in (("average", average), ("model", raw)):
        assert run(training_run, tmp_path / name, "--weights", name) == 0
        assert_same(load_file(tmp_path / name / "model.safetensors"), expected)
    assert run(training_run, tmp_path / "default") == 0
    assert_same(load_file(tmp_path / "default" / "model.safetensors"), average)


@pytest.mark.slow
def test_a_checkpoint_is_converted_by_itself_and_verified_in_a_fresh_process(training_run, tmp_path, capsys):
    first = training_run / "checkpoints" / "step-00000002"
    assert run(first, tmp_path / "model", "--verify") == 0
    assert "every tensor compared" in capsys.readouterr().out
    assert_same(load_file(tmp_path / "model" / "model.safetensors"), load_file(first / "average.safetensors"))
    processor = EsgNetProcessor.from_pretrained(tmp_path / "model")
    assert processor.feature_spec == Videos.feature_spec
    assert EsgNetForEventLocalization.from_pretrained(tmp_path / "model").config.label2id == {"alarm": 0, "speech": 1}


@pytest.mark.slow
def test_adapters_are_merged_into_the_weights(tmp_path):
    pytest.importorskip("peft", reason="LoRA needs `pip install peft`")
    folder = train_run(tmp_path / "run", lora_rank=2)
    assert run(folder, tmp_path / "model") == 0
    average = load_file(folder / "checkpoints" / "step-00000004" / "average.safetensors")
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in written)
    adapted = [name.removesuffix(".base_layer.weight") for name in average if name.endswith(".base_layer.weight")]
    assert len(adapted) > 10
    for layer in adapted:  # the scale of an adapter is 1: its `lora_alpha` is its rank
        base, up, down = (average[f"{layer}.{x}.weight"] for x in ("base_layer", "lora_B.default", "lora_A.default"))
        assert up.any()
        torch.testing.assert_close(written[f"{layer}.weight"], base + up @ down)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_by_the_name_of_its_file(training_run, tmp_path, capsys):
    folder = tmp_path / "step-00000004"
    folder.mkdir()
    for path in (training_run / "checkpoints" / "step-00000004").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = bytearray((folder / "average.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "average.safetensors").write_bytes(content)
    options = ("--config", training_run)
    assert "average.safetensors was truncated or changed" in refusal(capsys, folder, tmp_path / "model", *options)
    assert run(folder, tmp_path / "raw", "--weights", "model", *options) == 0
    capsys.readouterr()
    (folder / "state.json").write_text("{}")
    assert "KeyError: 'files'" in refusal(capsys, folder, tmp_path / "model", *options)
    assert not (tmp_path / "model").exists()


def test_a_folder_without_checkpoints_is_refused(tmp_path, capsys):
    assert "has none in checkpoints/step-*" in refusal(capsys, tmp_path, tmp_path / "model")


# files of the UnAV code family


@pytest.mark.parametrize(("weights", "added"), [("average", 0), ("model", 1)])
def test_a_file_with_other_names_is_converted_by_a_table(weights, added, described, tmp_path):
    model, folder = described
    source = save(under_other_names(model), tmp_path)
    options = ("--config", folder, "--rename", tmp_path / "table.txt", "--weights", weights)
    assert run(source, tmp_path / "model", *options) == 0
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert written.pop("loss_normalizer") == 250  # as at the start of training
    expected = {name: tensor + added for name, tensor in model.state_dict().items() if name != "loss_normalizer"}
    assert_same(written, expected)


def test_a_named_size_and_class_names_stand_in_for_a_config(tmp_path, capsys):
    features = script.FEATURE_SETS["one-peace"]
    config, _ = script.description_for("tiny", ("alarm", "dog"), features)
    model = EsgNetForEventLocalization(config)
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    events = [{"segment": [0.0, 1.0], "label": label, "label_id": i} for i, label in enumerate(("alarm", "dog"))]
    database = {"database": {"video": {"duration": 9.0, "subset": "train", "annotations": events}}}
    (tmp_path / "annotations.json").write_text(json.dumps(database))
    options = ("--size", "tiny", "--labels", tmp_path / "annotations.json", "--feature-set", "one-peace")
    assert run(save(weights, tmp_path), tmp_path / "model", *options) == 0
    assert_same(load_file(tmp_path / "model" / "model.safetensors"), model.state_dict())
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (written["id2label"], written["frame_rate"]) == ({"0": "alarm", "1": "dog"}, 16.0)
    processor = EsgNetProcessor.from_pretrained(tmp_path / "model")
    assert processor.encoder == {"name": "one-peace", "version": "unav100"}
    with pytest.raises(SystemExit):
        run(tmp_path / "release.pth.tar", tmp_path / "other", "--size", "tiny")
    assert "or --size and --labels" in capsys.readouterr().err


def test_every_tensor_left_over_is_listed_with_the_nearest_names_of_its_shape(described, tmp_path, capsys):
    model, folder = described
    weights = under_other_names(model)
    bias = weights.pop("module.cls_head.output.bias")
    weights["module.classifier.output.bias"] = bias  # (2,), one for each class
    weights["module.other"] = torch.zeros(77, 5)
    source = save(weights, tmp_path)
    error = refusal(capsys, source, tmp_path / "model", "--config", folder, "--rename", tmp_path / "table.txt")
    target = "classification_head.output.bias"
    assert error.splitlines()[1:] == [
        f"  unknown `module.classifier.output.bias` (2,), nearest of this shape: `{target}`",
        "  unknown `module.other` (77, 5), nearest of this shape: none",
        f"  missing `{target}` (2,), nearest of this shape: `module.classifier.output.bias`",
    ]
    assert "does not fit the model; nothing was written. 3 tensors:" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release.pth.tar", "table.txt"]
    without_table = refusal(capsys, source, tmp_path / "model", "--config", folder)
    assert len(without_table.splitlines()) > 100  # all of them, not the first few


def test_a_file_of_another_number_of_classes_is_refused(described, tmp_path, capsys):
    _, folder = described
    other = type("Other", (Videos,), {"labels": ("alarm", "speech", "rain")})
    source = save(under_other_names(new_model(other(), "tiny")[0]), tmp_path)
    error = refusal(capsys, source, tmp_path / "model", "--config", folder, "--rename", tmp_path / "table.txt")
    assert "`module.cls_head.output.bias` has shape (3,) for (2,)" in error


def test_a_plain_unav_checkpoint_is_sent_to_its_own_script(tmp_path, capsys):
    reference = np.load(ROOT / "tests" / "models" / "unav" / "reference_outputs.npz", allow_pickle=False)
    source = save({name: torch.zeros(1) for name in reference["names"].tolist()}, tmp_path)
    assert "Convert it with convert_unav_to_hf.py" in refusal(capsys, source, tmp_path / "model")


def test_a_file_needs_a_config(described, tmp_path, capsys):
    source = save(under_other_names(described[0]), tmp_path)
    assert "`--size` and `--labels`" in refusal(capsys, source, tmp_path / "model")
    (tmp_path / "half").mkdir()
    described[0].config.save_pretrained(tmp_path / "half")
    error = refusal(capsys, source, tmp_path / "model", "--config", tmp_path / "half")
    assert f"There is no processor_config.json in {tmp_path / 'half'}" in error


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("module.head", "it is not `regular expression -> replacement`"),
        (" -> head.", "it is not `regular expression -> replacement`"),
        ("head( -> tail", "missing ), unterminated subpattern"),
        (r"head\. -> tail\1", "invalid group reference 1"),
    ],
)
def test_a_line_of_the_table_that_is_no_rule_is_named(line, reason, described, tmp_path, capsys):
    model, folder = described
    source = save(under_other_names(model), tmp_path)
    (tmp_path / "table.txt").write_text(f"# rules\na -> b\n{line}\n")
    error = refusal(capsys, source, tmp_path / "model", "--config", folder, "--rename", tmp_path / "table.txt")
    assert f"Line 3 of {tmp_path / 'table.txt'} is no rule: {reason}" in error


def test_a_truncated_file_and_a_missing_one_are_refused(described, tmp_path, capsys):
    model, folder = described
    source = save(under_other_names(model), tmp_path)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    assert "It may be truncated" in refusal(capsys, source, tmp_path / "model", "--config", folder)
    assert "No checkpoint at" in refusal(capsys, tmp_path / "none", tmp_path / "model", "--config", folder)
    assert not (tmp_path / "model").exists()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("way", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))])
def test_code_in_a_file_is_not_run(way, described, tmp_path, capsys):
    way({"state_dict_ema": Malicious(str(tmp_path / "harm"))}, tmp_path / "release.pth.tar")
    error = refusal(capsys, tmp_path / "release.pth.tar", tmp_path / "model", "--config", described[1])
    assert "code, which is not run" in error and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["release.pth.tar"]


# both


@pytest.mark.slow
def test_an_existing_folder_is_refused(training_run, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    assert "exists already" in refusal(capsys, training_run, tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.slow
def test_a_config_of_other_features_than_the_processor_takes_is_refused(training_run, described, tmp_path, capsys):
    for name in ("config.json", "processor_config.json"):
        (tmp_path / name).write_bytes((described[1] / name).read_bytes())
    processor = json.loads((tmp_path / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps(processor | {"feature_stride": 3}))
    error = refusal(capsys, training_run, tmp_path / "model", "--config", tmp_path)
    assert "stride 2" in error and "stride 3" in error


def test_verification_names_the_tensors_that_differ():
    tensors = {"a": torch.zeros(2), "b": torch.zeros(()), "c": torch.ones(2, dtype=torch.float16)}
    digests = {name: digest(tensor) for name, tensor in tensors.items()}
    check_tensors(digests, {name: tensor.clone() for name, tensor in tensors.items()})
    changed = tensors | {"b": torch.tensor(-0.0), "c": torch.ones(2), "d": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"differs from its source in b, c, d\."):
        check_tensors(digests, changed)


def test_a_part_of_a_larger_tensor_has_the_digest_of_its_copy():
    whole = torch.arange(6.0)
    assert digest(whole[2:4]) == digest(torch.tensor([2.0, 3.0])) != digest(torch.tensor([2.0, 3.0]).double())
