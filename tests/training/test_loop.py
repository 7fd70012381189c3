import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import is_wandb_available
from safetensors.torch import load_file
from transformers.utils import logging

from esg_transformers.corpora.writing import write_corpus
from esg_transformers.localization.dataset import evaluate_dataset
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.training.augmentation import TrainingCrops
from esg_transformers.training.loop import LOG_FILE, train
from esg_transformers.training.model import class_parameters
from esg_transformers.training.steps import parameter_groups

pytestmark = pytest.mark.slow

ARGUMENTS = LocalizationTrainingArguments(
    epochs=4, warmup_epochs=2, learning_rate=5e-3, batch_size=8, ema_decay=0.9, max_steps=32, tracker="none"
)
NUM_VIDEOS = 64

# Script of both processes of a run. Random numbers that differ between processes are off.
RUN_ON_A_CORPUS = """
import sys
from pathlib import Path
from accelerate import Accelerator
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.training.arguments import LocalizationTrainingArguments
from esg_transformers.localization.dataset import localize_dataset
from esg_transformers.training.loop import train
from esg_transformers.training.model import new_model

if __name__ == "__main__":
    corpus, output, batch_size = sys.argv[1:]
    videos = EventCorpus(corpus, "train")
    still = {"drop_path_rate": 0.0, "feature_dropout": 0.0, "slot_noise": 0.0}
    model, processor = new_model(videos, "tiny", **still, router_loss_weight=1.0)
    arguments = LocalizationTrainingArguments(
        epochs=2, warmup_epochs=0, learning_rate=1e-3, batch_size=int(batch_size), max_steps=32, tracker="none"
    )
    train(model, processor, videos, videos, output, arguments)
    accelerator = Accelerator()
    localized = localize_dataset(model, processor, videos, accelerator)
    Path(output, f"localized-{accelerator.process_index}").write_text(" ".join(localized.video_ids))
"""


class PowerCut(Exception):
    """Ends a run from outside."""


class UntilPowerCut(torch.utils.data.Dataset):
    """A data set whose examples can be read `reads` times."""

    def __init__(self, dataset, reads):
        self.dataset, self.reads_left = dataset, reads
        self.labels, self.feature_spec = dataset.labels, dataset.feature_spec
        self.video_ids, self.durations = dataset.video_ids, dataset.durations

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        if self.reads_left == 0:
            raise PowerCut
        self.reads_left -= 1
        return self.dataset[index]


@pytest.fixture(scope="module")
def train_set(simulated):
    return simulated(NUM_VIDEOS, seed=0)


@pytest.fixture(scope="module")
def validation_set(simulated):
    return simulated(15, seed=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_model, train_set, validation_set):
    """A whole run: its output folder and its progress."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, train(*small_model(), train_set, validation_set, folder, ARGUMENTS)


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_loss_falls_and_the_score_rises(finished):
    _, progress = finished
    first, *_, last = progress.log
    assert last["loss"] < 0.7 * first["loss"]
    assert progress.best_map > first["average_map"] + 0.1
    assert progress.best_map == max(record["average_map"] for record in progress.log)


def test_the_saved_processor_gives_the_model_windows_about_as_long_as_the_crops_it_has_learnt_from(finished):
    # Crops of 32 steps, the coarsest points 2^3 steps apart.
    assert EsgNetProcessor.from_pretrained(finished[0]).window_steps == 40


def test_the_best_model_loads_and_has_the_score_that_was_logged(finished, validation_set):
    folder, progress = finished
    model, processor = EsgNetForEventLocalization.from_pretrained(folder), EsgNetProcessor.from_pretrained(folder)
    assert evaluate_dataset(model, processor, validation_set, Accelerator())["average_map"] == progress.best_map
    assert progress.log[progress.best_epoch - 1]["average_map"] == progress.best_map


def test_the_log_has_a_record_of_each_epoch_with_every_part_of_the_loss(finished):
    folder, progress = finished
    records = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    assert records == progress.log
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert {"loss", "classification", "boundary", "semantic", "router", "average_map", "mAP@0.5"} <= records[0].keys()
    for record in records:  # with the weights of the config's defaults
        parts = record["classification"] + record["boundary"] + record["semantic"] + 0.01 * record["router"]
        assert record["loss"] == pytest.approx(parts, rel=1e-4)


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine(finished):
    _, progress = finished
    # Of 32 steps half are warm-up; what is logged is the rate of an epoch's last step: 7, 15, 23 and 31.
    rates = [record["learning_rate"] for record in progress.log]
    cosine = [0.5 + 0.5 * math.cos(math.pi * step / 16) for step in (7, 15)]
    assert rates == pytest.approx([5e-3 * 7 / 16, 5e-3 * 15 / 16, 5e-3 * cosine[0], 5e-3 * cosine[1]])


def test_old_checkpoints_are_removed_and_nothing_unfinished_is_left(finished):
    folder, _ = finished
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000024", "step-00000032"]
    top = {path.name for path in folder.iterdir() if path.suffix != ".py"}
    assert top == {"checkpoints", "config.json", "model.safetensors", "processor_config.json", "training_log.jsonl"}


def test_a_run_that_was_cut_and_started_again_ends_at_the_same_bits(
    finished, tmp_path, small_model, train_set, validation_set
):
    folder, progress = finished
    cut_set = UntilPowerCut(train_set, reads=2 * NUM_VIDEOS + 20)  # in the third epoch
    with pytest.raises(PowerCut):
        train(*small_model(), cut_set, validation_set, tmp_path, ARGUMENTS)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-00000008", "step-00000016"]
    torch.manual_seed(123)  # as in another process, which has another random state

    resumed = train(*small_model(), train_set, validation_set, tmp_path, ARGUMENTS)

    assert resumed == progress
    assert files_of(tmp_path) == files_of(folder)
    for name in files_of(folder):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_finished_run_is_not_run_again(finished, small_model, train_set, validation_set):
    folder, progress = finished
    weights = (folder / "model.safetensors").read_bytes()
    unreadable = UntilPowerCut(train_set, reads=0)
    assert train(*small_model(), unreadable, validation_set, folder, ARGUMENTS) == progress
    assert (folder / "model.safetensors").read_bytes() == weights


def test_an_output_folder_that_is_a_file_is_refused_at_once(tmp_path, small_model, train_set, validation_set):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt is a file"):
        train(*small_model(), UntilPowerCut(train_set, reads=0), validation_set, path, ARGUMENTS)
    assert path.read_text() == "mine"


def test_features_that_are_not_finite_stop_a_run_by_the_name_of_their_video(
    tmp_path, simulated, small_model, validation_set
):
    dataset = simulated(8)
    dataset.examples[5]["audio_features"][7, 2] = np.nan
    with pytest.raises(ValueError, match=r"audio features of video \d .* NaN or infinite .*\bvideo_5\b"):
        train(*small_model(), dataset, validation_set, tmp_path / "output", replace(ARGUMENTS, max_steps=64))
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("name", ["training", "validation"])
def test_a_data_set_that_does_not_fit_the_model_is_refused_before_anything_is_read(
    tmp_path, simulated, small_model, name
):
    sets = {"training": simulated(2), "validation": simulated(2)}
    sets[name].feature_spec = replace(sets[name].feature_spec, grid=FeatureGrid(25.0, 8, 24))
    with pytest.raises(ValueError, match=f"The {name} set .*25 frames/s, stride 8, window 24"):
        train(*small_model(), sets["training"], sets["validation"], tmp_path / "output", ARGUMENTS)
    assert not (tmp_path / "output").exists()


def test_a_validation_set_without_events_is_refused_before_training(tmp_path, simulated, small_model):
    validation_set = simulated(2)
    for example in validation_set.examples:
        example["segments"], example["labels"] = np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match="validation set.*event"):
        train(*small_model(), UntilPowerCut(simulated(8), reads=0), validation_set, tmp_path / "output", ARGUMENTS)
    assert not (tmp_path / "output").exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, simulated, small_model, validation_set):
    arguments = replace(ARGUMENTS, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(ValueError, match=r"(loss is (nan|inf) .*'classification'|gradients of step).*`learning_rate`"):
        train(*small_model(), simulated(24), validation_set, tmp_path / "output", arguments)
    assert not (tmp_path / "output").exists()


def test_gradients_that_are_not_finite_stop_the_run_before_they_are_used(tmp_path, simulated, small_model):
    model, processor = small_model()
    model.level_scale.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(ValueError, match=r"gradients of step 1 .*(nan|inf).*`learning_rate`"):
        train(model, processor, simulated(8), simulated(3), tmp_path, replace(ARGUMENTS, epochs=3))


def test_a_set_smaller_than_a_batch_is_learnt_from(tmp_path, simulated, small_model):
    arguments = replace(ARGUMENTS, epochs=2, warmup_epochs=1)
    progress = train(*small_model(), simulated(3), simulated(3), tmp_path, arguments)
    assert progress.step == 2
    assert progress.log[0]["loss"] > 0


def test_videos_without_events_are_learnt_from_and_named_as_such(tmp_path, simulated, small_model, caplog):
    videos = simulated(8)
    for example in videos.examples:
        keep = example["labels"] == 0
        example["segments"], example["labels"] = example["segments"][keep], example["labels"][keep]
    videos.examples[0]["segments"], videos.examples[0]["labels"] = np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    logging.get_logger("esg_transformers").addHandler(caplog.handler)
    progress = train(*small_model(), videos, simulated(3), tmp_path, replace(ARGUMENTS, epochs=3, batch_size=1))
    assert all(math.isfinite(record["loss"]) for record in progress.log)
    assert "1 of 2 classes: speech." in caplog.text


def test_batches_that_are_put_together_make_the_step_of_one_batch(tmp_path, simulated, small_model):
    # Batches of another size draw other random numbers. Without momentum each batch is divided by its own positives.
    def model_of():
        return small_model(drop_path_rate=0.0, feature_dropout=0.0, slot_noise=0.0, loss_normalizer_momentum=0.0)

    arguments = replace(ARGUMENTS, epochs=2, warmup_epochs=0)
    alone = train(*model_of(), simulated(20), simulated(3), tmp_path / "alone", arguments)
    halves = replace(arguments, batch_size=4, gradient_accumulation_steps=2)
    together = train(*model_of(), simulated(20), simulated(3), tmp_path / "together", halves)
    assert alone.step == together.step == 4
    assert together.log[0]["learning_rate"] == alone.log[0]["learning_rate"]
    for part in ("classification", "boundary", "semantic"):
        assert together.log[0][part] == pytest.approx(alone.log[0][part], rel=0.1)


def test_computing_activations_again_changes_nothing_but_the_memory(tmp_path, simulated, small_model):
    arguments = replace(ARGUMENTS, epochs=2, warmup_epochs=0)
    logs = [
        train(
            *small_model(), simulated(16), simulated(3), tmp_path / f"{again}",
            replace(arguments, gradient_checkpointing=again),
        ).log
        for again in (False, True)
    ]  # fmt: skip
    for plain, again in zip(*logs, strict=True):
        assert again == pytest.approx(plain, rel=1e-4)


@pytest.fixture
def fresh_accelerate():
    """Accelerate without state, before and after a test: a process can choose its precision only once."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_half_precision_learns_as_well(fresh_accelerate, tmp_path, small_model, finished, train_set, validation_set):
    progress = train(*small_model(), train_set, validation_set, tmp_path, replace(ARGUMENTS, mixed_precision="bf16"))
    assert progress.best_map == pytest.approx(finished[1].best_map, abs=0.1)
    assert all(value.dtype == torch.float32 for value in load_file(tmp_path / "model.safetensors").values())


def test_a_run_without_progress_ends_early(tmp_path, simulated, small_model):
    arguments = replace(ARGUMENTS, epochs=9, warmup_epochs=0, learning_rate=1e-12, patience=2)
    progress = train(*small_model(), simulated(8), simulated(3), tmp_path, arguments)
    assert (progress.epoch, progress.best_epoch) == (3, 1)


def test_the_body_learns_at_its_own_rate(tmp_path, simulated, small_model):
    before = {name: value.clone() for name, value in small_model()[0].state_dict().items()}
    arguments = replace(ARGUMENTS, epochs=2, warmup_epochs=0, weight_decay=0.0, body_learning_rate_scale=0.0)
    train(*small_model(), simulated(16), simulated(3), tmp_path, arguments)
    after = load_file(tmp_path / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    of_classes = {name for name in class_parameters(small_model()[0]) if name.startswith("model.")}
    assert {name for name in changed if name.startswith("model.")} == of_classes
    assert {"classification_head.output.weight", "level_scale", "loss_normalizer"} <= changed


def test_tensorboard_is_written_if_it_is_asked_for_and_a_missing_tracker_is_named(tmp_path, simulated, small_model):
    sets = simulated(8), simulated(3)
    train(*small_model(), *sets, tmp_path / "a", replace(ARGUMENTS, epochs=3, tracker="tensorboard"))
    assert [path for path in (tmp_path / "a" / "runs").rglob("events.out.tfevents*") if path.stat().st_size > 500]
    if not is_wandb_available():
        with pytest.raises(ImportError, match="wandb.*`pip install wandb`"):
            train(*small_model(), *sets, tmp_path / "b", replace(ARGUMENTS, tracker="wandb"))


def test_the_averaged_weights_are_what_is_kept(tmp_path, simulated, small_model):
    train(*small_model(), simulated(24), simulated(3), tmp_path, replace(ARGUMENTS, epochs=1, warmup_epochs=0))
    checkpoint = tmp_path / "checkpoints" / "step-00000003"
    kept, trained = load_file(tmp_path / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    average = load_file(checkpoint / "average.safetensors")
    assert all(torch.equal(kept[name], average[name]) for name in kept)
    assert not torch.equal(kept["level_scale"], trained["level_scale"])


def test_a_small_set_is_gone_over_until_an_epoch_has_its_steps(tmp_path, simulated, small_model, train_set):
    arguments = replace(ARGUMENTS, epochs=2, warmup_epochs=1, min_epoch_steps=4)
    progress = train(*small_model(), simulated(10), simulated(3), tmp_path, arguments)
    assert progress.step == 10  # 4 steps of 8 are 32 crops, so 4 of each of 10 videos; 40 crops are 5 steps
    crops = TrainingCrops(train_set, train_set.feature_spec.grid, max_steps=20, seed=0, repeats=3)
    assert len(crops) == 3 * NUM_VIDEOS
    first, again = crops[5], crops[5 + NUM_VIDEOS]
    assert first["video_id"] == again["video_id"]
    assert not np.array_equal(first["visual_features"], again["visual_features"])


def test_every_epoch_crops_anew(tmp_path, simulated, small_model):
    # Nothing else can change: hardly a step is made, nothing is dropped, and one batch holds all videos.
    arguments = replace(ARGUMENTS, epochs=2, warmup_epochs=0, learning_rate=1e-12, max_steps=12, stretch=0)
    progress = train(
        *small_model(drop_path_rate=0.0, feature_dropout=0.0, slot_noise=0.0),
        simulated(8),
        simulated(3),
        tmp_path,
        arguments,
    )
    first, second = (record["semantic"] for record in progress.log)
    assert abs(first - second) > 1e-3


def test_videos_run_slower_and_faster_than_they_are(tmp_path, simulated, small_model, train_set):
    durations = [
        TrainingCrops(train_set, train_set.feature_spec.grid, max_steps=1000, seed=0, stretch=0.5)[index]["duration"]
        / train_set[index]["duration"]
        for index in range(NUM_VIDEOS)
    ]
    assert min(durations) < 0.9 and max(durations) > 1.1
    arguments = replace(ARGUMENTS, epochs=1, warmup_epochs=0, learning_rate=1e-12)
    losses = [
        train(*small_model(), simulated(8), simulated(3), tmp_path / f"{stretch}", replace(arguments, stretch=stretch))
        for stretch in (0.0, 0.5)
    ]
    assert losses[0].log[0]["semantic"] != losses[1].log[0]["semantic"]


def test_workers_that_read_change_nothing(tmp_path, simulated, small_model):
    arguments = replace(ARGUMENTS, epochs=2, warmup_epochs=0)
    logs = [
        train(*small_model(), simulated(16), simulated(3), tmp_path / f"{n}", replace(arguments, num_workers=n)).log
        for n in (0, 2)
    ]
    assert logs[0] == logs[1]


def test_weight_decay_is_for_the_weights_of_linear_and_convolution_layers(small_model):
    model, _ = small_model()
    groups = parameter_groups(model, replace(ARGUMENTS, weight_decay=0.05))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert decay.keys() == set(names.values())
    assert set(decay.values()) == {0.05, 0.0}
    decayed = {name for name in decay if decay[name]}
    assert {"classification_head.output.weight", "boundary_head.layers.0.conv.conv.weight"} <= decayed
    assert not {"classification_head.output.bias", "boundary_head.layers.0.norm.weight", "level_scale"} & decayed
    assert all(name.endswith(".weight") and "norm" not in name for name in decayed)


def test_a_crop_depends_on_the_seed_the_epoch_and_the_index_alone(train_set):
    def crops(seed, epoch, order=range(8)):
        dataset = TrainingCrops(train_set, train_set.feature_spec.grid, max_steps=20, seed=seed)
        dataset.epoch = epoch
        crops = {index: dataset[index]["visual_features"] for index in order}
        return [crops[index] for index in range(8)]

    def same(some, others):
        return all(np.array_equal(crop, other) for crop, other in zip(some, others, strict=True))

    assert all(len(crop) == 20 for crop in crops(0, 0))
    assert same(crops(0, 0), crops(0, 0, order=reversed(range(8))))
    assert not same(crops(0, 0), crops(0, 1))
    assert not same(crops(0, 0), crops(1, 0))


def test_two_processes_learn_what_one_learns_from_batches_twice_as_large(tmp_path, simulated):
    videos = simulated(13)
    write_corpus(tmp_path / "corpus", {"train": videos})
    script = tmp_path / "run.py"
    script.write_text(RUN_ON_A_CORPUS)
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}  # --multi_gpu then means: several processes, gloo
    logs = []
    for name, start, batch_size in (("one", [], "4"), ("two", launcher, "2")):
        command = [sys.executable, *start, str(script), str(tmp_path / "corpus"), str(tmp_path / name), batch_size]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stderr
        logs.append([json.loads(line) for line in (tmp_path / name / LOG_FILE).read_text().splitlines()])
    every_video_once = " ".join(f"video_{index}" for index in range(13))
    for file in ("one/localized-0", "two/localized-0", "two/localized-1"):
        assert (tmp_path / file).read_text() == every_video_once
    for alone, together in zip(*logs, strict=True):
        # 3 steps of 4 videos. The last of 13 is left out, in another place of the order each epoch.
        for part in ("loss", "classification", "boundary", "semantic", "learning_rate"):
            assert together[part] == pytest.approx(alone[part], rel=1e-4)
        assert together["average_map"] == pytest.approx(alone["average_map"], abs=1e-3)
