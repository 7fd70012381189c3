import pytest
import torch

from esg_transformers.training.lora import add_lora, merged_state_dict


def test_adapters_change_nothing_at_first_and_are_few(small_model):
    model, _ = small_model()
    model.eval()
    features = {"visual_features": torch.randn(2, 12, 6), "audio_features": torch.randn(2, 12, 4)}
    before = model(**features).logits
    count = model.num_parameters()
    add_lora(model, rank=2)
    torch.testing.assert_close(model(**features).logits, before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in n or not n.startswith("model.") or "prototypes" in n or "classifiers" in n for n in trained)
    assert {"classification_head.output.weight", "level_scale", "model.semantic_interaction.prototypes"} <= trained
    adapters = sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
    assert 0 < adapters < 0.3 * count


def test_merged_weights_are_those_of_a_plain_model_that_gives_the_same(small_model):
    model, _ = small_model()
    plain, _ = small_model()
    add_lora(model, rank=2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    merged = merged_state_dict(model, {name: value.clone() for name, value in model.state_dict().items()})
    assert merged.keys() == plain.state_dict().keys()
    before = plain.eval()(visual_features=torch.ones(1, 12, 6), audio_features=torch.ones(1, 12, 4)).logits
    plain.load_state_dict(merged)
    after = plain(visual_features=torch.ones(1, 12, 6), audio_features=torch.ones(1, 12, 4)).logits
    expected = model.eval()(visual_features=torch.ones(1, 12, 6), audio_features=torch.ones(1, 12, 4)).logits
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


def test_weights_without_adapters_are_left_as_they_are(small_model):
    model, _ = small_model()
    weights = model.state_dict()
    assert merged_state_dict(model, weights) is weights


def test_a_rank_below_one_is_refused(small_model):
    with pytest.raises(ValueError, match="rank .*at least 1; got 0"):
        add_lora(small_model()[0], 0)
