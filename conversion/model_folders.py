"""Verification of folders that `from_pretrained` loads, in a fresh process."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

# Prints digests of the tensors of a model, and of its predictions from noise in the form that its processor takes.
LOAD_AND_PREDICT = """
import json, sys
folder, conversion, package = sys.argv[1:]
if package == "without":
    sys.modules["esg_transformers"] = None  # importing it fails
else:
    import esg_transformers
sys.path.insert(0, conversion)
import numpy as np, torch
from model_folders import digest
from transformers import AutoModel, AutoProcessor

trusted = {"trust_remote_code": package == "without", "local_files_only": True}
model, loading = AutoModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **trusted)
if problems := {kind: sorted(map(str, found)) for kind, found in loading.items() if found}:
    raise SystemExit(f"loading it reports {problems}")
processor = AutoProcessor.from_pretrained(folder, **trusted)
random = np.random.default_rng(0)
if "visual_features" in processor.model_input_names:
    sizes = (processor.visual_size, processor.audio_size)
    sample = [random.standard_normal((48, size), np.float32) for size in sizes]
elif "pixel_values" in processor.model_input_names:
    rgb, flow = random.integers(256, size=(24, 240, 320, 3)), random.normal(size=(24, 256, 340, 2))
    sample = [rgb.astype(np.uint8) if processor.stream == "rgb" else flow]
else:
    sample = [random.uniform(-1, 1, 2 * 16000), 16000]
with torch.inference_mode():
    outputs = model.eval()(**processor(*sample).to(model.dtype))
predicted = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
if hasattr(processor, "post_process_event_localization"):
    predicted |= processor.post_process_event_localization(outputs)[0]
if not all(tensor.isfinite().all() for tensor in predicted.values()):
    raise SystemExit("its predictions are not finite")
tensors = {name: digest(tensor) for name, tensor in model.state_dict().items()}
print(json.dumps([tensors, {name: digest(tensor) for name, tensor in predicted.items()}]))
"""


def load_afresh(folder: Path, *, with_package: bool = True) -> tuple[dict[str, str], dict[str, str]]:
    """Load a model and its processor in a fresh process, without network, and predict from noise.

    Args:
        folder: folder of the model.
        with_package: let that process import `esg_transformers`; otherwise the code in the folder is run.

    Returns:
        Digests (see `digest`) of the model's tensors, and of its predictions, by name.

    Raises:
        ValueError: if that fails, or the predictions are not finite.
    """
    package = "with" if with_package else "without"
    with tempfile.TemporaryDirectory() as modules:
        words = [folder.resolve(), Path(__file__).resolve().parent, package]
        done = subprocess.run(
            [sys.executable, "-c", LOAD_AND_PREDICT, *map(str, words)],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": modules},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"The model does not load and predict {package} esg_transformers: {reason}")
    tensors, predicted = json.loads(done.stdout.splitlines()[-1])
    return tensors, predicted


def check_tensors(loaded: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Compare the digests of loaded tensors with the tensors of their source.

    Raises:
        ValueError: naming the tensors that differ.
    """
    expected = {name: digest(tensor) for name, tensor in tensors.items()}
    differing = sorted(name for name in loaded.keys() | expected.keys() if loaded.get(name) != expected.get(name))
    if differing:
        raise ValueError(f"The written model differs from its source in {', '.join(differing)}.")


def digest(tensor: Tensor) -> str:
    """sha256 of a tensor's type, shape and bytes."""
    content = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
