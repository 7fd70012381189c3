"""Options are named alike in every command, and names of 0.1 still work."""

import argparse

import pytest

from esg_transformers.annotations import FORMATS
from esg_transformers.cli import options
from esg_transformers.cli.commands import COMMANDS
from esg_transformers.cli.main import main
from esg_transformers.cli.options import seconds_of_classes, spelling_of

# Command, name in 0.1, name now, attribute, value as given and as stored.
OLD_SPELLINGS = [
    ("annotations convert", "--from", "--annotation-format", "csv", "csv"),
    ("annotations convert", "--media", "--videos", "v", "v"),
    ("corpus build", "--annotation-frame-rate", "--frame-rate", "25", 25.0),
    ("corpus validate", "--annotation-frame-rate", "--frame-rate", "25", 25.0),
    ("corpus validate", "--json", "--report", "r.json", "r.json"),
    ("corpus describe", "--annotation-frame-rate", "--frame-rate", "25", 25.0),
    ("corpus describe", "--json", "--report", "r.json", "r.json"),
]
REQUIRED = {"annotations convert": ["in", "out"], "corpus build": ["--annotations", "a", "--output", "o"]}
READS_ANNOTATIONS = (
    "train",
    "evaluate",
    "calibrate",
    "localize",
    "corpus build",
    "corpus validate",
    "corpus describe",
    "annotations convert",
)
RUNS_A_NETWORK = ("demo", "train", "finetune", "evaluate", "calibrate", "localize", "corpus build")


def parser_of(command):
    parser = argparse.ArgumentParser(prog=command)
    COMMANDS[command].add_options(parser)
    return parser


def spellings_of(command, hidden=False):
    actions = parser_of(command)._actions
    return {word for action in actions if hidden or action.help != argparse.SUPPRESS for word in action.option_strings}


@pytest.mark.parametrize(("command", "old", "new", "given", "stored"), OLD_SPELLINGS)
def test_a_name_of_0_1_sets_the_option_of_now_and_warns(command, old, new, given, stored, capsys):
    parser, attribute = parser_of(command), new.strip("-").replace("-", "_")
    arguments = parser.parse_args([*REQUIRED.get(command, []), old, given])
    assert vars(arguments)[attribute] == stored
    assert capsys.readouterr().err == f"{command}: {old} is now {new}; the old name works until 0.3.\n"
    assert parser.parse_args([*REQUIRED.get(command, []), new, given]) == arguments
    assert capsys.readouterr().err == ""
    assert old not in parser.format_help()


def test_these_are_all_the_names_of_0_1():
    hidden = {(command, word) for command in COMMANDS for word in spellings_of(command, True) - spellings_of(command)}
    assert hidden == {(command, old) for command, old, *_ in OLD_SPELLINGS}


def test_a_name_of_0_1_takes_the_values_of_the_option_of_now(capsys):
    with pytest.raises(SystemExit):
        main(["annotations", "convert", "in", "out", "--from", "srt"])
    assert "--from: invalid choice: 'srt'" in capsys.readouterr().err


@pytest.mark.parametrize("command", READS_ANNOTATIONS)
def test_every_command_that_reads_annotations_takes_their_format_and_frame_rate(command):
    assert {"--annotation-format", "--frame-rate"} <= spellings_of(command)


@pytest.mark.parametrize("command", RUNS_A_NETWORK)
def test_every_command_that_runs_a_network_takes_its_device(command):
    assert "--device" in spellings_of(command)


@pytest.mark.parametrize("command", ["corpus build", "localize"])
def test_every_command_that_encodes_videos_takes_an_encoder_and_its_models(command):
    models = {spelling_of(name) for names in options.MODELS_OF_ENCODER.values() for name in names}
    assert {"--encoder", *models} <= spellings_of(command)


def test_formats_that_are_only_written_are_not_offered_for_reading():
    assert set(FORMATS) - set(options.READABLE_FORMATS) == {"srt", "webvtt"}


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--output", "o", "--corpus", "c", "--frame-rate", "25"],
        ["evaluate", "--model", "m", "--corpus", "c", "--annotation-format", "csv"],
        ["corpus", "describe", "--corpus", "c", "--annotation-format", "csv"],
        ["corpus", "validate", "--corpus", "c", "--frame-rate", "25"],
    ],
)
def test_options_on_annotations_are_refused_where_none_are_read(refused, words):
    assert refused(*words).startswith("--annotation-format and --frame-rate apply to --annotations")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0.5", 0.5),
        ("0", 0.0),
        ("alarm=0.5", {"alarm": 0.5}),
        ("alarm=0.5, door slamming=1", {"alarm": 0.5, "door slamming": 1.0}),
        ("bell ringing, church=2,alarm=1", {"bell ringing, church": 2.0, "alarm": 1.0}),
    ],
)
def test_seconds_are_for_all_classes_or_for_each_of_some(text, seconds):
    assert seconds_of_classes(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "alarm", "alarm=", "alarm=1,door", "=1"])
def test_what_is_no_seconds_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="neither a number of seconds .* 'alarm=0.5,door slamming=1'"):
        seconds_of_classes(text)
