import json
import os
import subprocess
import sys

import pytest

# Script of each of two processes. Accelerate shards on accelerators only (FSDP); torch's `fully_shard` works on the CPU
# too, so it shards the model here, for the parts of the training loop that meet a sharded model.
SHARDED = """
import json, sys
from pathlib import Path
import torch
from accelerate import Accelerator
from torch.distributed.fsdp import fully_shard
from torch.distributed.device_mesh import init_device_mesh
from esg_transformers import EsgNetConfig, EsgNetForEventLocalization
from esg_transformers.training.checkpoints import Checkpoints, whole_state_dict
from esg_transformers.training.ema import AveragedWeights

accelerator = Accelerator()
mesh = init_device_mesh("cpu", (2,))
features = {
    "visual_features": torch.randn(2, 20, 6), "audio_features": torch.randn(2, 20, 4),
    "segment_labels": torch.tensor([[[2.0, 9.0]], [[1.0, 5.0]]]), "class_labels": torch.tensor([[0], [1]]),
}

def start():
    torch.manual_seed(0)
    still = {"drop_path_rate": 0.0, "feature_dropout": 0.0, "slot_noise": 0.0}
    config = EsgNetConfig.of_size("tiny", visual_size=6, audio_size=4, num_labels=2, **still)
    model = EsgNetForEventLocalization(config)
    for layer in model.dependency_mixture.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    average = AveragedWeights(model, 0.9)
    return model, optimizer, average, Checkpoints(Path(sys.argv[1]), {}, 2, accelerator, model, optimizer, average)

def step(model, optimizer, average):
    model(**features).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    average.update()

def ended(model, average):
    with average.in_place():
        averages = whole_state_dict(model)
    return whole_state_dict(model), averages

torch.manual_seed(1)
model, optimizer, average, checkpoints = start()
is_sharded = model.classification_head.output.weight.to_local().shape != model.classification_head.output.weight.shape
for _ in range(3):
    step(model, optimizer, average)
checkpoints.save(3, {"epoch": 1})
for _ in range(2):
    step(model, optimizer, average)
expected = ended(model, average)

model, optimizer, average, checkpoints = start()
progress = checkpoints.resume()
for _ in range(2):
    step(model, optimizer, average)
found = ended(model, average)
if accelerator.is_main_process:
    same = [all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(found, expected)]
    print(json.dumps({"sharded": is_sharded, "progress": progress, "same": same, "parameters": len(found[0]),
                      "averaged": not torch.equal(found[0]["level_scale"], found[1]["level_scale"])}))
"""


@pytest.mark.slow
def test_a_sharded_model_is_averaged_saved_and_resumed_as_one_piece(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    ended = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
         "--main_process_port", "0", str(script), str(tmp_path / "checkpoints")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result.pop("parameters") > 100
    assert result == {"sharded": True, "progress": {"epoch": 1}, "same": [True, True], "averaged": True}
