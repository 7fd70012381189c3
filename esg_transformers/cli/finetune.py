"""`esg-transformers finetune`."""

import argparse

from accelerate import PartialState

from esg_transformers.cli.devices import use_device
from esg_transformers.cli.tables import training_summary
from esg_transformers.training.arguments import FINETUNING, read_settings
from esg_transformers.training.finetuning import finetune


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    settings = read_settings(arguments, FINETUNING)
    use_device(arguments.device)
    finetuned = finetune(
        arguments.model,
        arguments.corpus,
        arguments.output,
        arguments=settings,
        freeze=arguments.freeze,
        lora_rank=arguments.lora_rank,
    )
    processes = PartialState()
    if processes.is_main_process:
        print(f"Classes known before: {', '.join(finetuned.known_labels) or 'none'}.")
        print(training_summary(finetuned.progress, arguments.output))
        for split, figures in finetuned.metrics.items():
            average, half = 100 * figures["average_map"], 100 * figures["mAP@0.5"]
            print(f"{split}: average mAP {average:.1f}, mAP@0.5 {half:.1f}")
    processes.destroy_process_group()
