import pytest
from huggingface_hub.errors import StrictDataclassError

from esg_transformers import FeatureGrid, UnavConfig


def test_a_config_that_is_saved_and_loaded_is_the_same(tmp_path):
    config = UnavConfig(id2label={0: "alarm", 1: "dog", 2: "door"}, frame_rate=16, feature_stride=4, hidden_size=64)
    config.save_pretrained(tmp_path)
    loaded = UnavConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.feature_grid == FeatureGrid(16, 4, 24)
    assert loaded.label2id == {"alarm": 0, "dog": 1, "door": 2}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": "512"}, "hidden_size"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "num_attention_heads"),
        ({"hidden_size": 9, "num_attention_heads": 3}, "even"),
        ({"max_seq_len": 100}, "multiple of 32"),
        ({"dependency_size": 0}, "dependency_size"),
        ({"num_stem_layers": -1}, "num_stem_layers"),
        ({"feature_window": 0}, "feature grid"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"prior_probability": 0.0}, "prior_probability"),
        ({"loss_normalizer_init": 0}, "loss_normalizer_init"),
        ({"id2label": {0: "alarm", 2: "dog"}}, "0, 1, 2"),
        ({"id2label": {0: "alarm", 1: "alarm"}}, "different"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused_by_name(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        UnavConfig(**fields)
