import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization, EsgNetProcessor, FeatureGrid
from esg_transformers.models.esg_net.grid_esg_net import EncoderId, FeatureSpec
from esg_transformers.models.esg_net.modeling_esg_net import EsgNetEventLocalizationOutput
from esg_transformers.models.esg_net.segments_esg_net import TemporalPoints


def processor_of(**fields):
    defaults = {"frame_rate": 10.0, "feature_stride": 2, "feature_window": 4, "visual_size": 6, "audio_size": 3}
    return EsgNetProcessor(**defaults | fields)


def video(num_steps, value=1.0):
    return np.full((num_steps, 6), value, np.float32), np.full((num_steps, 3), value, np.float32)


def test_videos_are_padded_to_the_longest_with_zeros():
    (first_visual, first_audio), (second_visual, second_audio) = video(5), video(2)
    batch = processor_of()([first_visual, second_visual], [first_audio, second_audio])
    assert batch["visual_features"].shape == (2, 5, 6) and batch["audio_features"].shape == (2, 5, 3)
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch["visual_features"][1, 2:].abs().sum() == 0
    assert sorted(batch) == sorted(processor_of().model_input_names)


def test_a_single_video_becomes_a_batch_of_one():
    assert processor_of()(*video(4))["visual_features"].shape == (1, 4, 6)


def test_float16_and_torch_features_become_float32():
    visual, audio = video(4)
    batch = processor_of()(visual.astype(np.float16), torch.from_numpy(audio).half())
    assert batch["visual_features"].dtype == batch["audio_features"].dtype == torch.float32


def test_an_absent_stream_is_masked_and_zero():
    visual, audio = video(4)
    batch = processor_of()([visual, None], [None, audio])
    assert batch["visual_mask"].tolist() == [[1] * 4, [0] * 4]
    assert batch["audio_mask"].tolist() == [[0] * 4, [1] * 4]
    assert batch["attention_mask"].tolist() == [[1] * 4, [1] * 4]
    assert batch["visual_features"][1].abs().sum() == 0


def test_tensors_of_another_library_are_refused():
    assert "visual_features" in processor_of()(*video(4), return_tensors="pt")
    with pytest.raises(ValueError, match='`return_tensors="pt"`'):
        processor_of()(*video(4), return_tensors="np")


def test_labels_are_grid_positions_padded_with_minus_100():
    batch = processor_of()(
        [video(9)[0], video(9)[0]],
        [video(9)[1], video(9)[1]],
        segments=[[[0.2, 1.2], [0.4, 0.8]], np.zeros((0, 2))],
        labels=[[2, 0], []],
    )
    # (t x 10 - 2) / 2
    torch.testing.assert_close(batch["segment_labels"][0], torch.tensor([[0.0, 5.0], [1.0, 3.0]]))
    assert batch["class_labels"].tolist() == [[2, 0], [-100, -100]]


@pytest.mark.parametrize(
    ("visual", "audio", "message"),
    [
        (np.zeros((4, 5)), np.zeros((4, 3)), r"visual features of video 0 have shape \(4, 5\); expected \(steps, 6\)"),
        (np.zeros((4, 6)), np.zeros((4, 3, 1)), "audio features of video 0"),
        (np.zeros((0, 6)), np.zeros((0, 3)), "at least one step"),
        (np.zeros((4, 6)), np.zeros((5, 3)), "4 visual and 5 audio steps"),
        (np.full((4, 6), np.nan), np.zeros((4, 3)), "NaN or infinite at 4 of 4 steps"),
        (np.zeros((4, 6)), np.full((4, 3), np.inf), "audio features of video 0 are NaN or infinite"),
        ([None], [None], "neither visual nor audio"),
        ([np.zeros((4, 6))], [], "1 and 0"),
    ],
)
def test_features_that_cannot_be_used_are_refused_by_name(visual, audio, message):
    with pytest.raises(ValueError, match=message):
        processor_of()(visual, audio)


@pytest.mark.parametrize(
    ("segments", "labels", "message"),
    [
        ([[[1.0, 1.0]]], [[0]], "end is not after its start"),
        ([[[0.0, 1.0]]], [[0, 1]], "1 segments and 2 labels"),
        ([[[0.0, 1.0]]], None, "1 and none"),
    ],
)
def test_labels_that_do_not_fit_are_refused(segments, labels, message):
    with pytest.raises(ValueError, match=message):
        processor_of()([video(4)[0]], [video(4)[1]], segments=segments, labels=labels)


def test_features_on_another_grid_or_of_another_width_are_refused():
    spec = processor_of().feature_spec
    spec.check(FeatureSpec(FeatureGrid(10, 2, 4), 6, 3), "The corpus")
    with pytest.raises(ValueError, match=r"The corpus is on a feature grid of 25 frames/s.*expected 10 frames/s"):
        spec.check(FeatureSpec(FeatureGrid(25, 8, 24), 6, 3), "The corpus")
    with pytest.raises(ValueError, match="7 visual and 3 audio"):
        spec.check(FeatureSpec(FeatureGrid(10, 2, 4), 7, 3), "The corpus")


def test_encoders_are_compared_where_both_are_known():
    spec = FeatureSpec(FeatureGrid(10, 2, 4), 6, 3, EncoderId("spectral", "1"))
    spec.check(replace(spec, encoder=None), "The corpus")
    replace(spec, encoder=None).check(spec, "The corpus")
    with pytest.raises(ValueError, match=r"The corpus .* spectral 2; expected .* spectral 1"):
        spec.check(replace(spec, encoder=EncoderId("spectral", "2")), "The corpus")


def outputs_of(num_steps, num_classes, found, num_levels=2):
    """Outputs with the candidates `found` only: (video, level, index in the level, class, probability, left, right)."""
    points = TemporalPoints.for_pyramid(num_steps, num_levels)
    num_points = len(points.positions)
    videos = 1 + max([x[0] for x in found], default=0)
    logits, offsets = (
        torch.full((videos, num_points, num_classes), -20.0),
        torch.zeros(videos, num_points, num_classes, 2),
    )
    for index, level, point, label, probability, left, right in found:
        point += sum(-(-num_steps // 2**k) for k in range(level))
        logits[index, point, label] = torch.logit(torch.tensor(probability))
        offsets[index, point, label] = torch.tensor([left, right])
    return EsgNetEventLocalizationOutput(
        logits=logits,
        offsets=offsets,
        points=torch.stack([points.positions, points.strides], -1).repeat(videos, 1, 1),
        point_mask=torch.ones(videos, num_points, dtype=torch.long),
    )


def test_events_come_in_seconds_best_first():
    outputs = outputs_of(8, 3, [(0, 0, 3, 1, 0.6, 1.0, 2.0), (0, 1, 2, 2, 0.9, 1.0, 1.5)])
    [events] = processor_of().post_process_event_localization(outputs)
    # Level 1, point 2 is position 4, stride 2: positions 2 to 7, seconds (2 x + 2) / 10. Level 0: positions 2 to 5.
    torch.testing.assert_close(events["segments"], torch.tensor([[0.6, 1.6], [0.6, 1.2]]))
    assert events["labels"].tolist() == [2, 1]
    torch.testing.assert_close(events["scores"], torch.tensor([0.9, 0.6]))


def test_events_are_cut_to_the_video_and_dropped_when_nothing_is_left():
    found = [(0, 0, 0, 0, 0.9, 5.0, 1.0), (0, 0, 7, 1, 0.8, 1.0, 9.0), (0, 0, 7, 2, 0.7, 0.5, 0.5)]
    [events] = processor_of().post_process_event_localization(outputs_of(8, 3, found), durations=[1.4])
    # (-5 x 2 + 2) / 10 < 0; 6 x 2 + 2 = 14 tenths is where the second starts and the video ends; the third lies beyond.
    torch.testing.assert_close(events["segments"], torch.tensor([[0.0, 0.4]]))


def test_the_threshold_drops_what_scores_below_it():
    outputs = outputs_of(8, 3, [(0, 0, 1, 0, 0.9, 1.0, 1.0), (0, 0, 5, 1, 0.4, 1.0, 1.0)])
    [events] = processor_of().post_process_event_localization(outputs, threshold=0.5)
    assert events["labels"].tolist() == [0]


def test_each_class_can_have_a_threshold_of_its_own():
    outputs = outputs_of(8, 3, [(0, 0, 1, 0, 0.9, 1.0, 1.0), (0, 0, 5, 1, 0.4, 1.0, 1.0), (0, 0, 7, 2, 0.4, 1.0, 1.0)])
    for threshold in ([0.95, 0.2, 0.5], torch.tensor([0.95, 0.2, 0.5])):
        [events] = processor_of().post_process_event_localization(outputs, threshold)
        assert events["labels"].tolist() == [1]
    with pytest.raises(ValueError, match=r"`threshold` has shape \(2,\); expected one number, or .* the 3 classes"):
        processor_of().post_process_event_localization(outputs, [0.5, 0.5])


def test_an_event_that_scores_just_what_is_needed_is_dropped():
    outputs = outputs_of(8, 1, [(0, 0, 1, 0, 0.7, 1.0, 1.0)])
    [score] = processor_of().post_process_event_localization(outputs)[0]["scores"].tolist()
    for threshold, kept in ((score, 0), (np.nextafter(score, 0), 1)):  # of float64: closer than float32 could tell
        for given in (float(threshold), [float(threshold)]):
            [events] = processor_of().post_process_event_localization(outputs, given)
            assert len(events["scores"]) == kept


def test_a_class_needs_its_own_score_or_three_tenths():
    id2label = {0: "alarm", 1: "speech", 2: "rain"}
    assert processor_of(thresholds={"speech": 0.75, "siren": 0.1}).score_thresholds(id2label) == [0.3, 0.75, 0.3]
    assert processor_of().score_thresholds(id2label) == [0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.5], r"`thresholds` must be a dict of class names and scores; got \[0.5\]"),
        ({"alarm": 1.5}, r"`thresholds` has 1.5 for 'alarm'; expected a score in \[0, 1\]"),
        ({"alarm": float("nan")}, "has nan for 'alarm'"),
        ({"alarm": True}, "has True for 'alarm'"),
        ({"alarm": "0.5"}, "has '0.5' for 'alarm'"),
        ({0: 0.5}, "has 0.5 for 0; expected"),
    ],
)
def test_thresholds_that_are_not_scores_by_name_are_refused(thresholds, message):
    with pytest.raises(ValueError, match=message):
        processor_of(thresholds=thresholds)


def test_masked_points_and_segments_too_short_give_no_events():
    outputs = outputs_of(8, 3, [(0, 0, 1, 0, 0.9, 1.0, 1.0), (0, 0, 5, 1, 0.9, 0.02, 0.02)])
    outputs.point_mask[0, 1] = 0
    [events] = processor_of().post_process_event_localization(outputs)
    assert len(events["scores"]) == 0


def test_videos_of_a_batch_are_kept_apart():
    outputs = outputs_of(8, 3, [(0, 0, 1, 0, 0.9, 1.0, 1.0), (2, 0, 5, 1, 0.8, 1.0, 1.0)])
    events = processor_of().post_process_event_localization(outputs)
    assert [x["labels"].tolist() for x in events] == [[0], [], [1]]


def test_a_level_gives_at_most_its_number_of_candidates():
    found = [(0, 0, point, 0, 0.9 - 0.1 * point, 0.4, 0.4) for point in range(5)] + [(0, 1, 3, 0, 0.2, 0.4, 0.4)]
    [events] = processor_of(candidates_per_level=2).post_process_event_localization(outputs_of(8, 3, found))
    torch.testing.assert_close(events["scores"], torch.tensor([0.9, 0.8, 0.2]))


def test_one_duration_for_two_videos_is_refused():
    with pytest.raises(ValueError, match="1 `durations` for 3 videos"):
        processor_of().post_process_event_localization(outputs_of(8, 3, [(2, 0, 1, 0, 0.9, 1.0, 1.0)]), durations=[1.0])


def test_a_processor_that_is_saved_and_loaded_is_the_same(tmp_path):
    processor = processor_of(encoder={"name": "spectral", "version": "1"}, nms_sigma=0.7, thresholds={"alarm": 0.6})
    saved = processor.to_dict()
    EsgNetConfig(visual_size=6, audio_size=3).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is EsgNetProcessor
    assert loaded.to_dict() == saved
    assert loaded.thresholds == {"alarm": 0.6}


def test_a_saved_processor_that_does_not_say_its_grid_is_refused_unless_it_is_given(tmp_path):
    processor_of().save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    saved = json.loads(path.read_text())
    del saved["feature_stride"]
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="feature_stride"):
        EsgNetProcessor.from_pretrained(tmp_path)
    assert EsgNetProcessor.from_pretrained(tmp_path, feature_stride=2).feature_grid == FeatureGrid(10, 2, 4)


def test_events_follow_the_features_when_these_are_shifted_in_time():
    torch.manual_seed(0)
    config = EsgNetConfig.of_size("tiny", num_labels=3, visual_size=6, audio_size=3, pyramid_levels=3)
    model, processor = EsgNetForEventLocalization(config).eval(), processor_of()
    visual, audio = torch.randn(20, 6), torch.randn(20, 3)
    batch = processor(visual, audio)
    late = {k: torch.nn.functional.pad(v, (0, 0, 8, 0) if v.dim() == 3 else (8, 0)) for k, v in batch.items()}
    with torch.no_grad():
        [events] = processor.post_process_event_localization(model(**batch))
        [shifted] = processor.post_process_event_localization(model(**late))
    inside = events["segments"][:, 0] > 0  # not cut at the start of the video
    best = int(inside.nonzero()[0])
    partner = shifted["segments"] - 8 * processor.feature_grid.step
    assert ((partner - events["segments"][best]).abs().amax(dim=1) < 1e-3).any()
