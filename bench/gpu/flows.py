"""Whole models on a GPU: flow() and record() of Llamas with random weights, beside a plain prefill and generate()."""

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import attributor
from gpu.measure import DEVICE, IMPL, REHEARSAL, each, free, race, relative_error
from gpu.shapes import FLOWS, MODELS, spread_heads

ANSWER = 16  # tokens
GENERATION = {"max_new_tokens": ANSWER, "min_new_tokens": ANSWER, "do_sample": False, "pad_token_id": 0}
ROUNDS = {8192: 5, 32_768: 3, 131_072: 1}
PATIENCE = 150.0  # seconds for one line of FLOWS
MASS = 1e-3  # what rows of a 16-bit model's flow may lack
models: dict[str, Any] = {}  # the last one


def load(name: str) -> Any:
    """A model in bfloat16, drawn on the device; its flow by the kernel has been compared with plain torch's."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    if name not in models:
        models.clear()
        free()
        sizes = MODELS["rehearsal" if REHEARSAL else name]
        config = LlamaConfig(**sizes, bos_token_id=None, eos_token_id=None, pad_token_id=0)
        torch.manual_seed(0)
        with torch.device(DEVICE):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
        models[name] = model.eval().requires_grad_(False)
    return models[name]


@cache
def agreement(name: str) -> float:
    """Relative L1 between the flows of 1,003 tokens by the kernel and by plain torch, from one recording."""
    model, tokens = load(name), 24 if REHEARSAL else 1003
    ids = make_ids(model, tokens)
    with attributor.record(model) as recording, torch.no_grad():
        model(input_ids=ids[None, :-1].to(DEVICE), logits_to_keep=1, use_cache=False)
    ours, plain = (recording.flow(ids, prompt_length=tokens, impl=impl).scores for impl in (IMPL, "reference"))
    return relative_error(ours, plain)


def make_ids(model: Any, tokens: int) -> Tensor:
    """A prompt of random tokens with an answer behind it, (tokens + ANSWER,), on the CPU."""
    g = torch.Generator().manual_seed(tokens)
    return torch.randint(3, model.config.vocab_size, (tokens + ANSWER,), generator=g)


def make_weights(model: Any, heads: str) -> attributor.Weights:
    """All heads, or 32 that are spread over the model."""
    if heads == "all":
        return attributor.Weights("mean")
    shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
    chosen = spread_heads(*shape)
    return attributor.Weights.of_heads(shape, dict.fromkeys(chosen, 1 / len(chosen)))


@torch.no_grad()
def prefill(model: Any, ids: Tensor, _: int) -> Tensor:
    """What generate() does with a prompt: one forward pass with a cache and one row of logits."""
    return model(input_ids=ids[None, :-1].to(DEVICE), logits_to_keep=1, use_cache=True).logits


def prefill_by_cudnn(model: Any, ids: Tensor, i: int) -> Tensor:
    """The same by another backend than torch may choose."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return prefill(model, ids, i)


def run_flow(model: Any, ids: Tensor, _: int, *, heads: str = "all", keep: str = "auto") -> attributor.Flow:
    """The flow of the answer's tokens."""
    weights = make_weights(model, heads)
    return attributor.flow(model, ids, prompt_length=ids.numel() - ANSWER, weights=weights, impl=IMPL, keep=keep)


def generate(model: Any, ids: Tensor, _: int) -> Tensor:
    """ANSWER tokens after the prompt."""
    return model.generate(ids[None, :-ANSWER].to(DEVICE), **GENERATION)


def run_record(model: Any, ids: Tensor, i: int, *, heads: str = "all") -> attributor.Flow:
    """The same inside record(), and the flow."""
    with attributor.record(model, weights=make_weights(model, heads)) as recording:
        out = generate(model, ids, i)
    return recording.flow(out, impl=IMPL)


# What runs in turns, for each kind of finding
VARIANTS: dict[str, dict[str, Any]] = {
    "flow": {
        "prefill": prefill,
        "prefill, cudnn": prefill_by_cudnn,
        "flow, 32 heads": partial(run_flow, heads="32"),
        "flow": run_flow,
    },
    "record": {"generate": generate, "record, 32 heads": partial(run_record, heads="32"), "record": run_record},
    "keep": {"device": partial(run_flow, keep="device"), "host": partial(run_flow, keep="host")},
}


def check(label: str, answer: Any) -> dict[str, float]:
    """Assert that a flow lacks nothing."""
    if not isinstance(answer, attributor.Flow):
        return {}
    missing = float(answer.missing_mass.abs().max())
    assert answer.scores.shape[0] == ANSWER, f"{answer.scores.shape[0]} rows instead of {ANSWER}"
    assert answer.scores.isfinite().all(), "scores are not finite"
    assert missing < MASS, f"rows lack {missing:.1e}"
    return {"missing_mass": missing}


def measure(item: tuple[str, str, int], again: bool) -> dict[str, Any]:
    """One line of FLOWS."""
    kind, name, tokens = item
    model = load(name)
    error = agreement(name)
    if error >= 1e-4:
        return {"entries": {"flow": {"wrong": f"off by {error:.1e} from plain torch"}}}
    ids = make_ids(model, 16 + tokens // 2048 if REHEARSAL else tokens)
    works = {label: partial(variant, model, ids) for label, variant in VARIANTS[kind].items()}
    return {"agreement": error, "entries": race(works, check, rounds=1 if REHEARSAL else ROUNDS[tokens])}


def measure_all() -> bool:
    """All of FLOWS; False if an answer was wrong."""
    right = True
    for kind, name, tokens in FLOWS:
        right = each(kind, [(f"{name}, {tokens:,}", (kind, name, tokens))], measure, PATIENCE) and right
    return right
