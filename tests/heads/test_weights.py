"""Weights: accepted values, their meaning on attention matrices, and their file."""

from typing import get_args

import pytest
import torch
from families import VOCABULARY, tiny
from safetensors.torch import save_file

from attributor import FileFormatError, InputError, OutputError, Weights, flow
from attributor._flow.eager import eager_attentions
from attributor._heads import resolution
from attributor._heads.presets import PRESETS, PresetName
from attributor._heads.resolution import resolve
from attributor._record.attention_interface import attention_modules
from attributor._record.head_weights import HeadWeights
from attributor.kernels.flow_step.definition import adjoint, recurrence

N, K = 50, 40
HEADS = torch.tensor([[0.0, 0.3, 0, 0.2], [0] * 4, [0.1, 0.1, 0.1, 0.1], [1.5, 0, 0, 0]])


def ids_of(seed=1):
    return torch.randint(3, VOCABULARY, (N,), generator=torch.Generator().manual_seed(seed))


def rows_of(attentions, heads):
    n = attentions.shape[-1]
    return adjoint(attentions, heads, torch.eye(n, dtype=attentions.dtype)[K - 1 :])[:, :K]


def values_of(model, ids):
    """Return (L, H, N, Dv), the values of each query head, from hooks on the value projections."""
    found, groups = [], model.config.num_attention_heads // model.config.num_key_value_heads
    hooks = [
        layer.self_attn.v_proj.register_forward_hook(lambda m, i, out: found.append(out[0]))
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    return torch.stack([v.view(len(ids), -1, 16).transpose(0, 1).repeat_interleave(groups, 0) for v in found])


@pytest.mark.parametrize("heads", ["mean", HEADS], ids=["mean", "tensor"])
@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("value_norms", [False, True])
@pytest.mark.parametrize("sink", ["keep", "drop"])
def test_every_option_equals_its_definition_on_attention_matrices(heads, power, value_norms, sink):
    model, ids = tiny("llama"), ids_of()
    attentions = eager_attentions(model, ids[:-1]).double() ** power
    if value_norms:
        projections = torch.stack([layer.self_attn.o_proj.weight for layer in model.model.layers]).double()
        per_head = projections.view(4, 48, 4, 16).transpose(1, 2)  # (L, H, hidden, Dv): columns, not rows
        norms = torch.einsum("lhed,lhnd->lhne", per_head, values_of(model, ids[:-1]).double()).norm(dim=-1)
        attentions = attentions * norms[:, :, None, :]
    if sink == "drop":
        attentions[..., 0] = 0
    w = torch.full((4, 4), 0.25) if isinstance(heads, str) else heads
    expected = rows_of(attentions, w)
    got = flow(model, ids, prompt_length=K, weights=Weights(heads, power=power, value_norms=value_norms, sink=sink))
    torch.testing.assert_close(got.scores.double(), expected, rtol=1e-5, atol=2e-6)
    assert (got.missing_mass is None) == (power != 1 or value_norms)


def test_every_preset_has_a_name_for_type_checkers_and_is_resolved(monkeypatch):
    monkeypatch.setattr(resolution, "load_or_calibrate", lambda *_, **__: Weights(HEADS))
    assert get_args(PresetName) == tuple(PRESETS)
    for name, preset in PRESETS.items():
        assert resolve(name, tiny("llama")).name == name
        assert preset.report.format(heads=16, count=4, model="m")


def test_resolved_weights_are_accepted_as_weights():
    model, ids = tiny("llama"), ids_of()
    rule = Weights(HEADS, power=2, sink="drop", note="mine")
    resolved = resolve(rule, model)
    assert (resolved.shape, resolved.count, resolved.chosen_heads(0), resolved.name) == ((4, 4), 7, [1, 3], "custom")
    expected = flow(model, ids, prompt_length=K, weights=rule)
    got = flow(model, ids, prompt_length=K, weights=resolved)
    assert torch.equal(got.scores, expected.scores)
    assert repr(Weights.of(resolved)) == repr(rule)
    with pytest.raises(InputError, match=r"weights are for \(2, 4\) layers x heads, the model has \(4, 4\)"):
        flow(model, ids, weights=HeadWeights(HEADS[:2]))


def test_missing_mass_is_the_part_of_the_dropped_sink():
    model, ids = tiny("llama"), ids_of()
    attentions = eager_attentions(model, ids[:-1]).double()
    attentions[..., 0] = 0
    expected = 1 - recurrence(attentions, torch.full((4, 4), 0.25))[K - 1 :].sum(1)
    got = flow(model, ids, prompt_length=K, weights=Weights("mean", sink="drop")).missing_mass
    assert expected.min() > 0.01
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "opt", "phi3", "gpt_oss", "deepseek_v3"])
def test_output_norm_weights_are_norms_of_columns(family):
    model, ids = tiny(family), ids_of()
    norms = []
    for layer, module in sorted(attention_modules(model).items()):
        assert layer == len(norms)
        projection = next(getattr(module, n) for n in ("o_proj", "out_proj", "dense", "c_proj") if hasattr(module, n))
        # the contribution of each head to the output: pass the values of one head at a time
        inner = projection.weight.shape[0 if type(projection).__name__ == "Conv1D" else 1]
        eye = torch.eye(inner)
        with torch.no_grad():
            out = projection(eye) - projection(torch.zeros(1, inner))
        norms.append(out.view(4, -1, out.shape[-1]).flatten(1).norm(dim=1))
    w = torch.stack(norms)
    w = w / w.sum(1, keepdim=True)
    assert w.std() > 1e-3
    got = flow(model, ids, prompt_length=K, weights="output_norm").scores
    torch.testing.assert_close(got, flow(model, ids, prompt_length=K, weights=w).scores, rtol=0, atol=1e-6)


def test_rows_stay_stochastic_for_any_weights():
    got = flow(tiny("llama"), ids_of(), prompt_length=K, weights=HEADS)
    assert got.missing_mass.abs().max() < 1e-6


def test_value_norms_of_a_quantised_projection_are_refused():
    from attributor import UnsupportedModelError

    model = tiny("llama")
    model.model.layers[0].self_attn.o_proj.weight = torch.nn.Parameter(
        torch.zeros(48, 64, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(UnsupportedModelError, match=r"LlamaAttention\.o_proj \(Linear\) of layer 0 cannot be called"):
        flow(model, ids_of(), weights="output_norm")


BAD = {
    "one dimension": lambda: Weights(torch.ones(4)),
    "empty": lambda: Weights(torch.ones(0, 4)),
    "negative": lambda: Weights(torch.tensor([[1.0, -1.0]])),
    "nan": lambda: Weights(torch.tensor([[1.0, float("nan")]])),
    "all zero": lambda: Weights(torch.zeros(2, 2)),
    "unknown rule": lambda: Weights("median"),
    "power 0": lambda: Weights(power=0),
    "power infinite": lambda: Weights(power=float("inf")),
    "unknown sink": lambda: Weights(sink="hide"),
    "head out of range": lambda: Weights.of_heads((2, 2), {(2, 0): 1.0}),
    "a rule needs no file": lambda: Weights("mean").save("x"),
}


NO_WEIGHTS = {
    "nothing": (None, "NoneType"),
    "a dict": ({"heads": HEADS}, "dict"),
    "bytes": (b"mean", "bytes"),
    "a number": (1.0, "float"),
    "a ragged list": ([[1.0], [1.0, 2.0]], "list"),
    "a list of words": ([["a"]], "list"),
    "complex": (HEADS * 1j, "complex64"),
    "meta": (HEADS.to("meta"), "meta"),
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
@pytest.mark.parametrize("make", [Weights.of, Weights])
def test_invalid_weights_are_refused(make, case):
    given, got = NO_WEIGHTS[case]
    with pytest.raises(InputError, match=rf"\(mean, output_norm, retrieval\).* \(L, H\) tensor.* got .*{got}"):
        make(given)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("power", "a"), ("power", True), ("power", None), ("power", torch.tensor(2.0)), ("power", 10**400),
        ("value_norms", "yes"), ("value_norms", 1), ("sink", None), ("sink", True),
    ],
)  # fmt: skip
def test_fields_of_wrong_types_are_refused(field, value):
    with pytest.raises(InputError, match=f"^{field} must be .*, got "):
        Weights("mean", **{field: value})


def test_matrices_of_numbers_are_accepted():
    for given in (HEADS.tolist(), HEADS.numpy(), HEADS.double(), tuple(map(tuple, HEADS.tolist()))):
        assert torch.equal(Weights.of(given).heads, HEADS)
    assert torch.equal(Weights(torch.tensor([[2, 0]])).heads, torch.tensor([[2.0, 0.0]]))
    assert type(Weights(power=HEADS.numpy().max()).power) is float


def test_named_heads_are_float32_for_any_default_dtype():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        weights = Weights.of_heads((2, 2), {(1, 0): 0.1})
    finally:
        torch.set_default_dtype(before)
    assert weights.heads[1, 0] == torch.tensor(0.1)


@pytest.mark.parametrize("case", BAD)
def test_invalid_fields_are_refused(case):
    with pytest.raises(InputError):
        BAD[case]()


def test_weights_are_frozen():
    weights = Weights(HEADS)
    with pytest.raises(AttributeError):
        weights.power = 2
    HEADS_before = weights.heads.clone()
    given = HEADS.clone()
    kept = Weights(given)
    given.zero_()
    assert torch.equal(kept.heads, HEADS_before)


def test_weights_survive_saving_and_loading(tmp_path):
    path = tmp_path / "w.safetensors"
    weights = Weights(
        HEADS, power=2.0, value_norms=True, sink="drop", note="by hand", rule="mine", source="m", digests=("a", "b")
    )
    weights.save(path)
    loaded = Weights.load(path)
    assert torch.equal(loaded.heads, weights.heads)
    fields = ("power", "value_norms", "sink", "note", "rule", "source", "digests", "meta")
    assert [getattr(loaded, f) for f in fields] == [getattr(weights, f) for f in fields]
    assert repr(loaded) == "Weights(7 of 4 x 4 heads, power=2, value_norms, sink='drop', 'by hand')"
    model = tiny("llama")
    direct = flow(model, ids_of(), weights=weights).scores
    assert torch.equal(flow(model, ids_of(), weights=str(path)).scores, direct)


def test_unwritable_and_unreadable_files_are_errors(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        Weights(HEADS).save(tmp_path / "no" / "w.safetensors")
    with pytest.raises(FileNotFoundError):
        Weights.load(tmp_path / "absent")
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not safetensors at all")
    other = tmp_path / "other"
    save_file({"heads": HEADS}, other, {"format": "something"})
    newer = tmp_path / "newer"
    save_file({"heads": HEADS}, newer, {"format": "attributor.weights", "version": "2", "fields": "{}"})
    negative = tmp_path / "negative"
    save_file({"heads": -HEADS}, negative, {"format": "attributor.weights", "version": "1", "fields": "{}"})
    Weights(HEADS).save(tmp_path / "whole")
    cut = tmp_path / "cut"
    cut.write_bytes((tmp_path / "whole").read_bytes()[:-20])
    for path, match in (
        (garbage, "not a weights file, or only the beginning of one"),
        (other, "not a weights file"),
        (newer, r"newer attributor \(weights version 2, this one reads up to 1\): pip install -U"),
        (negative, ">= 0"),
        (cut, "corrupt or truncated"),
    ):
        with pytest.raises(FileFormatError, match=match):
            Weights.load(path)


def test_the_shipped_heads_of_the_default_model():
    weights = Weights("retrieval").load_shipped("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert tuple(weights.heads.shape) == (30, 9)
    assert {(int(a), int(b)) for a, b in weights.heads.nonzero()} == {
        (17, 3), (17, 4), (18, 6), (18, 7),
    }  # fmt: skip
    assert set(weights.heads[weights.heads > 0].tolist()) == {1 / 16}
    assert weights.question == 0.5
    assert weights.note
    other = Weights("retrieval", power=2.0, sink="drop").load_shipped("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert (other.power, other.sink) == (2.0, "drop")


@pytest.mark.parametrize(
    "name",
    [
        "someone/another-model",
        "someone/SmolLM2-135M-Instruct",
        "/models/SmolLM2-135M-Instruct",
        "SmolLM2-135M-Instruct",
        "",
    ],
)
def test_other_models_have_no_shipped_heads(name):
    with pytest.raises(InputError, match=r"no retrieval heads are shipped for") as caught:
        Weights("retrieval").load_shipped(name)
    assert "weights=Weights('retrieval').load_shipped('HuggingFaceTB/SmolLM2-135M-Instruct')" in str(caught.value)
