"""Events of every video of a data set, and their score against the true events."""

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
from esg_transformers.localization.collator import naming_videos
from esg_transformers.models.esg_net.pipeline_esg_net import localize_windows
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor, event_list
from esg_transformers.models.esg_net.windows_esg_net import Span, WindowCandidates, feature_windows

Events = list[dict[str, Any]]


@dataclass(frozen=True)
class Localized:
    """Found and true events of the N videos of a data set, in its order.

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
    """Events of every video of a data set; each process takes a share, and long videos go in windows.

    Args:
        model: in any mode; it runs in evaluation mode and is left in the mode it had.
        processor: processor of the model.
        dataset: its items are examples, see [`Example`].
        accelerator: device and processes to run on.
        batch_size: videos, or windows of long videos, in one forward pass.
        threshold: score that an event needs: one for all, or one for each class.

    Returns:
        On every process, the events of all videos of the data set.

    Raises:
        ValueError: naming the videos of the batch, if the features of one cannot be used.
    """
    num_videos, num_processes = len(dataset), accelerator.num_processes
    # Every process takes the same number of videos, some of them twice: sharded weights need the same calls everywhere.
    rounds = range(-(-num_videos // num_processes))
    mine = [(round * num_processes + accelerator.process_index) % num_videos for round in rounds]
    subset: Dataset[Example] = torch.utils.data.Subset(cast(Dataset[Example], dataset), mine)
    loader = DataLoader(subset, batch_size=batch_size, collate_fn=list)
    id2label = cast(dict[int, str], model.config.id2label)
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
    """Candidates of the windows of each example; windows of several examples share a forward pass."""
    windows: list[tuple[int, Span, Example]] = []
    for index, example in enumerate(examples):
        for span, visual, audio in feature_windows([example], processor.window_steps, model.config.pyramid_levels):
            windows.append(
                (index, span, cast(Example, {**example, "visual_features": visual, "audio_features": audio}))
            )
    batches = [windows[first : first + batch_size] for first in range(0, len(windows), batch_size)]
    candidates: list[list[WindowCandidates]] = [[] for _ in examples]
    most = max(gather_object([len(batches)])) if accelerator.num_processes > 1 else len(batches)
    for call in range(most):  # a process with fewer windows repeats its last batch and drops the results
        indices, spans, parts = zip(*batches[min(call, len(batches) - 1)], strict=True)
        with naming_videos(parts):
            inputs = processor([part["visual_features"] for part in parts], [part["audio_features"] for part in parts])
        with torch.inference_mode(), accelerator.autocast():
            found = localize_windows(model, processor, inputs.to(accelerator.device), spans, threshold)
        if call < len(batches):
            for index, window in zip(indices, found, strict=True):
                candidates[index].append(window.candidates)
    return candidates


def evaluate_dataset(
    model: PreTrainedModel,
    processor: EsgNetProcessor,
    dataset: VideoDataset,
    accelerator: Accelerator,
    batch_size: int = 16,
) -> dict[str, Any]:
    """`mean_average_precision` of a model on a data set; arguments as in [`localize_dataset`]."""
    localized = localize_dataset(model, processor, dataset, accelerator, batch_size)
    return mean_average_precision(localized.found, localized.true)
