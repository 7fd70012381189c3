import pytest

from esg_transformers.training.arguments import LocalizationTrainingArguments


def test_the_defaults_are_the_published_recipe_of_unav():
    # configs/avel_unav100.yaml of UnAV, commit 1609deb: 5 epochs of warm-up and 40 after them.
    arguments = LocalizationTrainingArguments()
    assert (arguments.warmup_epochs, arguments.epochs) == (5, 45)
    assert (arguments.learning_rate, arguments.weight_decay, arguments.batch_size) == (1e-4, 1e-4, 16)
    assert (arguments.ema_decay, arguments.max_grad_norm, arguments.max_steps) == (0.999, 1.0, 224)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("warmup_epochs", -1),
        ("learning_rate", 0.0),
        ("weight_decay", -0.1),
        ("batch_size", 0),
        ("gradient_accumulation_steps", 0),
        ("max_grad_norm", 0.0),
        ("ema_decay", -0.1),
        ("ema_decay", 1.0),
        ("max_steps", 0),
        ("stretch", -0.1),
        ("eval_batch_size", 0),
        ("num_workers", -1),
        ("mixed_precision", "fp8"),
        ("keep_checkpoints", 0),
        ("checkpoint_steps", 0),
        ("patience", -1),
        ("body_learning_rate_scale", -0.1),
        ("tracker", "mlflow"),
        ("epochs", 2.5),
        ("learning_rate", float("nan")),
        ("gradient_checkpointing", 1),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}` .*got {value!r}"):
        LocalizationTrainingArguments(**{name: value})


def test_warm_up_must_leave_an_epoch():
    with pytest.raises(ValueError, match=r"`warmup_epochs` \(3\) .*`epochs` \(3\)"):
        LocalizationTrainingArguments(epochs=3, warmup_epochs=3)
    assert LocalizationTrainingArguments(epochs=3, warmup_epochs=0).warmup_epochs == 0


def test_settings_come_from_yaml_and_json_and_those_given_win(tmp_path):
    (tmp_path / "settings.yaml").write_text("epochs: 7\nlearning_rate: 2e-3  # text to YAML 1.1\ntracker: none\n")
    arguments = LocalizationTrainingArguments.from_file(tmp_path / "settings.yaml", {"epochs": 9})
    assert arguments == LocalizationTrainingArguments(epochs=9, learning_rate=2e-3, tracker="none")
    (tmp_path / "settings.json").write_text('{"epochs": 6, "weight_decay": 0}')
    assert LocalizationTrainingArguments.from_file(tmp_path / "settings.json").epochs == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch: 7", "unknown setting 'epoch'; did you mean 'epochs'"),
        ("epochs: many", "`epochs` .*int; got 'many'"),
        ("- epochs", "list; expected"),
        ("epochs: [", "YAML or JSON"),
        ("epochs: !!python/object/apply:os.getcwd []", "YAML or JSON"),
    ],
)
def test_a_settings_file_that_is_wrong_is_refused_by_what_is_wrong(tmp_path, content, message):
    (tmp_path / "settings.yaml").write_text(content)
    with pytest.raises(ValueError, match=f"settings.yaml.*{message}"):
        LocalizationTrainingArguments.from_file(tmp_path / "settings.yaml")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        LocalizationTrainingArguments.from_file(tmp_path / "none.yaml")
