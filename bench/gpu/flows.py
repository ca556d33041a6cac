"""Complete models on a GPU: flow() and record() of Llamas with random weights, compared with prefill and generate()."""

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

import attributor
from gpu.measure import DEVICE, IMPL, REHEARSAL, race
from gpu.shapes import MODELS

VOCABULARY = 97 if REHEARSAL else 128_256
NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
ANSWER = 16  # tokens
GENERATION = {"max_new_tokens": ANSWER, "min_new_tokens": ANSWER, "do_sample": False, "pad_token_id": 0}
MASS = 1e-3  # allowed missing mass in a row of a 16-bit model's flow


@lru_cache(maxsize=1)
def load(name: str) -> Any:
    """Return a bfloat16 model with weights drawn on the device."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    layers, hidden, heads, kv_heads, intermediate = MODELS[name]
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        vocab_size=VOCABULARY,
        max_position_embeddings=1 << 18,
        tie_word_embeddings=name != "8B",
        **NO_ENDS,
    )
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


def choose_heads(layers: int, heads: int, count: int = 32) -> attributor.Weights:
    """Return equal weights of different heads, spread over all layers and over the heads of each."""
    chosen = [(i % layers, (7 * (i % layers) + i // layers) % heads) for i in range(min(count, layers * heads))]
    return attributor.Weights.of_heads((layers, heads), dict.fromkeys(chosen, 1 / len(chosen)))


@torch.no_grad()
def prefill(model: Any, ids: Tensor) -> Tensor:
    """Run the prefill of generate(): one forward pass with a cache and one row of logits."""
    return model(input_ids=ids[None, :-1].to(DEVICE), logits_to_keep=1, use_cache=True).logits


def generate(model: Any, ids: Tensor) -> Tensor:
    """Generate ANSWER tokens after the prompt."""
    return model.generate(ids[None, :-ANSWER].to(DEVICE), **GENERATION)


def run_flow(model: Any, ids: Tensor, weights: attributor.Weights) -> attributor.Flow:
    """Compute the flow of the answer's tokens."""
    return attributor.flow(model, ids, prompt_length=ids.numel() - ANSWER, weights=weights, impl=IMPL)


def run_record(model: Any, ids: Tensor, weights: attributor.Weights) -> attributor.Flow:
    """Run generate() inside record(), then compute the flow."""
    with attributor.record(model, weights=weights) as recording:
        out = generate(model, ids)
    return recording.flow(out, impl=IMPL)


def check(label: str, answer: Any) -> dict[str, float]:
    """Assert that a flow has no missing mass."""
    if not isinstance(answer, attributor.Flow):
        return {}
    missing = float(answer.missing_mass.abs().max())
    assert answer.scores.shape[0] == ANSWER, f"{answer.scores.shape[0]} rows instead of {ANSWER}"
    assert answer.scores.isfinite().all(), "scores are not finite"
    assert missing < MASS, f"rows lack {missing:.1e}"
    return {"missing_mass": missing}


def measure(kind: str, name: str, tokens: int) -> dict[str, Any]:
    """Return the entries of one line of FLOWS."""
    model = load("rehearsal" if REHEARSAL else name)
    length = ANSWER + (16 + tokens // 2048 if REHEARSAL else tokens)
    ids = torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(tokens))
    few = choose_heads(model.config.num_hidden_layers, model.config.num_attention_heads)
    baseline, run = {"flow": (prefill, run_flow), "record": (generate, run_record)}[kind]
    works = {
        baseline.__name__: partial(baseline, model, ids),
        f"{kind}, 32 heads": partial(run, model, ids, few),
        kind: partial(run, model, ids, attributor.Weights("mean")),
    }
    return race(works, check, rounds=0 if tokens > 100_000 else 3)
