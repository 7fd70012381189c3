import pytest
import torch

from esg_transformers.models.esg_net.segments_esg_net import FeatureGrid
from esg_transformers.training.model import check_dataset, new_model


def test_a_new_model_and_its_processor_are_made_for_the_data_set(simulated):
    model, processor = new_model(simulated(0), "tiny", pyramid_levels=3)
    assert model.config.id2label == {0: "alarm", 1: "speech"}
    assert (model.config.visual_size, model.config.audio_size, model.config.pyramid_levels) == (6, 4, 3)
    assert model.config.feature_grid == processor.feature_grid == simulated.grid
    assert (processor.visual_size, processor.audio_size) == (6, 4)
    assert processor.encoder == {"name": "simulated", "version": "1"}
    check_dataset("The data set", simulated(0), model, processor)


def test_the_seed_alone_decides_the_weights(simulated):
    def weights(seed):
        torch.rand(3)  # whatever was drawn before
        return torch.cat([p.flatten() for p in new_model(simulated(0), "tiny", seed)[0].parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": FeatureGrid(25.0, 8, 24)}, "The set is on a feature grid of 25 frames/s, stride 8, window 24"),
        ({"audio_size": 5}, "The set has 6 visual and 5 audio channels; this model takes 6 and 4"),
        (
            {"labels": ("alarm", "shout")},
            r"The set has 2 classes and the model 2; they differ in \['shout', 'speech'\]",
        ),
        ({"labels": ("alarm",)}, r"The set has 1 classes and the model 2; they differ in \['speech'\]"),
        ({"labels": ("speech", "alarm")}, "they differ in their order"),
        ({"encoder": {"name": "simulated", "version": "2"}}, "The set has features of the encoder .*'version': '2'"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_by_its_difference(simulated, small_model, changes, message):
    dataset = simulated(0)
    for name, value in changes.items():
        setattr(dataset, name, value)
    with pytest.raises(ValueError, match=message):
        check_dataset("The set", dataset, *small_model())


def test_a_processor_that_names_no_encoder_takes_features_of_any(simulated, small_model):
    model, processor = small_model()
    processor.encoder = None
    check_dataset("The set", simulated(0), model, processor)


def test_a_processor_of_another_model_is_refused(simulated, small_model):
    model, processor = small_model()
    model.config.visual_size = 7
    with pytest.raises(ValueError, match="config has 7 visual and 4 audio channels; this model takes 6 and 4"):
        check_dataset("The set", simulated(0), model, processor)
