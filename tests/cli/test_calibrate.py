import json
import shutil

import pytest
from transformers import AutoProcessor

from esg_transformers.cli.calibrate import target_of
from esg_transformers.cli.checks import parse_target
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.evaluation import AlarmsPerHour, BestF1, LowestCost, PrecisionAtLeast, RecallAtLeast


@pytest.fixture
def model(trained, tmp_path):
    """A model of its own, with something in its processor that this package does not know."""
    shutil.copytree(trained, tmp_path / "model")
    path = tmp_path / "model" / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"site": "gate 3"}))
    return tmp_path / "model"


def config_of(model):
    return json.loads((model / "processor_config.json").read_text())


def files_of(model):
    return {str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()}


def test_the_thresholds_are_written_into_the_processor_and_all_else_stays(run, model, corpus):
    before = files_of(model)
    config = config_of(model)
    code, printed, _ = run("calibrate", "--model", model, "--corpus", corpus, "--target", "recall=0.5", "--tiou", 0.1)
    assert code == 0
    thresholds = config_of(model)["thresholds"]
    assert config_of(model) == config | {"thresholds": thresholds}
    assert thresholds
    assert all(0 <= threshold <= 1 for threshold in thresholds.values())
    after = files_of(model)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == ["processor_config.json"]
    assert AutoProcessor.from_pretrained(model).thresholds == thresholds
    assert printed.endswith(f"\nWrote the thresholds to {model / 'processor_config.json'}.\n")


def test_the_table_has_a_row_for_each_class_and_one_for_all(run, model, corpus):
    options = {"--model": model, "--corpus": corpus, "--target": "f1", "--tiou": 0.1}
    _, printed, _ = run("calibrate", options)
    dataset = EventCorpus(corpus, "validation")
    num_events = sum(len(example["labels"]) for example in dataset)
    first, _, columns, *rows = printed.splitlines()[: 4 + len(config_of(model)["thresholds"])]
    assert first == f"3 videos, {num_events} events"
    assert columns.split() == ["threshold", "precision", "recall", "false", "alarms/h", "true", "events"]
    *classes, total = (row.replace("*", "").split() for row in rows)
    written = config_of(model)["thresholds"]
    assert {" ".join(row[:-5]): float(row[-5]) for row in classes} == pytest.approx(written, abs=5e-4)
    assert sum(int(row[-1]) for row in classes) == int(total[-1]) == num_events
    assert sum(float(row[-2]) for row in classes) == pytest.approx(float(total[-2]), abs=0.05)


def test_a_budget_that_the_split_is_too_short_for_is_said(run, model, corpus, caplog):
    # 3 videos of 6 s: 200 an hour are one alarm, 100 are none.
    options = {"--model": model, "--corpus": corpus, "--tiou": 0.1}
    run("calibrate", options | {"--target": "alarms-per-hour=200"})
    assert caplog.text == ""
    run("calibrate", options | {"--target": "alarms-per-hour=100"})
    assert "100 false alarms per hour are 0.50 in the 0.005 hours of the validation split" in caplog.text


def test_events_are_found_at_the_thresholds_that_were_chosen(run, model, corpus, tmp_path):
    options = {"--model": model, "--corpus": corpus}
    assert run("calibrate", options, "--target", "recall=0.5", "--collar", 2)[0] == 0
    path = tmp_path / "found.json"
    found = {}
    for name, words in {"all": ["--threshold", 0], "chosen": [], "many": ["--threshold", 0.001]}.items():
        assert run("localize", options, "--split", "test", "--output", path, *words)[0] == 0
        found[name] = json.loads(path.read_text())["results"]
    thresholds = config_of(model)["thresholds"]
    expected = {
        video_id: [event for event in events if event["score"] > thresholds[event["label"]]]
        for video_id, events in found["all"].items()
    }
    assert found["chosen"] == expected
    assert sum(map(len, expected.values())) > 0
    assert found["many"] != expected


def test_a_class_that_the_split_does_not_tell_of_keeps_the_default(run, model, write_features, tmp_path):
    source = write_features("one-peace")
    quick = {"--size": "tiny", "--epochs": 1, "--warmup-epochs": 0, "--output": tmp_path / "other"}
    assert run("train", source, quick)[0] == 0
    content = json.loads(source["--annotations"].read_text())
    content["database"]["c"]["annotations"] = [
        event for event in content["database"]["c"]["annotations"] if event["label"] == "speech"
    ]
    source["--annotations"].write_text(json.dumps(content))
    path = tmp_path / "other" / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"candidate_threshold": 1.0}))  # nothing is found
    code, printed, _ = run("calibrate", "--model", tmp_path / "other", source, "--target", "cost=5:1")
    assert code == 0
    assert "keep the threshold 0.3: alarm.\n" in printed
    assert json.loads(path.read_text())["thresholds"] == {"speech": 0.5}
    assert "\nspeech      *      0.500 " in printed
    assert "\n* Target not reached on this split" in printed


def test_scores_on_training_videos_are_warned_of(run, model, corpus, caplog):
    assert run("calibrate", "--model", model, "--corpus", corpus, "--split", "train", "--target", "f1")[0] == 0
    assert "--split validation" in caplog.text


@pytest.mark.parametrize("name", ["someone/model", "nowhere"])
def test_a_model_that_is_not_a_folder_here_is_refused(refused, corpus, name):
    message = refused("calibrate", "--model", name, "--corpus", corpus, "--target", "f1")
    assert f"{name}/processor_config.json" in message and "hf download" in message


def test_a_split_without_events_is_refused_and_nothing_is_written(run, write_features, tmp_path):
    source = write_features("one-peace")
    quick = {"--size": "tiny", "--epochs": 1, "--warmup-epochs": 0, "--output": tmp_path}
    assert run("train", source, quick)[0] == 0
    before = config_of(tmp_path)
    content = json.loads(source["--annotations"].read_text())
    content["database"]["c"]["annotations"] = []
    source["--annotations"].write_text(json.dumps(content))
    code, _, errors = run("calibrate", "--model", tmp_path, source, "--target", "f1")
    assert code == 1
    assert "error: No video of the validation split has an event" in errors
    assert config_of(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("precision=0.9", PrecisionAtLeast(0.9)),
        ("recall=.8", RecallAtLeast(0.8)),
        ("f1", BestF1()),
        ("cost=5:1", LowestCost(5, 1)),
        ("alarms-per-hour=2", AlarmsPerHour(2)),
    ],
)
def test_a_target_is_named_with_its_numbers(text, target):
    assert target_of(*parse_target(text)) == target


@pytest.mark.parametrize(
    "text", ["precision", "precision=a", "precision=0.9:1", "f1=1", "f1=", "cost=5", "speed=1", ""]
)
def test_a_target_that_is_none_is_refused(refused, text):
    message = refused("calibrate", "--model", "m", "--corpus", "c", "--target", text)
    assert message.startswith(f"--target is {text!r}; expected precision=0.9, recall=0.8, f1, cost=5:1 or alarms-per")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "precision=2"], "in (0, 1]; got 2.0"),
        (["--target", "f1", "--tiou", "0"], "in (0, 1]; got 0.0"),
        (["--target", "f1", "--collar", "-1"], ">= 0; got Collar(onset=-1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(refused, words, message):
    assert message in refused("calibrate", "--model", "m", "--corpus", "c", *words)
