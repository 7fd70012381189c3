import numpy as np
import pytest
import torch
from transformers import pipeline

from esg_transformers import UnavConfig, UnavForEventLocalization
from esg_transformers.corpora.example import ExampleList
from esg_transformers.encoders.encoder import AudioVisualFeatures
from esg_transformers.localization.pipeline import TASK
from esg_transformers.localization.trace import trace_of
from esg_transformers.models.esg_net.grid_esg_net import FeatureGrid, FeatureSpec
from esg_transformers.training.model import new_model

GRID = FeatureGrid(10.0, 2, 4)
SOURCE = ExampleList([], ("alarm", "speech"), FeatureSpec(GRID, visual_size=6, audio_size=5))


def localizer_of(**fields):
    model, processor = new_model(SOURCE, "tiny", **fields)
    return pipeline(TASK, model=model, processor=processor)


@pytest.fixture(scope="module")
def localizer():
    return localizer_of()


def features_of(num_steps, audio=True):
    generator = np.random.default_rng(0)
    visual, sound = generator.standard_normal((num_steps, 6)), generator.standard_normal((num_steps, 5))
    streams = visual.astype(np.float32), sound.astype(np.float32) if audio else None
    return AudioVisualFeatures(*streams, GRID, duration=0.2 * num_steps + 0.2)


def test_a_trace_is_what_the_model_says_at_each_step(localizer):
    features = features_of(20)
    trace = trace_of(localizer, features)
    outputs = localizer.model(torch.from_numpy(features.visual)[None], torch.from_numpy(features.audio)[None])
    config = localizer.model.config
    assert trace.grid == GRID
    assert trace.labels == SOURCE.labels
    assert trace.semantic.shape == (config.num_semantic_stages, 3, 20, 2)
    assert trace.router.shape == (config.num_dependency_layers, 20, config.num_experts)
    expected = torch.stack(outputs.semantic_logits)[:, 0].sigmoid().detach().numpy()
    np.testing.assert_allclose(trace.semantic, expected, atol=1e-3)
    np.testing.assert_allclose(trace.router[1], outputs.router_weights[1][0, :20].detach().numpy(), atol=1e-3)
    np.testing.assert_allclose(trace.router.astype(np.float32).sum(axis=2), 1, atol=5e-3)


def test_a_step_of_a_long_video_has_the_trace_of_the_window_that_answers_for_it(localizer):
    features = features_of(20)
    whole_steps = localizer.processor.window_steps
    localizer.processor.window_steps = 10
    try:
        trace = trace_of(localizer, features)
    finally:
        localizer.processor.window_steps = whole_steps
    assert trace.semantic.shape[2] == trace.router.shape[1] == 20
    # Windows of 10 steps begin at 0, 5 and 10; the second answers for steps 7 to 11.
    part = AudioVisualFeatures(features.visual[5:15], features.audio[5:15], GRID, duration=2.2)
    expected = trace_of(localizer, part)
    np.testing.assert_allclose(trace.semantic[:, :, 7:12], expected.semantic[:, :, 2:7], atol=1e-3)
    np.testing.assert_allclose(trace.router[:, 7:12], expected.router[:, 2:7], atol=1e-3)


def test_parts_that_are_switched_off_give_no_trace():
    assert trace_of(localizer_of(use_semantic_interaction=False), features_of(8)).semantic is None
    assert trace_of(localizer_of(num_dependency_layers=0), features_of(8, audio=False)).router is None
    with pytest.raises(ValueError, match="no semantic stages and no experts to show"):
        trace_of(localizer_of(use_semantic_interaction=False, num_dependency_layers=0), features_of(8))


def test_a_model_of_another_kind_is_refused(localizer):
    sizes = {"visual_size": 6, "audio_size": 5, "hidden_size": 16, "intermediate_size": 32, "dependency_size": 8}
    clock = {"frame_rate": 10.0, "feature_stride": 2, "feature_window": 4}
    config = UnavConfig(id2label={0: "alarm", 1: "speech"}, head_size=16, pyramid_levels=3, **sizes, **clock)
    unav = pipeline(TASK, model=UnavForEventLocalization(config), processor=localizer.processor)
    with pytest.raises(ValueError, match="a UnavForEventLocalization, has no semantic stages"):
        trace_of(unav, features_of(8))
