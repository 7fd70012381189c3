"""Published weights of the networks that make features: read without running what is in them, written as a folder."""

from pathlib import Path

from model_folders import check_tensors, load_afresh
from torch import Tensor
from torch_checkpoints import Renames, fit, load_without_code, renamed
from transformers import PreTrainedModel, ProcessorMixin

from esg_transformers.files import new_folder


def load_state_dict(source: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` or `.pth` file that holds nothing else, by their names in it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything else, or is broken.
    """
    weights = load_without_code(source)
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        found = sorted(map(str, weights))[:10] if isinstance(weights, dict) else type(weights).__name__
        raise ValueError(f"{source} does not hold tensors by name but {found}. Give the published file itself.")
    return weights


def write_folder(
    output: Path,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    weights: dict[str, Tensor],
    renames: Renames,
    card: str,
    verify: bool,
) -> None:
    """Write a model with published weights, its processor and its card as one folder.

    Args:
        output: a folder that does not exist yet; it appears when it is whole.
        model: takes the weights.
        processor: of the model.
        weights: as published, every one of them a tensor of the model and none missing.
        renames: from the published names to those of the model.
        card: text of README.md.
        verify: load the folder in a fresh process, compare every tensor, and predict from noise.

    Raises:
        FileExistsError: if `output` exists.
        ValueError: if the weights do not fit the model, or the verification fails.
    """
    tensors = fit(weights, renamed(weights, renames), model.state_dict())
    model.load_state_dict(tensors)
    with new_folder(output) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        (partial / "README.md").write_text(card, encoding="utf-8")
        if verify:
            loaded, _ = load_afresh(partial)
            check_tensors(loaded, tensors)
