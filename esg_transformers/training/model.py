"""A model made for a data set, and whether the two fit."""

from collections.abc import Sequence

import torch
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from esg_transformers.corpora.example import VideoDataset
from esg_transformers.models.esg_net.configuration_esg_net import EsgNetConfig
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor


def new_model(
    dataset: VideoDataset, size: str = "base", seed: int = 0, **fields
) -> tuple[EsgNetForEventLocalization, EsgNetProcessor]:
    """A model with random weights, and its processor, for the features and classes of a data set.

    Args:
        dataset: a `VideoDataset`; its `labels` and `feature_spec` count.
        size: see `EsgNetConfig.of_size`.
        seed: of the weights.
        **fields: of `EsgNetConfig`, to differ from the size.
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
    """Refuse a data set on another clock, of other channels, of another encoder, or with other classes than the model.

    Args:
        name: of the data set, to begin the message with.
        dataset: a `VideoDataset`; its `labels` and `feature_spec` count.
        model: to be trained or scored on it.
        processor: of the model.

    Raises:
        ValueError: naming the difference.
    """
    processor.feature_spec.check(dataset.feature_spec, name)
    config = model.config
    processor.feature_spec.check(config.feature_spec, "The model's config")
    labels = [config.id2label[index] for index in range(config.num_labels)]
    if list(dataset.labels) != labels:
        differing = sorted(set(dataset.labels) ^ set(labels)) or "their order"
        raise ValueError(
            f"{name} has {len(dataset.labels)} classes and the model {len(labels)}; they differ in {differing}. "
            "Make the model with `id2label` of the data set."
        )


def class_parameters(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Parameters that grow with the number of classes, by name: the axis that does, and its entries for each class."""
    shapes = []
    for num_labels in (model.config.num_labels, model.config.num_labels + 1):
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
    """A model for another set of classes, with the weights of `model`, and those of each class that it knows by name.

    Args:
        model: a trained model.
        labels: class names by id.
        seed: of the weights of the classes that it does not know.

    Returns:
        The new model, in evaluation mode, and the classes that it knew, in the order of `labels`.

    Raises:
        ValueError: if `labels` is empty or holds a name twice.
    """
    if not labels or len(set(labels)) != len(labels):
        raise ValueError(f"`labels` must be different class names, at least one; got {list(labels)}.")
    config = model.config
    fields = config.to_dict() | {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}}
    # Not the numbers that a new model of this seed starts from: if `model` did, so would the classes that it does not
    # know, and they would be taken for those that it has learnt.
    set_seed(seed)
    set_seed(int(torch.randint(2**32, ())))
    adapted = type(model)(type(config).from_dict(fields)).eval()
    old_id = {label: index for index, label in config.id2label.items()}
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
    """Keep the weights of parts of a model as they are.

    Args:
        model: not yet prepared for training.
        names: of parts, as `model.named_modules()` or `named_parameters()` gives them; all below a part are kept.

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
        raise ValueError(f"With {', '.join(names)} frozen nothing is left to train.")
