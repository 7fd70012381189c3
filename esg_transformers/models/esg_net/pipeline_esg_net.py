"""Pipeline from the features of a video to its events; it is pushed to the Hub with a model.

S semantic stages, N layers of MoDE, E experts, C classes.
"""

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor
from transformers.pipelines.base import ChunkPipeline

from .processing_esg_net import EsgNetProcessor, event_list
from .sharing_esg_net import add_code
from .windows_esg_net import Span, WindowCandidates, feature_windows

Seconds = float | Mapping[str, float]


@dataclass(frozen=True)
class WindowTrace:
    """Intermediate outputs of ESG-Net at the t steps that a window owns.

    Args:
        semantic (`Tensor` of shape `(S, 3, t, C)`, float16):
            Class probabilities by semantic stage and stream (visual, audio, fused); `None` without ESI.
        router (`Tensor` of shape `(N, t, E)`, float16):
            Weights of the experts by layer, on the finest level of the pyramid; `None` without MoDE.
    """

    semantic: Tensor | None
    router: Tensor | None


@dataclass(frozen=True)
class LocalizedWindow:
    """Results of one window.

    Args:
        candidates (`WindowCandidates`): input of `EsgNetProcessor.post_process_windows`.
        trace (`WindowTrace`, *optional*): intermediate outputs of the same forward pass; `None` if not requested.
    """

    candidates: WindowCandidates
    trace: WindowTrace | None


def localize_windows(
    model: Any,
    processor: EsgNetProcessor,
    inputs: Mapping[str, Tensor],
    spans: Sequence[Span],
    threshold: float | Sequence[float] = 0.0,
    with_trace: bool = False,
) -> list[LocalizedWindow]:
    """Results of B windows, of any videos, from one forward pass.

    Args:
        model: a localization model in evaluation mode.
        processor: the model's processor.
        inputs: model inputs of the B windows, padded by the processor, on the model's device.
        spans: B positions of the windows in their videos, see `feature_windows`.
        threshold: score that an event must exceed: one for all, or one for each class.
        with_trace: also keep the semantic probabilities and router weights of each window.

    Returns:
        B results, on the CPU.
    """
    outputs = model(**inputs)
    candidates = processor.window_candidates(outputs, spans, threshold)
    traces = [_window_trace(outputs, row, span) if with_trace else None for row, span in enumerate(spans)]
    return [LocalizedWindow(*results) for results in zip(candidates, traces, strict=True)]


def _window_trace(outputs: Any, row: int, span: Span) -> WindowTrace:
    """Trace of one window of a batch; its parts are `None` for models other than ESG-Net."""
    steps = slice(span.answers_from - span.first, span.answers_to - span.first)
    semantic, router = outputs.get("semantic_logits"), outputs.get("router_weights")
    if semantic is not None:
        stages = torch.stack([logits[row, :, steps] for logits in semantic])  # (S, 3, t, C)
        semantic = stages.sigmoid().half().cpu()
    if router is not None:  # the points of the finest level come first
        router = torch.stack([weights[row, steps] for weights in router]).half().cpu()  # (N, t, E)
    return WindowTrace(semantic, router)


class EsgNetPipeline(ChunkPipeline):
    """Localizes the events that are seen and heard in a video, from its features.

    `pipeline("audio-visual-event-localization", model=..., trust_remote_code=True)` returns it where esg_transformers
    is not installed. With the package, `AudioVisualEventLocalizationPipeline` also takes video files.

    Takes features on the processor's feature grid, an example of a corpus, or a list of these:

        {"visual_features": (T, Dv) or None, "audio_features": (T, Da) or None, "duration": seconds}

    Keyword arguments:

        threshold (`float`, *optional*):
            Score that an event must exceed. By default the threshold of its class in the processor's `thresholds`,
            which `esg-transformers calibrate` chooses, and 0.3 for other classes.
        top_k (`int`, *optional*):
            Maximum number of events of one video; all by default.
        merge_gap (`float` or `dict[str, float]`, *optional*):
            Maximum gap in seconds between two events of a class that are merged into one, with the higher score: one
            number for all classes, or one for each named class. By default none are merged.
        min_duration (`float` or `dict[str, float]`, *optional*):
            Minimum duration in seconds of an event, after merging.
        batch_size (`int`, *optional*, defaults to 1):
            Videos, or windows of long videos, in one forward pass.

    Returns for each video a list of `{"start", "end", "label", "score"}`, times in seconds and scores in [0, 1], best
    first.

    A video with more features than the processor's `window_steps` is localized in overlapping windows, and events cut
    by their edges are joined (`windows_esg_net`).

    Raises:
        ValueError: if the features have another spec than the model's, or an argument is out of range.
    """

    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_feature_extractor: Any = False
    _load_image_processor: Any = False
    model: Any
    processor: EsgNetProcessor

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # The base class pads a batch of tensors only if there is a feature extractor, so the processor acts as one.
        self.feature_extractor = cast(Any, self.processor)
        self.model.eval()  # not done by the base class; a model in training mode drops paths at random
        self.processor.feature_spec.check(self.model.config.feature_spec, "The model's config")

    # transformers uploads a push through this method.
    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        for part in (self.model, self.processor):
            add_code(part, working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        top_k: int | None = None,
        merge_gap: Seconds | None = None,
        min_duration: Seconds | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(
                f"Unknown arguments: {', '.join(kwargs)}. The pipeline takes `threshold`, `top_k`, `merge_gap` and "
                "`min_duration`."
            )
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` must be at least 1; got {top_k}.")
        for name, seconds in (("merge_gap", merge_gap), ("min_duration", min_duration)):
            if seconds is not None:
                check_seconds(name, seconds, self.model.config.label2id)
        rules = {"top_k": top_k, "merge_gap": merge_gap, "min_duration": min_duration}
        of_both = {} if threshold is None else {"threshold": threshold}
        return {}, of_both, of_both | {name: value for name, value in rules.items() if value is not None}

    def feature_blocks(self, video: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Features of a video in blocks of any length; here one block, the input itself."""
        wanted = ("visual_features", "audio_features", "duration")
        if not isinstance(video, Mapping) or (missing := [name for name in wanted if name not in video]):
            came = f"a dict without {missing[0]!r}" if isinstance(video, Mapping) else type(video).__name__
            raise ValueError(
                f"The pipeline takes features, a dict of {', '.join(map(repr, wanted))}; got {came}. For video files "
                "install esg-transformers and import esg_transformers."
            )
        yield video

    # As in transformers' own pipelines, the next methods name the parameters that the base class takes as `**kwargs`.
    def preprocess(self, video: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Model inputs of each window of a video: a batch of one, with `span`, `duration` and `is_last`."""
        yield from self.window_inputs(self.feature_blocks(video))

    def window_inputs(self, blocks: Iterator[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Model inputs of each window, as `preprocess` gives them, from the features of a video in blocks."""
        first = next(blocks)
        levels = self.model.config.pyramid_levels
        for span, visual, audio in feature_windows(chain([first], blocks), self.processor.window_steps, levels):
            batch = self.processor([visual], [audio])
            yield {**batch, "span": span, "duration": float(first["duration"]), "is_last": span.is_last}

    def _forward(  # type: ignore[override]
        self, inputs: Mapping[str, Any], threshold: float | None = None, with_trace: bool = False
    ) -> dict[str, Any]:
        inputs = dict(inputs)
        rest = {name: inputs.pop(name) for name in ("span", "duration", "is_last")}
        is_batch = isinstance(rest["span"], list)  # the base class collates if `batch_size` is above 1
        spans = rest.pop("span") if is_batch else [rest.pop("span")]
        windows = localize_windows(self.model, self.processor, inputs, spans, self._thresholds(threshold), with_trace)
        return {"window": windows if is_batch else windows[0], **rest}

    def postprocess(  # type: ignore[override]
        self,
        windows: Sequence[Mapping[str, Any]],
        threshold: float | None = None,
        top_k: int | None = None,
        merge_gap: Seconds | None = None,
        min_duration: Seconds = 0.0,
    ) -> list[dict[str, Any]]:
        """Events of one video, best first."""
        candidates = [output["window"].candidates for output in windows]
        events = self.processor.post_process_windows(candidates, self._thresholds(threshold), windows[-1]["duration"])
        found = merge_events(event_list(events, self.model.config.id2label), merge_gap)
        lasting = [
            event for event in found if event["end"] - event["start"] >= _of_label(min_duration, event["label"], 0)
        ]
        return lasting[:top_k]

    def _thresholds(self, threshold: float | None) -> float | list[float]:
        return self.processor.score_thresholds(self.model.config.id2label) if threshold is None else threshold


def check_seconds(name: str, seconds: Any, labels: Collection[str]) -> None:
    """Refuse anything but seconds >= 0, or seconds by class name.

    Raises:
        ValueError: naming the value or class.
    """
    by_label = seconds if isinstance(seconds, Mapping) else {None: seconds}
    for label, value in by_label.items():
        if label is not None and label not in labels:
            raise ValueError(f"`{name}` names {label!r}, which is no class of the model. Classes: {', '.join(labels)}.")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must be seconds >= 0, or a dict of seconds by class name; got {value!r}.")


def merge_events(events: Sequence[Mapping[str, Any]], gap: Seconds | None) -> list[dict[str, Any]]:
    """Events of one video in which those of a class at most `gap` seconds apart are merged, with the higher score.

    Args:
        events: `{"start", "end", "label", "score"}`.
        gap: one number for all classes, or one for each named class; other classes stay as they are. 0 merges events
            that touch or overlap, `None` merges none.

    Returns:
        The events, best first.

    >>> alarm = {"start": 1.0, "end": 2.0, "label": "alarm", "score": 0.5}
    >>> merge_events([alarm, alarm | {"start": 2.5, "end": 4.0, "score": 0.9}], gap=0.5)
    [{'start': 1.0, 'end': 4.0, 'label': 'alarm', 'score': 0.9}]
    """
    merged: list[dict[str, Any]] = []
    running: dict[str, dict[str, Any]] = {}  # by class: the last merged event
    for event in sorted(events, key=lambda event: event["start"]):
        label_gap = _of_label(gap, event["label"], None)
        before = running.get(event["label"])
        if label_gap is not None and before is not None and event["start"] - before["end"] <= label_gap:
            before["end"] = max(before["end"], event["end"])
            before["score"] = max(before["score"], event["score"])
        else:
            running[event["label"]] = dict(event)
            merged.append(running[event["label"]])
    return sorted(merged, key=lambda event: -event["score"])


def _of_label(seconds: Seconds | None, label: str, otherwise: float | None) -> float | None:
    return seconds.get(label, otherwise) if isinstance(seconds, Mapping) else seconds


__all__ = ["EsgNetPipeline"]
