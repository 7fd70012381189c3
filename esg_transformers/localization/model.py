"""A trained model and its processor, from a folder or the Hub."""

import os

from safetensors import SafetensorError
from transformers import AutoModel, AutoProcessor

from esg_transformers.hub import downloaded_model
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.models.unav.modeling_unav import UnavForEventLocalization

LocalizationModel = EsgNetForEventLocalization | UnavForEventLocalization


def open_model(model: str | os.PathLike[str]) -> tuple[LocalizationModel, EsgNetProcessor]:
    """A trained model, in evaluation mode, and its processor.

    Args:
        model: its folder, or a repository `OWNER/NAME` of the Hub.

    Raises:
        FileNotFoundError: if it is neither a folder nor the name of a repository.
        OSError: if it cannot be downloaded; the message gives the reason and what to do.
        ValueError: if its weights cannot be loaded, or it is not a model of this package.
    """
    folder = str(downloaded_model(os.fspath(model)))
    try:
        opened = AutoModel.from_pretrained(folder, use_safetensors=True)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"The weights of {model} do not load: {error}. Copy or save the model again.") from error
    if not isinstance(opened, LocalizationModel):
        raise ValueError(
            f"{model} holds a {type(opened).__name__}, which does not localize events; expected an ESG-Net or UnAV."
        )
    return opened, AutoProcessor.from_pretrained(folder)
