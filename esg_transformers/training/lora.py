"""Low-rank adapters (LoRA) through PEFT: few weights to train; they are merged when the model is saved."""

import copy

from torch import Tensor, nn
from transformers import PreTrainedModel

from esg_transformers.training.model import class_parameters


def add_lora(model: PreTrainedModel, rank: int) -> None:
    """Freeze the body of a model and add an adapter of this rank to each of its linear layers, in place.

    Heads and class weights are trained without adapters.

    Args:
        model: not yet prepared for training.
        rank: rank of the adapters; `lora_alpha` equals it, so that the scale of the adapters is 1.

    Raises:
        ImportError: if PEFT is not installed.
        ValueError: if `rank` is not positive.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("LoRA needs PEFT: `pip install peft`.") from error
    if rank < 1:
        raise ValueError(f"The rank of LoRA must be at least 1; got {rank}.")
    of_classes = class_parameters(model)
    trained = {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (not name.startswith(f"{model.base_model_prefix}.") or name in of_classes)
    }
    body = getattr(model, model.base_model_prefix)
    targets = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), body)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained or "lora_" in name)


def merged_state_dict(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """State of a model without adapters: each adapter is added to the weight of its layer.

    Args:
        model: with or without adapters.
        weights: its state, or its averaged one. Without adapters in it, it is returned as it is.
    """
    if not any("lora_" in name for name in weights):
        return weights
    from peft.tuners.tuners_utils import BaseTunerLayer

    merged = copy.deepcopy(model).cpu()
    merged.load_state_dict(weights)
    for module in merged.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    return {
        name.replace(".base_layer.", "."): value for name, value in merged.state_dict().items() if "lora_" not in name
    }
