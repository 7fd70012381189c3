"""A model made for a data set, and whether the two fit."""

from typing import Any

from accelerate.utils import set_seed
from transformers import PreTrainedModel

from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor


def new_model(
    dataset: Any, size: str = "base", seed: int = 0, **fields
) -> tuple[EsgNetForEventLocalization, EsgNetProcessor]:
    """A model with random weights, and its processor, for the features and classes of a data set.

    Args:
        dataset: with `labels`, `grid`, `visual_size`, `audio_size` and `encoder`.
        size: see `EsgNetConfig.of_size`.
        seed: of the weights.
        **fields: of `EsgNetConfig`, to differ from the size.
    """
    grid = dataset.grid
    config = EsgNetConfig.of_size(
        size,
        id2label=dict(enumerate(dataset.labels)),
        visual_size=dataset.visual_size,
        audio_size=dataset.audio_size,
        frame_rate=grid.frame_rate,
        feature_stride=grid.stride,
        feature_window=grid.window,
        **fields,
    )
    processor = EsgNetProcessor(
        grid.frame_rate, grid.stride, grid.window, dataset.visual_size, dataset.audio_size, dataset.encoder
    )
    set_seed(seed)
    return EsgNetForEventLocalization(config), processor


def check_dataset(name: str, dataset: Any, model: PreTrainedModel, processor: EsgNetProcessor) -> None:
    """Refuse a data set on another clock, of other channels, of another encoder, or with other classes than the model.

    Args:
        name: of the data set, to begin the message with.
        dataset: with `grid`, `visual_size`, `audio_size`, `encoder` and `labels`.
        model: to be trained or scored on it.
        processor: of the model.

    Raises:
        ValueError: naming the difference.
    """
    processor.check_features_of(name, dataset.grid, dataset.visual_size, dataset.audio_size)
    if processor.encoder is not None and dataset.encoder != processor.encoder:
        raise ValueError(
            f"{name} has features of the encoder {dataset.encoder}; this model was trained on those of "
            f"{processor.encoder}. Encode the videos again with that one, or train a model on these."
        )
    config = model.config
    processor.check_features_of("The model's config", config.feature_grid, config.visual_size, config.audio_size)
    labels = [config.id2label[index] for index in range(config.num_labels)]
    if list(dataset.labels) != labels:
        differing = sorted(set(dataset.labels) ^ set(labels)) or "their order"
        raise ValueError(
            f"{name} has {len(dataset.labels)} classes and the model {len(labels)}; they differ in {differing}. "
            "Make the model with `id2label` of the data set."
        )
