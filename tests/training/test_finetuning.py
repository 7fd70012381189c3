import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from esg_transformers.corpora.example import ExampleList
from esg_transformers.corpora.writing import write_corpus
from esg_transformers.localization.model import open_model
from esg_transformers.training.arguments import FINETUNING
from esg_transformers.training.finetuning import finetune

QUICK = replace(FINETUNING, epochs=1, warmup_epochs=0, min_epoch_steps=1, tracker="none")
LABELS = ("speech", "rain", "alarm")  # the base model knows alarm and speech

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(small_model, tmp_path_factory):
    """The folder of a model that knows `alarm` and `speech`."""
    folder = tmp_path_factory.mktemp("base")
    model, processor = small_model()
    processor.thresholds = {"alarm": 0.125}
    model.save_pretrained(folder), processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(simulated, tmp_path_factory):
    """A corpus without a test split, in which `speech` is class 0 and `alarm` class 2."""
    videos = simulated(12)
    examples = [{**example, "labels": 2 - 2 * example["labels"]} for example in videos.examples]
    splits = {"train": examples[:8], "validation": examples[8:]}
    folder = tmp_path_factory.mktemp("corpora") / "site"
    write_corpus(
        folder,
        {split: ExampleList(part, LABELS, videos.feature_spec) for split, part in splits.items()},
        num_workers=0,
    )
    return folder


@pytest.fixture(scope="module")
def tuned(base, corpus, tmp_path_factory):
    """The folder of a fine-tuned model, and the result of the call that made it."""
    folder = tmp_path_factory.mktemp("tuned") / "site model"
    return folder, finetune(base, corpus, folder, arguments=QUICK, freeze=["model.embeddings"])


def test_the_result_names_the_known_classes_and_has_the_figures_of_each_split(tuned):
    _, result = tuned
    assert result.known_labels == ("speech", "alarm")
    assert (result.progress.epoch, result.progress.step) == (1, 1)
    assert result.metrics.keys() == {"validation"}
    assert result.metrics["validation"]["average_map"] == result.progress.best_map
    assert "per_class" in result.metrics["validation"]


def test_the_saved_model_has_the_classes_of_the_corpus_and_the_chosen_thresholds(tuned, base):
    folder, result = tuned
    model, processor = open_model(folder)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert processor.thresholds == {label: point.threshold for label, point in result.thresholds.items()}
    assert json.loads((base / "processor_config.json").read_text())["thresholds"] == {"alarm": 0.125}


def test_frozen_parts_keep_the_weights_of_the_base_model(tuned, base):
    before, after = load_file(base / "model.safetensors"), load_file(tuned[0] / "model.safetensors")
    frozen = {name for name in before if name.startswith("model.embeddings.")}
    assert frozen and all(before[name].equal(after[name]) for name in frozen)
    assert not before["level_scale"].equal(after["level_scale"])


def test_the_card_has_the_base_model_the_data_and_the_thresholds(tuned, base):
    folder, result = tuned
    card = ModelCard.load(folder / "README.md")
    assert f"`{base}`" in card.content and "It knew speech, alarm before." in card.content
    assert "| videos | 8 | 4 |" in card.content
    assert "encoder simulated, version 1" in card.content
    assert "- `max_steps`: 224" in card.content
    [figure] = card.data.eval_results
    assert (figure.dataset_name, figure.dataset_split) == ("site", "validation")
    assert figure.metric_value == round(100 * result.progress.best_map, 2)
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_call_again_trains_no_more_and_gives_the_same(tuned, base, corpus):
    folder, result = tuned
    weights = (folder / "model.safetensors").read_bytes()
    assert finetune(base, corpus, folder, arguments=QUICK, freeze=["model.embeddings"]) == result
    assert (folder / "model.safetensors").read_bytes() == weights
