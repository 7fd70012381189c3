"""Convert a published UnAV checkpoint to a folder that `UnavForEventLocalization.from_pretrained` loads.

    python conversion/convert_unav_to_hf.py model_best.pth.tar unav --labels unav100_annotations.json --verify

The checkpoint is the `.pth.tar` that UnAV's train.py writes (github.com/ttgeng233/UnAV, commit 1609deb):
`{"epoch", "state_dict", "state_dict_ema"}`, where every key of both state dicts begins with `module.`. Sizes are read
from the tensors; the others (4 attention heads, the length of the position table) are those of
configs/avel_unav100.yaml. Nothing but tensors and plain values is unpickled.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from torch_checkpoints import Renames, fit, load_checkpoint, renamed

from esg_transformers import EsgNetProcessor, UnavConfig, UnavForEventLocalization
from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.corpora.feature_sets import FEATURE_SETS, FeatureSet
from esg_transformers.files import new_folder, sha256_of

# Applied in this order to every key of the checkpoint. In UnAV, V is the visual and A the audio stream, Va the visual
# stream after attention to the audio.
RENAMES: Renames = (
    (r"^module\.", ""),
    # streams
    (r"^backbone\.embd_V\.(\d+)\.", r"visual_stream.embeddings.\1.conv."),
    (r"^backbone\.embd_A\.(\d+)\.", r"audio_stream.embeddings.\1.conv."),
    (r"^backbone\.embd_norm_V\.(\d+)\.", r"visual_stream.embeddings.\1.norm."),
    (r"^backbone\.embd_norm_A\.(\d+)\.", r"audio_stream.embeddings.\1.norm."),
    (r"^backbone\.self_att_V\.", "visual_stream.blocks."),
    (r"^backbone\.self_att_A\.", "audio_stream.blocks."),
    # pyramid; in UnAV level 0 has names of its own
    (r"^backbone\.ori_cross_att_Va\.", "pyramid.0.visual."),
    (r"^backbone\.ori_cross_att_Av\.", "pyramid.0.audio."),
    (r"^backbone\.cross_att_Va\.(\d+)\.", lambda match: f"pyramid.{int(match[1]) + 1}.visual."),
    (r"^backbone\.cross_att_Av\.(\d+)\.", lambda match: f"pyramid.{int(match[1]) + 1}.audio."),
    # dependency block
    (r"^dependency_block\.feature_expand\.", "dependency_block.expand."),
    (r"^dependency_block\.temporal_branch\.", "dependency_block.temporal."),
    (r"^dependency_block\.cooccur_branch\.", "dependency_block.cooccurrence."),
    (r"^dependency_block\.feature_squeeze\.", "dependency_block.squeeze."),
    # heads
    (r"^cls_head\.head\.(\d+)\.", r"classification_head.layers.\1.conv."),
    (r"^cls_head\.norm\.(\d+)\.", r"classification_head.layers.\1.norm."),
    (r"^cls_head\.cls_head\.", "classification_head.output."),
    (r"^reg_head\.head\.(\d+)\.", r"boundary_head.layers.\1.conv."),
    (r"^reg_head\.norm\.(\d+)\.", r"boundary_head.layers.\1.norm."),
    (r"^reg_head\.offset_head\.", "boundary_head.output."),
    (r"^reg_head\.scale\.(\d+)\.scale$", r"level_scale.\1"),
    # inside a transformer block
    (r"\.ln11\.", ".key_value_norm."),
    (r"\.ln12\.", ".query_norm."),
    (r"\.ln2\.", ".norm."),
    (r"\.attn\.(query|key|value)_conv\.", r".attention.\1.conv."),
    (r"\.attn\.(query|key|value)_norm\.", r".attention.\1.norm."),
    (r"\.attn\.(query|key|value)\.", r".attention.\1.linear."),
    (r"\.attn\.proj\.", ".attention.output."),
    (r"\.mlp\.0\.", ".up_proj."),
    (r"\.mlp\.3\.", ".down_proj."),
    (r"\.drop_path_attn\.", ".attention_drop_path."),
    (r"\.drop_path_mlp\.", ".feed_forward_drop_path."),
)

MODEL_CARD = """\
---
library_name: esg_transformers
tags:
- audio-visual-event-localization
- unav
datasets:
- ttgeng233/UnAV-100
---

# UnAV on {feature_set} features

Weights of UnAV (Geng et al., *Dense-Localizing Audio-Visual Events in Untrimmed Videos*, CVPR 2023,
arXiv 2303.12930), converted for `esg_transformers`. Nothing was trained here.

| | |
|---|---|
| source | `{source}`, sha256 `{sha256}` |
| weights | {weights}, epoch {epoch} |
| authors' code | github.com/ttgeng233/UnAV, commit 1609deb, MIT License |
| features | {feature_set}: {visual_size} visual and {audio_size} audio channels, {grid} |
| classes | {num_labels} |
| parameters | {num_parameters:,} |

```python
import numpy as np
from transformers import AutoModel, AutoProcessor

import esg_transformers  # registers the model

model = AutoModel.from_pretrained("{output}")
processor = AutoProcessor.from_pretrained("{output}")
visual, audio = np.zeros((100, {visual_size}), "float32"), np.zeros((100, {audio_size}), "float32")  # (steps, channels)
[events] = processor.post_process_event_localization(model(**processor(visual, audio)))
events["segments"]  # seconds, best first; with events["labels"] and events["scores"]
```
"""


def convert(
    source: Path,
    output: Path,
    *,
    feature_set: FeatureSet,
    labels: tuple[str, ...] | None = None,
    averaged: bool = True,
    max_seq_len: int = 224,
    verify: bool = False,
) -> UnavForEventLocalization:
    """Write a UnAV checkpoint as a folder of model, processor and model card.

    Args:
        source: the `.pth.tar` file.
        output: the new folder; it appears when it is complete.
        feature_set: the feature set that the checkpoint was trained on.
        labels: class names by id; `LABEL_0`, `LABEL_1`, ... by default.
        averaged: the moving average of the weights, as UnAV's eval.py uses, or the raw ones.
        max_seq_len: rows of the position table; `dataset.max_seq_len` of UnAV's configuration file.
        verify: load the written model again and compare every tensor, and the outputs on random features.

    Raises:
        FileNotFoundError: if there is no such file.
        FileExistsError: if `output` exists.
        ValueError: if the file is not a UnAV checkpoint, or does not fit the feature set or the labels.
    """
    weights, epoch = load_checkpoint(source, averaged)
    keys = renamed(weights, RENAMES)
    config = config_of({name: weights[key] for name, key in keys.items()}, feature_set, labels, max_seq_len)
    model = UnavForEventLocalization(config)
    tensors = fit(weights, keys, model.state_dict())
    model.load_state_dict(model.state_dict() | tensors)
    processor = EsgNetProcessor.for_features(feature_set.feature_spec)
    card = MODEL_CARD.format(
        feature_set=feature_set.name,
        source=source.name,
        sha256=sha256_of(source),
        weights="moving average (`state_dict_ema`)" if averaged else "raw (`state_dict`)",
        epoch="unknown" if epoch is None else epoch,
        visual_size=feature_set.visual_size,
        audio_size=feature_set.audio_size,
        grid=feature_set.grid,
        num_labels=config.num_labels,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        output=output.name,
    )
    with new_folder(output) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        (partial / "README.md").write_text(card, encoding="utf-8")
        if verify:
            check_written(partial, tensors, model)
    return model


def config_of(
    tensors: dict[str, Tensor], feature_set: FeatureSet, labels: tuple[str, ...] | None, max_seq_len: int
) -> UnavConfig:
    """Configuration with the sizes of renamed tensors.

    Raises:
        ValueError: if a tensor that gives a size is missing, or the sizes do not fit the features or labels.
    """

    def size(name: str, dimension: int) -> int:
        if name not in tensors or tensors[name].dim() <= dimension:
            raise ValueError(f"The checkpoint has no tensor for `{name}`; it is no UnAV checkpoint.")
        return tensors[name].shape[dimension]

    def count(prefix: str) -> int:
        return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})

    channels = (
        size("visual_stream.embeddings.0.conv.conv.weight", 1),
        size("audio_stream.embeddings.0.conv.conv.weight", 1),
    )
    if channels != (feature_set.visual_size, feature_set.audio_size):
        raise ValueError(
            f"The checkpoint takes {channels[0]} visual and {channels[1]} audio channels; {feature_set.name} features "
            f"have {feature_set.visual_size} and {feature_set.audio_size}. Give another `--feature-set`."
        )
    num_labels = size("classification_head.output.conv.weight", 0)
    if labels is not None and len(labels) != num_labels:
        raise ValueError(
            f"The checkpoint has {num_labels} classes and the labels file {len(labels)}. "
            "Give the annotations that the checkpoint was trained on."
        )
    use_dependency = count("dependency_block.") > 0
    expanded = size("dependency_block.expand.conv.weight", 0) if use_dependency else 128 * num_labels
    return UnavConfig(
        id2label=dict(enumerate(labels or (f"LABEL_{index}" for index in range(num_labels)))),
        **feature_set.feature_spec.config_fields(),
        hidden_size=size("visual_stream.embeddings.0.conv.conv.weight", 0),
        num_embedding_layers=count("visual_stream.embeddings."),
        max_seq_len=max_seq_len,
        intermediate_size=size("pyramid.0.visual.up_proj.weight", 0),
        num_stem_layers=count("visual_stream.blocks."),
        pyramid_levels=count("level_scale."),
        use_dependency=use_dependency,
        dependency_size=expanded // num_labels,
        head_size=size("classification_head.layers.0.conv.conv.weight", 0),
        num_head_layers=count("classification_head.layers."),
        architectures=["UnavForEventLocalization"],
    )


def check_written(folder: Path, tensors: dict[str, Tensor], model: UnavForEventLocalization) -> None:
    """Load a written model again, and compare its tensors with the checkpoint's and its outputs with the model's.

    Raises:
        ValueError: naming the tensors or outputs that differ.
    """
    loaded_anew: Any = UnavForEventLocalization.from_pretrained(folder, output_loading_info=True)
    written, loading = loaded_anew
    loaded = written.state_dict()
    differing = [name for name, tensor in tensors.items() if not torch.equal(loaded[name], tensor)]
    generator = torch.Generator().manual_seed(0)
    sizes = (model.config.visual_size, model.config.audio_size)
    features = [torch.randn(1, model.config.max_seq_len, size, generator=generator) for size in sizes]
    with torch.inference_mode():
        model.eval()  # type: ignore[no-untyped-call]  # transformers gives it no types
        expected, found = model(*features), written.eval()(*features)
    differing += [f"{name} (output)" for name in ("logits", "offsets") if not torch.equal(expected[name], found[name])]
    differing += [f"{name} ({kind})" for kind in ("missing_keys", "unexpected_keys") for name in loading[kind]]
    if differing:
        raise ValueError(f"The written model differs from the checkpoint in {', '.join(differing)}.")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 on success and 1 after an error, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the .pth.tar file")
    parser.add_argument("output", type=Path, help="the folder to write; it must not exist")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ema", dest="averaged", action="store_true", default=True, help="averaged weights (default)")
    which.add_argument("--raw", dest="averaged", action="store_false", help="weights as the optimizer left them")
    parser.add_argument("--feature-set", choices=list(FEATURE_SETS), default="i3d-vggish")
    parser.add_argument("--labels", type=Path, metavar="ANNOTATIONS", help="UnAV-100 annotation file, for class names")
    parser.add_argument("--max-seq-len", type=int, default=224, help="of UnAV's configuration file (default: 224)")
    parser.add_argument("--verify", action="store_true", help="load the result and compare its tensors and outputs")
    options = parser.parse_args(arguments)
    try:
        model = convert(
            options.source,
            options.output,
            feature_set=FEATURE_SETS[options.feature_set],
            labels=read_unav_annotations(options.labels).labels if options.labels else None,
            averaged=options.averaged,
            max_seq_len=options.max_seq_len,
            verify=options.verify,
        )
    except (ValueError, OSError, StrictDataclassError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    verified = ", every tensor and the outputs compared" if options.verify else ""
    sys.stdout.write(f"Wrote {options.output}: {num_parameters:,} parameters{verified}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
