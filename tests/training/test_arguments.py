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
        ("eval_batch_size", 0),
        ("num_workers", -1),
        ("mixed_precision", "fp8"),
        ("keep_checkpoints", 0),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*got {value!r}"):
        LocalizationTrainingArguments(**{name: value})


def test_warm_up_must_leave_an_epoch():
    with pytest.raises(ValueError, match=r"`warmup_epochs` \(3\) must be fewer than `epochs` \(3\)"):
        LocalizationTrainingArguments(epochs=3, warmup_epochs=3)
    assert LocalizationTrainingArguments(epochs=3, warmup_epochs=0).warmup_epochs == 0
