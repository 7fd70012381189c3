"""From a video file to its events, as a transformers pipeline."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from esg_transformers.encoders import spectral
from esg_transformers.encoders.encoder import AudioVisualEncoder, AudioVisualFeatures, feature_blocks
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureSpec
from esg_transformers.models.esg_net.pipeline_esg_net import EsgNetPipeline
from esg_transformers.models.esg_net.sharing_esg_net import TASK as TASK

logger = logging.get_logger(__name__)

PUBLISHED_VERSION = "unav100"  # of an encoder, where all that is known of it is the features published with UnAV-100

VideoInput = str | os.PathLike | bytes | AudioVisualFeatures | Mapping[str, Any]


class AudioVisualEventLocalizationPipeline(EsgNetPipeline):
    """Finds every event that is seen and heard in a video.

    ```python
    from transformers import pipeline
    import esg_transformers  # registers the task

    localizer = pipeline("audio-visual-event-localization", model="demo/model")
    localizer("demo/clip.mp4")  # [{"start": 0.32, "end": 4.16, "label": "alarm", "score": 0.91}, ...]
    ```

    Args:
        encoder (`AudioVisualEncoder`, *optional*):
            What turns a file into the features that the model was trained on. By default the encoder that the processor
            names, if it is one that needs no weights.

    Called with a path, the bytes of a file, an `AudioVisualFeatures`, features as [`EsgNetPipeline`] takes them, or a
    list of these, and with the arguments of that, it returns what that returns. A long file is decoded, encoded and
    localized window by window, so that memory does not grow with its length, if its encoder has `blocks`.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file cannot be decoded, or its features are not those that the model was trained on.
    """

    def __init__(self, *args, encoder: AudioVisualEncoder | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder = encoder

    def feature_blocks(self, video: VideoInput) -> Iterator[Mapping[str, Any]]:
        """The features of a video, encoded stretch by stretch unless it comes as features."""
        if isinstance(video, Mapping):
            yield from super().feature_blocks(video)
            return
        if isinstance(video, AudioVisualFeatures):
            name, blocks = "The video", iter([video])
        elif isinstance(video, (str, os.PathLike, bytes)):
            name = "The video" if isinstance(video, bytes) else Path(video).name
            blocks = feature_blocks(self.chosen_encoder(), video, self.processor.window_steps)
        else:
            raise ValueError(
                "The pipeline takes a path of a video, its bytes, features, or a list of these; got "
                f"{type(video).__name__}."
            )
        for index, block in enumerate(blocks):
            visual, audio = block.visual, block.audio
            expected = self.processor.feature_spec
            found = FeatureSpec(
                block.grid,
                expected.visual_size if visual is None else visual.shape[1],
                expected.audio_size if audio is None else audio.shape[1],
            )
            expected.check(found, name)
            if index == 0 and (visual is None or audio is None):
                absent, present = ("pictures", "sound") if visual is None else ("sound", "pictures")
                logger.warning(f"{name} has no {absent}; what is found in it is found by its {present} alone.")
            yield {"visual_features": visual, "audio_features": audio, "duration": block.duration}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Save the model and the processor as one folder, which `push_to_hub` sends with their code.

        Args:
            save_directory: the folder, which is made if there is none.
            kwargs: for `save_pretrained` of both, such as `max_shard_size`.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def chosen_encoder(self) -> AudioVisualEncoder:
        """What encodes files: the encoder that was given, or else the one that the processor names.

        Raises:
            ValueError: if it is not the one that the model was trained on, or needs weights and was not given.
        """
        if self.encoder is None:
            self.encoder = encoder_for(self.processor)
        _check_encoder(self.processor.feature_spec.encoder, self.encoder.feature_spec.encoder)
        return self.encoder


def _check_encoder(named: EncoderId | None, given: EncoderId | None) -> None:
    """Refuse an encoder other than the one that made the features a model was trained on."""
    if named is None or given is None or str(named) == str(given):
        return
    if named.name == given.name and named.version == PUBLISHED_VERSION:
        logger.warning_once(
            f"The model was trained on {named}, features that were published without their networks' weights. "
            f"Those of {given} may differ: check the results on videos whose events you know."
        )
        return
    raise ValueError(
        f"The model was trained on features of {named}, and the encoder is {given}. Give the pipeline the "
        "encoder that the model was trained on."
    )


def encoder_for(processor) -> AudioVisualEncoder:
    """The encoder that made a processor's features, if it is one that needs no weights.

    Raises:
        ValueError: if the processor names another encoder, or none.
    """
    named = processor.feature_spec.encoder
    if str(named) == str(spectral.ENCODER):
        return spectral.SpectralEncoder(processor.feature_grid)
    wanted = named or "features of an encoder that it does not name"
    raise ValueError(
        f"The model was trained on {wanted}, which cannot be made here from a video file. Give the pipeline that "
        "encoder (`pipeline(..., encoder=...)`), or ready features (`AudioVisualFeatures`)."
    )
