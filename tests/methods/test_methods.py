"""Attribution methods agree with their definitions on tiny models."""

import copy

import pytest
import torch
from families import RECORDED, tiny
from method_readings import HEADS, K, prompt_of, read, reading_of

from attributor import InputError, RecordingError, Weights, flow
from attributor._flow.eager import eager_attentions
from attributor.methods import (
    FlowMethod,
    GradientXInput,
    LastAttention,
    Length,
    MaxAttention,
    MeanAttention,
    Position,
    Random,
    SharpenedAttention,
    Straight,
    ValueNormAttention,
    parse,
    union,
)

FAMILIES = ["llama", "mistral", "gemma2", "gpt2"]  # grouped heads; a window; both and capped logits; neither


def rows_of_attention(model, reading):
    """Return (L, H, a, k) float64 from eager attention matrices."""
    return eager_attentions(model, reading.ids[:-1]).double()[:, :, K - 1 :, :K]


def value_norms(model, ids):
    """Return (L, H, k) float64, ||W_O^h v_j|| from the actual outputs of the value projections."""
    found = []
    projections = [layer.self_attn.v_proj for layer in model.model.layers]
    hooks = [module.register_forward_hook(lambda m, i, out: found.append(out[0])) for module in projections]
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    norms = []
    for layer, value in zip(model.model.layers, found, strict=True):
        value = value.double().view(len(ids), 2, 16).repeat_interleave(2, 1)
        weight = layer.self_attn.o_proj.weight.double()
        norms.append(torch.stack([(value[:, h] @ weight[:, 16 * h : 16 * h + 16].T).norm(dim=-1) for h in range(4)]))
    return torch.stack(norms).detach()[:, :, :K]


def without_first(p):
    p = p.clone()
    p[..., 0] = 0
    return p


# method -> its definition on the attention P (L, H, a, k)
DEFINITIONS = {
    "mean": (MeanAttention(), lambda p: p.mean((0, 1)).sum(0)),
    "max": (MaxAttention(), lambda p: p.amax((0, 1)).sum(0)),
    "last": (LastAttention(), lambda p: p[-1].mean(0).sum(0)),
    "sharpened": (SharpenedAttention(), lambda p: (without_first(p) ** 4).sum((0, 1, 2))),
    "straight": (Straight(HEADS), lambda p: (HEADS[..., None, None] * p).sum((0, 1, 2))),
    "straight, squared, no sink": (
        Straight(Weights(HEADS, power=2, sink="drop")),
        lambda p: (HEADS[..., None, None] * without_first(p) ** 2).sum((0, 1, 2)),
    ),
}


def close(got, expected, budget=2e-6):
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=budget * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("family", FAMILIES)
def test_straight_attention_equals_eager_attention(family):
    model = tiny(family)
    reading = read(model, [method for method, _ in DEFINITIONS.values()])
    attention = rows_of_attention(model, reading)
    for what, (method, define) in DEFINITIONS.items():
        expected = define(attention)
        assert expected.max() > 1.3 * expected.mean(), what  # the attention is not flat
        close(method(reading), expected)


def test_value_norm_attention_is_attention_times_the_value_norm():
    model = tiny("llama")
    method = ValueNormAttention()
    reading = read(model, [method])
    norms = value_norms(model, reading.ids[:-1])
    close(method(reading), (rows_of_attention(model, reading) * norms[:, :, None]).sum((0, 1, 2)))


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("weights", ["mean", "output_norm", HEADS, Weights(HEADS, power=2)], ids=str)
def test_the_flow_method_equals_attributor_flow(family, weights):
    model = tiny(family)
    method = FlowMethod(weights)
    reading = read(model, [method, MeanAttention()])
    expected = flow(model, reading.ids, prompt_length=K, weights=weights).scores.double().sum(0)
    close(method(reading), expected)


def test_only_the_heads_that_a_method_needs_are_recorded():
    model = tiny("llama")
    wanted = union([Straight(HEADS), GradientXInput()], model)
    assert torch.equal(wanted.heads, (HEADS > 0).float())
    assert not wanted.value_norms
    both = union([Straight(HEADS), LastAttention(), FlowMethod(Weights(HEADS, value_norms=True))], model)
    assert both.heads.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert both.value_norms
    assert union([GradientXInput(), Length()], model) is None
    reading = read(model, [Straight(HEADS)])
    Straight(HEADS)(reading)
    with pytest.raises(RecordingError, match="layer 0"):
        MeanAttention()(reading)
    with pytest.raises(RecordingError, match="without recording"):
        MeanAttention()(read(model, [Length()]))


def test_needs_do_not_change_the_union_of_others():
    model = tiny("llama")
    first = union([LastAttention(), MeanAttention()], model).heads
    assert bool((first == 1).all())
    assert union([LastAttention()], model).heads.sum() == 4


def test_weights_are_resolved_once_for_a_model(monkeypatch):
    from attributor.methods import _weighted_method as module

    asked, real = [], module.resolve
    monkeypatch.setattr(module, "resolve", lambda weights, model: asked.append(weights) or real(weights, model))
    model, method = tiny("llama"), FlowMethod("output_norm")
    reading = read(model, [method])
    for _ in range(3):
        method(reading)
    assert asked == ["output_norm"]


@pytest.mark.parametrize("family", RECORDED)
@pytest.mark.parametrize("weights", [None, "mean"], ids=["unrecorded", "recorded"])
def test_a_reading_has_the_models_log_probs_of_the_answer(family, weights):
    model = tiny(family)
    prompt, answer = prompt_of(), torch.tensor([5, 9, 9, 60])
    reading = reading_of(model, None, prompt, answer, [], weights)
    with torch.no_grad():
        logits = model(torch.cat([prompt.ids, answer])[None]).logits[0, K - 1 : -1].double()
    expected = logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]
    torch.testing.assert_close(reading.log_probs, expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="no tokens"):
        reading_of(model, None, prompt, answer[:0], [], weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_x_input_is_the_gradient_of_the_whole_model(family):
    model = tiny(family, dtype=torch.float64)
    reading = read(model, [])
    embedding = model.get_input_embeddings()(reading.ids[None, :-1]).detach()
    scale = model.model.embed_tokens.embed_scale if family.startswith("gemma3") else 1
    inputs = (embedding / scale).requires_grad_(True)
    total = model(inputs_embeds=inputs).logits[0, K - 1 :].log_softmax(-1).gather(1, reading.answer[:, None]).sum()
    total.backward()
    product = (inputs.grad * inputs)[0, :K].detach()
    for reduction, expected in {
        "norm": product.norm(dim=-1),
        "signed": product.sum(-1),
        "absolute": product.sum(-1).abs(),
    }.items():
        close(GradientXInput(reduction)(reading), expected)


def test_the_signed_gradient_is_the_slope_of_the_answers_log_probability():
    """Computed by differences: every coordinate of one token's embedding grows by the fraction h."""
    model = tiny("gpt2", dtype=torch.float64)  # all float64; other families compute norms in float32
    reading = read(model, [])
    got = GradientXInput("signed")(reading)
    embedding, h = model.get_input_embeddings()(reading.ids[None, :-1]).detach(), 1e-6
    for j in (0, 7, K - 1):
        values = []
        for sign in (1, -1):
            moved = embedding.clone()
            moved[0, j] *= 1 + sign * h
            with torch.no_grad():
                logits = model(inputs_embeds=moved).logits[0, K - 1 :].log_softmax(-1)
            values.append(logits.gather(1, reading.answer[:, None]).sum())
        slope = (values[0] - values[1]) / (2 * h)
        torch.testing.assert_close(got[j].double(), slope, rtol=1e-5, atol=1e-6)


def fail(*_):
    raise RuntimeError("half way")


def test_a_model_is_restored():
    model = tiny("llama")
    model.train()
    model.model.layers[1].eval()
    model.model.layers[2].self_attn.q_proj.weight.requires_grad_(False)
    flags = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    before = copy.deepcopy(model.state_dict())
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    implementation = model.config._attn_implementation
    methods = parse("flow,max-attention,gradient-x-input")
    reading, another = read(model, methods), read(model, methods)
    for method in methods:
        method(reading)
    broken = model.model.layers[3].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="half way"):
        GradientXInput()(another)
    broken.remove()
    with torch.inference_mode():
        GradientXInput()(another)
    assert [module.training for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks
    assert model.config._attn_implementation == implementation
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_length_position_and_random_scores():
    model = tiny("llama")
    reading = read(model, [])
    assert Length()(reading).tolist() == [4.0] * 6
    positions = Position()(reading)
    assert bool((positions.diff() > 0).all())
    assert 0 < positions[0] < positions[-1] < 1
    drawn = Random()(reading)
    assert torch.equal(Random()(read(model, [])), drawn), "the same prompt, the same numbers"
    assert not torch.equal(Random(1)(reading), drawn)
    other = reading_of(model, None, prompt_of(seed=5), reading.answer, reading.segments, None)
    assert not torch.equal(Random()(other), drawn)
    assert len(set(drawn.tolist())) == 6
