from dataclasses import replace

import pytest
import torch

from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureGrid
from esg_transformers.training.model import check_dataset, class_parameters, freeze, new_model, with_labels


def test_a_new_model_and_its_processor_are_made_for_the_data_set(simulated):
    model, processor = new_model(simulated(0), "tiny", pyramid_levels=3)
    assert model.config.id2label == {0: "alarm", 1: "speech"}
    assert (model.config.visual_size, model.config.audio_size, model.config.pyramid_levels) == (6, 4, 3)
    assert model.config.feature_grid == processor.feature_grid == simulated.feature_spec.grid
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
        ({"grid": FeatureGrid(25.0, 8, 24)}, "The set .*25 frames/s, stride 8, window 24"),
        ({"audio_size": 5}, "The set .*6 visual and 5 audio .*6 and 4"),
        (
            {"labels": ("alarm", "shout")},
            r"The set .*2 classes .*2; .*\['shout', 'speech'\]",
        ),
        ({"labels": ("alarm",)}, r"The set .*1 classes .*2; .*\['speech'\]"),
        ({"labels": ("speech", "alarm")}, "their order"),
        ({"encoder": EncoderId("simulated", "2")}, "The set .*simulated 2.* simulated 1"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_by_its_difference(simulated, small_model, changes, message):
    dataset = simulated(0)
    for name, value in changes.items():
        if name == "labels":
            dataset.labels = value
        else:
            dataset.feature_spec = replace(dataset.feature_spec, **{name: value})
    with pytest.raises(ValueError, match=message):
        check_dataset("The set", dataset, *small_model())


def test_a_processor_that_names_no_encoder_takes_features_of_any(simulated, small_model):
    model, processor = small_model()
    processor.encoder = None
    check_dataset("The set", simulated(0), model, processor)


def test_a_processor_of_another_model_is_refused(simulated, small_model):
    model, processor = small_model()
    model.config.visual_size = 7
    with pytest.raises(ValueError, match="config .*7 visual and 4 audio .*6 and 4"):
        check_dataset("The set", simulated(0), model, processor)


def test_what_grows_with_the_classes_is_known(small_model):
    grown = class_parameters(small_model(num_semantic_stages=1)[0])
    assert grown.pop("classification_head.output.weight") == (0, 1)
    assert grown.pop("boundary_head.output.weight") == (0, 2)  # start and end of each class
    assert {name for name in grown if "head" in name} == {
        "classification_head.output.bias",
        "boundary_head.output.bias",
    }
    assert grown.pop("model.semantic_interaction.prototypes") == (0, 1)
    assert sum(".classifiers." in name for name in grown) == 3  # visual, audio, fused


def test_a_class_keeps_its_weights_in_another_set_of_classes(small_model):
    model, _ = small_model()
    adapted, known = with_labels(model, ("rain", "speech", "alarm"), seed=1)
    assert known == ["speech", "alarm"]
    assert adapted.config.id2label == {0: "rain", 1: "speech", 2: "alarm"}
    assert adapted.config.label2id == {"rain": 0, "speech": 1, "alarm": 2}
    old, new = model.state_dict(), adapted.state_dict()
    assert torch.equal(new["classification_head.output.weight"][[2, 1]], old["classification_head.output.weight"])
    assert torch.equal(new["boundary_head.output.bias"][2:4], old["boundary_head.output.bias"][2:4])  # speech
    assert torch.equal(new["boundary_head.output.weight"][4:6], old["boundary_head.output.weight"][0:2])  # alarm
    assert torch.equal(new["model.semantic_interaction.prototypes"][1], old["model.semantic_interaction.prototypes"][1])
    # A class that is new starts as in a new model: improbable.
    assert torch.equal(new["classification_head.output.bias"][0], new["classification_head.output.bias"].min())
    rest = old.keys() - class_parameters(model).keys()
    assert all(torch.equal(new[name], old[name]) for name in rest)
    # Without classes that are new, it is the same model.
    adapted, _ = with_labels(model.eval(), ("speech", "alarm"))
    features = {"visual_features": torch.randn(1, 12, 6), "audio_features": torch.randn(1, 12, 4)}
    torch.testing.assert_close(adapted(**features).offsets[..., [1, 0], :], model(**features).offsets)


@pytest.mark.parametrize("seed", [0, 1])
def test_classes_that_are_new_do_not_start_as_those_that_the_model_started_from(simulated, seed):
    """With the same seed, and as many classes, it would be the same random numbers."""
    model, _ = new_model(simulated(0), "tiny", seed)
    adapted, _ = with_labels(model, ("rain", "wind"), seed)
    for name, (axis, _) in class_parameters(model).items():
        old, new = model.get_parameter(name), adapted.get_parameter(name)
        if not name.endswith("bias"):  # the same for all classes
            cosine = torch.cosine_similarity(old.movedim(axis, 0).flatten(), new.movedim(axis, 0).flatten(), dim=0)
            assert abs(cosine) < 0.5, name


def test_the_classes_of_unav_are_carried_over_as_well(simulated):
    from esg_transformers.models.unav.configuration_unav import UnavConfig
    from esg_transformers.models.unav.modeling_unav import UnavForEventLocalization

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "visual_size": 6, "audio_size": 4}
    model = UnavForEventLocalization(UnavConfig(**sizes, id2label={0: "alarm", 1: "speech"})).eval()
    adapted, known = with_labels(model, ("speech", "alarm"))
    assert known == ["speech", "alarm"]
    features = {"visual_features": torch.randn(1, 64, 6), "audio_features": torch.randn(1, 64, 4)}
    with torch.inference_mode():
        torch.testing.assert_close(
            adapted(**features).logits[..., [1, 0]], model(**features).logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("labels", [(), ("alarm", "alarm")])
def test_a_set_of_classes_must_name_each_once(small_model, labels):
    with pytest.raises(ValueError, match="`labels`.*got"):
        with_labels(small_model()[0], labels)


def test_parts_are_frozen_by_name(small_model):
    model, _ = small_model()
    freeze(model, ["model.embeddings", "level_scale"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("model.embeddings.")} | {
        "level_scale"
    }
    with pytest.raises(ValueError, match=r"'model.embedding'.*model\.embeddings, model\.semantic"):
        freeze(model, ["model.embedding"])
    with pytest.raises(ValueError, match="boundary_head.* frozen"):
        freeze(model, ["model", "classification_head", "boundary_head", "dependency_mixture", "evidence_weight"])
