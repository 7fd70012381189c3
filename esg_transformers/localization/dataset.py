"""A model over a data set: events of every video, and their score against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from esg_transformers.corpora.example import Example, VideoDataset
from esg_transformers.evaluation import mean_average_precision
from esg_transformers.localization.collator import EventLocalizationCollator
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor, event_list
from esg_transformers.models.esg_net.windows_esg_net import Span, WindowCandidates, feature_windows

Events = list[dict[str, Any]]


@dataclass(frozen=True)
class Localized:
    """What was found in the N videos of a data set, and the truth, video by video in its order.

    Args:
        video_ids: N ids.
        found: N lists of events `{"start", "end", "label", "score"}`, seconds, best first.
        true: N lists of events `{"start", "end", "label"}`.
        durations: N, seconds.
    """

    video_ids: list[str]
    found: list[Events]
    true: list[Events]
    durations: list[float]


def localize_dataset(
    model: PreTrainedModel,
    processor: EsgNetProcessor,
    dataset: VideoDataset,
    accelerator: Accelerator,
    batch_size: int = 16,
    threshold: float | Sequence[float] = 0.0,
) -> Localized:
    """Events of every video of a data set, each process taking its share; long videos in windows, as in the pipeline.

    Args:
        model: in any mode; it is used in evaluation mode and left as it was.
        processor: of the model.
        dataset: of examples, see `Example`.
        accelerator: where to compute, and which processes share the work.
        batch_size: videos, or windows of long ones, of one forward pass.
        threshold: score that an event needs: one for all, or one for each class.

    Returns:
        On every process, all videos of the data set.
    """
    num_videos, num_processes = len(dataset), accelerator.num_processes
    # As many in each process, some twice if need be: where weights are sharded, all have to make the same calls.
    rounds = range(-(-num_videos // num_processes))
    mine = [(round * num_processes + accelerator.process_index) % num_videos for round in rounds]
    subset: Dataset[Example] = torch.utils.data.Subset(cast(Dataset[Example], dataset), mine)
    loader = DataLoader(subset, batch_size=batch_size, collate_fn=list)
    id2label = model.config.id2label
    was_training = model.training
    model.eval()
    rows: list[tuple[int, str, Events, Events, float]] = []
    with tqdm(
        total=len(mine), desc="Evaluating", unit=" videos", leave=False, disable=not accelerator.is_main_process
    ) as progress:
        for examples in loader:
            candidates = _candidates(model, processor, examples, accelerator, batch_size, threshold)
            for example, windows in zip(examples, candidates, strict=True):
                events = processor.post_process_windows(windows, threshold, example["duration"])
                truth = event_list({"segments": example["segments"], "labels": example["labels"]}, id2label)
                found_here = event_list(events, id2label)
                rows.append((mine[len(rows)], example["video_id"], found_here, truth, example["duration"]))
            progress.update(len(examples))
    model.train(was_training)
    rows = [row for _, row in sorted({row[0]: row for row in gather_object(rows)}.items())]
    return Localized(
        [row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows], [row[4] for row in rows]
    )


def _candidates(
    model: PreTrainedModel,
    processor: EsgNetProcessor,
    examples: Sequence[Example],
    accelerator: Accelerator,
    batch_size: int,
    threshold: float | Sequence[float],
) -> list[list[WindowCandidates]]:
    """Of each example, the candidates of its windows."""
    collate = EventLocalizationCollator(processor)
    windows: list[tuple[int, Span, Example]] = []
    for index, example in enumerate(examples):
        for span, visual, audio in feature_windows([example], processor.window_steps, model.config.pyramid_levels):
            window: Example = {**example, "visual_features": visual, "audio_features": audio}
            windows.append((index, span, window))
    batches = [windows[first : first + batch_size] for first in range(0, len(windows), batch_size)]
    candidates: list[list[WindowCandidates]] = [[] for _ in examples]
    most = max(gather_object([len(batches)])) if accelerator.num_processes > 1 else len(batches)
    for call in range(most):
        part = batches[min(call, len(batches) - 1)]
        batch = collate([window for _, _, window in part])
        batch.pop("segment_labels"), batch.pop("class_labels")
        with torch.inference_mode(), accelerator.autocast():
            outputs = model(**batch.to(accelerator.device))
        if call < len(batches):
            found = processor.window_candidates(outputs, [span for _, span, _ in part], threshold)
            for (index, _, _), of_window in zip(part, found, strict=True):
                candidates[index].append(of_window)
    return candidates


def evaluate_dataset(
    model: PreTrainedModel,
    processor: EsgNetProcessor,
    dataset: VideoDataset,
    accelerator: Accelerator,
    batch_size: int = 16,
) -> dict[str, Any]:
    """`mean_average_precision` of a model on a data set; see `localize_dataset` for the arguments."""
    localized = localize_dataset(model, processor, dataset, accelerator, batch_size)
    return mean_average_precision(localized.found, localized.true)
