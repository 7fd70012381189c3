import math

import pytest
import torch

from esg_transformers.models.esg_net.nms_esg_net import suppress_overlapping_segments


def reference_soft_nms(segments, scores, sigma, min_score):
    """One class by the rule of notes and operator: take the best, lower the rest, drop what falls below `min_score`."""
    left = [(score, start, end) for score, (start, end) in zip(scores, segments, strict=True)]
    kept = []
    while left:
        best = max(left, key=lambda x: x[0])
        left.remove(best)
        kept.append(best)
        lowered = []
        for score, start, end in left:
            inter = max(0.0, min(end, best[2]) - max(start, best[1]))
            iou = inter / ((best[2] - best[1] + 1e-6) + (end - start + 1e-6) - inter)
            score *= math.exp(-iou * iou / sigma)
            if score >= min_score:
                lowered.append((score, start, end))
        left = lowered
    return kept


def random_candidates(seed, num, num_classes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(num, generator=generator) * 50
    segments = torch.stack([start, start + 0.1 + torch.rand(num, generator=generator) * 20], -1)
    scores = torch.rand(num, generator=generator) * 0.99 + 0.01
    return segments.to(dtype), scores.to(dtype), torch.randint(num_classes, (num,), generator=generator)


@pytest.mark.parametrize("seed", range(5))
def test_soft_suppression_equals_the_class_by_class_rule(seed):
    segments, scores, labels = random_candidates(seed, 60, 4, torch.float64)
    expected = []
    for label in range(4):
        of_class = labels == label
        kept = reference_soft_nms(segments[of_class].tolist(), scores[of_class].tolist(), 0.4, 0.001)
        expected += [(*event, label) for event in kept]
    expected = sorted(expected, reverse=True)[:20]
    found_segments, found_scores, found_labels = suppress_overlapping_segments(
        segments[None], scores[None], labels[None], max_events=20
    )
    assert found_labels[0].tolist() == [event[3] for event in expected]
    torch.testing.assert_close(found_scores[0], torch.tensor([event[0] for event in expected], dtype=torch.float64))
    torch.testing.assert_close(found_segments[0], torch.tensor([event[1:3] for event in expected], dtype=torch.float64))


def test_the_second_of_two_equal_segments_is_lowered_by_the_full_gaussian():
    segments = torch.tensor([[[0.0, 10.0], [0.0, 10.0]]])
    _, scores, _ = suppress_overlapping_segments(
        segments, torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.long), max_events=5
    )
    torch.testing.assert_close(scores, torch.tensor([[0.9, 0.8 * math.exp(-1 / 0.4)]]), atol=1e-6, rtol=0)


def test_segments_of_different_classes_do_not_suppress_each_other():
    segments = torch.tensor([[[0.0, 10.0], [0.0, 10.0]]])
    _, scores, labels = suppress_overlapping_segments(
        segments, torch.tensor([[0.8, 0.9]]), torch.tensor([[3, 7]]), max_events=5
    )
    assert labels.tolist() == [[7, 3]]
    torch.testing.assert_close(scores, torch.tensor([[0.9, 0.8]]))


def test_hard_suppression_removes_what_overlaps_and_keeps_what_does_not():
    segments = torch.tensor([[[0.0, 10.0], [1.0, 10.0], [5.0, 15.0]]])  # iou with the first: 0.9 and 1/3
    kept, scores, _ = suppress_overlapping_segments(
        segments,
        torch.tensor([[0.9, 0.8, 0.7]]),
        torch.zeros(1, 3, dtype=torch.long),
        max_events=5,
        method="hard",
        iou_threshold=0.5,
    )
    assert kept[0].tolist() == [[0, 10], [5, 15]]
    torch.testing.assert_close(scores[0], torch.tensor([0.9, 0.7]))


def test_a_batch_of_videos_gives_what_each_gives_alone():
    videos = [random_candidates(seed, num, 3) for seed, num in [(0, 40), (1, 7), (2, 1)]]
    width = 40
    padded = [torch.zeros(3, width, 2), torch.zeros(3, width), torch.zeros(3, width, dtype=torch.long)]
    for index, video in enumerate(videos):
        for pad, value in zip(padded, video, strict=True):
            pad[index, : len(value)] = value
    batch = suppress_overlapping_segments(*padded, max_events=10)
    for index, video in enumerate(videos):
        alone = suppress_overlapping_segments(*(x[None] for x in video), max_events=10)
        real = batch[1][index] > 0
        for together, single in zip(batch, alone, strict=True):
            torch.testing.assert_close(together[index][real], single[0])


def test_the_first_of_a_class_stays_below_the_minimum_score():
    _, scores, _ = suppress_overlapping_segments(
        torch.tensor([[[0.0, 1.0], [5.0, 6.0]]]),
        torch.tensor([[0.02, 0.01]]),
        torch.zeros(1, 2, dtype=torch.long),
        max_events=5,
        min_score=0.1,
    )
    torch.testing.assert_close(scores, torch.tensor([[0.02]]))


def test_no_candidates_give_no_events():
    for num in (0, 3):
        segments, scores, labels = suppress_overlapping_segments(
            torch.zeros(2, num, 2), torch.zeros(2, num), torch.zeros(2, num, dtype=torch.long), max_events=5
        )
        assert segments.shape == (2, 0, 2) and scores.shape == (2, 0) and labels.shape == (2, 0)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="linear"):
        suppress_overlapping_segments(
            torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.long), max_events=1, method="linear"
        )
