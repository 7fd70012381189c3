"""The UnAV baseline, against reference outputs of its authors' code and against what must hold of any such model.

`reference_outputs.npz` was made with the authors' code (github.com/ttgeng233/UnAV, commit
1609deba4fbaf25222c6ee6c7d43b0d0ddfab20d; libs/utils/csrc compiled as its INSTALL.md says, torch 2.13 on a CPU):

1. `libs.core.config.load_config("configs/avel_unav100.yaml")`, with in "model": num_classes 5, max_seq_len 48,
   embd_dim 16, head_dim 12, backbone_arch (2, 3, 3), regression_range [(0, 4), (4, 8), (8, 16), (16, 10000)]; the model
   of `make_multimodal_meta_arch`, in evaluation mode.
2. Names and shapes of its state dict, `module.` put before the names as by DataParallel: `names`, `shapes`. Its weights
   are those of `reference_weights` below, which are drawn anew here.
3. For each of `CASES` a call of the model on `reference_features`, with durations of 0.32 s per step, fps 25,
   feat_stride 8, feat_num_frames 24 and points of a `PointGenerator` with room for 8 x max_seq_len steps. What reaches
   its `inference`, on real points, video after video and level after level: `<case>/logits`, `<case>/offsets`. What it
   returns: `<case>/events`, rows of (start, end, score, class), at most 100 a video.
4. For "short", `losses` of those outputs with the targets of `UnAV100Dataset.label_points_single_video` for `SEGMENTS`
   and `CLASSES`: `short/losses`, the classification and the boundary loss times `loss_normalizer`, and the number of
   positive points that entered the latter.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel, AutoProcessor

from esg_transformers import EsgNetProcessor, UnavConfig, UnavForEventLocalization
from esg_transformers.models.unav.modeling_unav import UnavMask, frame_length, sinusoid_positions

REFERENCE = Path(__file__).parent / "reference_outputs.npz"
CASES = {"full": [48], "short": [30], "long": [70], "batch": [41, 41]}  # steps of each video
SEGMENTS, CLASSES = [[2.0, 9.5], [4.0, 6.0], [8.5, 27.0]], [0, 3, 0]  # grid positions, class ids

SIZES = {
    "num_labels": 5,
    "visual_size": 12,
    "audio_size": 7,
    "hidden_size": 16,
    "max_seq_len": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "pyramid_levels": 3,
    "dependency_size": 6,
    "head_size": 12,
}


def reference_weights(names, shapes):
    """Weights by name: convolutions of unit gain, all else in [0.2, 0.8). Numpy keeps this stream fixed (NEP 19)."""
    stream = np.random.RandomState(0)
    weights = {}
    for name, shape in zip(names, shapes, strict=True):
        values = stream.uniform(-1, 1, shape)
        is_convolution = len(shape) == 3 and shape[0] > 1
        values = values * (3 / np.prod(shape[1:])) ** 0.5 if is_convolution else 0.5 + 0.3 * values
        weights[name] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return weights


def reference_features(lengths):
    """(visual (T, 2048), audio (T, 128)) of videos with these numbers of steps."""
    stream = np.random.RandomState(sum(lengths))
    return [
        tuple(torch.from_numpy(stream.standard_normal((length, size)).astype(np.float32)) for size in (2048, 128))
        for length in lengths
    ]


def model_of(**fields):
    """A model whose biases, norms and residual scales are away from where they start, as after training."""
    torch.manual_seed(0)
    model = UnavForEventLocalization(UnavConfig(**SIZES | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return model


def features_of(*lengths, seed=1):
    """Padded features and the mask of videos with these numbers of steps."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in zip(mask, lengths, strict=True):
        row[:length] = 1
    return {
        "visual_features": torch.randn(len(lengths), max(lengths), 12, generator=generator) * mask[..., None],
        "audio_features": torch.randn(len(lengths), max(lengths), 7, generator=generator) * mask[..., None],
        "attention_mask": mask,
    }


def labelled(batch):
    videos = len(batch["visual_features"])
    return batch | {
        "segment_labels": torch.tensor([[[1.5, 6.5], [2.5, 4.5]]]).repeat(videos, 1, 1),
        "class_labels": torch.tensor([[0, 3]]).repeat(videos, 1),
    }


def real_points(outputs):
    real = outputs.point_mask.bool()
    return torch.cat([outputs.logits[..., None], outputs.offsets], dim=-1)[real]  # (real points, C, 3)


@pytest.fixture(scope="module")
def reference():
    return np.load(REFERENCE, allow_pickle=False)


@pytest.fixture(scope="module")
def converted(reference, tmp_path_factory):
    """The reference weights as a checkpoint, converted by the script and loaded from what it wrote."""
    import convert_unav_to_hf

    folder = tmp_path_factory.mktemp("unav")
    shapes = [tuple(map(int, shape.split(","))) if shape else () for shape in reference["shapes"].tolist()]
    weights = reference_weights(reference["names"].tolist(), shapes)
    torch.save({"epoch": 1, "state_dict": {}, "state_dict_ema": weights}, folder / "model_best.pth.tar")
    arguments = [str(folder / "model_best.pth.tar"), str(folder / "model"), "--max-seq-len", "48"]
    assert convert_unav_to_hf.main(arguments) == 0
    return (
        UnavForEventLocalization.from_pretrained(folder / "model").eval(),
        EsgNetProcessor.from_pretrained(folder / "model"),
    )


@pytest.mark.parametrize("case", CASES)
def test_logits_offsets_and_events_are_those_of_the_authors_code(case, reference, converted):
    model, processor = converted
    visual, audio = zip(*reference_features(CASES[case]), strict=True)
    with torch.no_grad():
        outputs = model(**processor(visual, audio))
    real = outputs.point_mask.bool()
    expected = {name: torch.from_numpy(reference[f"{case}/{name}"]) for name in ("logits", "offsets", "events")}
    torch.testing.assert_close(outputs.logits[real], expected["logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs.offsets[real], expected["offsets"], atol=1e-4, rtol=0)
    durations = [0.32 * length for length in CASES[case]]
    found = processor.post_process_event_localization(outputs, durations=durations)
    rows = [torch.cat([x["segments"], x["scores"][:, None], x["labels"][:, None]], dim=1) for x in found]
    # The authors keep candidates that lie past the end, as events of no length there; the processor drops them.
    has_length = expected["events"][:, 1] > expected["events"][:, 0]
    torch.testing.assert_close(torch.cat(rows), expected["events"][has_length], atol=1e-4, rtol=0)
    assert has_length.sum() > 90 * len(durations)


def test_losses_are_those_of_the_authors_code(reference, converted):
    model, processor = converted
    visual, audio = zip(*reference_features(CASES["short"]), strict=True)
    labels = {"segment_labels": torch.tensor([SEGMENTS]), "class_labels": torch.tensor([CLASSES])}
    with torch.no_grad():
        outputs = model(**processor(visual, audio), **labels)
        training = copy.deepcopy(model).train()
        training(**processor(visual, audio), **labels)
    classification, boundary, num_positive = reference["short/losses"].tolist()
    assert outputs.loss_dict["classification"].item() * 250 == pytest.approx(classification, rel=1e-5)
    assert outputs.loss_dict["boundary"].item() * 250 == pytest.approx(boundary, rel=1e-5)
    assert outputs.loss.item() * 250 == pytest.approx(classification + boundary, rel=1e-5)
    assert training.loss_normalizer.item() == pytest.approx(0.9 * 250 + 0.1 * num_positive)


def test_the_published_size_has_as_many_parameters_as_the_authors_model():
    with torch.device("meta"):
        model = UnavForEventLocalization(UnavConfig(num_labels=100))
    # 558 tensors and 139,544,114 numbers in a published checkpoint on I3D and VGGish features.
    assert len(list(model.parameters())) == 558
    assert model.num_parameters() == 139_544_114


@pytest.mark.parametrize("num_steps", [1, 2, 7, 16, 21])
def test_there_is_a_point_for_every_step_of_every_level(num_steps):
    outputs = model_of()(**features_of(num_steps))
    num_points = num_steps + -(-num_steps // 2) + -(-num_steps // 4)
    assert outputs.logits.shape == (1, num_points, 5)
    assert outputs.offsets.shape == (1, num_points, 5, 2)
    assert (outputs.offsets >= 0).all()
    assert outputs.points.shape == (1, num_points, 2) and outputs.point_mask.shape == (1, num_points)


# 16 is the length of the position table: videos that fill it, stretch it, and leave it almost empty.
@pytest.mark.parametrize("lengths", [(14, 8, 3), (16, 15, 13), (40, 16, 1), (33, 21, 17)])
def test_a_video_in_a_batch_gives_what_it_gives_alone(lengths):
    model, batch = model_of(), features_of(*lengths)
    with torch.no_grad():
        together = model(**batch)
        for index, length in enumerate(lengths):
            alone = model(**{name: x[index : index + 1, :length] for name, x in batch.items()})
            mine = type(together)(**{name: x[index : index + 1] for name, x in together.items()})
            torch.testing.assert_close(real_points(mine), real_points(alone), atol=1e-5, rtol=1e-5)


def test_more_padding_changes_nothing():
    model, batch = model_of(), features_of(13, 6)
    wider = {name: F.pad(x, (0, 0, 0, 30) if x.dim() == 3 else (0, 30)) for name, x in batch.items()}
    with torch.no_grad():
        torch.testing.assert_close(real_points(model(**batch)), real_points(model(**wider)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(**labelled(batch)).loss, model(**labelled(wider)).loss)


def test_what_stands_on_padded_steps_does_not_matter():
    model, batch = model_of(), features_of(11, 4)
    padded = (1 - batch["attention_mask"])[..., None]
    other = batch | {
        "visual_features": batch["visual_features"] + 100 * padded,
        "audio_features": batch["audio_features"] - 100 * padded,
    }
    with torch.no_grad():
        torch.testing.assert_close(real_points(model(**batch)), real_points(model(**other)), atol=0, rtol=0)


@pytest.mark.parametrize("absent", ["visual", "audio"])
def test_an_absent_stream_counts_as_zeros(absent):
    model, batch = model_of(), features_of(10, 10)
    zeros = {f"{absent}_features": torch.zeros_like(batch[f"{absent}_features"])}
    with torch.no_grad():
        masked = model(**batch, **{f"{absent}_mask": torch.zeros(2, 10)})
        torch.testing.assert_close(masked.logits, model(**batch | zeros).logits, atol=0, rtol=0)
    assert torch.isfinite(masked.logits).all()


def test_positions_are_the_table_up_to_its_length_and_its_interpolation_beyond():
    table = sinusoid_positions(torch.tensor([16]), 16, max_seq_len=16, hidden_size=8)
    # Row 3, channels 2 and 3: sin and cos of 3 / 10000 ** (2 / 8) = 0.3, over the root of 8.
    torch.testing.assert_close(table[0, 3, 2:4], torch.tensor([0.29552, 0.95534]) / 8**0.5, atol=1e-5, rtol=0)
    stretched = sinusoid_positions(torch.tensor([40]), 40, max_seq_len=16, hidden_size=8)
    expected = F.interpolate(table.transpose(1, 2), 40, mode="linear", align_corners=False).transpose(1, 2)
    torch.testing.assert_close(stretched, expected, atol=1e-6, rtol=0)


def test_every_video_of_a_batch_has_the_positions_of_its_own_frame():
    frame = frame_length(torch.tensor([40, 9]), max_seq_len=16, coarsest_stride=4)
    assert frame.tolist() == [40, 16]
    both = sinusoid_positions(frame, 16, max_seq_len=16, hidden_size=8)
    torch.testing.assert_close(both[1:], sinusoid_positions(torch.tensor([16]), 16, max_seq_len=16, hidden_size=8))
    assert not torch.allclose(both[0], both[1])


def test_the_dependency_block_relates_steps_within_a_class_and_classes_within_a_step():
    block, real = model_of().dependency_block, torch.ones(1, 8, dtype=torch.bool)
    states, related = torch.randn(1, 8, 32), []
    block.squeeze.register_forward_pre_hook(lambda _, inputs: related.append(inputs[0].unflatten(-1, (5, 6))))
    with torch.no_grad():
        block(states, UnavMask(real, real))
        change = torch.zeros(1, 8, 5, 6)
        change[0, 2, 3] = torch.rand(6)  # class 3 at step 2
        block.expand.register_forward_hook(lambda _, inputs, output: output.relu() + change.flatten(2))
        block(states, UnavMask(real, real))
    changed = (related[0] - related[1]).abs().amax(dim=-1)[0] > 1e-6  # (steps, classes)
    expected = torch.zeros(8, 5, dtype=torch.bool)
    expected[2], expected[:, 3] = True, True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("use_dependency", [True, False])
def test_the_model_learns_with_every_weight_saves_and_loads(use_dependency, tmp_path):
    model = model_of(use_dependency=use_dependency).train()
    outputs = model(**labelled(features_of(12, 9)))
    assert set(outputs.loss_dict) == {"classification", "boundary"}
    outputs.loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.eval().save_pretrained(tmp_path)
    loaded = UnavForEventLocalization.from_pretrained(tmp_path)
    assert loaded.loss_normalizer == model.loss_normalizer != 250
    with torch.no_grad():
        batch = features_of(12, 9)
        torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, atol=0, rtol=0)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = model_of(drop_path_rate=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**labelled(features_of(12, 9))).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*gradients)


def test_a_new_model_starts_at_the_authors_values():
    model = UnavForEventLocalization(UnavConfig(**SIZES))
    # log(0.01 / 0.99) = -4.5951: libs/modeling/multimodal_meta_archs.py; 1e-4, 1 and 0: libs/modeling/blocks.py.
    torch.testing.assert_close(model.classification_head.output.conv.bias, torch.full((5,), -4.5951), atol=1e-4, rtol=0)
    assert (model.visual_stream.blocks[0].attention_drop_path.scale == 1e-4).all()
    assert [scale.item() for scale in model.level_scale] == [1, 1, 1]
    assert (model.pyramid[1].audio.attention.key.linear.bias == 0).all()
    assert model.loss_normalizer == 250


def test_eager_and_sdpa_attention_agree():
    batch = features_of(13, 6)
    eager, sdpa = model_of(), model_of()
    eager.set_attn_implementation("eager")
    assert (sdpa.config._attn_implementation, eager.config._attn_implementation) == ("sdpa", "eager")
    with torch.no_grad():
        torch.testing.assert_close(real_points(eager(**batch)), real_points(sdpa(**batch)), atol=1e-5, rtol=1e-5)


def test_auto_classes_load_the_model_and_its_processor(tmp_path):
    model_of().save_pretrained(tmp_path)
    EsgNetProcessor(visual_size=12, audio_size=7).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is UnavConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is UnavForEventLocalization
    assert type(AutoProcessor.from_pretrained(tmp_path)) is EsgNetProcessor


def test_features_of_another_width_are_refused_by_name():
    with pytest.raises(ValueError, match=r"`audio_features` has shape \(1, 6, 8\).*\(videos, steps, 7\)"):
        model_of()(torch.zeros(1, 6, 12), torch.zeros(1, 6, 8))


def test_streams_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="one feature grid"):
        model_of()(torch.zeros(1, 6, 12), torch.zeros(1, 5, 7))


def test_half_the_labels_are_refused():
    with pytest.raises(ValueError, match="both"):
        model_of()(**features_of(6), class_labels=torch.zeros(1, 1, dtype=torch.long))
