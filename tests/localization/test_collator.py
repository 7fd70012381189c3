import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from esg_transformers.localization.collator import EventLocalizationCollator
from esg_transformers.models.esg_net.processing_esg_net import EsgNetProcessor

# 10 frames/s, stride 2, window 4: step g is centred at (2 g + 2) / 10 seconds.
COLLATE = EventLocalizationCollator(EsgNetProcessor(10.0, 2, 4, visual_size=3, audio_size=2))


def make_example(video_id, num_steps, segments=(), labels=(), **changes):
    return {
        "video_id": video_id,
        "duration": (2 * num_steps + 2) / 10,
        "visual_features": np.ones((num_steps, 3), np.float16),
        "audio_features": np.ones((num_steps, 2), np.float16),
        "segments": np.array(segments, np.float32).reshape(-1, 2),
        "labels": np.array(labels, np.int64),
    } | changes


def test_examples_of_different_lengths_are_padded_to_one_batch():
    examples = [make_example("a", 4, [[0.2, 0.8], [0.4, 1.0]], [1, 0]), make_example("b", 2)]
    batch = COLLATE(examples)
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "visual_features": (2, 4, 3),
        "audio_features": (2, 4, 2),
        "attention_mask": (2, 4),
        "visual_mask": (2, 4),
        "audio_mask": (2, 4),
        "segment_labels": (2, 2, 2),
        "class_labels": (2, 2),
    }
    assert batch["visual_features"].dtype == torch.float32
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["audio_features"][1].sum() == 4  # 2 steps of 2 channels
    assert batch["class_labels"].tolist() == [[1, 0], [-100, -100]]
    # 0.2 s, 0.8 s, 0.4 s and 1.0 s are steps 0, 3, 1 and 4.
    torch.testing.assert_close(batch["segment_labels"][0], torch.tensor([[0.0, 3.0], [1.0, 4.0]]))


def test_a_stream_that_one_video_lacks_is_masked_for_it_alone():
    batch = COLLATE([make_example("a", 2), make_example("b", 2, audio_features=None)])
    assert batch["audio_mask"].tolist() == [[1, 1], [0, 0]]
    assert batch["visual_mask"].tolist() == batch["attention_mask"].tolist() == [[1, 1], [1, 1]]


def test_a_data_loader_takes_it():
    examples = [make_example(str(index), 3) for index in range(3)]
    batches = list(DataLoader(examples, batch_size=2, collate_fn=COLLATE))
    assert [len(batch["visual_features"]) for batch in batches] == [2, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"visual_features": np.full((2, 3), np.inf, np.float32)},
            "The visual features of video 1 are NaN or infinite",
        ),
        ({"visual_features": np.ones((3, 3), np.float32)}, "Video 1 has 3 visual and 2 audio steps"),
        ({"audio_features": np.ones((2, 5), np.float32)}, r"audio features of video 1 have shape \(2, 5\)"),
        ({"visual_features": None, "audio_features": None}, "Video 1 has neither visual nor audio features"),
        ({"segments": np.array([[0.5, 0.5]], np.float32), "labels": np.array([0])}, "end is not after its start"),
    ],
)
def test_what_is_wrong_with_a_video_comes_with_the_ids_of_the_batch(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        COLLATE([make_example("-first", 2), make_example("second", 2, **changes)])
    assert str(raised.value).endswith("(The batch holds, from video 0 on: -first, second.)")
