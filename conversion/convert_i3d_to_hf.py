"""Convert the published I3D weights to a folder that `I3dModel.from_pretrained` loads.

    python conversion/convert_i3d_to_hf.py i3d_rgb.pt i3d-rgb --verify
    python conversion/convert_i3d_to_hf.py i3d_flow.pt i3d-flow --verify

The files are those of v-iashin/video_features (models/i3d/checkpoints, commit a2f61b7), a port of DeepMind's weights,
which hassony2/kinetics_i3d_pytorch (commit 786fbae) has as `model_rgb.pth` and `model_flow.pth`. They hold tensors by
name; nothing else is unpickled. The classifier of the 400 Kinetics actions is left out: features are its input.
"""

import argparse
import sys
from pathlib import Path

import torch
from feature_networks import load_state_dict, write_folder
from torch_checkpoints import Renames

from esg_transformers import I3dConfig, I3dModel, I3dProcessor
from esg_transformers.files import sha256_of

CLASSIFIER = "conv3d_0c_1x1."
FIRST = "conv3d_1a_7x7.conv3d.weight"
STREAMS = {3: "rgb", 2: "flow"}  # by the channels of a frame

# Applied in this order to every key.
RENAMES: Renames = (
    (r"^conv3d_", "layers.conv_"),
    (r"^mixed_", "layers.mixed_"),
    (r"\.conv3d\.", ".conv."),
    (r"\.batch3d\.", ".norm."),
)

MODEL_CARD = """\
---
library_name: esg_transformers
tags:
- i3d
- video-feature-extraction
---

# I3D, {stream} stream

Weights of I3D (Carreira and Zisserman, *Quo Vadis, Action Recognition?*, CVPR 2017, arXiv 1705.07750), trained on
Kinetics-400, converted for `esg_transformers`. Nothing was trained here. The classifier is left out.

| | |
|---|---|
| source | `{source}`, sha256 `{sha256}` |
| port to PyTorch | github.com/hassony2/kinetics_i3d_pytorch, as used by github.com/v-iashin/video_features |
| feature | 1024 channels for each window of frames |

```python
import numpy as np
from transformers import AutoModel, AutoProcessor

import esg_transformers  # registers the model

model = AutoModel.from_pretrained("{output}")
processor = AutoProcessor.from_pretrained("{output}")
frames = np.zeros({shape}, "{dtype}")  # 24 frames of {content}
model(**processor(frames)).pooler_output  # (1, 1024)
```
"""


def convert(source: Path, output: Path, *, verify: bool = False) -> I3dModel:
    """Write published I3D weights as a folder of model, processor and model card.

    Args:
        source: the `.pt` or `.pth` file, of the RGB or of the flow stream.
        output: the new folder; it appears when it is complete.
        verify: load the folder in a fresh process, compare every tensor, and predict from noise.

    Raises:
        FileNotFoundError: if there is no such file.
        FileExistsError: if `output` exists.
        ValueError: if the file does not hold I3D's weights, or the verification fails.
    """
    weights = load_state_dict(source)
    channels = weights[FIRST].shape[1] if FIRST in weights and weights[FIRST].dim() == 5 else 0
    if channels not in STREAMS:
        raise ValueError(
            f"{source} is not an I3D checkpoint: `{FIRST}` should have 3 channels (RGB) or 2 (flow). "
            "Give `i3d_rgb.pt` or `i3d_flow.pt` of v-iashin/video_features."
        )
    stream = STREAMS[channels]
    weights = {key: tensor for key, tensor in weights.items() if not key.startswith(CLASSIFIER)}
    # Files written before PyTorch 0.4.1 do not count the batches; the count is not used here.
    for key in [key for key in weights if key.endswith(".batch3d.running_mean")]:
        weights.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    model = I3dModel(I3dConfig(num_channels=channels))
    card = MODEL_CARD.format(
        stream="RGB" if stream == "rgb" else "optical flow",
        source=source.name,
        sha256=sha256_of(source),
        output=output.name,
        shape=(24, 240, 320, 3) if stream == "rgb" else (24, 256, 344, 2),
        dtype="uint8" if stream == "rgb" else "float32",
        content="a video at 25 per second" if stream == "rgb" else "optical flow, in pixels",
    )
    write_folder(output, model, I3dProcessor(stream), weights, RENAMES, card, verify)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 on success and 1 after an error, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="i3d_rgb.pt or i3d_flow.pt")
    parser.add_argument("output", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--verify", action="store_true", help="load the result in a fresh process; compare its tensors")
    options = parser.parse_args(arguments)
    try:
        model = convert(options.source, options.output, verify=options.verify)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stream = STREAMS[model.config.num_channels]
    verified = " Every tensor compared." if options.verify else ""
    sys.stdout.write(f"Wrote {options.output}: the {stream} stream, without its classifier.{verified}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
