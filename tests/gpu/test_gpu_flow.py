"""flow() and record() on a GPU: every family agrees with its eager attention; fused attention, memory, two devices."""

import math

import pytest
import torch
from families import RECORDED, VOCABULARY, tiny
from gpu_cases import DEVICE, EVERY_KERNEL, IMPL, REHEARSAL, allocated, at_most, error, lse_of, why_not

from attributor import DeviceMemoryError, Weights, flow, record
from attributor._flow.eager import eager_attentions
from attributor._flow.memory import recorded_bytes
from attributor._models.facts import model_facts
from attributor._record import fused_attention, offload
from attributor._record.attention import _definition
from attributor.kernels.flow_step.definition import recurrence

if why_not():
    pytest.skip(why_not(), allow_module_level=True)

N, K = 71, 60
LONG = at_most(2048, 96)  # tokens in the memory tests
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
# a llama with sixteen heads of 64: large enough to detect a copy of 16 MB of queries per layer for 2,048 tokens
WIDE = {
    "hidden_size": 64 if REHEARSAL else 1024,
    "num_attention_heads": 4 if REHEARSAL else 16,
    "num_key_value_heads": 2 if REHEARSAL else 4,
    "head_dim": 16 if REHEARSAL else 64,
    "max_position_embeddings": 8192,
    "initializer_range": 0.02 if REHEARSAL else 0.006,  # wider rows give larger logits
}


def ids_of(seed=1, n=N):
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed))


def wide(**changes):
    return tiny("llama", dtype=BF16, **WIDE | changes).to(DEVICE)


def scores_of(model, ids, weights):
    """Compute the definition from the model's own attention matrices."""
    return recurrence(eager_attentions(model, ids[:-1]).double().cpu(), weights)[K - 1 :, :K]


@pytest.mark.parametrize("family", RECORDED)
def test_scores_agree_with_eager_attention(family):
    """Budget in float32: twice the error of eager attention on this device against the CPU, plus a floor."""
    ids = ids_of()
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(2))
    weights[1, 2] = weights[2] = 0  # one head and one layer are not recorded
    model = tiny(family)
    true = scores_of(model, ids, weights)
    model = model.to(DEVICE)
    budget = (scores_of(model, ids, weights) - true).abs().max()
    got = flow(model, ids, prompt_length=K, weights=weights, impl=IMPL)
    assert got.meta["implementation"] == IMPL
    assert (got.scores.double() - true).abs().max() <= 2 * budget + 2e-6
    assert true.max() > 2 * true.mean()  # the test's attention is not flat


@EVERY_KERNEL
@pytest.mark.parametrize("family", RECORDED)
@pytest.mark.parametrize("dtype", [BF16, FP16], ids=str)
def test_sixteen_bit_models_stay_within_the_error_budget(impl, family, dtype):
    """Budget: twice the error of the model's own eager attention in that dtype against float32."""
    weights = torch.full((4, 4), 0.25)
    ours = budget = 0.0
    for seed in range(1 if REHEARSAL else 3):  # summed, because an expert router can flip on a rounding error
        ids = ids_of(seed)
        true = scores_of(tiny(family, seed=seed), ids, weights)
        model = tiny(family, seed=seed, dtype=dtype).to(DEVICE)
        got = flow(model, ids, prompt_length=K, impl=impl).scores.double()
        ours += float((got - true).abs().sum())
        budget += float(2 * (scores_of(model, ids, weights) - true).abs().sum() + 1e-3 * true.abs().sum())
    assert ours <= budget


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "gpt_oss", "deepseek_v3", "llama4_text"])
def test_recording_while_it_generates_gives_the_same_scores(family):
    model = tiny(family).to(DEVICE)
    prompt = ids_of(3, 40)
    with record(model) as recording:
        out = model.generate(prompt[None].to(DEVICE), max_new_tokens=9, min_new_tokens=9, do_sample=False)
    got, again = recording.flow(out, impl=IMPL), flow(model, out[0], prompt_length=40, impl=IMPL)
    torch.testing.assert_close(got.scores, again.scores, rtol=0, atol=1e-5)
    assert got.scores.device.type == "cpu"


def test_a_padded_batch_equals_its_sequences_alone():
    model = tiny("llama").to(DEVICE)
    short, long = ids_of(1, 40), ids_of(2, 60)
    ids = torch.zeros(2, 60, dtype=torch.long)
    ids[0, 20:], ids[1] = short, long
    mask = torch.ones_like(ids)
    mask[0, :20] = 0
    with record(model) as recording, torch.no_grad():
        model(input_ids=ids.to(DEVICE), attention_mask=mask.to(DEVICE), use_cache=False)
    both = recording.flow(ids, prompt_length=[30, 50], impl=IMPL)
    for got, alone, k in zip(both, (short, long), (30, 50), strict=True):
        expected = flow(model, alone, prompt_length=k, impl=IMPL)
        torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=1e-5)


@EVERY_KERNEL
def test_refinements_agree_with_plain_torch(impl):
    """Power, value norms, a dropped sink and a question share, with one model."""
    model = wide()
    ids = ids_of(1, LONG)
    for fields in ({"power": 2.0}, {"value_norms": True}, {"sink": "drop"}, {"value_norms": True, "power": 0.5}):
        weights = Weights(torch.full((4, WIDE["num_attention_heads"]), 0.1), **fields)
        got, plain = (
            flow(model, ids, prompt_length=LONG - 9, weights=weights, impl=which) for which in (impl, "reference")
        )
        assert error(got.scores, plain.scores.double()) < 1e-4, fields


CALLS = {
    "D 64": {"D": 64, "H": 8, "G": 2},
    "D 128": {"D": 128, "H": 8, "G": 8},
    "D 128, fp16": {"D": 128, "H": 8, "G": 2, "dtype": FP16},
    "D 256": {"D": 256, "H": 4, "G": 2},
    "D 80": {"D": 80, "H": 4, "G": 4},
    "D 192, values of 128": {"D": 192, "Dv": 128, "H": 4, "G": 4},
    "window": {"D": 64, "H": 8, "G": 2, "window": 512},
    "window, D 256": {"D": 256, "H": 4, "G": 2, "window": 1024},
    "one query": {"D": 128, "H": 8, "G": 2, "Q": 1},
    "float32": {"D": 64, "H": 8, "G": 2, "dtype": FP32},
}


@pytest.mark.parametrize("which", CALLS)
def test_trusted_fused_attention_equals_the_definition(which):
    """Every kernel verified on 200 positions gives the output and log-sum-exp of the definition at 4,096."""
    shape = {"Dv": None, "dtype": BF16, "window": None, "Q": None} | CALLS[which]
    H, G, D, dtype, window = (shape[name] for name in ("H", "G", "D", "dtype", "window"))
    length, size = at_most(4096), shape["Dv"] or D
    window = None if window is None else at_most(window, 40)
    queries = shape["Q"] or length
    causal = queries > 1
    g = torch.Generator().manual_seed(0)
    shapes = ((H, queries, D), (G, length, D), (G, length, size))
    query, key, value = (torch.randn(1, *shape, generator=g).to(DEVICE, dtype) for shape in shapes)
    call = fused_attention.Call(DEVICE, dtype, D, size, H // G, causal, window is not None)
    scale = D**-0.5
    repeated = key[0].repeat_interleave(H // G, 0)
    options = {"scale": scale, "window": window, "causal": causal}
    true = lse_of(query[0], repeated, dtype=torch.float64, **options)
    budget = (lse_of(query[0], repeated, dtype=torch.float32, **options) - true).abs().max()
    expected, _ = _definition(*(x.double() for x in (query, key, value)), causal, window, scale)
    plain, _ = _definition(query, key, value, causal, window, scale)
    trusted = {
        name: fused_attention._is_verified(name, call, _definition)
        for name in fused_attention.kernels_to_try(call, max(queries, 4096))
    }
    print(f"    attention, {which}: {', '.join(f'{n} {t}' for n, t in trusted.items()) or 'no kernel is tried'}")
    for name in [name for name, right in trusted.items() if right]:
        output, lse = fused_attention.KERNELS[name](query, key, value, causal, window, scale)
        assert lse.dtype == torch.float32
        assert (lse[0].double() - true).abs().max() <= 2 * budget + 1e-5 * math.log(length) + 1e-5, name
        worst = (plain.double() - expected).abs().max()
        assert (output.double() - expected).abs().max() <= 2 * worst + 1e-5, name
    if not REHEARSAL and which in ("D 64", "D 128", "D 128, fp16", "window"):
        assert any(trusted.values()), "no fused attention is right on this device: prompts would be read block by block"


@pytest.mark.parametrize("keep", ["host", "auto"])
def test_offloading_to_main_memory_gives_the_same_bits(monkeypatch, keep):
    model, ids = wide(), ids_of(1, LONG)
    expected = flow(model, ids, prompt_length=LONG - 9, impl=IMPL, keep="device")
    moved = []
    move = offload.Offload.move
    monkeypatch.setattr(offload.Offload, "move", lambda self, tensor: moved.append(tensor.nbytes) or move(self, tensor))
    if keep == "auto":  # simulates a nearly full device
        monkeypatch.setattr(offload, "_free_bytes", lambda device: 0)
    got = flow(model, ids, prompt_length=LONG - 9, impl=IMPL, keep=keep)
    assert torch.equal(got.scores, expected.scores)
    if not REHEARSAL:
        assert len(moved) == 8, "a query and a key of each of four layers"
        assert int(got.meta["peak_bytes"]) > 0


def test_a_recording_in_main_memory_gives_several_flows():
    model, prompt = wide(), ids_of(1, LONG)
    with record(model, keep="host") as recording:
        out = model.generate(prompt[None].to(DEVICE), max_new_tokens=6, min_new_tokens=6, do_sample=False)
    first, second = recording.flow(out, impl=IMPL), recording.flow(out, impl=IMPL)
    assert torch.equal(first.scores, second.scores)
    with record(model, keep="device") as recording:
        again = model.generate(prompt[None].to(DEVICE), max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert torch.equal(again, out)
    assert torch.equal(recording.flow(again, impl=IMPL).scores, first.scores)


def test_queries_and_keys_are_kept_without_copies():
    """A recording adds only queries, keys, log-sum-exps and a small constant to the device memory."""
    model, ids = wide(), ids_of(1, LONG)
    heads = torch.ones(4, WIDE["num_attention_heads"])
    with torch.no_grad():
        model(input_ids=ids[None].to(DEVICE), use_cache=False, logits_to_keep=1)  # allocates library workspaces
        with record(model, keep="device") as recording:
            model(input_ids=ids[None, :8].to(DEVICE), use_cache=False, logits_to_keep=1)
            before = allocated() - recording.nbytes * (not REHEARSAL)
            model(input_ids=ids[None].to(DEVICE), use_cache=False, logits_to_keep=1)
            grown = allocated() - before
    lse = 4 * heads.numel() * LONG
    first = 8 * 4 * LONG
    assert recording.nbytes <= recorded_bytes(model_facts(model), heads, LONG) + lse + first
    assert grown <= recorded_bytes(model_facts(model), heads, LONG) + lse + first + (1 << 20)


def test_few_selected_heads_take_little_memory():
    """A view of one head would keep all heads alive, so the head is copied and the rest freed."""
    model, ids = wide(), ids_of(1, LONG)
    heads = torch.zeros(4, WIDE["num_attention_heads"])
    heads[2, 1] = 1
    with torch.no_grad(), record(model, weights=heads, keep="device") as recording:
        model(input_ids=ids[None, :8].to(DEVICE), use_cache=False, logits_to_keep=1)
        before = allocated()
        model(input_ids=ids[None].to(DEVICE), use_cache=False, logits_to_keep=1)
        grown = allocated() - before
    assert recording.nbytes <= recorded_bytes(model_facts(model), heads, LONG) + 4 * LONG + 8 * LONG
    assert grown <= recorded_bytes(model_facts(model), heads, LONG) + 12 * LONG + (1 << 20)


def test_out_of_memory_errors_say_what_was_needed_and_the_model_stays_usable(monkeypatch):
    model = wide()
    ids, short = ids_of(1, at_most(8000, 200)), ids_of(2, 60)
    expected = flow(model, short, prompt_length=50, impl=IMPL)
    before = model.config._attn_implementation
    if REHEARSAL:

        def full(*_, **__):
            raise torch.OutOfMemoryError("as if")

        with monkeypatch.context() as patched:
            patched.setattr(fused_attention, "run_fused_kernel", full)
            patched.setattr("attributor._flow.api.sweep_to_flow", full)
            with pytest.raises(DeviceMemoryError, match=r"queries and keys of 16 heads .*weights='retrieval'"):
                flow(model, ids, impl=IMPL, keep="device")
    else:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(DEVICE).total_memory
        room = recorded_bytes(model_facts(model), torch.ones(4, 16), ids.numel())
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(DEVICE) + room) / total, DEVICE)
        try:
            with pytest.raises(DeviceMemoryError, match=r"queries and keys of 64 heads .*keep='host'"):
                flow(model, ids, impl=IMPL, keep="device")
            again = flow(model, short, prompt_length=50, impl=IMPL)  # in the little memory left
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)
        assert torch.equal(again.scores, expected.scores)
        assert flow(model, ids, impl=IMPL).scores.shape == (1, ids.numel())
    assert model.config._attn_implementation == before
    assert torch.equal(flow(model, short, prompt_length=50, impl=IMPL).scores, expected.scores)


def test_layers_on_two_devices_give_the_same_flow():
    if not REHEARSAL and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, there is {torch.cuda.device_count()}")
    accelerate = pytest.importorskip("accelerate")
    other = DEVICE if REHEARSAL else torch.device("cuda", 1)
    model, ids = wide(), ids_of(1, LONG)
    expected = flow(model, ids, prompt_length=LONG - 9, impl=IMPL)
    places = {"model.embed_tokens": DEVICE, "model.rotary_emb": DEVICE, "model.norm": other, "lm_head": other}
    places |= {f"model.layers.{i}": DEVICE if i < 2 else other for i in range(4)}
    split = accelerate.dispatch_model(wide(), device_map=places, force_hooks=True)
    for keep in ("device", "host"):
        got = flow(split, ids, prompt_length=LONG - 9, impl=IMPL, keep=keep)
        assert error(got.scores, expected.scores.double()) < 1e-5


def test_meta_has_the_peak_memory():
    got = flow(wide(), ids_of(1, LONG), impl=IMPL)
    assert got.meta["implementation"] == IMPL
    if not REHEARSAL:
        assert int(got.meta["peak_bytes"]) >= int(got.meta["recorded_bytes"]) > 0
