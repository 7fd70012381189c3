"""Score a model on a split of a corpus."""

import argparse

from accelerate import Accelerator

from esg_transformers.cli.sources import add_source_arguments, open_model_and_split
from esg_transformers.cli.tables import check_folder_of, class_table, metric_table, write_predictions
from esg_transformers.evaluation import mean_average_precision
from esg_transformers.training.inference import localize_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="a trained model")
    add_source_arguments(parser)
    parser.add_argument("--split", default="test", help="the split to score (default: test)")
    parser.add_argument("--batch-size", type=int, default=16, help="videos of one forward pass (default: 16)")
    parser.add_argument("--output", metavar="FILE", help="write the found events here, in the layout of ActivityNet")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    check_folder_of(arguments.output)
    model, processor, dataset = open_model_and_split(arguments)
    accelerator = Accelerator()
    model = model.to(accelerator.device)
    video_ids, found, true = localize_dataset(model, processor, dataset, accelerator, arguments.batch_size)
    if not accelerator.is_main_process:
        return
    metrics = mean_average_precision(found, true)
    if arguments.output:
        write_predictions(arguments.output, video_ids, found)
    print(f"{len(video_ids)} videos, {sum(map(len, true))} events, percent\n")
    print(metric_table({arguments.split: metrics}), class_table(metrics), sep="\n\n")
