"""`esg-transformers finetune`."""

import argparse
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator, PartialState
from transformers.utils import PROCESSOR_NAME

from esg_transformers.cli.calibrate import save_thresholds
from esg_transformers.cli.devices import use_device
from esg_transformers.cli.sources import open_model
from esg_transformers.cli.tables import training_summary
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.corpora.reading import read_corpus_annotations
from esg_transformers.evaluation import BestF1, choose_thresholds, mean_average_precision
from esg_transformers.files import replacing, save_figure
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.training.arguments import FINETUNING, LocalizationTrainingArguments, read_settings
from esg_transformers.training.card import model_card
from esg_transformers.training.learning_curve import plot_learning_curve
from esg_transformers.training.loop import train
from esg_transformers.training.lora import add_lora
from esg_transformers.training.model import freeze, with_labels


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    settings = read_settings(arguments, FINETUNING)
    use_device(arguments.device)
    train_set, validation_set = (EventCorpus(arguments.corpus, split) for split in ("train", "validation"))
    pretrained, processor = open_model(arguments.model)
    model, known = with_labels(pretrained, train_set.labels, settings.seed)
    processor.thresholds = None  # they were for the scores of the other model
    freeze(model, arguments.freeze)
    if arguments.lora_rank is not None:
        add_lora(model, arguments.lora_rank)
    progress = train(model, processor, train_set, validation_set, arguments.output, settings)
    processes = PartialState()
    if processes.is_main_process:
        print(f"Classes known before: {', '.join(known) or 'none'}.")
        print(training_summary(progress, arguments.output))
        save_figure(f"{arguments.output}/learning_curve.png", plot_learning_curve(progress.log))
    _finish(arguments, settings, known)
    processes.destroy_process_group()


def _finish(arguments: argparse.Namespace, settings: LocalizationTrainingArguments, known: list[str]) -> None:
    """Score the model, choose its thresholds, and write them and the model card beside it."""
    output, accelerator = Path(arguments.output), Accelerator()
    model, processor = open_model(arguments.output)
    model = model.to(accelerator.device)
    annotations, _ = read_corpus_annotations(arguments.corpus)
    splits = [split for split in ("validation", "test") if any(v.split == split for v in annotations.videos.values())]
    localized = {
        split: localize_dataset(model, processor, EventCorpus(arguments.corpus, split), accelerator) for split in splits
    }
    if not accelerator.is_main_process:
        return
    metrics = {
        split: mean_average_precision(events.found, events.true)
        for split, events in localized.items()
        if any(events.true)
    }
    validation = localized["validation"]
    points = choose_thresholds(validation.found, validation.true, validation.durations, BestF1())
    save_thresholds(output / PROCESSOR_NAME, points)
    card = model_card(
        output.resolve().name,
        Path(arguments.corpus).resolve().name,
        annotations,
        processor.encoder or {"name": "not known", "version": "not known"},
        metrics,
        points,
        asdict(settings),
        arguments.model,
        known,
    )
    with replacing(output / "README.md") as file:
        file.write(card)
    for split, values in metrics.items():
        print(f"{split}: average mAP {100 * values['average_map']:.1f}, mAP@0.5 {100 * values['mAP@0.5']:.1f}")
