import re

import pytest
import torch
from transformers import AutoConfig, AutoModel

from esg_transformers import EsgNetConfig, EsgNetForEventLocalization, EsgNetModel
from esg_transformers.models.esg_net.modeling_esg_net import downsample_max, downsample_mean, segment_evidence

SIZES = {
    "num_labels": 5,
    "visual_size": 12,
    "audio_size": 7,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "semantic_size": 8,
    "pyramid_levels": 3,
    "num_experts": 3,
    "num_event_slots": 2,
    "event_slot_size": 4,
    "head_size": 12,
}


def model_of(**fields):
    """A model whose mixtures correct something, as after training; they start from no correction."""
    torch.manual_seed(0)
    model = EsgNetForEventLocalization(EsgNetConfig(**SIZES | fields)).eval()
    if model.dependency_mixture is not None:
        torch.nn.init.normal_(model.dependency_mixture.correction.weight)
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


def assert_same_points(first, second):
    """Logits, offsets and semantic logits agree on the points that are real in both."""
    real = first.point_mask.bool()
    torch.testing.assert_close(first.logits[real], second.logits[second.point_mask.bool()], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first.offsets[real], second.offsets[second.point_mask.bool()], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 16])
def test_there_is_a_point_for_every_step_of_every_level(num_steps):
    outputs = model_of()(**features_of(num_steps))
    num_points = num_steps + -(-num_steps // 2) + -(-num_steps // 4)
    assert outputs.logits.shape == (1, num_points, 5)
    assert outputs.offsets.shape == (1, num_points, 5, 2)
    assert (outputs.offsets >= 0).all()
    assert outputs.points.shape == (1, num_points, 2) and outputs.point_mask.shape == (1, num_points)
    assert [x.shape for x in outputs.semantic_logits] == [(1, 3, num_steps, 5)] * 2
    assert [x.shape for x in outputs.router_weights] == [(1, num_points, 3)] * 2
    torch.testing.assert_close(outputs.router_weights[0].sum(-1), torch.ones(1, num_points))


def test_a_video_in_a_batch_gives_what_it_gives_alone():
    model, batch = model_of(), features_of(19, 8, 3)
    with torch.no_grad():
        together = model(**batch)
        for index, length in enumerate([19, 8, 3]):
            alone = model(**{name: x[index : index + 1, :length] for name, x in batch.items()})
            real = together.point_mask[index].bool()
            torch.testing.assert_close(together.logits[index][real], alone.logits[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(together.offsets[index][real], alone.offsets[0], atol=1e-5, rtol=1e-5)


def test_what_stands_on_padded_steps_does_not_matter():
    model, batch = model_of(), features_of(11, 4)
    other = dict(batch)
    padded = (1 - batch["attention_mask"])[..., None]
    other["visual_features"] = batch["visual_features"] + 100 * padded
    other["audio_features"] = batch["audio_features"] - 100 * padded
    with torch.no_grad():
        assert_same_points(model(**batch), model(**other))


def test_the_loss_does_not_see_padding():
    model, batch = model_of(), features_of(9, 9)
    wider = {name: torch.nn.functional.pad(x, (0, 0, 0, 6) if x.dim() == 3 else (0, 6)) for name, x in batch.items()}
    torch.testing.assert_close(model(**labelled(batch)).loss, model(**labelled(wider)).loss)


def test_a_video_that_starts_later_has_its_points_later():
    model, batch = model_of(), features_of(16)
    # 8 masked steps in front: a multiple of the coarsest stride (4), so that every point has a partner.
    late = {name: torch.nn.functional.pad(x, (0, 0, 8, 0) if x.dim() == 3 else (8, 0)) for name, x in batch.items()}
    with torch.no_grad():
        assert_same_points(model(**batch), model(**late))


@pytest.mark.parametrize("absent", ["visual", "audio"])
def test_what_stands_in_an_absent_stream_does_not_matter_and_changes_no_other_video(absent):
    model, batch = model_of(), features_of(10, 10)
    batch[f"{absent}_mask"] = torch.tensor([[0] * 10, [1] * 10])
    other = dict(batch)
    other[f"{absent}_features"] = batch[f"{absent}_features"].clone()
    other[f"{absent}_features"][0] = 50.0
    with torch.no_grad():
        masked, changed, whole = model(**batch), model(**other), model(**features_of(10, 10))
    assert torch.isfinite(masked.logits).all() and torch.isfinite(masked.offsets).all()
    torch.testing.assert_close(masked.logits, changed.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(masked.logits[1], whole.logits[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(masked.logits[0], whole.logits[0], atol=1e-3)


def test_both_streams_reach_every_output():
    model, batch = model_of(), features_of(12)
    for stream in ("visual_features", "audio_features"):
        batch[stream].requires_grad_()
    outputs = model(**batch)
    for value in (outputs.logits, outputs.offsets, *outputs.semantic_logits):
        grads = torch.autograd.grad(
            value.square().sum(), [batch["visual_features"], batch["audio_features"]], retain_graph=True
        )
        assert all(grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize(
    "fields",
    [{}, {"use_semantic_interaction": False}, {"num_dependency_layers": 0}],
    ids=["whole", "plain stem", "no MoDE"],
)
def test_every_ablation_learns_saves_and_loads(fields, tmp_path):
    model = model_of(**fields).train()
    loss = model(**labelled(features_of(12, 9))).loss
    loss.backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unused == []
    model.eval().save_pretrained(tmp_path)
    loaded = EsgNetForEventLocalization.from_pretrained(tmp_path)
    with torch.no_grad():
        batch = features_of(12, 9)
        torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, atol=0, rtol=0)


def test_switched_off_parts_leave_their_outputs_and_losses_out():
    plain = model_of(use_semantic_interaction=False, num_dependency_layers=0)(**labelled(features_of(12)))
    assert plain.semantic_logits is None and plain.router_weights is None
    assert set(plain.loss_dict) == {"classification", "boundary"}
    whole = model_of()(**labelled(features_of(12)))
    assert set(whole.loss_dict) == {"classification", "boundary", "semantic", "router"}


def test_the_loss_is_the_weighted_sum_of_its_parts():
    model = model_of(boundary_loss_weight=2.0, semantic_loss_weight=0.5, router_loss_weight=0.25)
    outputs = model(**labelled(features_of(12)))
    parts = outputs.loss_dict
    expected = parts["classification"] + 2 * parts["boundary"] + 0.5 * parts["semantic"] + 0.25 * parts["router"]
    torch.testing.assert_close(outputs.loss, expected)


def test_evidence_of_a_segment_counts_real_steps_of_the_video_only():
    logits = torch.tensor([2.0, 4.0, 6.0, 100.0])[None, :, None]
    mask = torch.tensor([[1, 1, 1, 0]])
    start, end = torch.tensor([[[0.5], [2.5]]]), torch.tensor([[[4.5], [6.5]]])
    evidence = segment_evidence(logits, mask, start, end)
    # 0.5..4.5: steps 1 and 2 are whole and real; a quarter before, -0.5..0.5, is step 0; nothing real comes after; the
    # rest, step 0 again, is half as long as what is inside.
    assert evidence[0, 0, 0].tolist() == [5.0, 2.0, 0.0, 1.0]
    # 2.5..6.5 is beyond the video, the quarter before it is step 2, and all three steps are the rest.
    assert evidence[0, 1, 0].tolist() == [0.0, 6.0, 0.0, 4.0]


def test_a_segment_whose_bounds_have_overflowed_has_no_evidence():
    bounds = torch.tensor([[[float("nan")], [-float("inf")]]]), torch.tensor([[[float("nan")], [float("inf")]]])
    evidence = segment_evidence(torch.ones(1, 4, 1), torch.ones(1, 4, dtype=torch.bool), *bounds)
    assert evidence[0, 0, 0, 0] == 0
    assert torch.isfinite(evidence).all()


def test_semantic_evidence_for_a_class_raises_its_logits_and_no_other():
    # Without experts, the last stage's logits act through the evidence alone.
    model, batch = model_of(num_dependency_layers=0), features_of(12)
    with torch.no_grad():
        model.boundary_head.output.bias += 2.0  # segments of more than a cell, which have all of their evidence
        model.evidence_weight[1:] = 0.0  # of what is inside alone
        before = model(**batch).logits
        model.model.semantic_interaction.stages[-1].classifiers[2].bias[3] += 2.0  # of the fused stream
        change = model(**batch).logits - before
    expected = torch.zeros_like(change)
    expected[..., 3] = 0.5 * 2.0  # what the weight of the inside starts from
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=0)


def test_of_evidence_that_holds_all_through_a_video_a_short_segment_has_less_than_one_that_fills_it():
    logits, mask = torch.full((1, 8, 1), 4.0), torch.ones(1, 8, dtype=torch.bool)
    start, end = torch.tensor([[[1.5], [-0.5]]]), torch.tensor([[[3.5], [7.5]]])
    evidence = segment_evidence(logits, mask, start, end) @ model_of().evidence_weight.detach()
    # 4 x (0.5 - 0.05 - 0.05 - 0.25), and 4 x 0.5: beside a segment of the whole video there is nothing.
    torch.testing.assert_close(evidence.flatten(), torch.tensor([0.6, 2.0]))


def test_what_is_heard_adds_to_the_audio_and_fused_logits_of_every_stage_where_there_is_sound():
    model, batch = model_of(), features_of(12)
    interaction = model.model.semantic_interaction
    batch["audio_mask"] = torch.ones(len(batch["audio_features"]), 12)
    batch["audio_mask"][:, 8:] = 0
    with torch.no_grad():
        before = model(**batch).semantic_logits
        torch.nn.init.normal_(interaction.audio_semantics.projection.weight)
        after = model(**batch).semantic_logits
        normed = torch.nn.functional.layer_norm(batch["audio_features"], batch["audio_features"].shape[-1:])
        prototypes = torch.nn.functional.normalize(interaction.prototypes, dim=-1)
        heard = normed @ interaction.audio_semantics.projection.weight.T @ prototypes.T * batch["audio_mask"][..., None]
    assert len(after) == 2 and heard.abs().max() > 0.1
    for first, then in zip(before, after, strict=True):
        torch.testing.assert_close(then[:, 0], first[:, 0])
        torch.testing.assert_close(then[:, 1:] - first[:, 1:], heard[:, None].expand(-1, 2, -1, -1), atol=1e-5, rtol=0)


def test_the_linear_path_drops_features_in_training_only():
    model, batch = model_of(feature_dropout=0.5), features_of(12)
    path = model.model.semantic_interaction.audio_semantics
    torch.nn.init.normal_(path.projection.weight)
    features, mask = batch["audio_features"], batch["attention_mask"].bool()
    expected = torch.nn.functional.layer_norm(features, features.shape[-1:]) @ path.projection.weight.T
    torch.testing.assert_close(path(features, mask), expected)
    path.train()
    assert (path(features, mask) - path(features, mask)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"audio_size": 36}, 0.0),
        ({"audio_size": 144}, 0.5),  # 1 - 6 / 12
        ({"audio_size": 1600}, 0.85),
        ({"audio_size": 9}, 0.0),
        ({"audio_size": 1600, "feature_dropout": 0.0}, 0.0),
    ],
)
def test_of_more_features_a_larger_share_is_dropped(fields, dropped):
    model = model_of(**fields, drop_path_rate=0.0).train()
    path = model.model.semantic_interaction.audio_semantics
    torch.nn.init.normal_(path.projection.weight)
    seen = []
    path.projection.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    path(torch.randn(200, 20, fields["audio_size"]), torch.ones(200, 20, dtype=torch.bool))
    assert abs((seen[-1] == 0).float().mean().item() - dropped) < 0.01


def mixture_of(model, batch):
    """Outputs of the model, and the inputs and the correction of its mixtures of dependency experts."""
    seen = []
    hook = model.dependency_mixture.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))
    with torch.no_grad():
        outputs = model(**batch)
    hook.remove()
    [(inputs, (correction, _))] = seen
    return outputs, inputs, correction


def test_the_mixtures_correct_the_classes_that_a_video_says_most_of_and_no_others():
    model, batch = model_of(), features_of(12, 7)  # 2 slots, 5 classes
    outputs, _, correction = mixture_of(model, batch)
    fused = outputs.semantic_logits[-1][:, 2].masked_fill(~batch["attention_mask"].bool()[..., None], -torch.inf)
    expected = torch.zeros(2, 5, dtype=torch.bool).scatter(1, fused.amax(dim=1).argsort(descending=True)[:, :2], True)
    assert torch.equal(correction.abs().sum(dim=(1, 3)) > 0, expected)


def test_new_mixtures_leave_what_the_heads_say():
    model, batch = model_of(), features_of(12)
    torch.nn.init.zeros_(model.dependency_mixture.correction.weight)
    without = model_of(num_dependency_layers=0)
    without.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        assert_same_points(model(**batch), without(**batch))
        fresh = EsgNetForEventLocalization(model.config).dependency_mixture.correction
    assert not fresh.weight.any() and not fresh.bias.any()


def test_the_mixtures_start_from_the_heads_and_the_evidence_for_a_slots_class():
    model, batch = model_of(num_event_slots=1, num_dependency_layers=1), features_of(8)
    seen = []
    model.dependency_mixture.slots.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    _, (logits, offsets, step_logits, points, _), _ = mixture_of(model, batch)
    [slot] = seen
    assert slot.shape == (1, 14, 1, 18)
    index = step_logits[0, 2].amax(dim=0).argmax()
    torch.testing.assert_close(slot[0, :, 0, 0], logits[0, :, index] / 4)
    torch.testing.assert_close(slot[0, :, 0, 1:3], offsets[0, :, index].log1p())
    position, stride = points[0].unbind(-1)
    start, end = position - offsets[0, :, index, 0] * stride, position + offsets[0, :, index, 1] * stride
    for stream in range(3):
        evidence = segment_evidence(
            step_logits[:, stream, :, index, None], torch.ones(1, 8), start[None, :, None], end[None, :, None]
        )
        torch.testing.assert_close(slot[0, :, 0, 3 + 4 * stream : 7 + 4 * stream], evidence[0, :, 0] / 4)
        torch.testing.assert_close(slot[0, :8, 0, 15 + stream], step_logits[0, stream, :, index] / 4)
        # The coarsest level's first point is the mean of the means of steps 0, 1 and 1, 2, 3.
        said = step_logits[0, stream, :, index]
        mean = (said[:2].mean() + said[1:4].mean()) / 2
        torch.testing.assert_close(slot[0, 12, 0, 15 + stream], mean / 4)


def test_the_experts_see_all_points_of_a_slot_and_all_slots_of_a_point():
    layer = model_of().dependency_mixture.layers[0]
    slots = torch.randn(1, 3, 2, 4, requires_grad=True)  # two points of the finest level and one of the next
    masks = [torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)]
    output, weights = layer(slots, masks)
    assert output.shape == slots.shape and weights.shape == (1, 3, 2, 3)
    [grad] = torch.autograd.grad(output[0, 0, 0].square().sum(), slots)
    # The point itself, its other slot, and the same slot of the level's other point; not the other level.
    assert (grad.abs().sum(-1)[0] > 0).tolist() == [[True, True], [True, False], [False, False]]


def test_classes_in_another_order_are_found_in_that_order():
    model, batch = model_of(), features_of(12)
    order = torch.tensor([3, 0, 4, 1, 2])
    other = model_of()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, tensor in other.named_parameters():
            if "boundary_head.output" in name:
                tensor.copy_(tensor.unflatten(0, (5, 2))[order].flatten(0, 1))
            elif re.search(r"prototypes|classification_head\.output|classifiers\.\d\.bias", name):
                tensor.copy_(tensor[order])
        torch.testing.assert_close(other(**batch).logits, model(**batch).logits[..., order])
        torch.testing.assert_close(other(**batch).offsets, model(**batch).offsets[..., order, :])


def test_slots_mishear_their_class_in_training_alike_all_through_a_video():
    model, batch = model_of(num_event_slots=5, slot_noise=2.0, drop_path_rate=0.0), features_of(12)
    batch = {name: x.repeat(400, *[1] * (x.dim() - 1)) for name, x in batch.items()}
    seen = []
    model.dependency_mixture.slots.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        model(**batch)
        model.dependency_mixture.train()
        model(**batch)
    error = 4 * (seen[1] - seen[0])[:, :12, :, 15:]  # (videos, steps, slots, streams), in logits
    torch.testing.assert_close(error, error[:, :1].expand_as(error), atol=1e-5, rtol=0)
    visual, audio, fused = error[:, 0].unbind(-1)
    torch.testing.assert_close(fused, visual + audio, atol=1e-5, rtol=0)
    deviations = torch.stack([visual, audio, fused]).flatten(1).std(dim=1)
    torch.testing.assert_close(deviations, torch.tensor([2**0.5, 2**0.5, 2.0]), atol=0.1, rtol=0)
    assert torch.equal(seen[0][..., :3], seen[1][..., :3])  # the heads are heard as they are


def test_the_mixtures_teach_the_heads_and_esi_nothing_through_what_a_slot_starts_from():
    model, batch = model_of(), features_of(12)
    seen = []
    model.dependency_mixture.slots.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model(**batch)
    assert not seen[0].requires_grad


def test_class_prototypes_are_one_parameter_for_all_stages_and_streams():
    names = [name for name, _ in model_of().named_parameters() if "prototypes" in name]
    assert names == ["model.semantic_interaction.prototypes"]


def test_the_normalizer_follows_the_count_of_positive_points_in_training_only():
    model = model_of(loss_normalizer_init=100.0)
    batch = labelled(features_of(12))
    model(**batch)
    assert model.loss_normalizer == 100
    model.train()
    # Level 0 (0..4): points 3, 4, 5 of the event 1.5..6.5 (farthest 3.5, 2.5, 3.5), points 3 and 4 of 2.5..4.5 too.
    # 2 (farthest 4.5) and 6 (4.5) are level 1 points: 2 and 6, and 4 is 2.5 away there. So 5 points.
    model(**batch)
    assert model.loss_normalizer.item() == pytest.approx(0.9 * 100 + 0.1 * 5)
    assert "loss_normalizer" in model.state_dict()


def test_a_loaded_model_keeps_its_normalizer(tmp_path):
    model = model_of()
    model.loss_normalizer.fill_(37.0)
    model.save_pretrained(tmp_path)
    assert EsgNetForEventLocalization.from_pretrained(tmp_path).loss_normalizer == 37


def test_eager_and_sdpa_attention_agree():
    batch = features_of(13, 6)
    eager, sdpa = model_of(), model_of()
    eager.set_attn_implementation("eager")
    assert (sdpa.config._attn_implementation, eager.config._attn_implementation) == ("sdpa", "eager")
    with torch.no_grad():
        assert_same_points(eager(**batch), sdpa(**batch))


def test_eval_is_deterministic_and_training_drops_paths():
    model, batch = model_of(drop_path_rate=0.5), features_of(12)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, model(**batch).logits)
        model.train()
        assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_auto_classes_load_the_model_with_its_heads(tmp_path):
    model_of().save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is EsgNetConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is EsgNetForEventLocalization


def test_the_headless_model_loads_from_a_checkpoint_with_heads(tmp_path):
    model = model_of()
    model.save_pretrained(tmp_path)
    batch = features_of(12)
    with torch.no_grad():
        headless = EsgNetModel.from_pretrained(tmp_path).eval()(**batch)
        torch.testing.assert_close(headless.last_hidden_state, model(**batch).last_hidden_state)


def test_hidden_states_are_the_fused_stream_after_every_stage():
    outputs = model_of(num_semantic_stages=3)(**features_of(12), output_hidden_states=True)
    assert [x.shape for x in outputs.hidden_states] == [(1, 12, 16)] * 3
    assert len({x.sum().item() for x in outputs.hidden_states}) == 3


def test_features_of_another_width_are_refused_by_name():
    with pytest.raises(ValueError, match=r"`audio_features` has shape \(1, 6, 8\).*\(videos, steps, 7\)"):
        model_of()(torch.zeros(1, 6, 12), torch.zeros(1, 6, 8))


def test_streams_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="one feature grid"):
        model_of()(torch.zeros(1, 6, 12), torch.zeros(1, 5, 7))


def test_half_the_labels_are_refused():
    with pytest.raises(ValueError, match="both"):
        model_of()(**features_of(6), class_labels=torch.zeros(1, 1, dtype=torch.long))


def test_downsampling_takes_real_steps_only():
    states = torch.tensor([[[-1.0], [-3.0], [-5.0], [9.0]]])
    mask = torch.tensor([[True, True, True, False]])
    assert downsample_max(states, mask)[0, :, 0].tolist() == [-1, -3]  # of (-1, -3) and of (-3, -5)
    assert downsample_mean(states, mask)[0, :, 0].tolist() == [-2, -4]
