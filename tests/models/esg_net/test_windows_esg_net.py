import math

import numpy as np
import pytest
import torch
from transformers.utils import ModelOutput

from esg_transformers.models.esg_net.loss_esg_net import assign_targets
from esg_transformers.models.esg_net.nms_esg_net import suppress_overlapping_segments
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor
from esg_transformers.models.esg_net.segments_esg_net import TemporalPoints
from esg_transformers.models.esg_net.windows_esg_net import (
    Span,
    WindowCandidates,
    feature_windows,
    suppress_windows,
)

SOFT = {"method": "soft", "sigma": 0.4, "iou_threshold": 0.7, "min_score": 0.001}
LEVELS = 4  # the coarsest has a point every 8 steps
WINDOW = 64


def blocks_of(num_steps, block_steps, audio=True):
    visual = np.arange(num_steps, dtype=np.float32)[:, None]
    for first in range(0, num_steps, block_steps):
        part = visual[first : first + block_steps]
        yield {"visual_features": part, "audio_features": 10 * part if audio else None}


def spans_of(num_steps):
    return [span for span, _, _ in feature_windows(blocks_of(num_steps, num_steps), WINDOW, LEVELS)]


def test_windows_overlap_by_half_and_each_answers_for_its_middle():
    windows = list(feature_windows(blocks_of(10, 3), window_steps=4, pyramid_levels=1))
    assert [span for span, _, _ in windows] == [
        Span(0, 4, 0, 3, is_last=False),
        Span(2, 6, 3, 5, is_last=False),
        Span(4, 8, 5, 7, is_last=False),
        Span(6, 10, 7, 10, is_last=True),
    ]
    for span, visual, audio in windows:
        assert visual[:, 0].tolist() == list(range(span.first, span.last))
        np.testing.assert_array_equal(audio, 10 * visual)


@pytest.mark.parametrize("num_steps", [1, 3, 4])
def test_what_fits_in_a_window_is_one_and_answers_for_all(num_steps):
    [(span, visual, audio)] = feature_windows(blocks_of(num_steps, 2, audio=False), window_steps=4, pyramid_levels=1)
    assert span == Span(0, num_steps, 0, num_steps, is_last=True)
    assert span.seen == span.centres == (-math.inf, math.inf)
    assert (len(visual), audio) == (num_steps, None)


@pytest.mark.parametrize("num_steps", [5, 63, 64, 65, 96, 97, 300])
def test_every_point_of_a_video_has_its_answer_from_one_window(num_steps):
    whole = TemporalPoints.for_pyramid(num_steps, LEVELS)
    answered = []
    for span in spans_of(num_steps):
        points = TemporalPoints.for_pyramid(span.last - span.first, LEVELS)
        positions = points.positions + span.first
        mine = (positions >= span.answers_from) & (positions < span.answers_to)
        answered += zip(points.strides[mine].tolist(), positions[mine].tolist(), strict=True)
    assert sorted(answered) == sorted(zip(whole.strides.tolist(), whole.positions.tolist(), strict=True))


def test_no_more_of_a_video_is_asked_for_than_a_window_needs_to_know_that_it_is_not_the_last():
    asked = []
    blocks = (asked.append(index) or block for index, block in enumerate(blocks_of(100, 4)))
    for span, _, _ in feature_windows(blocks, window_steps=8, pyramid_levels=1):
        assert 4 * len(asked) <= span.last + 4


def candidates(span, *rows):
    """Candidates of a window from rows (start, end, score, class)."""
    values = torch.tensor([row[:3] for row in rows]).reshape(-1, 3)
    return WindowCandidates(span, values[:, :2], values[:, 2], torch.tensor([row[3] for row in rows], dtype=torch.long))


def events(windows, **settings):
    segments, scores, labels = suppress_windows(windows, max_events=100, **{**SOFT, **settings})
    return [
        (*segment, round(score, 4), label)
        for segment, score, label in zip(segments.tolist(), scores.tolist(), labels.tolist(), strict=True)
    ]


FIRST, SECOND, THIRD = spans_of(128)  # 0 to 64, 32 to 96, 64 to 128; they answer up to 48, 80 and 128


def test_one_window_gives_what_plain_suppression_gives():
    generator = torch.Generator().manual_seed(0)
    segments = torch.rand(40, 2, generator=generator).cumsum(dim=1) * 20
    scores, labels = torch.rand(40, generator=generator), torch.randint(3, (40,), generator=generator)
    [span] = spans_of(40)
    alone = suppress_windows([WindowCandidates(span, segments, scores, labels)], max_events=10, **SOFT)
    plain = suppress_overlapping_segments(segments[None], scores[None], labels[None], max_events=10, **SOFT)
    for found, expected in zip(alone, plain, strict=True):
        torch.testing.assert_close(found, expected[0])


def test_an_event_that_two_windows_find_comes_out_once():
    # The second is lowered by exp(-(8 / 10)^2 / 0.4) = 0.2019, as it would be in one window.
    windows = [candidates(FIRST, (42.0, 52.0, 0.8, 1)), candidates(SECOND, (43.0, 51.0, 0.5, 1)), candidates(THIRD)]
    assert events(windows) == [(42.0, 52.0, 0.8, 1), (43.0, 51.0, 0.1009, 1)]


def test_an_event_that_an_edge_cuts_is_joined_with_the_higher_score():
    windows = [candidates(FIRST, (20.0, 64.0, 0.6, 1)), candidates(SECOND, (32.0, 90.0, 0.8, 1)), candidates(THIRD)]
    assert events(windows) == [(20.0, 90.0, 0.8, 1)]


def test_an_event_over_many_windows_is_joined_to_one():
    spans = spans_of(1000)
    windows = [
        candidates(span, (max(span.first, 10), min(span.last, 700), 0.7, 0)) for span in spans if span.first < 700
    ]
    windows += [candidates(span) for span in spans if span.first >= 700]
    assert events(windows) == [(10.0, 700.0, 0.7, 0)]


def test_what_overlaps_a_part_of_a_joined_event_is_lowered_once_by_that_part():
    # (40, 60) overlaps (20, 64) by 20 / 44: 0.5 x exp(-0.2066 / 0.4) = 0.2983. The union (20, 96) then lowers it by
    # exp(-(20 / 76)^2 / 0.4) = 0.8410.
    windows = [
        candidates(FIRST, (20.0, 64.0, 0.6, 1), (20.0, 60.0, 0.5, 1), (40.0, 60.0, 0.5, 1), (40.0, 60.0, 0.5, 2)),
        candidates(SECOND, (32.0, 96.0, 0.6, 1)),
        candidates(THIRD, (64.0, 96.0, 0.4, 1)),
    ]
    found = events(windows)
    assert found[:2] == [(20.0, 96.0, 0.6, 1), (40.0, 60.0, 0.5, 2)]
    assert [event[2] for event in found if event[:2] == (40.0, 60.0)][1] == pytest.approx(0.2509, abs=2e-4)


def test_parts_that_do_not_agree_where_both_windows_see_them_stay_apart():
    windows = [candidates(FIRST, (60.0, 64.0, 0.6, 1)), candidates(SECOND, (32.0, 40.0, 0.6, 1)), candidates(THIRD)]
    assert sorted(events(windows)) == [(32.0, 40.0, 0.6, 1), (60.0, 64.0, 0.6, 1)]


@pytest.mark.parametrize("other", [(32.0, 90.0, 0.2, 1), (32.0, 90.0, 0.6, 2)], ids=["score", "class"])
def test_parts_of_unlike_score_or_class_stay_apart(other):
    windows = [candidates(FIRST, (20.0, 64.0, 0.6, 1)), candidates(SECOND, other), candidates(THIRD)]
    assert (20.0, 64.0, 0.6, 1) in events(windows)


def test_hard_suppression_joins_too():
    windows = [
        candidates(FIRST, (20.0, 64.0, 0.6, 1), (22.0, 64.0, 0.5, 1)),
        candidates(SECOND, (32.0, 90.0, 0.8, 1)),
        candidates(THIRD),
    ]
    assert events(windows, method="hard") == [(20.0, 90.0, 0.8, 1)]


def test_each_window_has_room_for_its_events():
    windows = [
        candidates(span, *[(span.answers_from + 2 * i, span.answers_from + 2 * i + 1, 0.5, 0) for i in range(4)])
        for span in (FIRST, SECOND, THIRD)
    ]
    segments, _, _ = suppress_windows(windows, max_events=4, **SOFT)
    assert len(segments) == 12


def learnt_outputs(span, true_segments, true_labels, num_classes):
    """Outputs of a perfectly trained network for a window; the window cuts true events, as crops do."""
    num_steps = span.last - span.first
    points = TemporalPoints.for_pyramid(num_steps, LEVELS)
    local = (true_segments - span.first).clamp(0, num_steps)
    inside = local[:, 1] > local[:, 0]
    local, labels = local[inside], true_labels[inside]
    stacked = torch.stack([points.positions, points.strides], dim=-1)
    positive, targets = assign_targets(stacked, local[None], labels[None], LEVELS)
    logits = torch.full((1, len(stacked), num_classes), -20.0)
    offsets = torch.zeros(1, len(stacked), num_classes, 2)
    _, point, event = positive.nonzero(as_tuple=True)
    logits[0, point, labels[event]] = 2.0
    offsets[0, point, labels[event]] = targets[0, point, event]
    return ModelOutput(
        logits=logits, offsets=offsets, points=stacked[None], point_mask=torch.ones(1, len(stacked), dtype=torch.long)
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_network_that_has_learnt_its_targets_finds_every_event_of_a_long_video_once(seed):
    generator = np.random.default_rng(seed)
    num_steps, num_classes = 1500, 3
    rows = []
    for label in range(num_classes):  # events of a class lie apart, of different classes as they like
        end = 0.0
        while (start := end + generator.uniform(3, 60)) < num_steps - 4:
            end = min(start + generator.choice([3, 10, 30, 60, 100, 400]) * generator.uniform(1, 1.5), num_steps - 1.0)
            rows.append((start, end, label))
    rows.sort()
    true_segments = torch.tensor([row[:2] for row in rows], dtype=torch.float32)
    true_labels = torch.tensor([row[2] for row in rows])

    processor = EsgNetProcessor(frame_rate=1.0, feature_stride=1, feature_window=2)  # step s is at s + 1 seconds
    windows = []
    for span in spans_of(num_steps):
        outputs = learnt_outputs(span, true_segments, true_labels, num_classes)
        windows += processor.window_candidates(outputs, [span], threshold=0.3)
    found = processor.post_process_windows(windows, threshold=0.5)
    order = found["segments"][:, 0].argsort()
    torch.testing.assert_close(found["segments"][order] - 1, true_segments, atol=1e-2, rtol=0)
    assert found["labels"][order].tolist() == true_labels.tolist()
