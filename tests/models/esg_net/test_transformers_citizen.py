"""Behaviour that users of transformers expect of any model and its common tests (tests/common) do not check."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_esg_net
from transformers import Trainer, TrainingArguments

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization, EsgNetProcessor
from esg_transformers.localization.collator import EventLocalizationCollator
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetAttention
from esg_transformers.models.esg_net.sharing_esg_net import add_code


def model_of(**fields):
    return tiny_esg_net(**{"num_labels": 5, "visual_size": 12, "audio_size": 7} | fields)


def features_of(num_videos=2, num_steps=12):
    generator = torch.Generator().manual_seed(1)
    return {
        "visual_features": torch.randn(num_videos, num_steps, 12, generator=generator),
        "audio_features": torch.randn(num_videos, num_steps, 7, generator=generator),
        "attention_mask": torch.ones(num_videos, num_steps, dtype=torch.long),
    }


def labelled(batch):
    videos = len(batch["visual_features"])
    return batch | {
        "segment_labels": torch.tensor([[[1.5, 6.5], [2.5, 4.5]]]).repeat(videos, 1, 1),
        "class_labels": torch.tensor([[0, 3]]).repeat(videos, 1),
    }


def examples_of(num_videos):
    """Training examples of 6 to 10 steps, with one event each; the last has none."""
    generator = torch.Generator().manual_seed(2)
    examples = []
    for index in range(num_videos):
        num_events = int(index < num_videos - 1)
        num_steps = 6 + index % 5
        examples.append(
            {
                "video_id": f"video-{index}",
                "duration": 4.0,
                "visual_features": torch.randn(num_steps, 12, generator=generator).numpy(),
                "audio_features": torch.randn(num_steps, 7, generator=generator).numpy(),
                "segments": torch.tensor([[1.0, 2.0]])[:num_events].numpy(),
                "labels": torch.tensor([index % 5])[:num_events].numpy(),
            }
        )
    return examples


def processor_of():
    return EsgNetProcessor(visual_size=12, audio_size=7)


# precision


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.08)])
def test_half_precision_is_close_to_single_on_the_float32_features_of_the_processor(dtype, tolerance, tmp_path):
    model, batch = model_of(), labelled(features_of())
    model.save_pretrained(tmp_path)
    half = EsgNetForEventLocalization.from_pretrained(tmp_path, dtype=dtype).eval()
    with torch.no_grad():
        expected, outputs = model(**batch), half(**batch)
        evidence, half_evidence = (m._segment_logits(o.offsets, o) for m, o in ((model, expected), (half, outputs)))
    assert outputs.logits.dtype == dtype
    # Logits are what the head says and the evidence, each of which half precision rounds.
    torch.testing.assert_close(half_evidence, evidence, atol=tolerance, rtol=0)
    torch.testing.assert_close(
        outputs.logits.float() - half_evidence, expected.logits - evidence, atol=tolerance, rtol=0
    )
    torch.testing.assert_close(outputs.offsets.float(), expected.offsets, atol=tolerance, rtol=0)
    torch.testing.assert_close(outputs.loss, expected.loss, atol=tolerance, rtol=tolerance)


def test_points_and_the_normalizer_stay_in_single_precision(tmp_path):
    model_of(loss_normalizer_init=250.1).save_pretrained(tmp_path)
    half = EsgNetForEventLocalization.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.loss_normalizer.item() == pytest.approx(250.1)  # 250 in bfloat16
    assert half(**features_of()).points.dtype == torch.float32


def test_autocast_trains():
    model = model_of().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**labelled(features_of())).loss
    loss.backward()
    assert loss.isfinite() and all(parameter.grad.isfinite().all() for parameter in model.parameters())


# gradients


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_neither_loss_nor_gradients(use_reentrant):
    plain, checkpointed = model_of(drop_path_rate=0.5).train(), model_of(drop_path_rate=0.5).train()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    for model in (plain, checkpointed):
        torch.manual_seed(3)
        model(**labelled(features_of())).loss.backward()
    for (name, expected), actual in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("without", ["nothing", "events", "picture", "sound"])
def test_every_parameter_gets_a_gradient_even_from_a_batch_without(without):
    model, batch = model_of().train(), labelled(features_of())
    if without == "events":
        batch["class_labels"] = torch.full_like(batch["class_labels"], -100)
    elif without != "nothing":
        batch["visual_mask" if without == "picture" else "audio_mask"] = torch.zeros(2, 12)
    model(**batch).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        pytest.param(
            "inductor",
            marks=[
                pytest.mark.skipif(
                    not os.environ.get("RUN_SLOW"), reason="compiling C++ takes minutes on two cores; set RUN_SLOW=1"
                ),
                pytest.mark.timeout(1200),
            ],
        ),
    ],
)
def test_the_compiled_model_is_one_graph_and_gives_the_same(backend):
    model, batch = model_of(), labelled(features_of())
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with torch.no_grad():
        expected, outputs = model(**batch), compiled(**batch)
    torch.testing.assert_close(outputs.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.loss, expected.loss)
    compiled.train()
    compiled(**batch).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# loading


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_a_sharded_checkpoint_loads_onto_a_device_map(device_map, tmp_path):
    model, batch = model_of(), features_of()
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 1 and shards == sorted(set(index["weight_map"].values()))
    loaded, info = EsgNetForEventLocalization.from_pretrained(tmp_path, device_map=device_map, output_loading_info=True)
    assert not any(info.values())
    batch = {name: tensor.to(loaded.device) for name, tensor in batch.items()}
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits.cpu(), model(**features_of()).logits)


def test_another_number_of_classes_keeps_the_rest_of_the_weights(tmp_path):
    model = model_of()
    model.save_pretrained(tmp_path)
    loaded = EsgNetForEventLocalization.from_pretrained(tmp_path, num_labels=3, ignore_mismatched_sizes=True).eval()
    assert loaded(**features_of()).logits.shape[-1] == 3
    saved, kept = model.state_dict(), loaded.state_dict()
    changed = {name for name in saved if saved[name].shape != kept[name].shape}
    # The prototypes, the biases of each stage's three classifiers, and the output layers of the heads.
    assert {name.split(".")[-2] for name in changed} == {"semantic_interaction", "0", "1", "2", "output"}
    assert all(torch.equal(saved[name], kept[name]) for name in set(saved) - changed)


def test_parameters_can_be_counted_by_hand():
    attention = EsgNetAttention(EsgNetConfig(**TINY))
    assert sum(parameter.numel() for parameter in attention.parameters()) == 4 * (16 * 16 + 16)
    model = model_of()
    assert model.num_parameters() == sum(x.numel() for x in model.parameters())
    assert model.num_parameters(only_trainable=True) == model.num_parameters()


def test_the_config_prints_as_the_json_that_is_saved(tmp_path):
    config = EsgNetConfig(**TINY)
    config.save_pretrained(tmp_path)
    name, _, fields = repr(config).partition(" ")
    assert name == "EsgNetConfig" and fields.strip() == (tmp_path / "config.json").read_text().strip()
    assert json.loads(fields)["model_type"] == "esg_net"


# code on the Hub

LOAD_WITHOUT_THE_PACKAGE = """
import sys

class Blocker:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "esg_transformers":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker)

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor

config, model, processor = (
    auto.from_pretrained("checkpoint", trust_remote_code=True) for auto in (AutoConfig, AutoModel, AutoProcessor)
)
assert type(config).__module__.startswith("transformers_modules"), type(config).__module__
features = load_file("features.safetensors")
with torch.no_grad():
    outputs = model.eval()(**processor(features["visual"], features["audio"]))
[events] = processor.post_process_event_localization(outputs)
save_file(events, "events.safetensors")
"""


@pytest.mark.slow
def test_the_code_that_a_push_adds_runs_without_the_package(tmp_path):
    model, processor = model_of(), processor_of()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "checkpoint")
        add_code(part, tmp_path / "checkpoint")
    video = {"visual": torch.randn(12, 12), "audio": torch.randn(12, 7)}
    save_file(video, tmp_path / "features.safetensors")
    with torch.no_grad():
        outputs = model(**processor(video["visual"], video["audio"]))
    [expected] = processor.post_process_event_localization(outputs)

    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", LOAD_WITHOUT_THE_PACKAGE]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    events = load_file(tmp_path / "events.safetensors")
    assert len(events["scores"]) > 0
    torch.testing.assert_close(events, {name: value.contiguous() for name, value in expected.items()})


# Trainer


def trainer_of(model, folder, num_videos=5, **arguments):
    """A `Trainer` as transformers has it, with this package's collator."""
    settings = {
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "remove_unused_columns": False,  # the collator reads `segments` and `labels`, which `forward` has not
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return Trainer(
        model,
        TrainingArguments(folder, **settings | arguments),
        data_collator=EventLocalizationCollator(processor_of()),
        train_dataset=examples_of(num_videos),
        eval_dataset=examples_of(num_videos),
    )


@pytest.mark.slow
def test_trainer_learns_and_evaluates(tmp_path):
    trainer = trainer_of(model_of(drop_path_rate=0.0), tmp_path, num_train_epochs=15, learning_rate=3e-3)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2


@pytest.mark.slow
def test_trainer_predicts_logits_offsets_and_points_of_every_video(tmp_path):
    trainer = trainer_of(model_of(), tmp_path)
    logits, offsets, points, point_mask = trainer.predict(examples_of(5)).predictions
    # The longest of 6, 7, 8, 9 and 10 steps has 10 + 5 points.
    assert logits.shape == (5, 15, 5) and offsets.shape == (5, 15, 5, 2)
    assert points.shape == (5, 15, 2) and point_mask.shape == (5, 15)


TWO_PROCESSES = """
import sys

import torch
from safetensors.torch import save_file

sys.path[:0] = sys.argv[1:]
from test_transformers_citizen import STEADY, THREE_STEPS, model_of, trainer_of

trainer = trainer_of(model_of(**STEADY), "out", **THREE_STEPS)
trainer.train()
rank = trainer.accelerator.process_index
save_file({"logits": torch.from_numpy(trainer.predict(trainer.eval_dataset).predictions[0])}, f"logits-{rank}")
save_file(trainer.accelerator.unwrap_model(trainer.model).state_dict(), f"weights-{rank}")
"""
STEADY = {
    "drop_path_rate": 0.0,
    "feature_dropout": 0.0,
    "slot_noise": 0.0,
    "router_loss_weight": 1.0,
    "loss_normalizer_init": 1.0,
}
# SGD, since Adam would hide losses that are too large or too small by a factor.
THREE_STEPS = {"num_videos": 8, "max_steps": 3, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}


@pytest.mark.slow
def test_trainer_on_two_processes_learns_what_it_learns_on_one(tmp_path):
    (tmp_path / "script.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "script.py"]
    subprocess.run(
        [*command, str(Path(__file__).parent), str(Path(__file__).parents[2])],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        timeout=200,
    )
    one = trainer_of(model_of(**STEADY), tmp_path, per_device_train_batch_size=4, **THREE_STEPS)
    one.train()
    expected = {name: tensor.contiguous() for name, tensor in one.model.state_dict().items()}
    for rank in range(2):
        torch.testing.assert_close(load_file(tmp_path / f"weights-{rank}"), expected, atol=1e-5, rtol=1e-4)
    logits = one.predict(one.eval_dataset).predictions[0]
    torch.testing.assert_close(
        load_file(tmp_path / "logits-0")["logits"], torch.from_numpy(logits), atol=1e-4, rtol=1e-4
    )


# adapters and quantization


def test_lora_trains_saves_and_loads(tmp_path):
    peft = pytest.importorskip("peft", reason="LoRA needs `pip install peft`")
    lora = peft.LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["classification_head"])
    model, batch = peft.get_peft_model(model_of(), lora), labelled(features_of())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name or "classification_head" in name for name in trained)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(2):  # the first step leaves the gradients of half of LoRA's matrices at zero
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(model_of(), tmp_path).eval()
    with torch.no_grad():
        logits = model.eval()(**batch).logits
        torch.testing.assert_close(loaded(**batch).logits, logits)
        assert not torch.allclose(model_of()(**batch).logits, logits, atol=1e-3)


def test_int8_weights_are_close_to_float32(tmp_path):
    torchao = pytest.importorskip("torchao.quantization", reason="int8 weights need `pip install torchao`")
    from transformers import TorchAoConfig

    model, batch = model_of(), features_of()
    model.save_pretrained(tmp_path)
    quantized = EsgNetForEventLocalization.from_pretrained(
        tmp_path, quantization_config=TorchAoConfig(torchao.Int8WeightOnlyConfig())
    )
    kinds = {type(module.weight).__name__ for module in quantized.modules() if isinstance(module, torch.nn.Linear)}
    assert any("Int8" in kind for kind in kinds)
    with torch.no_grad():
        torch.testing.assert_close(quantized(**batch).logits, model(**batch).logits, atol=0.05, rtol=0)
