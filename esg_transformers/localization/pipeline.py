"""From a video file to its events, as a transformers pipeline."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, pipeline
from transformers.utils import logging

from esg_transformers.encoders import spectral
from esg_transformers.encoders.encoder import AudioVisualEncoder, AudioVisualFeatures, feature_blocks
from esg_transformers.localization.trace import Trace, check_traceable, joined_trace
from esg_transformers.media.audio import waveform_peaks
from esg_transformers.media.container import MediaFile
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureSpec
from esg_transformers.models.esg_net.pipeline_esg_net import EsgNetPipeline
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.models.esg_net.sharing_esg_net import TASK as TASK

logger = logging.get_logger(__name__)

PUBLISHED_VERSION = "unav100"  # of an encoder known only by the features published with UnAV-100

NUM_PEAKS = 2000  # parts of a waveform: above the pixels of a page's width

VideoInput = str | os.PathLike[str] | bytes | AudioVisualFeatures | Mapping[str, Any]


@dataclass(frozen=True)
class LocalizedVideo:
    """Everything that one pass over a video gives.

    Args:
        events (`list[dict]`): `{"start", "end", "label", "score"}`, seconds and a score in [0, 1], best first.
        duration (`float`): seconds of the whole file.
        streams (`tuple[str, ...]`): those of "visual" and "audio" that the file has.
        trace (`Trace`, *optional*): from the same forward passes; `None` if it was not asked for.
        waveform (`np.ndarray` of shape `(num_peaks, 2)`, *optional*):
            Outline of the sound as `waveform_peaks` gives it, from the same decoding; `None` if it was not asked for,
            or the video comes as features or has no sound.
    """

    events: list[dict[str, Any]]
    duration: float
    streams: tuple[str, ...]
    trace: Trace | None = None
    waveform: np.ndarray | None = None


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
            Makes the features that the model was trained on from a file. By default the encoder that the processor
            names, if it is one that needs no weights.

    Call it with a path, the bytes of a file, an `AudioVisualFeatures`, features as [`EsgNetPipeline`] takes them, or a
    list of these; arguments and results are those of [`EsgNetPipeline`]. A long file is decoded, encoded and localized
    window by window, so that memory does not grow with its length, if its encoder has `blocks`.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file cannot be decoded, or its features are not those that the model was trained on.
    """

    def __init__(self, *args: Any, encoder: AudioVisualEncoder | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.encoder = encoder

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of a call that were given to the pipeline itself, such as `threshold`."""
        return dict(self._postprocess_params)

    def localize(
        self, video: VideoInput, *, with_trace: bool = False, with_waveform: bool = False, **settings: Any
    ) -> LocalizedVideo:
        """Events of one video with its duration and streams; on request also its trace and waveform.

        A file is decoded and encoded once, and each window goes through the model once.

        Args:
            video: one video, as the pipeline takes it.
            with_trace: give the intermediate outputs of the network too.
            with_waveform: give the outline of the sound too.
            settings: arguments of a call: `threshold`, `top_k`, `merge_gap`, `min_duration`.

        Raises:
            FileNotFoundError: if a path does not exist.
            TypeError: if there is no such setting.
            ValueError: as from a call; or if the model has nothing to trace.
        """
        if with_trace:
            check_traceable(self.model)
        _, forward, postprocess = self._sanitize_parameters(**settings)
        forward, postprocess = self._forward_params | forward, self._postprocess_params | postprocess
        if isinstance(video, (str, os.PathLike)):
            video = MediaFile(video, NUM_PEAKS if with_waveform else 0)  # opened once for all that reads it
        blocks = self.feature_blocks(video)
        first = next(blocks)
        inputs_of_windows = self.window_inputs(chain([first], blocks))
        run: Any = self.forward  # untyped in transformers
        windows = [run(inputs, **forward, with_trace=with_trace) for inputs in inputs_of_windows]
        streams = _streams_of(video, first)
        traces = [output["window"].trace for output in windows]
        return LocalizedVideo(
            events=self.postprocess(windows, **postprocess),
            duration=windows[-1]["duration"],
            streams=streams,
            trace=joined_trace(traces, self.model.config) if with_trace else None,
            waveform=_waveform_of(video) if with_waveform and "audio" in streams else None,
        )

    def feature_blocks(self, video: VideoInput) -> Iterator[Mapping[str, Any]]:
        """Features of a video in blocks; a file is encoded as the blocks are asked for."""
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
                logger.warning(f"{name} has no {absent}; its events come from its {present} alone.")
            yield {"visual_features": visual, "audio_features": audio, "duration": block.duration}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and the processor as one folder, which `push_to_hub` uploads with their code.

        Args:
            save_directory: the folder, created if missing.
            kwargs: for `save_pretrained` of both, such as `max_shard_size`.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def chosen_encoder(self) -> AudioVisualEncoder:
        """Encoder for files: the one that was given, or else the one that the processor names.

        Raises:
            ValueError: if it is not the one that the model was trained on, or needs weights and was not given.
        """
        if self.encoder is None:
            self.encoder = encoder_for(self.processor)
        _check_encoder(self.processor.feature_spec.encoder, self.encoder.feature_spec.encoder)
        return self.encoder


def _streams_of(video: Any, features: Mapping[str, Any]) -> tuple[str, ...]:
    """Streams of a file, if it is one, since an encoder may leave one out; otherwise those of the features."""
    if isinstance(video, MediaFile):
        present = {"visual": video.info.has_video, "audio": video.info.has_audio}
    else:
        present = {name: features[f"{name}_features"] is not None for name in ("visual", "audio")}
    return tuple(name for name, is_there in present.items() if is_there)


def _waveform_of(video: VideoInput) -> np.ndarray | None:
    """Outline of the sound of a file; a `MediaFile` keeps it from the decoding for the encoder."""
    return waveform_peaks(video, NUM_PEAKS) if isinstance(video, (os.PathLike, bytes)) else None


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


def open_localizer(
    model: str | os.PathLike[str] | PreTrainedModel,
    processor: EsgNetProcessor | None = None,
    encoder: AudioVisualEncoder | None = None,
    device: torch.device | None = None,
) -> AudioVisualEventLocalizationPipeline:
    """`transformers.pipeline` for this task.

    Args:
        model: folder of a trained model, or a model.
        processor: processor of the model; by default that of its folder.
        encoder: encoder for files; by default the one that the processor names.
        device: device of the model; by default that of `transformers.pipeline`.
    """
    open_any: Any = pipeline  # typed for the tasks of transformers only
    given = model if isinstance(model, PreTrainedModel) else os.fspath(model)
    localizer = open_any(TASK, model=given, processor=processor, encoder=encoder, device=device)
    assert isinstance(localizer, AudioVisualEventLocalizationPipeline)
    return localizer


def encoder_for(processor: EsgNetProcessor) -> AudioVisualEncoder:
    """Encoder that made the features of a processor, if it is one that needs no weights.

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
