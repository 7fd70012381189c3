"""Batches of examples, padded and labelled."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from transformers import BatchFeature

from esg_transformers.corpora.example import Example
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor


class EventLocalizationCollator:
    """Pads examples to one batch with labels; fits `torch.utils.data.DataLoader` and `transformers.Trainer`.

    Args:
        processor: pads the features, and converts seconds to grid positions.
    """

    def __init__(self, processor: EsgNetProcessor):
        self.processor = processor

    def __call__(self, examples: Sequence[Example]) -> BatchFeature:
        """Batch as [`EsgNetProcessor.__call__`] describes it.

        Raises:
            ValueError: naming the videos of the batch, if the features of one cannot be used.
        """
        with naming_videos(examples):
            return self.processor(
                [example["visual_features"] for example in examples],
                [example["audio_features"] for example in examples],
                segments=[example["segments"] for example in examples],
                labels=[example["labels"] for example in examples],
            )


@contextmanager
def naming_videos(examples: Sequence[Example]) -> Iterator[None]:
    """Context manager that adds the video ids of a batch to a `ValueError`, which counts videos from 0."""
    try:
        yield
    except ValueError as error:
        videos = ", ".join(example["video_id"] for example in examples)
        raise ValueError(f"{error} (The batch holds, from video 0 on: {videos}.)") from error
