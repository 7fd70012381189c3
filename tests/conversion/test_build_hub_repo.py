"""Building a folder for the Hub, with a folder of hub_configs and random weights in place of trained ones.

What is pushed over HTTP is tested in tests/hub.
"""

import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import build_hub_repo as script
import pytest
import torch
from model_folders import load_afresh
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor

import esg_transformers  # noqa: F401 (registers the models)
from esg_transformers.files import sha256_of

pytestmark = pytest.mark.slow  # they start processes

ROOT = Path(__file__).parents[2]

HUB_CONFIG = ROOT / "hub_configs" / "esg-net-tiny-workshop"
CODE = {path.name for path in (ROOT / "esg_transformers" / "models" / "esg_net").glob("*_esg_net.py")}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.from_pretrained(HUB_CONFIG)).eval()


@pytest.fixture
def weights(model, tmp_path):
    """A folder of random weights that `from_pretrained` loads."""
    model.save_pretrained(tmp_path / "weights")
    AutoProcessor.from_pretrained(HUB_CONFIG).save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def built(model, tmp_path_factory):
    """Built in float16 and small shards from the averaged weights of a training run's checkpoint."""
    folder = tmp_path_factory.mktemp("built")
    step = folder / "run" / "checkpoints" / "step-00000012"
    step.mkdir(parents=True)
    model.config.save_pretrained(folder / "run")
    AutoProcessor.from_pretrained(HUB_CONFIG).save_pretrained(folder / "run")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    files = {}
    for name, content in (("average", tensors), ("model", {key: tensor + 1 for key, tensor in tensors.items()})):
        path = step / f"{name}.safetensors"
        save_file(content, path)
        files[path.name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    (step / "state.json").write_text(json.dumps({"files": files}))
    options = ["--weights", "average", "--float16", "--max-shard-size", "1MB"]
    assert script.main([str(folder / "run"), str(HUB_CONFIG), str(folder / "repository"), *options]) == 0
    return folder / "repository"


def refusal(capsys, *words):
    """The error message of a command, one line."""
    assert script.main([str(word) for word in words]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    return printed.err.splitlines()[-1]


def test_the_folder_holds_what_is_published_and_nothing_else(built):
    names = {path.name for path in built.iterdir()}
    shards = {path.name for path in built.glob("model-*.safetensors")}
    assert len(shards) > 1
    published = {path.name for path in HUB_CONFIG.iterdir()} | CODE | shards
    assert names == published | {"model.safetensors.index.json", "SHA256SUMS"}
    for path in HUB_CONFIG.iterdir():
        if path.name != "config.json":
            assert (built / path.name).read_bytes() == path.read_bytes()
    config, described = (json.loads((folder / "config.json").read_text()) for folder in (built, HUB_CONFIG))
    assert config.pop("dtype") == "float16" and described.pop("dtype") == "float32"
    del config["transformers_version"], described["transformers_version"]
    assert config == described


def test_half_precision_in_shards_loads_and_predicts_close_to_single(built, model):
    half, loading = AutoModel.from_pretrained(built, output_loading_info=True)
    assert not any(loading.values())
    assert half.dtype == torch.float16
    single = {name for name, tensor in half.state_dict().items() if tensor.dtype == torch.float32}
    assert single == {"loss_normalizer"}
    processor = AutoProcessor.from_pretrained(built)
    generator = torch.Generator().manual_seed(1)
    sizes = (processor.visual_size, processor.audio_size)
    batch = processor(*(torch.randn(40, size, generator=generator) for size in sizes))
    with torch.inference_mode():
        expected, outputs = model(**batch), half.eval()(**batch)
    torch.testing.assert_close(outputs.logits.float(), expected.logits, atol=0.02, rtol=0)
    torch.testing.assert_close(outputs.offsets.float(), expected.offsets, atol=0.02, rtol=0)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_checks_every_file_and_finds_the_one_that_was_changed(built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "copy")

    def check():
        return subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)

    sums = (folder / "SHA256SUMS").read_text().splitlines()
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    assert [line.split("  ")[1] for line in sums[1::2]] == names
    assert sums[::2] == [f"# {(folder / name).stat().st_size} bytes" for name in names]
    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    shard = next(folder.glob("model-*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert check().returncode == 1
    assert f"{shard.name}: FAILED" in check().stdout


def test_a_config_that_differs_is_refused_by_the_names_of_its_fields(weights, tmp_path, capsys):
    config = json.loads((weights / "config.json").read_text())
    changes = {"rope_theta": 500.0, "num_head_layers": 2, "dtype": "bfloat16", "transformers_version": "5.0"}
    (weights / "config.json").write_text(json.dumps(config | changes))  # 2 layers are the default
    error = refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    assert error.endswith("are not of one model: rope_theta is 500.0 and 10000.0.")
    labels = dict(list(config["id2label"].items())[:-1])
    label2id = {label: int(index) for index, label in labels.items()}
    (weights / "config.json").write_text(json.dumps(config | {"id2label": labels, "label2id": label2id}))
    assert "one model: id2label is {0: " in refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_processor_that_differs_is_refused_by_the_names_of_its_fields(weights, tmp_path, capsys):
    processor = AutoProcessor.from_pretrained(weights)
    processor.nms_sigma = 0.5
    processor.save_pretrained(weights)
    error = refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    assert "processor_config.json are not of one model: nms_sigma is 0.5 and 0.4" in error


def test_the_thresholds_that_were_chosen_for_the_weights_are_published_with_them(weights, tmp_path):
    processor = AutoProcessor.from_pretrained(weights)
    processor.thresholds = {"alarm": 0.5}
    processor.save_pretrained(weights)
    assert script.main([str(weights), str(HUB_CONFIG), str(tmp_path / "repository")]) == 0
    assert AutoProcessor.from_pretrained(tmp_path / "repository").thresholds == {"alarm": 0.5}


def test_weights_that_lack_a_tensor_or_have_one_more_are_refused(weights, tmp_path, capsys):
    tensors = load_file(weights / "model.safetensors")
    tensors["another"] = tensors.pop("boundary_head.output.bias")
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    error = refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    assert "missing_keys boundary_head.output.bias" in error and "unexpected_keys another" in error


def test_a_truncated_file_of_weights_is_refused(weights, tmp_path, capsys):
    path = weights / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "are broken:" in refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_among_the_weights_is_not_run(weights, tmp_path, capsys):
    (weights / "model.safetensors").unlink()
    harm = pickle.dumps({"weight": Malicious(str(tmp_path / "harm"))}, protocol=2)
    (weights / "pytorch_model.bin").write_bytes(harm)
    assert "model.safetensors" in refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    (tmp_path / "release.pth.tar").write_bytes(harm)
    error = refusal(capsys, tmp_path / "release.pth.tar", HUB_CONFIG, tmp_path / "repository")
    assert "There is no config.json in" in error and "scripts beside" in error
    assert "code, which is not run" in refusal(
        capsys, tmp_path / "release.pth.tar", HUB_CONFIG, tmp_path / "repository", "--weights", "average"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release.pth.tar", "weights"]


def test_code_that_the_weights_bring_along_is_not_run(weights, tmp_path, capsys):
    (weights / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'harm')!r})\n")
    config = json.loads((weights / "config.json").read_text())
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (weights / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": auto_map}))
    assert "trust_remote_code" in refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_only_safetensors_are_published(weights, tmp_path, capsys):
    shutil.copytree(HUB_CONFIG, tmp_path / "described")
    (tmp_path / "described" / "old.pt").write_bytes(b"")
    error = refusal(capsys, weights, tmp_path / "described", tmp_path / "repository")
    assert "holds old.pt; weights are published as safetensors only" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["described", "weights"]


def test_a_model_whose_predictions_are_not_finite_is_refused_in_the_fresh_process(weights):
    tensors = load_file(weights / "model.safetensors")
    tensors["boundary_head.output.bias"][0] = torch.nan
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="predict with esg_transformers: its predictions are not finite"):
        load_afresh(weights)


def test_the_code_of_unav_travels_with_that_of_esg_net_side_by_side(tmp_path):
    config = {"auto_map": {"AutoConfig": "configuration_unav.UnavConfig", "AutoModel": "modeling_unav.Unav"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    code = script.travelling_code(tmp_path)
    assert {"configuration_unav.py", "modeling_unav.py", "loss_esg_net.py", "segments_esg_net.py"} <= code.keys()
    assert "from .grid_esg_net import FeatureGrid" in code["configuration_unav.py"]
    for text in code.values():
        lines = text.splitlines()
        assert not [line for line in lines if line.startswith(("from esg_transformers", "import esg_transformers"))]


def test_code_that_cannot_travel_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "spectral.SpectralEncoder"}}')
    with pytest.raises(ValueError, match=r"spectral\.py cannot travel.*configuration_esg_net"):
        script.travelling_code(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has no `auto_map`"):
        script.travelling_code(tmp_path)


def test_an_existing_folder_is_left_alone(weights, tmp_path, capsys):
    (tmp_path / "repository").mkdir()
    assert "exists already" in refusal(capsys, weights, HUB_CONFIG, tmp_path / "repository")
    assert list((tmp_path / "repository").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--private"], "go with --push"),
        (["--push", "user/name", "--revision", "draft", "--create-pr"], "not allowed with argument"),
        (["--max-shard-size", "much"], "'much'; give a size such as 500MB"),
        (["--weights", "best"], "invalid choice: 'best'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason, capsys):
    with pytest.raises(SystemExit):
        script.main(["weights", "described", "repository", *options])
    assert reason in capsys.readouterr().err


def test_the_metadata_of_every_shard_says_pytorch(built):
    for path in built.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt"}
