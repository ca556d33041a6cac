"""Every supported family, beyond its window, agrees with the model's own eager attention matrices."""

import copy

import pytest
import torch
from families import RECORDED, VOCABULARY, tiny
from rollout_truth import rollout

from attributor import NumericsError, UnsupportedModelError, Weights, flow, record
from attributor._flow.eager import eager_attentions
from attributor._record.attach import attach_recorder
from attributor._record.head_weights import HeadWeights
from attributor._record.recorder import Recorder
from attributor._record.tape import Span
from attributor.kernels.flow_step.definition import recurrence

N, K = 71, 60


def ids_of(seed: int = 1, n: int = N) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed))


def eager_scores(model, ids, prompt_length, weights):
    attentions = eager_attentions(model, ids[:-1]).double()
    return recurrence(attentions, weights)[prompt_length - 1 :, :prompt_length]


@pytest.mark.parametrize("family", RECORDED)
def test_scores_agree_with_eager_attention(family):
    model = tiny(family)
    ids = ids_of()
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(2))
    weights[1, 2] = weights[2] = 0  # one head and one layer are not recorded
    for w in (torch.full((4, 4), 0.25), weights):
        got = flow(model, ids, prompt_length=K, weights=w)
        expected = eager_scores(model, ids, K, w)
        torch.testing.assert_close(got.scores.double(), expected, rtol=0, atol=2e-6)
        assert expected.max() > 2 * expected.mean()  # the test's attention is not flat


@pytest.mark.parametrize("family", RECORDED)
def test_recording_generation_gives_the_same_scores(family):
    model = tiny(family)
    prompt = ids_of(3, 40)
    before = model.config._attn_implementation
    with record(model) as recording:
        out = model.generate(prompt[None], max_new_tokens=9, min_new_tokens=9, do_sample=False)
    assert model.config._attn_implementation == before
    got = recording.flow(out)
    again = flow(model, out[0], prompt_length=40)
    torch.testing.assert_close(got.scores, again.scores, rtol=0, atol=2e-6)
    assert got.prompt_length == 40


@pytest.mark.parametrize("family", RECORDED)
def test_recording_does_not_change_what_the_model_computes(family):
    model = tiny(family)
    model.set_attn_implementation("eager")  # gpt_oss and capped logits have no SDPA
    with torch.no_grad():
        plain = model(ids_of()[None], use_cache=False).logits
        with record(model):
            recorded = model(ids_of()[None], use_cache=False).logits
        again = model(ids_of()[None], use_cache=False).logits
    torch.testing.assert_close(recorded, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(again, plain)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gpt_oss", "llama4_text", "qwen2", "gemma3_text"])
def test_sequences_are_longer_than_the_window(family):
    """The comparison above covers windows and chunks only if some query does not see every key."""
    model = tiny(family)
    recorder = Recorder(HeadWeights(torch.ones(4, 4)))
    with attach_recorder(model, recorder), torch.no_grad():
        model(ids_of()[None], use_cache=False)
    seen = [tape.layer(Span(0, 0, N)).first for tape in recorder.tapes.values()]
    assert any(bool((first > 0).any()) for first in seen)


@pytest.mark.parametrize("family", RECORDED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bit_models_stay_within_the_error_budget(family, dtype):
    """Budget: twice the error of the model's own eager attention in that dtype against float32.

    The error is summed over three models: an expert router that flips on a rounding error can dominate one sum.
    """
    weights = torch.full((4, 4), 0.25)
    ours = budget = 0.0
    for seed in range(3):
        ids = ids_of(seed)
        exact = eager_scores(tiny(family, seed=seed), ids, K, weights)
        model = tiny(family, seed=seed, dtype=dtype)
        got = flow(model, ids, prompt_length=K).scores.double()
        ours += float((got - exact).abs().sum())
        budget += float(2 * (eager_scores(model, ids, K, weights) - exact).abs().sum() + 1e-4 * exact.abs().sum())
    assert ours <= budget


OWN_CODE = {
    "falcon_h1": {"mamba_d_ssm": 48, "mamba_n_heads": 4, "mamba_d_head": 12, "mamba_d_state": 8, "mamba_n_groups": 1},
    "bloom": {"n_head": 4, "n_layer": 2},
    "xglm": {"d_model": 48, "ffn_dim": 64, "attention_heads": 4, "num_layers": 2},
    "falcon": {"new_decoder_architecture": False, "head_dim": None},
    "gptj": {"n_embd": 48, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "gpt_neo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]]},
    "mpt": {"d_model": 48, "n_heads": 4, "n_layers": 2},
    "codegen": {"n_embd": 48, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "mamba": {},
    "rwkv": {"attention_hidden_size": 48},
    "jamba": {
        "num_experts": 2,
        "mamba_d_state": 4,
        "mamba_expand": 1,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "decoder_sparse_step": 1,
    },
}


@pytest.mark.parametrize("family", OWN_CODE)
def test_models_with_their_own_attention_code_are_refused(family):
    model = tiny(family, **OWN_CODE[family])
    before = model.config._attn_implementation
    with pytest.raises(UnsupportedModelError, match="layer"):
        flow(model, ids_of(), prompt_length=K)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("family", ["bloom", "gptj", "gpt_neo", "mpt", "falcon"])
def test_the_reference_accepts_models_with_their_own_attention_code(family):
    model = tiny(family, **OWN_CODE[family])
    ids = ids_of()
    got = flow(model, ids, prompt_length=K, impl="reference")
    layers = int(got.meta["layers"])
    expected = eager_scores(model, ids, K, torch.full((layers, 4), 0.25))
    torch.testing.assert_close(got.scores.double(), expected, rtol=0, atol=2e-6)
    assert got.missing_mass is not None
    assert got.missing_mass.abs().max() < 1e-5


@pytest.mark.parametrize("scale", [1, 10, 100, 1000])
def test_large_logits_stay_within_the_error_budget(scale):
    """Budget in float32: twice the eager error plus one rounding of the largest logit (docs/exactness.md)."""
    model, ids = copy.deepcopy(tiny("llama")), ids_of()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.mul_(scale)
    with record(model) as recording, torch.no_grad():
        model(ids[None])
    largest = 0.0
    for index in recording.tapes:
        layer = recording.layer(index)
        logits = layer.query.double() @ layer.key[layer.kv_index].double().mT * layer.scale
        largest = max(largest, float(logits.abs().max()))
    assert largest > 5 * scale
    exact, eager = rollout(model, ids, K), eager_scores(model, ids, K, torch.full((4, 4), 0.25))
    error = (recording.flow(ids, prompt_length=K).scores.double() - exact).abs().max()
    eps = torch.finfo(torch.float32).eps
    assert error <= 2 * (eager - exact).abs().max() + eps * largest * exact.max()


ENCODER_FAMILIES = {
    "rembert": ({"input_embedding_size": 48, "output_embedding_size": 48}, {"is_decoder": True}),
    "megatron-bert": ({"hidden_size": 64}, {"is_decoder": True}),
    "roformer": ({"hidden_size": 64, "embedding_size": 64}, {"is_decoder": True}),
    "xlm": ({"emb_dim": 64, "n_layers": 2, "n_heads": 4}, {"causal": True}),
    "big_bird": ({"hidden_size": 64, "attention_type": "original_full"}, {"is_decoder": True}),
}


@pytest.mark.parametrize("family", ENCODER_FAMILIES)
def test_the_reference_refuses_attention_to_later_tokens(family):
    fields, causal = ENCODER_FAMILIES[family]
    with pytest.raises(UnsupportedModelError, match=r"not causal: in layer 0, head \d, token \d+ puts .* later token"):
        flow(tiny(family, **fields), ids_of(), prompt_length=K, impl="reference")
    got = flow(tiny(family, **fields, **causal), ids_of(), prompt_length=K, impl="reference")
    assert got.missing_mass is not None
    assert got.missing_mass.abs().max() < 1e-5


def test_the_reference_refuses_a_prefix_that_attends_to_itself():
    model = tiny("cpmant", dim_head=16, dim_ff=64, prompt_types=4, prompt_length=4, segment_types=4)
    with pytest.raises(UnsupportedModelError, match="layer 0"):
        flow(model, ids_of(), prompt_length=K, impl="reference")


def test_the_reference_reports_attention_that_is_not_finite():
    model = tiny("gptj", **OWN_CODE["gptj"])
    model.transformer.h[1].attn.q_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(NumericsError, match="layer 1"):
        flow(model, ids_of(), prompt_length=K, impl="reference")


def test_sinks_are_reported_as_missing_mass():
    model = tiny("gpt_oss")
    got = flow(model, ids_of(), prompt_length=K)
    assert got.missing_mass is not None
    assert float(got.missing_mass.min()) > 0.05
    attentions = eager_attentions(model, ids_of()[:-1]).double()
    expected = 1 - recurrence(attentions, torch.full((4, 4), 0.25))[K - 1 :].sum(1)
    torch.testing.assert_close(got.missing_mass.double(), expected, rtol=0, atol=2e-6)


def test_encoder_decoder_models_are_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4))
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        flow(model, ids_of())


def test_mean_weights_are_the_default_of_a_tiny_model():
    model = tiny("llama")
    weights = Weights("mean")
    torch.testing.assert_close(flow(model, ids_of(), weights=weights).scores, flow(model, ids_of()).scores)
