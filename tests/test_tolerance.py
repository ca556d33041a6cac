"""tolerance=: what is skipped is what missing_mass says, and no more than was allowed, against the full sweep."""

from pathlib import Path

import pytest
import torch
from families import VOCABULARY, tiny
from test_step import NATIVE, case
from test_triton_interpreter import python

import attributor
from attributor import InputError, NumericsError, Weights, flow, record
from attributor import _sweep as sweep_module
from attributor._outcome import complete, draft
from attributor._resolve import resolve
from attributor._start import start_rows
from attributor._sweep import sweep
from attributor._tolerance import TILE, Budget

STORIES = Path(__file__).parents[2] / "shared" / "models" / "stories260K"
N, K = 700, 690  # five and a half tiles
NOISE = 1e-5  # of float32 rows that sum to 1
ASKED = torch.arange(300, 310)
FEW = torch.tensor([[0, 0, 0.6, 0.2], [0, 0, 0, 0], [0, 1.5, 0, 0], [0.1, 0.2, 0.3, 0.4]])
LONG = {"max_position_embeddings": 1024}


def ids_of(n=N, seed=1):
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed))


def recorded(model, ids, weights="mean"):
    with record(model, weights=weights) as recording, torch.no_grad():
        model(torch.as_tensor(ids)[None])
    return recording


def rows_of(recording, weights, k, n, tolerance=0.0, question=None, impl=None):
    """(O, N), the full-width rows, and the budget after the sweep."""
    budget = Budget(tolerance, weights) if tolerance else None
    begin = start_rows(torch.arange(k - 1, n), n, question, weights.question)
    tapes = recording._recorder.tapes
    rows, _ = sweep(tapes, weights, begin, row=0, start=0, stop=n, budget=budget, impl=impl)
    return rows.double(), budget


def certified(recording, weights, k=K, n=N, tolerances=(0.003, 0.03, 0.3), *, question=None, impl=None, sink=False):
    """For each tolerance, the L1 distance to the full rows against what was promised; the shares of work skipped."""
    full, _ = rows_of(recording, weights, k, n, question=question, impl=impl)
    skipped = []
    for tolerance in tolerances:
        rows, budget = rows_of(recording, weights, k, n, tolerance, question, impl)
        distance = (full - rows).abs().sum(1)
        missing = full.sum(1) - rows.sum(1)  # what a sink took is in both
        torch.testing.assert_close(distance, missing, rtol=0, atol=NOISE)
        if sink:
            assert (distance <= budget.lost + NOISE).all()
        else:
            torch.testing.assert_close(distance, budget.lost.double(), rtol=0, atol=NOISE)
        assert float(budget.lost.max()) <= tolerance * (1 + 1e-5)
        assert ((full - rows)[:, :k].abs().sum(1) <= distance).all()
        skipped.append(budget.skipped)
    assert skipped == sorted(skipped)
    return skipped


# Certified: models, weights, rows, masks.


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("qwen3", {}),
        ("gemma2", {}),  # a window shorter than a tile by turns, and capped logits
        ("mistral", {"sliding_window": 200}),  # longer than a tile, and no multiple of one
        ("llama4_text", {"attention_chunk_size": 150}),  # tiles begin anew in every chunk, but for the layers without
        ("deepseek_v3", {}),
        ("gpt_neox", {}),
    ],
)
@pytest.mark.parametrize("name", ["mean", "output_norm", "custom"])
def test_the_distance_to_the_full_rows_is_what_was_skipped(family, changes, name):
    model = tiny(family, **LONG, **changes)
    recording = recorded(model, ids_of())
    weights = resolve(Weights(FEW) if name == "custom" else name, model, None)
    skipped = certified(recording, weights)
    assert skipped[-1] > 0.1  # there was something to certify


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_rows_that_begin_at_the_question(share):
    recording = recorded(tiny("llama", **LONG), ids_of())
    weights = Weights(torch.full((4, 4), 0.25), question=share)
    assert certified(recording, weights, question=ASKED)[-1] > 0.1


def test_a_sink_makes_it_a_bound():
    """gpt_oss's sinks, and a dropped first token, take a share of the attention: the distance is then at most that."""
    recording = recorded(tiny("gpt_oss", **LONG), ids_of())
    assert certified(recording, Weights(FEW), sink=True)[-1] > 0.1
    plain = recorded(tiny("llama", **LONG), ids_of())
    assert certified(plain, Weights(FEW, sink="drop"), sink=True)[-1] > 0.1


@pytest.mark.parametrize("name", NATIVE)
def test_every_instruction_set(name, monkeypatch):
    monkeypatch.setenv("ATTRIBUTOR_ISA", name.removeprefix("cpu-"))
    recording = recorded(tiny("llama", **LONG), ids_of())
    assert certified(recording, Weights(FEW), impl="cpu")[-1] > 0.1


def test_the_reference():
    recording = recorded(tiny("llama", **LONG), ids_of())
    assert certified(recording, Weights(FEW), impl="reference")[-1] > 0.1


def test_triton_under_its_interpreter():
    pytest.importorskip("triton.language", reason="triton is not installed")
    code = """
from test_tolerance import *
recording = recorded(tiny("llama", num_hidden_layers=2, max_position_embeddings=1024), ids_of(300))
print(certified(recording, Weights(torch.full((2, 4), 0.25)), 290, 300, (0.3,), impl="triton")[-1] > 0.1)
"""
    assert python("-c", code, TRITON_INTERPRET="1", ATTRIBUTOR_IMPL="").strip() == "True"


@pytest.mark.skipif(not STORIES.is_dir(), reason="shared/models/stories260K is not here")
@pytest.mark.parametrize("name", ["mean", "output_norm"])
def test_a_trained_model(name):
    model, tokenizer = attributor.load_model(STORIES)
    n = model.config.max_position_embeddings
    ids = torch.tensor(tokenizer("Once upon a time there was a girl. She liked the sun. " * 60)["input_ids"][:n])
    n = ids.numel()
    skipped = certified(recorded(model, ids), resolve(name, model, tokenizer), n - 8, n)
    assert skipped[-1] > 0.1


# What is skipped, and what is not.


def test_only_whole_tiles_are_skipped_and_the_residual_keeps_all(monkeypatch):
    """What a layer multiplies by is R with some tiles of zeros; what it adds to is all of R."""
    seen = []

    def watched(rows, *rest):
        seen.append(rows.clone())
        return torch.zeros_like(rows)  # nothing flows: what is left of R is what the residual kept

    recording = recorded(tiny("llama", **LONG), ids_of())
    monkeypatch.setattr(sweep_module, "step", watched)
    begin = torch.rand(3, N, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    begin /= begin.sum(1, keepdim=True)
    weights = Weights(torch.full((4, 4), 0.25))
    rows, _ = sweep(recording._recorder.tapes, weights, begin, row=0, start=0, stop=N, budget=Budget(0.3, weights))
    torch.testing.assert_close(rows.double(), begin / 2**4, rtol=1e-5, atol=0)
    for index, given_rows in enumerate(seen):
        whole = begin / 2**index
        for low in range(0, N, TILE):
            part = given_rows[:, low : low + TILE].double()
            assert not part.any() or torch.allclose(part, whole[:, low : low + TILE], rtol=1e-5)
    assert any(not given_rows[:, low : low + TILE].any() for given_rows in seen for low in range(0, N, TILE))


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("tile", range(5))
def test_the_cpu_skips_a_tile_that_lies_alone(name, tile, monkeypatch):
    """Queries of NaN would show in any product that they take part in, also in one with zero."""
    monkeypatch.setenv("ATTRIBUTOR_ISA", name.removeprefix("cpu-"))
    args, options = case(600, D=32, H=2, G=2)
    zeros = slice(tile * TILE, (tile + 1) * TILE)
    args[0][:, zeros] = 0
    want = attributor.flow_step(*args, **options, impl="cpu")
    args[1][:, zeros] = float("nan")
    assert torch.equal(attributor.flow_step(*args, **options, impl="cpu"), want)


def test_the_reference_skips_blocks_of_zeros_unless_they_have_a_gradient():
    args, options = case(600, D=32, H=2, G=2)
    args[0][:, 256:512] = 0
    with torch.enable_grad():
        rows = args[0].clone().requires_grad_()
        attributor.flow_step(rows, *args[1:], **options).sum().backward()
    assert (rows.grad[:, 256:512] > 0).all()
    want = attributor.flow_step(*args, **options, impl="reference")
    args[1][:, 256:512] = float("nan")
    assert torch.equal(attributor.flow_step(*args, **options, impl="reference"), want)


def test_off_by_default_and_then_the_same_bits():
    model = tiny("llama", **LONG)
    plain, zero = flow(model, ids_of(), prompt_length=K), flow(model, ids_of(), prompt_length=K, tolerance=0)
    assert torch.equal(plain.scores, zero.scores)
    assert not {"tolerance", "tiles_skipped", "mass_skipped"} & {*plain.meta, *zero.meta}
    assert plain.missing_mass.abs().max() < NOISE


# Through the doors.


@pytest.mark.parametrize("normalize", [True, False])
def test_flow_says_what_it_skipped(normalize):
    model, options = tiny("llama", **LONG), {"prompt_length": K, "normalize": normalize}
    full, got = flow(model, ids_of(), **options), flow(model, ids_of(), tolerance=0.1, **options)
    whole = 1 if normalize else 2**4
    assert ((got.scores - full.scores).abs().sum(1) <= whole * (got.missing_mass + NOISE)).all()
    assert (full.scores - got.scores >= -whole * NOISE).all()  # nothing is added
    assert 0 < float(got.missing_mass.max()) <= 0.1
    assert got.meta["tolerance"] == "0.1"
    assert float(got.meta["mass_skipped"]) == pytest.approx(float(got.missing_mass.max()), abs=NOISE)
    assert 0.05 < float(got.meta["tiles_skipped"]) < 1


def test_a_recording_of_a_batch_with_padding():
    model = tiny("llama", **LONG)
    ids = torch.zeros(2, N, dtype=torch.int64)
    ids[0], ids[1, 210:] = ids_of(), ids_of(N - 210, 2)
    mask = (ids != 0).long()
    with record(model) as recording, torch.no_grad():
        model(ids, attention_mask=mask)
    got = recording.flow(ids, prompt_length=[K, K - 210], tolerance=0.1)
    for one, alone, k in zip(got, (ids[0], ids[1, 210:]), (K, K - 210), strict=True):
        want = flow(model, alone, prompt_length=k, tolerance=0.1)
        torch.testing.assert_close(one.scores, want.scores, rtol=0, atol=NOISE)
        assert one.meta["tiles_skipped"] == want.meta["tiles_skipped"] > "0"


def test_attention_matrices_that_are_there_leave_nothing_to_skip():
    model = tiny("bloom", n_layer=4, n_head=4)
    options = {"prompt_length": 40, "impl": "reference"}
    plain, got = (flow(model, ids_of(50), tolerance=tolerance, **options) for tolerance in (0, 0.1))
    assert torch.equal(got.scores, plain.scores)
    assert (got.meta["tiles_skipped"], got.meta["mass_skipped"]) == ("0.0000", "0")


@pytest.mark.parametrize("wrong", [-0.1, 1, 2.0, float("nan"), float("inf"), True, "0.1", None])
def test_tolerances_that_are_none(wrong):
    with pytest.raises(InputError, match="tolerance"):
        flow(tiny("llama"), ids_of(50), prompt_length=40, tolerance=wrong)


@pytest.mark.parametrize("weights", [Weights("mean", power=2), Weights("mean", value_norms=True)])
def test_attention_that_does_not_sum_to_one_is_refused(weights):
    model = tiny("llama")
    for impl in (None, "reference"):
        with pytest.raises(InputError, match=r"rows sum to 1.*use tolerance=0, or weights with power=1"):
            flow(model, ids_of(50), prompt_length=40, weights=weights, tolerance=0.1, impl=impl)
    recording = recorded(model, ids_of(50), weights)
    with pytest.raises(InputError, match="rows sum to 1"):
        recording.flow(ids_of(50), prompt_length=40, tolerance=0.1)
    assert recording.flow(ids_of(50), prompt_length=40).missing_mass is None


def test_a_wrong_recording_is_still_noticed():
    """What is missing beyond what was skipped cannot be explained by the budget."""
    weights = Weights(torch.ones(1, 1))
    budget = Budget(0.5, weights)
    budget.begin(torch.ones(1, 1))
    drafted = draft(ids_of(5), 5, None, None)
    rows = torch.full((1, 5), 0.14)
    budget.lost = torch.tensor([0.3])
    assert (
        float(complete(drafted, rows, weights, True, {}, exact_sums=torch.float32, budget=budget).missing_mass) > 0.29
    )
    budget.lost = torch.tensor([0.1])
    with pytest.raises(NumericsError, match=r"within 0\.2"):
        complete(drafted, rows, weights, True, {}, exact_sums=torch.float32, budget=budget)
