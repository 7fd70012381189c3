"""New models for a data set, models for other classes, and checks that a model and a data set fit."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from esg_transformers.corpora.example import VideoDataset
from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor


def new_model(
    dataset: VideoDataset, size: str = "base", seed: int = 0, **fields: Any
) -> tuple[EsgNetForEventLocalization, EsgNetProcessor]:
    """A model with random weights, and its processor, for the features and classes of a data set.

    Args:
        dataset: its `labels` and `feature_spec` are used.
        size: see `EsgNetConfig.of_size`.
        seed: seed of the random weights.
        **fields: fields of `EsgNetConfig` that replace those of the size.
    """
    config = EsgNetConfig.of_size(
        size,
        id2label=dict(enumerate(dataset.labels)),
        **dataset.feature_spec.config_fields(),
        **fields,
    )
    processor = EsgNetProcessor.for_features(dataset.feature_spec)
    set_seed(seed)
    return EsgNetForEventLocalization(config), processor


def check_dataset(name: str, dataset: VideoDataset, model: PreTrainedModel, processor: EsgNetProcessor) -> None:
    """Check that a data set has the features and classes of a model.

    Args:
        name: name of the data set in the error message.
        dataset: its `labels` and `feature_spec` are used.
        model: to be trained or scored on it.
        processor: processor of the model.

    Raises:
        ValueError: naming the difference in time grid, channels, encoder or classes.
    """
    processor.feature_spec.check(dataset.feature_spec, name)
    config = model.config
    processor.feature_spec.check(config.feature_spec, "The model's config")
    labels = _labels_of(model)
    if list(dataset.labels) != labels:
        differing = sorted(set(dataset.labels) ^ set(labels)) or "their order"
        raise ValueError(
            f"{name} has {len(dataset.labels)} classes and the model {len(labels)}; they differ in {differing}. "
            "Make the model with the labels of the data set, or change its labels with `with_labels`."
        )


def class_parameters(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Parameters with entries of their own for each class, by name: the axis of the classes, and entries per class."""
    shapes = []
    for num_labels in (len(_labels_of(model)), len(_labels_of(model)) + 1):
        fields = model.config.to_dict() | {"id2label": {index: str(index) for index in range(num_labels)}}
        fields.pop("label2id", None)
        with torch.device("meta"):
            other = type(model)(type(model.config).from_dict(fields))
        shapes.append({name: parameter.shape for name, parameter in other.named_parameters()})
    grown = {}
    for name, shape in shapes[0].items():
        for axis, (size, larger) in enumerate(zip(shape, shapes[1][name], strict=True)):
            if size != larger:
                grown[name] = (axis, larger - size)
    return grown


def with_labels(model: PreTrainedModel, labels: Sequence[str], seed: int = 0) -> tuple[PreTrainedModel, list[str]]:
    """A model for other classes: the weights of `model`, and new ones for classes that it does not know by name.

    Args:
        model: a trained model.
        labels: class names by id.
        seed: seed of the new weights.

    Returns:
        The new model, in evaluation mode, and the classes that `model` knows, in the order of `labels`.

    Raises:
        ValueError: if `labels` is empty or holds a name twice.
    """
    if not labels or len(set(labels)) != len(labels):
        raise ValueError(f"`labels` must be different class names, at least one; got {list(labels)}.")
    config = model.config
    fields = config.to_dict() | {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}}
    # Use another random stream than `new_model(seed)`. If the base model was made with the same seed, a new class would
    # otherwise start with the initial weights of one that was trained, and be confused with it.
    set_seed(seed)
    set_seed(int(torch.randint(2**32, ())))
    adapted = type(model)(type(config).from_dict(fields)).eval()
    old_id = {label: index for index, label in enumerate(_labels_of(model))}
    known = [(new, old_id[label]) for new, label in enumerate(labels) if label in old_id]
    grown, weights = class_parameters(model), adapted.state_dict()
    for name, value in model.state_dict().items():
        if name not in grown:
            weights[name].copy_(value)
            continue
        axis, entries = grown[name]
        to = weights[name].movedim(axis, 0).unflatten(0, (-1, entries))
        source = value.movedim(axis, 0).unflatten(0, (-1, entries))
        for new, old in known:
            to[new].copy_(source[old])
    return adapted, [labels[new] for new, _ in known]


def freeze(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Exclude parts of a model from training.

    Args:
        model: not yet prepared for training.
        names: modules or parameters, as in `model.named_modules()` and `model.named_parameters()`; a module includes
            all parameters below it.

    Raises:
        ValueError: if there is no part of such a name, listing those of the same depth, or if nothing is left to train.
    """
    for name in names:
        below = [p for other, p in model.named_parameters() if other == name or other.startswith(f"{name}.")]
        if not below:
            depth = name.count(".")
            parts = dict.fromkeys(".".join(other.split(".")[: depth + 1]) for other, _ in model.named_parameters())
            raise ValueError(f"The model has no part {name!r}; parts are {', '.join(parts)}.")
        for parameter in below:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"With {', '.join(names)} frozen, nothing is left to train. Freeze fewer parts.")


def _labels_of(model: PreTrainedModel) -> list[str]:
    """Class names of a model by id."""
    id2label = cast(dict[int, str], model.config.id2label)  # transformers allows other keys until it has converted them
    return [id2label[index] for index in range(len(id2label))]
