"""The encoder of `--encoder` and the options of its models."""

import argparse
from typing import TypeVar

import torch
from transformers import AutoModel

from esg_transformers.cli.checks import encoder_of_models
from esg_transformers.encoders import hub_encoder, i3d_vggish, spectral
from esg_transformers.encoders.encoder import AudioVisualEncoder
from esg_transformers.encoders.hub_encoder import HubEncoder
from esg_transformers.encoders.i3d.modeling_i3d import I3dModel
from esg_transformers.encoders.i3d_vggish import I3dVggishEncoder
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.encoders.vggish.modeling_vggish import VggishModel
from esg_transformers.hub import downloaded_model
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid

# Encoder names, as models store them, by value of `--encoder`. Without flow, I3D features have a name of their own.
NAMES_OF = {"spectral": ("spectral",), "hub": ("hub",), "i3d-vggish": ("i3d-vggish", "i3d_rgb-vggish")}

Network = TypeVar("Network", I3dModel, VggishModel)


def open_encoder(
    arguments: argparse.Namespace, grid: FeatureGrid | None, device: torch.device | None
) -> AudioVisualEncoder:
    """Encoder that the options name; without options the spectral one.

    Args:
        arguments: options of `add_encoder_options` that `check_encoder` accepts.
        grid: feature grid; by default that of the encoder.
        device: where its networks run; the CPU by default.

    Raises:
        FileNotFoundError: if a model is neither a folder nor the name of a repository.
        OSError: if a model cannot be downloaded.
        ValueError: if a model is of another kind, or the encoder has another grid.
    """
    encoder = arguments.encoder or encoder_of_models(arguments)
    device = device or torch.device("cpu")
    if encoder == "hub":
        return HubEncoder(arguments.visual_model, arguments.audio_model, grid or hub_encoder.GRID, device)
    if encoder != "i3d-vggish":
        return SpectralEncoder(grid or spectral.GRID)
    if grid not in (None, i3d_vggish.GRID):
        raise ValueError(f"I3D and VGGish have a grid of {i3d_vggish.GRID}; got {grid}.")
    flow = arguments.i3d_flow_model
    return I3dVggishEncoder(
        _open_network(arguments.i3d_rgb_model, I3dModel, device),
        _open_network(flow, I3dModel, device) if flow else None,
        _open_network(arguments.vggish_model, VggishModel, device),
    )


def open_encoder_of_model(
    arguments: argparse.Namespace, encoder: EncoderId | None, grid: FeatureGrid, device: torch.device | None
) -> AudioVisualEncoder | None:
    """Encoder that the options name for a model; None without options if the pipeline has the right one.

    Args:
        arguments: as for `open_encoder`.
        encoder: encoder of the features that the model was trained on; None if the model names none.
        grid: grid of these features.
        device: as for `open_encoder`.

    Raises:
        ValueError: if the options name another kind of encoder, or none where one is needed. `open_encoder` raises
            further errors.
    """
    asked = arguments.encoder or encoder_of_models(arguments)
    name = encoder.name if encoder else None
    if asked is None and name == "spectral":
        return None
    if asked is not None and (name is None or name in NAMES_OF[asked]):
        return open_encoder(arguments, grid, device)
    trained_on = f"The model was trained on features of {encoder or 'an unnamed encoder'}"
    given = "no encoder is given" if asked is None else f"--encoder {asked} is another one"
    raise ValueError(f"{trained_on}; {given}. {_advice(name)}")


def _advice(name: str | None) -> str:
    """Options to add for a model that was trained on features of an encoder of this name."""
    models = {
        "spectral": "--encoder spectral",
        "hub": "--encoder hub with --visual-model, --audio-model or both",
        "i3d_rgb-vggish": "--encoder i3d-vggish with --i3d-rgb-model and --vggish-model",
        "i3d-vggish": "--encoder i3d-vggish with --i3d-rgb-model, --i3d-flow-model and --vggish-model",
        None: "--encoder",
    }
    if name in models:
        return f"Give {models[name]}."
    return (
        "No command makes such features from videos: give feature files (--annotations, --features, --feature-set), or "
        "use an encoder of your own in Python (`pipeline(..., encoder=...)`)."
    )


def _open_network(path: str, kind: type[Network], device: torch.device) -> Network:
    network = AutoModel.from_pretrained(downloaded_model(path), use_safetensors=True)
    if not isinstance(network, kind):
        raise ValueError(f"{path} holds a {type(network).__name__}; expected a {kind.__name__}.")
    torch.nn.Module.to(network, device)  # `PreTrainedModel.to` is typed without its arguments
    return network
