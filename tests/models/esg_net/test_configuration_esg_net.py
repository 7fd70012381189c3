import pytest
from huggingface_hub.errors import StrictDataclassError

from esg_transformers import EsgNetConfig


def test_either_label_map_gives_the_other():
    assert EsgNetConfig(id2label={0: "alarm", 1: "dog"}).label2id == {"alarm": 0, "dog": 1}
    assert EsgNetConfig(label2id={"alarm": 0, "dog": 1}).id2label == {0: "alarm", 1: "dog"}
    assert EsgNetConfig(num_labels=3).num_labels == 3


def test_a_config_that_is_saved_and_loaded_is_the_same(tmp_path):
    config = EsgNetConfig(id2label={0: "alarm", 1: "dog", 2: "door"}, frame_rate=16, feature_stride=4, hidden_size=64)
    config.save_pretrained(tmp_path)
    loaded = EsgNetConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.feature_grid == config.feature_grid
    assert loaded.id2label == {0: "alarm", 1: "dog", 2: "door"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": "512"}, "hidden_size"),
        ({"hidden_size": 60, "num_attention_heads": 8}, "rotary"),
        ({"event_slot_size": 7}, "event_slot_size"),
        ({"num_experts": 0}, "num_experts"),
        ({"pyramid_levels": 1}, "pyramid_levels"),
        ({"num_dependency_layers": -1}, "MoDE off"),
        ({"feature_window": 0}, "feature grid"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"feature_dropout": -0.1}, "feature_dropout"),
        ({"slot_noise": -1.0}, "slot_noise"),
        ({"prior_probability": 0.0}, "prior_probability"),
        ({"id2label": {0: "alarm", 2: "dog"}}, "0, 1, 2"),
        ({"id2label": {0: "alarm", 1: "alarm"}}, "different"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused_by_name(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        EsgNetConfig(**fields)


def test_a_named_size_can_be_changed_field_by_field():
    config = EsgNetConfig.of_size("tiny", num_labels=4, hidden_size=32)
    assert config.hidden_size == 32 and config.num_labels == 4
    assert config.head_size == EsgNetConfig.of_size("tiny").head_size != EsgNetConfig().head_size


def test_an_unknown_size_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="tiny, small, base"):
        EsgNetConfig.of_size("huge")
