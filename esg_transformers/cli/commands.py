"""The commands of `esg-transformers`: names, descriptions and options.

A command is run by `run(arguments)` of the module with its name, which is imported only then. So help and usage errors
import neither torch nor transformers nor datasets.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from esg_transformers.annotations import FORMATS
from esg_transformers.cli.checks import (
    check_annotations_convert,
    check_calibrate,
    check_corpus_build,
    check_corpus_describe,
    check_corpus_simulate,
    check_corpus_validate,
    check_evaluate,
    check_finetune,
    check_localize,
    check_train,
)
from esg_transformers.cli.options import (
    FEATURE_SETS,
    LANES,
    SIZES,
    SUFFIXES,
    add_annotation_options,
    add_device_option,
    add_encoder_options,
    add_feature_set_option,
    add_old_spelling,
    add_push_options,
    add_report_option,
    add_source_options,
    names_of_files,
    names_of_lanes,
    numbers_of_grid,
    seconds_of_classes,
)
from esg_transformers.training.arguments import FINETUNING, LocalizationTrainingArguments, add_settings


@dataclass(frozen=True)
class Command:
    """A command and its options.

    Args:
        description: shown in its help; the first line also in the list of commands.
        add_options: adds its options to a parser.
        check: raises `ValueError` or `OSError` for options that cannot be used together.
    """

    description: str
    add_options: Callable[[argparse.ArgumentParser], None]
    check: Callable[[argparse.Namespace], None] = lambda arguments: None


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="demo", metavar="DIR", help="folder for all files (default: demo)")
    add_device_option(parser)


def _add_train(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the trained model and its checkpoints"
    )
    parser.add_argument("--size", choices=SIZES, default="base", help="size of the model (default: base)")
    add_device_option(parser)
    add_settings(parser, LocalizationTrainingArguments())


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="trained model to start from")
    parser.add_argument("--corpus", required=True, metavar="DIR", help="corpus with the splits train and validation")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the fine-tuned model and its checkpoints"
    )
    parser.add_argument(
        "--freeze",
        nargs="+",
        default=[],
        metavar="PART",
        help="modules whose weights stay fixed, such as model.embeddings",
    )
    parser.add_argument(
        "--lora-rank",
        type=int,
        metavar="RANK",
        help="train LoRA adapters of this rank, and keep the weights of the body fixed (needs peft)",
    )
    add_device_option(parser)
    add_settings(parser, FINETUNING)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="folder of a trained model")
    add_source_options(parser)
    parser.add_argument("--split", default="validation", help="split to choose on (default: validation)")
    parser.add_argument(
        "--target",
        required=True,
        help="goal for each class: precision=0.9, recall=0.8, f1 (the best), cost=5:1 (a miss costs as much "
        "as 5 false alarms), or alarms-per-hour=2 (false alarms of all classes together)",
    )
    criterion = parser.add_mutually_exclusive_group()
    criterion.add_argument(
        "--tiou", type=float, default=0.5, help="temporal IoU with a true event that makes a hit (default: 0.5)"
    )
    criterion.add_argument(
        "--collar",
        type=float,
        metavar="SECONDS",
        help="match boundaries instead: largest distance of starts and of ends; ends may also differ by a fifth of the "
        "event's length, as in DESED",
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="videos per forward pass (default: 16)")
    add_device_option(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="trained model")
    add_source_options(parser)
    parser.add_argument("--split", default="test", help="split to score (default: test)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="videos per forward pass (default: 16)")
    parser.add_argument("--output", metavar="FILE", help="write the found events here, as an ActivityNet result file")
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=0,
        metavar="N",
        help="print 95 percent intervals from N bootstrap resamples of the videos, such as 1000 (default: none)",
    )
    parser.add_argument(
        "--against", metavar="FILE", help="compare with the events of another model, as `evaluate --output` wrote them"
    )
    parser.add_argument("--errors", metavar="FILE.png", help="analyse the errors: print the analysis and draw it here")
    add_report_option(parser, "all figures")
    add_device_option(parser)


def _add_localize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos", nargs="*", metavar="VIDEO_OR_FOLDER", help="video and sound files, and folders of them"
    )
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="trained model")
    add_device_option(parser, "a GPU if there is one; encoders on the CPU")
    parser.add_argument(
        "--threshold", type=float, help="score above which events are kept (default: those of `calibrate`, or else 0.3)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the events of all videos here: a .json is an ActivityNet result file; a .jsonl has one line per "
        "video, and an interrupted run resumes from it",
    )
    _add_localize_videos(parser)
    add_source_options(parser)
    parser.add_argument("--split", default="test", help="split of the corpus (default: test)")


def _add_localize_videos(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("videos")
    add_encoder_options(group, "the one that the model was trained on, if it needs no weights")
    group.add_argument("--top-k", type=int, metavar="K", help="largest number of events per video (default: all)")
    group.add_argument(
        "--merge-gap",
        type=seconds_of_classes,
        metavar="SECONDS",
        help="merge events of one class that are at most this far apart; for single classes: "
        "'alarm=0.5,door slamming=1'",
    )
    group.add_argument(
        "--min-duration",
        type=seconds_of_classes,
        metavar="SECONDS",
        help="drop shorter events; for single classes as in --merge-gap",
    )
    group.add_argument(
        "--to",
        type=names_of_files,
        default=[],
        metavar="FORMAT,...",
        help=f"write one file per video in each of these formats: {', '.join(SUFFIXES)}; existing files are replaced",
    )
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        help="folder of the files of --to; created if missing (default: the current directory)",
    )
    group.add_argument(
        "--lanes",
        type=names_of_lanes,
        default=[],
        metavar="LANE,...",
        help=f"show these outputs of the model in the html, step by step: {', '.join(LANES)}",
    )
    group.add_argument(
        "--num-workers",
        type=int,
        default=0,
        metavar="N",
        help="worker processes (default: 0, localize in this process)",
    )


def _add_corpus_build(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("videos or features", "Give --videos, or --features and --feature-set.")
    source.add_argument("--videos", metavar="DIR", help="folder of the videos, each named after its id")
    source.add_argument("--features", metavar="DIR", help="folder of .npy feature files")
    add_feature_set_option(source)
    add_encoder_options(source, "without models spectral")
    add_device_option(source, "cpu")
    source.add_argument(
        "--grid",
        type=numbers_of_grid,
        metavar="FRAME_RATE,STRIDE,WINDOW",
        help="feature grid: frames per second, frames from one feature to the next, frames per feature; videos are "
        "encoded on it, feature files are resampled to it (default: that of the encoder or the files)",
    )
    annotations = parser.add_argument_group("events")
    annotations.add_argument(
        "--annotations", required=True, metavar="FILE", help="true events, in any annotation format"
    )
    _, frame_rate = add_annotation_options(annotations)
    add_old_spelling(annotations, "--annotation-frame-rate", frame_rate)
    parser.add_argument("--output", required=True, metavar="DIR", help="corpus folder to create")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing corpus")
    parser.add_argument("--videos-per-shard", type=int, default=128, metavar="N", help="videos per file (default: 128)")
    parser.add_argument(
        "--num-workers",
        type=int,
        metavar="N",
        help="worker processes; 0 builds in this process (default: 2, or 0 with a --device other than cpu)",
    )


def _add_corpus_validate(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("source", "Give --corpus, or --annotations, alone or with features or videos.")
    source.add_argument("--corpus", metavar="DIR", help="corpus folder")
    source.add_argument("--annotations", metavar="FILE", help="true events, in any annotation format")
    _, frame_rate = add_annotation_options(source)
    add_old_spelling(source, "--annotation-frame-rate", frame_rate)
    source.add_argument("--features", metavar="DIR", help="folder of .npy feature files; needs --feature-set")
    add_feature_set_option(source)
    source.add_argument("--videos", metavar="DIR", help="folder of the videos, each named after its id")
    parser.add_argument("--model", metavar="DIR", help="folder of a model; labels that it does not know are errors")
    add_old_spelling(parser, "--json", add_report_option(parser, "all problems and counts"))
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings, too")


def _add_corpus_describe(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("source", "Give --corpus or --annotations.")
    source.add_argument("--corpus", metavar="DIR", help="corpus folder")
    source.add_argument("--annotations", metavar="FILE", help="events, in any annotation format")
    _, frame_rate = add_annotation_options(source)
    add_old_spelling(source, "--annotation-frame-rate", frame_rate)
    add_feature_set_option(source)
    parser.add_argument(
        "--levels", type=int, default=6, metavar="N", help="levels of the temporal pyramid (default: 6)"
    )
    parser.add_argument("--picture", metavar="FILE", help="draw the description here: .png, .svg or .pdf")
    add_old_spelling(parser, "--json", add_report_option(parser, "all figures"))


def _add_corpus_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, metavar="DIR", help="corpus folder to create")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing corpus")
    parser.add_argument("--classes", type=int, default=20, metavar="N", help="classes of events (default: 20)")
    for split, number in (("train", 300), ("validation", 100), ("test", 100)):
        parser.add_argument(
            f"--{split}", type=int, default=number, metavar="N", help=f"videos of the {split} split (default: {number})"
        )
    parser.add_argument(
        "--feature-set",
        choices=FEATURE_SETS,
        default="i3d-vggish",
        help="feature set whose grid and sizes to use (default: i3d-vggish)",
    )
    parser.add_argument(
        "--difficulty", type=float, default=1.0, help="factor on everything that misleads; 0: only events (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    parser.add_argument(
        "--num-workers", type=int, default=0, metavar="N", help="worker processes (default: 0, build in this process)"
    )


def _add_corpus_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", metavar="DIR", help="corpus folder")
    add_push_options(parser, "dataset")


def _add_annotations_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="a file, or a folder with one file per video")
    parser.add_argument("output", metavar="OUT", help="a file, or a folder if the format has one file per video")
    annotation_format, _ = add_annotation_options(parser)
    add_old_spelling(parser, "--from", annotation_format)
    parser.add_argument(
        "--to",
        dest="target_format",
        choices=list(FORMATS),
        metavar="FORMAT",
        help=f"format of OUT (default: by suffix; .json is unav): {', '.join(FORMATS)}",
    )
    videos = parser.add_argument(
        "--videos",
        metavar="DIR",
        help="folder of the videos, each named after its id, to measure durations that IN lacks",
    )
    add_old_spelling(parser, "--media", videos)
    parser.add_argument(
        "--split", default="train", metavar="NAME", help="split of the videos for which IN names none (default: train)"
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="annotations that list the classes and their ids; other classes are refused"
    )


def _add_metric_push(parser: argparse.ArgumentParser) -> None:
    add_push_options(parser, "Space")


# By name. The module of a command has underscores for spaces.
COMMANDS = {
    "demo": Command(
        "Make simulated videos, encode them, train, evaluate and localize; without network.\n\n"
        "Interrupted? Run the same command again: finished parts are kept.",
        _add_demo,
    ),
    "train": Command(
        "Train ESG-Net on a corpus.\n\n"
        "Also under `accelerate launch -m esg_transformers train ...`. Interrupted? Run the same command again: "
        "training resumes from the last checkpoint.",
        _add_train,
        check_train,
    ),
    "finetune": Command(
        "Fine-tune a trained model on a corpus, with the classes of that corpus.\n\n"
        "Classes that the model knows by name keep their weights; others start with new ones. The output folder is a "
        "model with a score threshold for each class, a model card and a learning curve. Interrupted? Run the same "
        "command again: training resumes from the last checkpoint.",
        _add_finetune,
        check_finetune,
    ),
    "calibrate": Command(
        "Choose a score threshold for each class, on a validation split.\n\n"
        "The thresholds are written to the processor of the model, where `localize` and the pipeline read them. "
        "Choose them on videos that the model was not trained on, and report figures on those of a third split.",
        _add_calibrate,
        check_calibrate,
    ),
    "evaluate": Command("Score a model on a split of a corpus.", _add_evaluate, check_evaluate),
    "localize": Command(
        "Find the events of videos, or of a split of a corpus.\n\n"
        "With --output FILE.jsonl, an interrupted run can be resumed: run the same command again, and finished videos "
        "are skipped.",
        _add_localize,
        check_localize,
    ),
    "corpus build": Command(
        "Build a corpus from videos or feature files, with their annotations.\n\n"
        "Interrupted? Run the same command again: finished files are kept.",
        _add_corpus_build,
        check_corpus_build,
    ),
    "corpus validate": Command(
        "Check a corpus, or annotations with their features or videos, and report every problem.\n\n"
        "Exit code: 0 without errors (with --strict: without warnings), 1 otherwise.",
        _add_corpus_validate,
        check_corpus_validate,
    ),
    "corpus describe": Command(
        "Describe a corpus or annotations: counts, durations, overlap and lengths of events, with a picture.",
        _add_corpus_describe,
        check_corpus_describe,
    ),
    "corpus simulate": Command(
        "Write a corpus of simulated features, for first steps and tests.", _add_corpus_simulate, check_corpus_simulate
    ),
    "corpus push": Command(
        "Push a corpus to the Hub as a dataset.\n\n"
        "No other command uploads a corpus. The access token is that of `hf auth login`, or HF_TOKEN.",
        _add_corpus_push,
    ),
    "annotations convert": Command(
        "Convert annotations or found events from one format to another.",
        _add_annotations_convert,
        check_annotations_convert,
    ),
    "metric push": Command(
        'Push the metric to the Hub as a Space, for `evaluate.load("OWNER/NAME")`.\n\n'
        "No other command uploads the metric. The access token is that of `hf auth login`, or HF_TOKEN.",
        _add_metric_push,
    ),
}
GROUPS = {
    "corpus": "Make, check and share a corpus.",
    "annotations": "Convert annotations and found events between formats.",
    "metric": "Share the metric.",
}
