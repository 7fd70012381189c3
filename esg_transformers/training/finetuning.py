"""Fine-tuning of a trained model on a corpus, with the classes of that corpus."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from esg_transformers.annotations.events import Annotations
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.reading import read_corpus_annotations
from esg_transformers.evaluation import BestF1, OperatingPoint, choose_thresholds, mean_average_precision
from esg_transformers.files import replacing, save_figure
from esg_transformers.localization.dataset import Localized, localize_dataset
from esg_transformers.localization.model import open_model
from esg_transformers.training.arguments import FINETUNING, LocalizationTrainingArguments
from esg_transformers.training.calibration import save_thresholds
from esg_transformers.training.card import model_card
from esg_transformers.training.learning_curve import LEARNING_CURVE, plot_learning_curve
from esg_transformers.training.loop import TrainingProgress, train
from esg_transformers.training.lora import add_lora
from esg_transformers.training.model import freeze as freeze_parts
from esg_transformers.training.model import with_labels


@dataclass(frozen=True)
class Finetuned:
    """Results of a fine-tuning run.

    Args:
        progress: progress of the training run.
        known_labels: classes that the base model knew, in the order of the corpus; they kept their weights.
        metrics: `mean_average_precision` of the validation split and, if the corpus has one, of the test split; splits
            without events are left out.
        thresholds: the chosen threshold of each class, and its counts on the validation split.
    """

    progress: TrainingProgress
    known_labels: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Any]]
    thresholds: Mapping[str, OperatingPoint]


def finetune(
    model: str | os.PathLike[str],
    corpus: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    arguments: LocalizationTrainingArguments | None = None,
    freeze: Sequence[str] = (),
    lora_rank: int | None = None,
) -> Finetuned:
    """Fine-tune a trained model on a corpus and save it in `output`, complete with thresholds and a model card.

    The classes are those of the corpus: those that the model knows by name keep their weights, others get new ones.
    `output` then holds what [`train`] writes, `learning_curve.png`, `README.md` (the model card) and, in the processor,
    the threshold of each class with the best F1 on the validation split. An interrupted call resumes when it is made
    again.

    Args:
        model: folder of the model, or a repository `OWNER/NAME` of the Hub.
        corpus: folder of a corpus with the splits `train` and `validation`; a split `test` is scored too.
        output: folder of the fine-tuned model; created if missing.
        arguments: settings of the run; `FINETUNING` by default.
        freeze: parts of the model whose weights stay, such as `model.embeddings`.
        lora_rank: train adapters of this rank in place of the body; needs PEFT. They are merged when saved.

    Raises:
        FileNotFoundError: if the model or the corpus is not there.
        ImportError: if LoRA is asked for without PEFT.
        OSError: if the model cannot be downloaded, or a checkpoint cannot be written.
        ValueError: if the model does not fit the corpus, a part or the rank is wrong, or training fails; see [`train`].
    """
    arguments = arguments or FINETUNING
    train_set, validation_set = EventCorpus(corpus, "train"), EventCorpus(corpus, "validation")
    base, processor = open_model(model)
    adapted, known_labels = with_labels(base, train_set.labels, arguments.seed)
    processor.thresholds = None  # chosen for the scores of the base model
    freeze_parts(adapted, freeze)
    if lora_rank is not None:
        add_lora(adapted, lora_rank)
    progress = train(adapted, processor, train_set, validation_set, output, arguments)
    accelerator = Accelerator()
    annotations, _ = read_corpus_annotations(corpus)
    localized = _localize_splits(output, corpus, annotations, accelerator)
    metrics = {
        split: mean_average_precision(events.found, events.true)
        for split, events in localized.items()
        if any(events.true)
    }
    validation = localized["validation"]
    thresholds = choose_thresholds(validation.found, validation.true, validation.durations, BestF1())
    if accelerator.is_main_process:
        output = Path(output)
        save_figure(output / LEARNING_CURVE, plot_learning_curve(progress.log))
        save_thresholds(output, thresholds)
        card = model_card(
            output.resolve().name,
            os.fspath(model),
            known_labels,
            Path(corpus).resolve().name,
            annotations,
            train_set.feature_spec.encoder,
            metrics,
            thresholds,
            asdict(arguments),
        )
        with replacing(output / "README.md") as file:
            file.write(card)
    return Finetuned(progress, tuple(known_labels), metrics, thresholds)


def _localize_splits(
    output: str | os.PathLike[str], corpus: str | os.PathLike[str], annotations: Annotations, accelerator: Accelerator
) -> dict[str, Localized]:
    """Events that the saved model finds in the validation split and, if there is one, in the test split."""
    model, processor = open_model(output)
    model = model.to(accelerator.device)
    splits = {video.split for video in annotations.videos.values()}
    return {
        split: localize_dataset(model, processor, EventCorpus(corpus, split), accelerator)
        for split in ("validation", "test")
        if split in splits
    }
