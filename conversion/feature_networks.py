"""Reading the published weights of I3D and VGGish without running code in them, and writing them as a folder."""

from pathlib import Path

from model_folders import check_tensors, load_afresh
from torch import Tensor
from torch_checkpoints import Renames, fit, load_without_code, renamed
from transformers import PreTrainedModel, ProcessorMixin

from esg_transformers.files import new_folder


def load_state_dict(source: Path) -> dict[str, Tensor]:
    """Tensors by name of a `.pt` or `.pth` file that holds nothing else.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything else, or is broken.
    """
    weights = load_without_code(source)
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        found = sorted(map(str, weights))[:10] if isinstance(weights, dict) else type(weights).__name__
        raise ValueError(f"{source} holds {found}; expected tensors by name. Give the published file itself.")
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
        output: the new folder; it appears when it is complete.
        model: the model that gets the weights.
        processor: its processor.
        weights: the published weights; they must be exactly the tensors of the model.
        renames: rules from the published names to those of the model.
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
