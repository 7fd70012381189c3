import json
from contextlib import redirect_stdout
from io import StringIO

import pytest
from huggingface_hub import ModelCard

from esg_transformers.cli.main import main
from esg_transformers.corpora.dataset import EventCorpus
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetForEventLocalization
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor

QUICK = {"--epochs": 1, "--warmup-epochs": 0, "--batch-size": 2, "--tracker": "none"}


@pytest.fixture(scope="module")
def finetuned(trained, corpus, tmp_path_factory):
    """A fine-tuned model, and what the command printed."""
    output, printed = tmp_path_factory.mktemp("finetuned") / "site model", StringIO()
    options = {"--model": trained, "--corpus": corpus, "--output": output} | QUICK
    with redirect_stdout(printed):
        assert main(["finetune", *(str(word) for option in options.items() for word in option)]) == 0
    return output, printed.getvalue()


def test_a_fine_tuned_model_is_complete(finetuned, corpus):
    output, printed = finetuned
    assert {path.name for path in output.iterdir() if path.suffix != ".py"} == {
        "README.md", "checkpoints", "config.json", "learning_curve.png", "model.safetensors", "processor_config.json",
        "training_log.jsonl",
    }  # fmt: skip
    assert printed.startswith("Classes known before: alarm, door slamming, machine running, person speaking.\n")
    model, processor = EsgNetForEventLocalization.from_pretrained(output), EsgNetProcessor.from_pretrained(output)
    assert tuple(model.config.id2label.values()) == EventCorpus(corpus, "train").labels
    assert set(processor.thresholds) <= set(EventCorpus(corpus, "train").labels)
    assert processor.thresholds


def test_its_card_says_what_it_was_made_of_and_what_it_reaches(finetuned, corpus, trained):
    output, printed = finetuned
    card = ModelCard.load(output / "README.md")
    [validation, test] = card.data.eval_results
    assert (validation.dataset_split, test.dataset_split) == ("validation", "test")
    assert f"test: average mAP {test.metric_value:.1f}" in printed
    splits = {split: len(EventCorpus(corpus, split)) for split in ("train", "validation", "test")}
    assert f"| videos | {' | '.join(map(str, splits.values()))} |" in card.content
    assert f"fine-tuned from `{trained}`" in card.content
    assert "encoder spectral" in card.content
    thresholds = json.loads((output / "processor_config.json").read_text())["thresholds"]
    for label, threshold in thresholds.items():
        assert f"{threshold:.3f}" in next(line for line in card.content.splitlines() if line.startswith(f"| {label}"))


def test_the_classes_of_a_corpus_decide_and_parts_may_be_frozen(run, finetuned, trained, tmp_path, corpus):
    before = EsgNetForEventLocalization.from_pretrained(trained).state_dict()
    options = {"--model": trained, "--corpus": corpus, "--output": tmp_path} | QUICK
    code, _, _ = run("finetune", options, "--freeze", "model")
    assert code == 0
    after = EsgNetForEventLocalization.from_pretrained(tmp_path).state_dict()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert {name for name in changed if name.startswith("model.")} == set()
    assert "classification_head.output.weight" in changed


def test_adapters_leave_a_plain_model(run, trained, corpus, tmp_path):
    options = {"--model": trained, "--corpus": corpus, "--output": tmp_path, "--lora-rank": 2} | QUICK
    assert run("finetune", options)[0] == 0
    before = EsgNetForEventLocalization.from_pretrained(trained).state_dict()
    after = EsgNetForEventLocalization.from_pretrained(tmp_path).state_dict()
    assert before.keys() == after.keys()
    assert not any(path.name.startswith("adapter") for path in tmp_path.iterdir())


def test_what_cannot_be_fine_tuned_is_named(refused, trained, corpus, tmp_path):
    options = {"--model": trained, "--corpus": corpus, "--output": tmp_path / "model"} | QUICK
    assert "The model has no part 'head'; parts are " in refused("finetune", options, "--freeze", "head")
    assert "rank of LoRA must be at least 1; got 0" in refused("finetune", options | {"--lora-rank": 0})
    assert "No folder at" in refused("finetune", options | {"--model": tmp_path / "nowhere"})
    assert not (tmp_path / "model").exists()
