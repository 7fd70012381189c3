"""`esg-transformers train`."""

import argparse
from pathlib import Path

from accelerate import PartialState

from esg_transformers.cli.devices import use_device
from esg_transformers.cli.sources import open_source
from esg_transformers.cli.tables import training_summary
from esg_transformers.files import save_figure
from esg_transformers.training.arguments import LocalizationTrainingArguments, read_settings
from esg_transformers.training.learning_curve import LEARNING_CURVE, plot_learning_curve
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    settings = read_settings(arguments, LocalizationTrainingArguments())
    use_device(arguments.device)
    train_set, validation_set = open_source(arguments, "train"), open_source(arguments, "validation")
    model, processor = new_model(train_set, arguments.size, settings.seed)
    progress = train(model, processor, train_set, validation_set, arguments.output, settings)
    processes = PartialState()
    if processes.is_main_process:
        save_figure(Path(arguments.output) / LEARNING_CURVE, plot_learning_curve(progress.log))
        print(training_summary(progress, arguments.output))
    processes.destroy_process_group()
