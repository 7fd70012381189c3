"""Examples to batches."""

from collections.abc import Sequence

from transformers import BatchFeature

from esg_transformers.corpora.example import Example
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor


class EventLocalizationCollator:
    """Pads examples to one batch with labels; fits `torch.utils.data.DataLoader` and `transformers.Trainer`.

    Args:
        processor: what pads, and converts seconds to grid positions.
    """

    def __init__(self, processor: EsgNetProcessor):
        self.processor = processor

    def __call__(self, examples: Sequence[Example]) -> BatchFeature:
        """See `EsgNetProcessor.__call__` for what a batch holds.

        Raises:
            ValueError: naming the videos of the batch, if the features of one cannot be used.
        """
        try:
            return self.processor(
                [example["visual_features"] for example in examples],
                [example["audio_features"] for example in examples],
                segments=[example["segments"] for example in examples],
                labels=[example["labels"] for example in examples],
            )
        except ValueError as error:
            videos = ", ".join(example["video_id"] for example in examples)
            raise ValueError(f"{error} (The batch holds, from video 0 on: {videos}.)") from error
