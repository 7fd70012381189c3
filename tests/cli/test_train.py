import json
import os
import subprocess
import sys

import numpy as np
import pytest
from accelerate import Accelerator

from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.localization.dataset import evaluate_dataset
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor

QUICK = {"--size": "tiny", "--epochs": 1, "--warmup-epochs": 0, "--batch-size": 2}


def log_of(folder):
    return [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]


def validation_map(folder, dataset):
    model, processor = EsgNetForEventLocalization.from_pretrained(folder), EsgNetProcessor.from_pretrained(folder)
    return evaluate_dataset(model, processor, dataset, Accelerator())["average_map"]


def test_the_trained_model_loads_and_knows_its_labels_and_encoder(trained, corpus):
    model, processor = EsgNetForEventLocalization.from_pretrained(trained), EsgNetProcessor.from_pretrained(trained)
    dataset = EventCorpus(corpus, "validation")
    assert tuple(model.config.id2label.values()) == dataset.labels
    assert processor.feature_spec == dataset.feature_spec
    assert len(log_of(trained)) == 2


def test_a_run_is_summed_up_and_gone_on_with_by_the_same_command_only(run, refused, corpus, tmp_path):
    options = {"--corpus": corpus, "--output": tmp_path / "model"} | QUICK
    code, printed, _ = run("train", options)
    assert code == 0
    assert printed.startswith("Epoch 1 of 1 was the best: average mAP ")
    assert (tmp_path / "model" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "of another run: epochs was 1 and is 2" in refused("train", options | {"--epochs": 2})
    assert run("train", options)[:2] == (0, printed)


def test_settings_come_from_a_file_and_options_win(run, refused, corpus, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("epochs: 3\nwarmup_epochs: 0\nbatch_size: 2\ntracker: none\n")
    options = {"--corpus": corpus, "--output": tmp_path / "model", "--size": "tiny", "--config": settings}
    code, printed, _ = run("train", options, "--epochs", 1)
    assert code == 0
    assert printed.startswith("Epoch 1 of 1 was the best")
    assert "epochs was 1 and is 3" in refused("train", options)
    settings.write_text("epoch: 3\n")
    assert "unknown setting 'epoch'; did you mean 'epochs'?" in refused("train", options)


@pytest.mark.slow
@pytest.mark.parametrize("feature_set", ["i3d-vggish", "one-peace"])
def test_the_published_feature_files_are_trained_on(run, write_features, feature_set, tmp_path):
    source = write_features(feature_set)
    assert run("train", source, QUICK, "--output", tmp_path)[0] == 0
    processor = EsgNetProcessor.from_pretrained(tmp_path)
    assert processor.encoder == {"name": feature_set, "version": "unav100"}
    code, printed, _ = run("evaluate", source, "--model", tmp_path)
    assert code == 0
    assert printed.startswith("1 videos, 2 events, percent\n")


def test_the_files_of_another_feature_set_are_missed_by_name(refused, write_features, tmp_path):
    options = write_features("one-peace") | {"--feature-set": "i3d-vggish", "--output": tmp_path / "model"} | QUICK
    message = refused("train", options)
    assert "lacks 6 of the 6 i3d-vggish feature files of split 'train': -a_1_rgb.npy, -a_1_flow.npy, " in message
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("option", ["--annotations", "--features"])
def test_a_missing_source_is_named(refused, write_features, option, tmp_path):
    options = write_features("one-peace") | {option: tmp_path / "nowhere", "--output": tmp_path / "model"} | QUICK
    assert refused("train", options).endswith(f"at {tmp_path / 'nowhere'}.")
    assert list(tmp_path.iterdir()) == []


def test_a_pickled_feature_file_is_refused_and_not_opened(refused, write_features, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    options = write_features("one-peace") | {"--output": tmp_path / "model"} | QUICK
    np.save(options["--features"] / "b_one_peace_audio.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    message = refused("train", options)
    assert "b_one_peace_audio.npy is not a one-peace feature file" in message
    assert list(tmp_path.iterdir()) == []


def test_features_that_are_not_finite_are_refused_by_the_name_of_their_file(refused, write_features, tmp_path):
    options = write_features("one-peace") | {"--output": tmp_path / "model"} | QUICK
    features = np.zeros((37, 1536), np.float32)
    features[3, 5] = np.nan
    np.save(options["--features"] / "-a_1_one_peace_audio.npy", features)
    message = refused("train", options)
    assert "-a_1_one_peace_audio.npy is not a one-peace feature file: it holds 1 values that are NaN" in message
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_videos_is_refused_and_the_others_are_listed(refused, write_features, tmp_path):
    options = write_features("one-peace") | {"--output": tmp_path / "model"} | QUICK
    annotations = options["--annotations"]
    annotations.write_text(annotations.read_text().replace('"validation"', '"test"'))
    message = refused("train", options)
    assert message == (
        "No video is in split 'validation'. Splits of these annotations: 'train' (2 videos), 'test' (2 videos)."
    )


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--annotations", "a.json", "--features", "f"],
        ["--corpus", "c", "--annotations", "a.json", "--features", "f", "--feature-set", "one-peace"],
    ],
)
def test_one_source_and_one_only_must_be_given(refused, tmp_path, wrong):
    message = refused("train", *wrong, "--output", tmp_path / "model")
    assert message == "Give either --corpus, or all of --annotations, --features and --feature-set."


def test_a_folder_that_is_no_corpus_is_refused(refused, tmp_path):
    message = refused("train", "--corpus", tmp_path, "--output", tmp_path / "model")
    assert message == f"{tmp_path} is not a corpus: it has no corpus.json. `write_corpus` makes one."


def test_a_setting_out_of_range_is_refused_before_anything_is_read(refused, tmp_path):
    message = refused("train", "--corpus", tmp_path / "nowhere", "--output", tmp_path, "--batch-size", 0)
    assert message == "`batch_size` must be at least 1; got 0."


def test_two_processes_train_one_model_and_log_the_score_it_has(corpus, tmp_path):
    # Accelerate takes --multi_gpu for "several processes here", and this variable for "on the CPU, with gloo".
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    train = ["-m", "esg_transformers", "train", "--corpus", corpus, "--output", tmp_path / "model"]
    options = [part for option in QUICK.items() for part in option]
    ended = subprocess.run(
        [str(word) for word in (sys.executable, *launch, *train, *options)],
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Epoch 1 of 1 was the best") == 1  # said once, not by each process
    assert " 1/1 " in ended.stderr  # 4 videos, 2 in each process: one step
    [record] = log_of(tmp_path / "model")
    # 3 videos shared by 2 processes, and scored again by one.
    expected = validation_map(tmp_path / "model", EventCorpus(corpus, "validation"))
    assert record["average_map"] == pytest.approx(expected, rel=1e-6)
