"""Train ESG-Net on a corpus; also under `accelerate launch -m esg_transformers train ...`."""

import argparse
from dataclasses import fields

from accelerate import PartialState

from esg_transformers.cli.sources import add_source_arguments, open_source
from esg_transformers.cli.tables import training_summary
from esg_transformers.models.esg_net.configuration_esg_net import SIZES
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command, the settings of `LocalizationTrainingArguments` among them."""
    add_source_arguments(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the trained model and its checkpoints"
    )
    parser.add_argument("--size", choices=list(SIZES), default="base", help="size of the model (default: base)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    settings = parser.add_argument_group("training")
    for setting in fields(LocalizationTrainingArguments):
        settings.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=setting.type,
            default=setting.default,
            help=f"{setting.metadata['help']} (default: {setting.default})",
        )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    names = [setting.name for setting in fields(LocalizationTrainingArguments)]
    settings = LocalizationTrainingArguments(**{name: getattr(arguments, name) for name in names})
    train_set, validation_set = open_source(arguments, "train"), open_source(arguments, "validation")
    model, processor = new_model(train_set, arguments.size, settings.seed)
    progress = train(model, processor, train_set, validation_set, arguments.output, settings, arguments.resume)
    processes = PartialState()
    if processes.is_main_process:
        print(training_summary(progress, arguments.output))
    processes.destroy_process_group()
