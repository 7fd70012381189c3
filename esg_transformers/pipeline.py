"""From a video file to its events, as a transformers pipeline."""

import os
from collections.abc import Mapping
from typing import Any

from transformers import Pipeline
from transformers.utils import ModelOutput

from esg_transformers.encoders.encoder import AudioVisualEncoder, AudioVisualFeatures
from esg_transformers.encoders.spectral import SpectralEncoder
from esg_transformers.models.esg_net.processing_esg_net import event_list

TASK = "audio-visual-event-localization"

VideoInput = str | os.PathLike | AudioVisualFeatures


class AudioVisualEventLocalizationPipeline(Pipeline):
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

    Called with a path, an `AudioVisualFeatures`, or a list of them, and with

        threshold (`float`, *optional*):
            Score that an event needs. By default that of its class in the processor's `thresholds`, which
            `esg-transformers calibrate` chooses, or else 0.3.
        top_k (`int`, *optional*):
            The most events of one video; all by default.
        batch_size (`int`, *optional*, defaults to 1):
            Videos in one forward pass.

    it returns for each video a list of `{"start", "end", "label", "score"}`, seconds and a score in [0, 1], best first.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file cannot be decoded, or its features are not those that the model was trained on.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

    def __init__(self, *args, encoder: AudioVisualEncoder | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        # The base class pads a batch of tensors only for a feature extractor; the processor stands in for one.
        self.feature_extractor = self.processor
        self.encoder = encoder
        config = self.model.config
        self.processor.check_features_of(
            "The model's config", config.feature_grid, config.visual_size, config.audio_size
        )

    def _sanitize_parameters(self, threshold: float | None = None, top_k: int | None = None, **kwargs):
        if kwargs:
            raise TypeError(f"Unknown arguments: {', '.join(kwargs)}. The pipeline takes `threshold` and `top_k`.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` must be at least 1; got {top_k}.")
        given = {"threshold": threshold, "top_k": top_k}
        return {}, {}, {name: value for name, value in given.items() if value is not None}

    def preprocess(self, video: VideoInput) -> dict[str, Any]:
        """Encode a video, unless it comes as features, and make a batch of one of it."""
        if not isinstance(video, AudioVisualFeatures):
            if not isinstance(video, (str, os.PathLike)):
                raise ValueError(
                    f"The pipeline takes a path of a video or `AudioVisualFeatures`; got {type(video).__name__}."
                )
            video = self._encoder()(video)
        grid, visual, audio = video.grid, video.visual, video.audio
        self.processor.check_features_of(
            "The video",
            grid,
            self.processor.visual_size if visual is None else visual.shape[1],
            self.processor.audio_size if audio is None else audio.shape[1],
        )
        return {**self.processor([visual], [audio]), "duration": video.duration}

    def _forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        inputs = dict(inputs)
        duration = inputs.pop("duration")
        outputs = self.model(**inputs)
        return {
            **{name: outputs[name] for name in ("logits", "offsets", "points", "point_mask")},
            "duration": duration,
        }

    def postprocess(
        self, outputs: Mapping[str, Any], threshold: float | None = None, top_k: int | None = None
    ) -> list[dict[str, Any]]:
        """Events of one video, best first."""
        duration = outputs["duration"]
        duration = duration[0] if isinstance(duration, list) else duration
        tensors = ModelOutput({name: value for name, value in outputs.items() if name != "duration"})
        id2label = self.model.config.id2label
        thresholds = self.processor.score_thresholds(id2label) if threshold is None else threshold
        [events] = self.processor.post_process_event_localization(tensors, thresholds, durations=[float(duration)])
        return event_list(events, id2label)[:top_k]

    def _encoder(self) -> AudioVisualEncoder:
        if self.encoder is None:
            self.encoder = encoder_for(self.processor)
        return self.encoder


def encoder_for(processor) -> AudioVisualEncoder:
    """The encoder that made a processor's features, if it is one that needs no weights.

    Raises:
        ValueError: if the processor names another encoder, or none.
    """
    named = processor.encoder or {}
    if named == {"name": SpectralEncoder.name, "version": SpectralEncoder.version}:
        return SpectralEncoder(processor.feature_grid)
    wanted = f"{named['name']} {named['version']}" if named else "features of an encoder that it does not name"
    raise ValueError(
        f"The model was trained on {wanted}, which cannot be made here from a video file. Give the pipeline that "
        "encoder (`pipeline(..., encoder=...)`), or ready features (`AudioVisualFeatures`)."
    )
