"""The variants that bench_flow compares: a plain forward, the flow, and matrix products of attentions."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

import attributor

O = 16  # answer tokens
# the first sixteen retrieval heads of SmolLM2-135M-Instruct and their neighbours, spread over seven layers
SIXTEEN = [(17, 4), (18, 6), (17, 3), (23, 8), (23, 7), (23, 2), (21, 8), (18, 7), (23, 0), (14, 3), (22, 7), (15, 6)]
SIXTEEN += [(14, 0), (15, 1), (21, 2), (22, 3)]


@cache
def model() -> Any:
    """The default model, in float32."""
    return attributor.load_model(dtype="float32", progress=False)[0]


def load_setting(tokens: int) -> tuple[Any, Tensor]:
    """The model, and a prompt of `tokens` tokens with an answer of O behind it, (tokens + O,)."""
    ids = torch.randint(100, 40_000, (tokens + O,), generator=torch.Generator().manual_seed(0))
    return model(), ids


def choose_weights(name: str) -> attributor.Weights:
    """All heads, or sixteen of 270."""
    if name == "all":
        return attributor.Weights("mean")
    return attributor.Weights.of_heads((30, 9), dict.fromkeys(SIXTEEN, 1 / 16))


@torch.no_grad()
def plain(model: Any, ids: Tensor) -> Tensor:
    """One SDPA forward over what the flow reads, as generate() reads a prompt: one row of logits, a cache."""
    return model(input_ids=ids[None, :-1], logits_to_keep=1).logits


def flow_all(model: Any, ids: Tensor) -> attributor.Flow:
    """The flow through all heads."""
    return attributor.flow(model, ids, prompt_length=ids.numel() - O)


def flow_sixteen(model: Any, ids: Tensor) -> attributor.Flow:
    """The flow through sixteen heads."""
    return attributor.flow(model, ids, prompt_length=ids.numel() - O, weights=choose_weights("sixteen"))


@torch.no_grad()
def materialised(model: Any, ids: Tensor) -> Tensor:
    """What people do by hand: output_attentions=True, the mean over heads, matrix products."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        attentions = model(
            input_ids=ids[None, :-1], use_cache=False, logits_to_keep=1, output_attentions=True
        ).attentions
    finally:
        model.set_attn_implementation(before)
    rows = torch.eye(ids.numel() - 1)[-O:]
    for attention in reversed(attentions):
        rows = (rows + rows @ attention[0].mean(0)) / 2
    return rows[:, : ids.numel() - O]


GENERATION = {"max_new_tokens": O, "min_new_tokens": O, "do_sample": False}


def generate(model: Any, ids: Tensor) -> Tensor:
    """Generate O tokens."""
    return model.generate(ids[None, :-O], **GENERATION)


def recorded(name: str, model: Any, ids: Tensor) -> attributor.Flow:
    """Generate O tokens while recording, then the flow."""
    with attributor.record(model, weights=choose_weights(name)) as recording:
        out = model.generate(ids[None, :-O], **GENERATION)
    return recording.flow(out)


VARIANTS = {
    "plain forward": plain,
    "flow, all heads": flow_all,
    "flow, 16 heads": flow_sixteen,
    "materialised": materialised,
    "generate": generate,
    "record, all heads": lambda model, ids: recorded("all", model, ids),
    "record, 16 heads": lambda model, ids: recorded("sixteen", model, ids),
}
