"""Convert an ESG-Net checkpoint to a folder that `from_pretrained` loads.

    python conversion/convert_esg_net_to_hf.py OUTPUT model --weights average --verify
    python conversion/convert_esg_net_to_hf.py OUTPUT/checkpoints/step-00000012 model
    python conversion/convert_esg_net_to_hf.py release.pth.tar model --config hub_configs/NAME --rename table.txt

The first two commands read the last or the given checkpoint of `esg-transformers train` or `finetune`, and check each
file against its checksum. (The weights of the best epoch are in OUTPUT already and need no conversion.)

The third command reads a `.pth.tar` file of the UnAV code family: `{"epoch", "state_dict", "state_dict_ema"}`. The
authors of ESG-Net had released no weights by commit b9e39c0 (2026-03-04) of their repository. For names that differ
from those of `EsgNetForEventLocalization`, give a table with a regular expression and its replacement on each line; all
are applied in this order to every key, after `module.` is removed:

    # streams
    ^backbone\\.embd_V\\.(\\d+)\\. -> model.embeddings.visual.\\1.

If a tensor of the checkpoint or of the model has no counterpart, nothing is written, and each such tensor is listed
with the most similar names. Nothing but tensors and plain values is unpickled.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from convert_unav_to_hf import RENAMES as UNAV_RENAMES
from huggingface_hub.errors import StrictDataclassError
from model_folders import check_tensors, load_afresh
from safetensors.torch import load_file
from torch import Tensor
from torch_checkpoints import Renames, fit, load_checkpoint, renamed
from transformers import AutoConfig, AutoModel, AutoProcessor, PreTrainedConfig, PreTrainedModel

from esg_transformers import EsgNetProcessor, UnavConfig, UnavForEventLocalization
from esg_transformers.annotations.unav import read_unav_annotations
from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.feature_sets import FEATURE_SETS, FeatureSet
from esg_transformers.files import new_folder, sha256_of
from esg_transformers.training.checkpoints import AVERAGE, STATE, WEIGHTS
from esg_transformers.training.loop import CHECKPOINTS
from esg_transformers.training.lora import add_lora, merged_state_dict
from esg_transformers.training.model import new_model


def convert(
    weights: dict[str, Tensor],
    output: Path,
    config: PreTrainedConfig,
    processor: EsgNetProcessor,
    *,
    renames: Renames = (),
    verify: bool = False,
) -> PreTrainedModel:
    """Write the weights of a checkpoint as a folder of model and processor.

    Args:
        weights: tensors by name, see `read_weights`.
        output: the new folder; it appears when it is complete.
        config: configuration of the model.
        processor: processor for its features.
        renames: rules for the keys of `weights`.
        verify: load the written model in a fresh process and compare every tensor.

    Raises:
        FileExistsError: if `output` exists.
        ValueError: if the weights do not fit the configuration, or the configuration the processor.
    """
    processor.feature_spec.check(config.feature_spec, "The model's config")
    weights = without_adapters(config, weights)
    keys = renamed(weights, [(r"^module\.", ""), *renames])
    model: PreTrainedModel = AutoModel.from_config(config)
    model.load_state_dict(model.state_dict() | fit(weights, keys, model.state_dict()))
    with new_folder(output) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        if verify:
            loaded, _ = load_afresh(partial)
            check_tensors(loaded, model.state_dict())
    return model


def read_weights(source: Path, averaged: bool) -> dict[str, Tensor]:
    """Weights of a training run, of one of its checkpoints, or of a `.pth.tar` file.

    Args:
        source: a folder or a file.
        averaged: the moving average of the weights, or the raw ones.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint is damaged, holds code, or is one of UnAV.
    """
    if source.is_dir():
        return weights_of_run(source, averaged)
    weights, _ = load_checkpoint(source, averaged)
    if is_unav(weights):
        raise ValueError(f"{source} is a checkpoint of UnAV. Convert it with convert_unav_to_hf.py.")
    return weights


def weights_of_run(source: Path, averaged: bool) -> dict[str, Tensor]:
    """Weights of a checkpoint of a training run.

    Args:
        source: the checkpoint, or the output folder of the run for its last checkpoint.
        averaged: the moving average of the weights, or the raw ones.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if the checkpoint is incomplete or changed.
    """
    steps = [source] if (source / STATE).is_file() else sorted((source / CHECKPOINTS).glob("step-*"))
    if not steps:
        raise FileNotFoundError(f"{source} is no checkpoint of a training run, and has none in {CHECKPOINTS}/step-*.")
    path = steps[-1] / (AVERAGE if averaged else WEIGHTS)
    try:
        written = json.loads((steps[-1] / STATE).read_text(encoding="utf-8"))["files"][path.name]
        is_whole = path.stat().st_size == written["size"] and sha256_of(path) == written["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{steps[-1]} is incomplete: {type(error).__name__}: {error}. Give an earlier checkpoint."
        ) from error
    if not is_whole:
        raise ValueError(f"{path} was truncated or changed since it was written. Give an earlier checkpoint.")
    return load_file(path)


def without_adapters(config: PreTrainedConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights with LoRA adapters merged into their layers; weights without adapters unchanged."""
    ranks = [tensor.shape[0] for name, tensor in weights.items() if ".lora_A." in name]
    if not ranks:
        return weights
    model = AutoModel.from_config(config)
    add_lora(model, ranks[0])
    return merged_state_dict(model, weights)


def is_unav(weights: dict[str, Tensor]) -> bool:
    """True if every key of a checkpoint is one of UnAV's, whatever its sizes."""

    def numberless(names: Iterable[str]) -> set[str]:
        return {re.sub(r"\.\d+\b", ".#", name) for name in names}

    with torch.device("meta"):
        unav = UnavForEventLocalization(UnavConfig())
    return bool(weights) and numberless(renamed(weights, UNAV_RENAMES)) <= numberless(unav.state_dict())


def read_renames(path: Path) -> Renames:
    """Rules of a text file, one `regular expression -> replacement` on each line; blank lines and comments are skipped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the first line that is not a rule.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No table of renames at {path}.")
    rules = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pattern, arrow, replacement = line.partition("->")
        try:
            if not arrow or not pattern.strip():
                raise ValueError("it is not `regular expression -> replacement`")
            re.compile(pattern.strip()).sub(replacement.strip(), "")  # an unknown group in the replacement is an error
        except (ValueError, re.error, IndexError) as error:
            raise ValueError(f"Line {number} of {path} is no rule: {error}.") from error
        rules.append((pattern.strip(), replacement.strip()))
    return rules


def description_of(source: Path, folder: Path | None = None) -> tuple[PreTrainedConfig, EsgNetProcessor]:
    """Configuration and processor of a checkpoint.

    Args:
        source: the output of a training run, or one of its checkpoints.
        folder: folder that holds them, if not the output of the run.

    Raises:
        FileNotFoundError: if the folder lacks one of them.
    """
    folder = folder or (source.resolve().parents[1] if (source / STATE).is_file() else source)
    for name in ("config.json", "processor_config.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"There is no {name} in {folder}. Give a folder that has it, such as one of hub_configs, with "
                "`--config`, or give `--size` and `--labels`."
            )
    trusted = {"trust_remote_code": False}
    return AutoConfig.from_pretrained(folder, **trusted), AutoProcessor.from_pretrained(folder, **trusted)


def description_for(
    size: str, labels: tuple[str, ...], features: FeatureSet
) -> tuple[PreTrainedConfig, EsgNetProcessor]:
    """Configuration and processor of a named size for a feature set."""
    model, processor = new_model(ExampleList([], labels, features.feature_spec), size)
    return model.config, processor


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 on success and 1 after an error, which is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="output or checkpoint of a training run, or a .pth.tar file")
    parser.add_argument("output", type=Path, help="the folder to write; it must not exist")
    parser.add_argument(
        "--weights", choices=("average", "model"), default="average", help="averaged (default), or as trained"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="DIR",
        help="folder with config.json and processor_config.json; a run has its own",
    )
    parser.add_argument("--size", choices=("tiny", "small", "base"), help="in place of --config, with --labels")
    parser.add_argument("--labels", type=Path, metavar="ANNOTATIONS", help="UnAV-100 annotation file, for class names")
    parser.add_argument("--feature-set", choices=list(FEATURE_SETS), default="i3d-vggish", help="with --size")
    parser.add_argument("--rename", type=Path, metavar="TABLE", help="renames of the keys of a .pth.tar file")
    parser.add_argument("--verify", action="store_true", help="load the result in a fresh process; compare its tensors")
    options = parser.parse_args(arguments)
    if (options.size is None) != (options.labels is None) or (options.size and options.config):
        parser.error("give either --config, or --size and --labels")
    if options.rename and options.source.is_dir():
        parser.error("--rename is for .pth.tar files")
    try:
        weights = read_weights(options.source, averaged=options.weights == "average")
        if options.size:
            labels = read_unav_annotations(options.labels).labels
            described = description_for(options.size, labels, FEATURE_SETS[options.feature_set])
        else:
            described = description_of(options.source, options.config)
        renames = read_renames(options.rename) if options.rename else ()
        model = convert(weights, options.output, *described, renames=renames, verify=options.verify)
    except (ValueError, OSError, ImportError, StrictDataclassError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    verified = ", every tensor compared" if options.verify else ""
    sys.stdout.write(f"Wrote {options.output}: {model.num_parameters():,} parameters{verified}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
