"""Processor: batches of features for a localization model, and events in seconds from its outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from .grid_esg_net import EncoderId, FeatureGrid, FeatureSpec
from .nms_esg_net import suppress_overlapping_segments
from .segments_esg_net import TemporalPoints
from .sharing_esg_net import CodeOnPush
from .windows_esg_net import Span, WindowCandidates, suppress_windows

Features = np.ndarray | Tensor
DEFAULT_THRESHOLD = 0.3  # score that an event must exceed if its class has no threshold
SHORTEST_EVENT = 0.05  # grid cells; shorter candidates are dropped before suppression, as in UnAV (commit 1609deb)


class EsgNetProcessor(ProcessorMixin, CodeOnPush):
    r"""
    Batches the features of videos for ESG-Net or UnAV, and turns their outputs into events in seconds.

    Args:
        frame_rate (`float`, *optional*, defaults to 25.0):
            Frames per second of the video the features were taken from. With the next two, the feature grid: feature
            `g` is centred at `(g * feature_stride + feature_window / 2) / frame_rate` seconds.
        feature_stride (`int`, *optional*, defaults to 8):
            Frames from one feature to the next.
        feature_window (`int`, *optional*, defaults to 24):
            Frames that one feature covers.
        visual_size (`int`, *optional*, defaults to 2048):
            Channels of a visual feature.
        audio_size (`int`, *optional*, defaults to 128):
            Channels of an audio feature.
        encoder (`dict`, *optional*):
            `{"name", "version"}` of the encoder that made the features, if known.
        candidate_threshold (`float`, *optional*, defaults to 0.001):
            Class probability above which a (point, class) pair is a candidate.
        candidates_per_level (`int`, *optional*, defaults to 2000):
            Maximum number of candidates of one pyramid level.
        nms_method (`str`, *optional*, defaults to `"soft"`):
            `"soft"` lowers the score of events that overlap a better one of their class, `"hard"` removes them.
        nms_sigma (`float`, *optional*, defaults to 0.4):
            Width of soft suppression; larger values lower scores less.
        nms_iou_threshold (`float`, *optional*, defaults to 0.7):
            IoU from which `"hard"` suppression removes an event.
        min_score (`float`, *optional*, defaults to 0.001):
            Score below which a suppressed event is dropped.
        max_events (`int`, *optional*, defaults to 100):
            Maximum number of events of one video, or of one window of a long video.
        window_steps (`int`, *optional*, defaults to 256):
            Features that the model takes at once. A longer video is localized in overlapping windows of this length;
            the model should have been trained on crops about as long. UnAV-100's videos fit in one window.
        thresholds (`dict[str, float]`, *optional*):
            Score in [0, 1] that an event must exceed, by class name. `esg-transformers calibrate` chooses them on a
            validation split, and the pipeline uses them; for a class without a threshold it is 0.3.

    The defaults from `candidate_threshold` to `max_events` are those published with UnAV-100
    (configs/avel_unav100.yaml, UnAV commit 1609deb).
    """

    auto_class = "AutoProcessor"

    def __init__(
        self,
        frame_rate: float = 25.0,
        feature_stride: int = 8,
        feature_window: int = 24,
        visual_size: int = 2048,
        audio_size: int = 128,
        encoder: dict[str, str] | None = None,
        candidate_threshold: float = 0.001,
        candidates_per_level: int = 2000,
        nms_method: str = "soft",
        nms_sigma: float = 0.4,
        nms_iou_threshold: float = 0.7,
        min_score: float = 0.001,
        max_events: int = 100,
        window_steps: int = 256,
        thresholds: dict[str, float] | None = None,
    ):
        grid = FeatureGrid(frame_rate, feature_stride, feature_window)
        self.frame_rate, self.feature_stride, self.feature_window = grid.frame_rate, grid.stride, grid.window
        self.visual_size = visual_size
        self.audio_size = audio_size
        self.encoder = None if encoder is None else EncoderId(**encoder).to_dict()
        self.candidate_threshold = candidate_threshold
        self.candidates_per_level = candidates_per_level
        self.nms_method = nms_method
        self.nms_sigma = nms_sigma
        self.nms_iou_threshold = nms_iou_threshold
        self.min_score = min_score
        self.max_events = max_events
        if not window_steps >= 2:
            raise ValueError(f"`window_steps` must be at least 2; got {window_steps}.")
        self.window_steps = window_steps
        self.thresholds = thresholds
        self.validate_thresholds()
        super().__init__()

    def validate_thresholds(self) -> None:
        """Refuse thresholds that are not numbers in [0, 1] by class name."""
        if self.thresholds is None:
            return
        if not isinstance(self.thresholds, dict):
            raise ValueError(f"`thresholds` must be a dict of class names and scores; got {self.thresholds!r}.")
        for label, threshold in self.thresholds.items():
            is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
            if not (isinstance(label, str) and is_number and 0 <= threshold <= 1):
                raise ValueError(
                    f"`thresholds` has {threshold!r} for {label!r}; expected a score in [0, 1] for a class name."
                )

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in `ProcessorMixin`, but a saved processor must name its features, since a default could be wrong."""
        needed = ("frame_rate", "feature_stride", "feature_window", "visual_size", "audio_size")
        missing = [name for name in needed if name not in processor_dict and name not in kwargs]
        if missing:
            raise ValueError(
                f"The processor's configuration lacks {', '.join(missing)}, without which features cannot be checked. "
                "Save the processor again with `save_pretrained`, or give these values to `from_pretrained`."
            )
        return super().from_args_and_dict(args, processor_dict, **kwargs)

    @property
    def feature_grid(self) -> FeatureGrid:
        """Feature grid of the features that this processor takes."""
        return FeatureGrid(self.frame_rate, self.feature_stride, self.feature_window)

    @classmethod
    def for_features(cls, spec: FeatureSpec, **settings: Any) -> "EsgNetProcessor":
        """A processor for features with this spec; `settings` are the other arguments.

        >>> spec = FeatureSpec(FeatureGrid(25.0, 8, 24), visual_size=2048, audio_size=128)
        >>> EsgNetProcessor.for_features(spec, max_events=50).feature_spec == spec
        True
        """
        encoder = None if spec.encoder is None else spec.encoder.to_dict()
        fields: dict[str, Any] = spec.config_fields() | settings
        return cls(encoder=encoder, **fields)

    @property
    def feature_spec(self) -> FeatureSpec:
        """Feature spec of the features that this processor takes."""
        encoder = None if self.encoder is None else EncoderId(**self.encoder)
        return FeatureSpec(self.feature_grid, self.visual_size, self.audio_size, encoder)

    @property
    def model_input_names(self) -> list[str]:
        """Keys that `__call__` returns without labels."""
        return ["visual_features", "audio_features", "attention_mask", "visual_mask", "audio_mask"]

    def score_thresholds(self, id2label: Mapping[int, str]) -> list[float]:
        """Score that an event of each class must exceed: its value in `thresholds`, or 0.3.

        Args:
            id2label: class names by id, `0 ... C - 1`.

        Returns:
            C scores, in the order of the ids.

        >>> EsgNetProcessor(thresholds={"alarm": 0.7}).score_thresholds({0: "alarm", 1: "dog barking"})
        [0.7, 0.3]
        """
        thresholds = self.thresholds or {}
        return [thresholds.get(id2label[class_id], DEFAULT_THRESHOLD) for class_id in range(len(id2label))]

    def __call__(
        self,
        visual_features: Features | Sequence[Features | None] | None,
        audio_features: Features | Sequence[Features | None] | None,
        segments: Features | Sequence[Features] | None = None,
        labels: Features | Sequence[Features] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Pad the features of one or several videos to one length.

        Args:
            visual_features: `(T, visual_size)`, or a list of one for each video; `None` for a video without picture.
            audio_features: `(T, audio_size)`, or a list of one for each video; `None` for a video without sound.
            segments: true events in seconds, `(N, 2)`, or a list of one for each video; N may be 0.
            labels: their class ids, `(N,)`, or a list of one for each video.
            **kwargs: only `return_tensors="pt"`, which other processors need; tensors are always PyTorch's.

        Returns:
            PyTorch tensors: `visual_features` (B, T, visual_size) and `audio_features` (B, T, audio_size), float32, 0
            on padding and in absent streams; `attention_mask`, `visual_mask`, `audio_mask` (B, T), int64, 1 = real;
            with labels also `segment_labels` (B, N, 2), float32, in grid positions, and `class_labels` (B, N), int64,
            -100 = padding.

        Raises:
            ValueError: for features that are not finite, have another width or unequal lengths, or are both absent; for
                labels that do not fit their segments.
        """
        if kwargs not in ({}, {"return_tensors": "pt"}):
            raise ValueError(f'The only keyword argument of the processor is `return_tensors="pt"`; got {kwargs}.')
        if not isinstance(visual_features, Sequence) and not isinstance(audio_features, Sequence):
            visual_features, audio_features = [visual_features], [audio_features]
            segments = None if segments is None else [segments]  # type: ignore[list-item]
            labels = None if labels is None else [labels]  # type: ignore[list-item]
        if visual_features is None or audio_features is None or len(visual_features) != len(audio_features):
            raise ValueError(
                "Give visual and audio features for the same videos, with `None` in a list where a video has no "
                f"picture or no sound; got {_count(visual_features)} and {_count(audio_features)}."
            )
        streams = [
            self._check_video(index, visual, audio)
            for index, (visual, audio) in enumerate(zip(visual_features, audio_features, strict=True))
        ]
        lengths = [max(len(stream) for stream in video if stream is not None) for video in streams]
        batch = {
            "visual_features": torch.zeros(len(streams), max(lengths), self.visual_size),
            "audio_features": torch.zeros(len(streams), max(lengths), self.audio_size),
            "attention_mask": torch.zeros(len(streams), max(lengths), dtype=torch.long),
        }
        batch["visual_mask"], batch["audio_mask"] = batch["attention_mask"].clone(), batch["attention_mask"].clone()
        for index, (length, video) in enumerate(zip(lengths, streams, strict=True)):
            batch["attention_mask"][index, :length] = 1
            for name, stream in zip(("visual", "audio"), video, strict=True):
                if stream is not None:
                    batch[f"{name}_features"][index, :length] = stream
                    batch[f"{name}_mask"][index, :length] = 1
        if segments is not None or labels is not None:
            batch["segment_labels"], batch["class_labels"] = self._pad_labels(len(streams), segments, labels)
        return BatchFeature(batch)

    def _check_video(
        self, index: int, visual: Features | None, audio: Features | None
    ) -> tuple[Tensor | None, Tensor | None]:
        streams = []
        for name, features, size in (("visual", visual, self.visual_size), ("audio", audio, self.audio_size)):
            if features is not None:
                features = torch.as_tensor(features)
                if features.dim() != 2 or features.shape[1] != size or len(features) == 0:
                    raise ValueError(
                        f"The {name} features of video {index} have shape {tuple(features.shape)}; expected "
                        f"(steps, {size}) with at least one step. Use the feature set that the model was trained on."
                    )
                # The sum of finite values is finite unless it overflows, and costs a third of checking each.
                if not torch.isfinite(features.sum(dtype=torch.float32)) and not torch.isfinite(features).all():
                    steps = (~torch.isfinite(features)).any(dim=1).nonzero()[:, 0].tolist()
                    raise ValueError(
                        f"The {name} features of video {index} are NaN or infinite at {len(steps)} of {len(features)} "
                        f"steps (the first is step {steps[0]}). Encode the video again."
                    )
            streams.append(features)
        if visual is None and audio is None:
            raise ValueError(f"Video {index} has neither visual nor audio features; give at least one stream.")
        if visual is not None and audio is not None and len(visual) != len(audio):
            raise ValueError(
                f"Video {index} has {len(visual)} visual and {len(audio)} audio steps. Encode both on one feature "
                "grid, or cut the longer one first."
            )
        return streams[0], streams[1]

    def _pad_labels(self, num_videos: int, segments: Any, labels: Any) -> tuple[Tensor, Tensor]:
        if segments is None or labels is None or not num_videos == len(segments) == len(labels):
            raise ValueError(
                f"Give `segments` and `labels` for each of the {num_videos} videos; "
                f"got {_count(segments)} and {_count(labels)}."
            )
        most = max([len(x) for x in segments] + [1])
        segment_labels, class_labels = torch.zeros(num_videos, most, 2), torch.full((num_videos, most), -100)
        for index, (video_segments, video_labels) in enumerate(zip(segments, labels, strict=True)):
            video_segments = torch.as_tensor(video_segments, dtype=torch.float32).reshape(-1, 2)
            video_labels = torch.as_tensor(video_labels, dtype=torch.long)
            if len(video_segments) != len(video_labels):
                raise ValueError(f"Video {index} has {len(video_segments)} segments and {len(video_labels)} labels.")
            if not (video_segments[:, 1] > video_segments[:, 0]).all():
                raise ValueError(
                    f"Video {index} has an event whose end is not after its start: {video_segments.tolist()}."
                )
            segment_labels[index, : len(video_segments)] = self.feature_grid.to_positions(video_segments)
            class_labels[index, : len(video_labels)] = video_labels
        return segment_labels, class_labels

    def post_process_event_localization(
        self,
        outputs: Any,
        threshold: float | Sequence[float] | Tensor = 0.0,
        durations: Sequence[float] | None = None,
    ) -> list[dict[str, Tensor]]:
        """Events of each video from the outputs of a localization model.

        Candidates are the (point, class) pairs above `candidate_threshold`, at most `candidates_per_level` of a level.
        Overlapping candidates of a class are suppressed, and the best `max_events` are kept.

        Args:
            outputs (`EventLocalizationOutput`):
                Outputs of the model.
            threshold (`float`, `Sequence[float]` or `Tensor` of shape `(C,)`, *optional*, defaults to 0.0):
                Score that an event must exceed: one for all, or one for each class. 0 keeps all events, as mean average
                precision needs them.
            durations (`Sequence[float]`, *optional*):
                Duration of each video in seconds, to which events are cut. Without it they are cut at 0 only.

        Returns:
            For each video `{"segments": (K, 2) seconds, "labels": (K,) class ids, "scores": (K,)}`, best first, on the
            CPU.

        Raises:
            ValueError: if the number of durations is not that of videos, or of thresholds not that of classes.
        """
        if durations is not None and len(durations) != len(outputs.logits):
            raise ValueError(f"Got {len(durations)} `durations` for {len(outputs.logits)} videos.")
        thresholds = _of_classes(threshold, outputs.logits.shape[-1])
        found = suppress_overlapping_segments(
            *self._candidates(outputs, outputs.point_mask), max_events=self.max_events, **self._suppression
        )
        limits: Sequence[float | None] = [None] * len(outputs.logits) if durations is None else durations
        return [
            self._events(segments, scores, labels, thresholds, limit)
            for segments, scores, labels, limit in zip(*found, limits, strict=True)
        ]

    def window_candidates(
        self, outputs: Any, spans: Sequence[Span], threshold: float | Sequence[float] | Tensor = 0.0
    ) -> list[WindowCandidates]:
        """Candidates of windows of long videos (see `feature_windows`), for `post_process_windows`.

        Args:
            outputs (`EventLocalizationOutput`):
                Outputs of the model for B windows, of any videos.
            spans (`Sequence[Span]`):
                Position of each window in its video.
            threshold (`float`, `Sequence[float]` or `Tensor` of shape `(C,)`, *optional*, defaults to 0.0):
                As in `post_process_event_localization`. Candidates at or below it are dropped here: suppression only
                lowers scores, so they could neither become an event nor lower one.

        Raises:
            ValueError: if the number of thresholds is not that of classes.
        """
        thresholds = _of_classes(threshold, outputs.logits.shape[-1])
        firsts = torch.tensor([span.first for span in spans])
        answers = torch.tensor([(span.answers_from, span.answers_to) for span in spans])
        positions = outputs.points[0, :, 0].cpu() + firsts[:, None]  # (B, P)
        point_mask = outputs.point_mask.cpu() * ((positions >= answers[:, :1]) & (positions < answers[:, 1:]))
        segments, scores, labels = self._candidates(outputs, point_mask)
        windows = []
        for span, *video in zip(spans, segments + firsts[:, None, None], scores, labels, strict=True):
            video_segments, video_scores, video_labels = video
            video_segments = video_segments.clamp(*span.seen)
            kept = (video_scores > 0) & (video_scores > thresholds[video_labels])
            kept &= video_segments[:, 1] - video_segments[:, 0] > SHORTEST_EVENT
            windows.append(WindowCandidates(span, video_segments[kept], video_scores[kept], video_labels[kept]))
        return windows

    def post_process_windows(
        self,
        windows: Sequence[WindowCandidates],
        threshold: float | Sequence[float] | Tensor = 0.0,
        duration: float | None = None,
    ) -> dict[str, Tensor]:
        """Events of one video from the candidates of its windows.

        For a single window they are the same as those of `post_process_event_localization`.

        Args:
            windows: candidates of the windows of one video, in order, at least one.
            threshold: score that an event must exceed: one number, or one for each class.
            duration: duration of the video in seconds, to which events are cut.

        Returns:
            `{"segments": (K, 2) seconds, "labels": (K,) class ids, "scores": (K,)}`, best first, on the CPU.
        """
        return self._events(
            *suppress_windows(windows, max_events=self.max_events, **self._suppression),
            torch.as_tensor(threshold, dtype=torch.float64, device="cpu"),
            duration,
        )

    @property
    def _suppression(self) -> dict[str, Any]:
        return {
            "method": self.nms_method,
            "sigma": self.nms_sigma,
            "iou_threshold": self.nms_iou_threshold,
            "min_score": self.min_score,
        }

    def _events(
        self, segments: Tensor, scores: Tensor, labels: Tensor, thresholds: Tensor, duration: float | None
    ) -> dict[str, Tensor]:
        segments = self.feature_grid.to_seconds(segments).clamp(min=0, max=duration)
        needed = thresholds[labels] if thresholds.dim() else thresholds
        kept = (scores > needed) & (segments[:, 1] > segments[:, 0])
        return {"segments": segments[kept], "labels": labels[kept], "scores": scores[kept]}

    def _candidates(self, outputs: Any, point_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates before suppression: segments (B, N, 2), scores (B, N) and labels (B, N), on the CPU."""
        logits, offsets = outputs.logits.detach().float().cpu(), outputs.offsets.detach().float().cpu()
        points = TemporalPoints(*outputs.points[0].float().cpu().unbind(-1))
        scores = logits.sigmoid() * point_mask.cpu()[..., None]
        segments = points.decode(offsets)  # (B, P, C, 2)
        long_enough = segments[..., 1] - segments[..., 0] > SHORTEST_EVENT
        scores = torch.where((scores > self.candidate_threshold) & long_enough, scores, 0.0)
        num_classes = scores.shape[-1]
        kept_scores, kept_index = [], []
        first = 0
        for size in points.strides.unique_consecutive(return_counts=True)[1].tolist():
            level = scores[:, first : first + size].flatten(1)
            best, index = level.topk(min(self.candidates_per_level, level.shape[1]), dim=1)
            kept_scores.append(best)
            kept_index.append(index + first * num_classes)
            first += size
        index = torch.cat(kept_index, dim=1)
        segments = segments.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 2))
        return segments, torch.cat(kept_scores, dim=1), index % num_classes


def event_list(events: Mapping[str, Any], id2label: Mapping[int, str]) -> list[dict[str, Any]]:
    """Events of one video as a list of dicts, in their order.

    Args:
        events: `segments` (K, 2), `labels` (K,) and, for found events, `scores` (K,); tensors or arrays.
        id2label: class names by id.

    >>> events = {"segments": np.array([[0.5, 2.0]]), "labels": np.array([1]), "scores": np.array([0.75])}
    >>> event_list(events, {0: "alarm", 1: "dog barking"})
    [{'start': 0.5, 'end': 2.0, 'label': 'dog barking', 'score': 0.75}]
    """
    rows: list[dict[str, Any]] = [
        {"start": start, "end": end, "label": id2label[label]}
        for (start, end), label in zip(events["segments"].tolist(), events["labels"].tolist(), strict=True)
    ]
    if "scores" in events:
        for row, score in zip(rows, events["scores"].tolist(), strict=True):
            row["score"] = score
    return rows


def _of_classes(threshold: float | Sequence[float] | Tensor, num_classes: int) -> Tensor:
    """Score that an event of each class must exceed, `(C,)`."""
    thresholds = torch.as_tensor(threshold, dtype=torch.float64, device="cpu")
    if thresholds.shape not in ((), (num_classes,)):
        raise ValueError(
            f"`threshold` has shape {tuple(thresholds.shape)}; expected one number, or one for each of the "
            f"{num_classes} classes."
        )
    return thresholds.expand(num_classes)


def _count(videos: Any) -> str:
    return "none" if videos is None else f"{len(videos)}"


__all__ = ["EsgNetProcessor", "event_list"]
