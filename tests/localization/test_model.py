import pytest

from esg_transformers.encoders.vggish.configuration_vggish import VggishConfig
from esg_transformers.encoders.vggish.modeling_vggish import VggishModel
from esg_transformers.localization.model import open_model


@pytest.fixture
def folder(small_model, tmp_path):
    model, processor = small_model()
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    return tmp_path


def test_a_model_and_its_processor_are_opened_as_they_were_saved(folder, small_model):
    saved, saved_processor = small_model()
    model, processor = open_model(folder)
    assert not model.training
    assert all(value.equal(model.state_dict()[name]) for name, value in saved.state_dict().items())
    assert processor.feature_spec == saved_processor.feature_spec


@pytest.mark.parametrize("name", ["nowhere", "./some/where", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_repository_is_named(name):
    with pytest.raises(FileNotFoundError, match=f"{name}.*OWNER/NAME"):
        open_model(name)


def test_a_model_that_localizes_nothing_is_refused(tmp_path):
    VggishModel(VggishConfig(intermediate_size=4, hidden_size=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="VggishModel.*expected an ESG-Net or UnAV"):
        open_model(tmp_path)


def test_weights_that_do_not_load_are_refused(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="weights of .*do not load"):
        open_model(folder)
