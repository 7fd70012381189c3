"""Convert the published VGGish weights to a folder that `VggishModel.from_pretrained` loads.

    python conversion/convert_vggish_to_hf.py vggish-10086976.pth vggish --verify

The file is that of harritaylor/torchvggish (release v0.1, named in hubconf.py, commit f3f9096), a port of Google's
weights. It holds tensors by name; nothing else is unpickled. The file of PCA parameters beside it is not needed:
UnAV-100's features have no PCA (`esg_transformers/encoders/vggish/modeling_vggish.py`).
"""

import argparse
import sys
from pathlib import Path

from feature_networks import load_state_dict, write_folder
from torch_checkpoints import Renames

from esg_transformers import VggishConfig, VggishModel, VggishProcessor
from esg_transformers.files import sha256_of

# Upstream numbers activations and pooling as layers, too.
RENAMES: Renames = (
    (r"^features\.0\.", "blocks.0.convs.0."),
    (r"^features\.3\.", "blocks.1.convs.0."),
    (r"^features\.6\.", "blocks.2.convs.0."),
    (r"^features\.8\.", "blocks.2.convs.1."),
    (r"^features\.11\.", "blocks.3.convs.0."),
    (r"^features\.13\.", "blocks.3.convs.1."),
    (r"^embeddings\.0\.", "dense.0."),
    (r"^embeddings\.2\.", "dense.1."),
    (r"^embeddings\.4\.", "dense.2."),
)

MODEL_CARD = """\
---
library_name: esg_transformers
tags:
- vggish
- audio-feature-extraction
---

# VGGish

Weights of VGGish (Hershey et al., *CNN Architectures for Large-Scale Audio Classification*, ICASSP 2017,
arXiv 1609.09430), trained on YouTube-8M, converted for `esg_transformers`. Nothing was trained here.

| | |
|---|---|
| source | `{source}`, sha256 `{sha256}` |
| port to PyTorch | github.com/harritaylor/torchvggish |
| feature | {hidden_size} channels for each 0.96 s of sound, every 0.32 s as in UnAV-100; no PCA |

```python
import numpy as np
from transformers import AutoModel, AutoProcessor

import esg_transformers  # registers the model

model = AutoModel.from_pretrained("{output}")
processor = AutoProcessor.from_pretrained("{output}")
waveform = np.zeros(32000, "float32")  # 2 s of mono sound at 16 kHz
model(**processor(waveform, 16000)).pooler_output  # (patches, {hidden_size})
```
"""


def convert(source: Path, output: Path, *, verify: bool = False) -> VggishModel:
    """Write published VGGish weights as a folder of model, processor and model card.

    Args:
        source: the `.pth` file.
        output: the new folder; it appears when it is complete.
        verify: load the folder in a fresh process, compare every tensor, and predict from noise.

    Raises:
        FileNotFoundError: if there is no such file.
        FileExistsError: if `output` exists.
        ValueError: if the file does not hold VGGish's weights, or the verification fails.
    """
    weights = load_state_dict(source)
    widths = [len(weights[key]) for key in ("embeddings.0.bias", "embeddings.4.bias") if key in weights]
    if len(widths) < 2:
        raise ValueError(f"{source} is not a VGGish checkpoint: it lacks `embeddings.0.bias` or `embeddings.4.bias`.")
    model = VggishModel(VggishConfig(intermediate_size=widths[0], hidden_size=widths[1]))
    card = MODEL_CARD.format(
        source=source.name, sha256=sha256_of(source), output=output.name, hidden_size=model.config.hidden_size
    )
    write_folder(output, model, VggishProcessor(), weights, RENAMES, card, verify)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 on success and 1 after an error, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="vggish-10086976.pth")
    parser.add_argument("output", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--verify", action="store_true", help="load the result in a fresh process; compare its tensors")
    options = parser.parse_args(arguments)
    try:
        convert(options.source, options.output, verify=options.verify)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    verified = " Every tensor compared." if options.verify else ""
    sys.stdout.write(f"Wrote {options.output}.{verified}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
