"""Train ESG-Net on a corpus; also under `accelerate launch -m esg_transformers train ...`.

A run that was ended goes on from its last checkpoint when the same command is given again.
"""

import argparse
from dataclasses import fields

from accelerate import PartialState

from esg_transformers.cli.sources import add_source_arguments, open_source
from esg_transformers.cli.tables import training_summary
from esg_transformers.files import save_figure
from esg_transformers.models.esg_net.configuration_esg_net import SIZES
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.learning_curve import plot_learning_curve
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command, the settings of `LocalizationTrainingArguments` among them."""
    add_source_arguments(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the trained model and its checkpoints"
    )
    parser.add_argument("--size", choices=list(SIZES), default="base", help="size of the model (default: base)")
    add_settings(parser, LocalizationTrainingArguments())


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    settings = read_settings(arguments, LocalizationTrainingArguments())
    train_set, validation_set = open_source(arguments, "train"), open_source(arguments, "validation")
    model, processor = new_model(train_set, arguments.size, settings.seed)
    progress = train(model, processor, train_set, validation_set, arguments.output, settings)
    processes = PartialState()
    if processes.is_main_process:
        save_figure(f"{arguments.output}/learning_curve.png", plot_learning_curve(progress.log))
        print(training_summary(progress, arguments.output))
    processes.destroy_process_group()


def add_settings(parser: argparse.ArgumentParser, defaults: LocalizationTrainingArguments) -> None:
    """An option for each setting of a training run, and `--config` for a file of them."""
    group = parser.add_argument_group("training")
    group.add_argument("--config", metavar="FILE", help="settings in YAML or JSON; options given here win over it")
    for setting in fields(defaults):
        default = getattr(defaults, setting.name)
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{setting.metadata['help']} (default: {default})",
            **({"action": argparse.BooleanOptionalAction} if setting.type is bool else {"type": setting.type}),
        )


def read_settings(
    arguments: argparse.Namespace, defaults: LocalizationTrainingArguments
) -> LocalizationTrainingArguments:
    """The settings that were given, over those of the file, over the defaults."""
    given = {setting.name: vars(arguments)[setting.name] for setting in fields(defaults) if setting.name in arguments}
    if arguments.config is None:
        return LocalizationTrainingArguments(**(vars(defaults) | given))
    return LocalizationTrainingArguments.from_file(arguments.config, given, defaults)
