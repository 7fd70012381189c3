"""From the features of a video to its events, as a transformers pipeline that travels with a checkpoint."""

from collections.abc import Mapping
from typing import Any

from transformers import Pipeline
from transformers.utils import ModelOutput

from .processing_esg_net import event_list


class EsgNetPipeline(Pipeline):
    """Finds every event that is seen and heard in a video whose features are at hand.

    This is what `pipeline("audio-visual-event-localization", model=..., trust_remote_code=True)` gives where
    esg_transformers is not installed. Where it is, there is `AudioVisualEventLocalizationPipeline`, which takes video
    files as well.

    Called with features, on the clock that the processor names, or a list of them

        {"visual_features": (T, Dv) or None, "audio_features": (T, Da) or None, "duration": seconds}

    which an example of a corpus is, too, and with

        threshold (`float`, *optional*):
            Score that an event needs. By default that of its class in the processor's `thresholds`, which
            `esg-transformers calibrate` chooses, or else 0.3.
        top_k (`int`, *optional*):
            The most events of one video; all by default.
        batch_size (`int`, *optional*, defaults to 1):
            Videos in one forward pass.

    it returns for each video a list of `{"start", "end", "label", "score"}`, seconds and a score in [0, 1], best first.

    Raises:
        ValueError: if the features are not those that the model was trained on.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # The base class pads a batch of tensors only for a feature extractor; the processor stands in for one.
        self.feature_extractor = self.processor
        self.model.eval()  # the base class takes a model as it is, and one in training drops paths at random
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

    def preprocess(self, video: Mapping[str, Any]) -> dict[str, Any]:
        """Make a batch of one of the features of a video."""
        wanted = ("visual_features", "audio_features", "duration")
        if not isinstance(video, Mapping) or (missing := [name for name in wanted if name not in video]):
            came = f"a dict without {missing[0]!r}" if isinstance(video, Mapping) else type(video).__name__
            raise ValueError(
                f"The pipeline takes features, a dict of {', '.join(map(repr, wanted))}; got {came}. For video files "
                "install esg-transformers and import esg_transformers."
            )
        visual, audio, duration = (video[name] for name in wanted)
        return {**self.processor([visual], [audio]), "duration": float(duration)}

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


__all__ = ["EsgNetPipeline"]
