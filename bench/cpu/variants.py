"""The compared variants: a plain forward, the flow, matrix products of attentions, removal effects."""

from contextlib import ExitStack
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

import attributor
from attributor._effects import EffectsTask, SegmentTokens, effects_of, gradient_run

O = 16  # answer tokens
# the first sixteen retrieval heads of SmolLM2-135M-Instruct and their neighbours, spread over seven layers
SIXTEEN = [(17, 4), (18, 6), (17, 3), (23, 8), (23, 7), (23, 2), (21, 8), (18, 7), (23, 0), (14, 3), (22, 7), (15, 6)]
SIXTEEN += [(14, 0), (15, 1), (21, 2), (22, 3)]


@cache
def model() -> Any:
    """Return the default model in float32."""
    return attributor.load_model(dtype="float32", progress=False)[0]


def load_setting(tokens: int) -> tuple[Any, Tensor]:
    """Return the model and (tokens + O,) ids: a prompt of `tokens` tokens and an answer of O."""
    ids = torch.randint(100, 40_000, (tokens + O,), generator=torch.Generator().manual_seed(0))
    return model(), ids


def choose_weights(name: str) -> attributor.Weights:
    """Return weights of all heads, or of sixteen of 270."""
    if name == "all":
        return attributor.Weights("mean")
    return attributor.Weights.of_heads((30, 9), dict.fromkeys(SIXTEEN, 1 / 16))


@torch.no_grad()
def plain(model: Any, ids: Tensor) -> Tensor:
    """Run one SDPA forward over the tokens of the flow, as generate() reads a prompt: one row of logits, a cache."""
    return model(input_ids=ids[None, :-1], logits_to_keep=1).logits


def flow_all(model: Any, ids: Tensor) -> attributor.Flow:
    """Compute the flow through all heads."""
    return attributor.flow(model, ids, prompt_length=ids.numel() - O)


def flow_sixteen(model: Any, ids: Tensor) -> attributor.Flow:
    """Compute the flow through sixteen heads."""
    return attributor.flow(model, ids, prompt_length=ids.numel() - O, weights=choose_weights("sixteen"))


@torch.no_grad()
def run_materialised(model: Any, ids: Tensor) -> Tensor:
    """Compute the usual way by hand: output_attentions=True, the mean over heads, matrix products."""
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


def run_recorded(name: str, model: Any, ids: Tensor) -> attributor.Flow:
    """Generate O tokens inside a recording, then compute the flow."""
    with attributor.record(model, weights=choose_weights(name)) as recording:
        out = model.generate(ids[None, :-O], **GENERATION)
    return recording.flow(out)


SEGMENTS = 40
SUFFIX = 44  # prompt tokens after the last segment, about a question and a template


def split(tokens: int) -> list[tuple[int, int]]:
    """Return equal segments of a prompt with this number of tokens."""
    size = (tokens - SUFFIX) // SEGMENTS
    return [(size * index, size * (index + 1)) for index in range(SEGMENTS)]


def effects(model: Any, ids: Tensor, limit: int, **options: Any) -> attributor.Effects:
    """Compute removal effects; layers are checkpointed if their activations take more than `limit` bytes."""
    k = ids.numel() - O
    before, gradient_run.CHECKPOINT_FROM = gradient_run.CHECKPOINT_FROM, limit
    try:
        return attributor.effects(model, ids, split(k), prompt_length=k, **options)
    finally:
        gradient_run.CHECKPOINT_FROM = before


@cache
def context(tokens: int) -> DynamicCache:
    """Return the cache after reading the prompt."""
    model, ids = load_setting(tokens)
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=ids[None, :-O], past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def suffix_effects(model: Any, ids: Tensor) -> attributor.Effects:
    """Compute removal effects of the rows after the last segment, on the cache of the prompt."""
    k = ids.numel() - O
    return effects_of(model, EffectsTask(ids, k, SegmentTokens.of_spans(split(k), k), rows="suffix", cache=context(k)))


def checkpointed_backward(model: Any, ids: Tensor) -> Tensor:
    """Compute the gradient of the answer's log-probability for the embeddings with stock torch, checkpointed."""
    embeddings = model.get_input_embeddings()(ids[None, :-1]).detach().requires_grad_()
    with ExitStack() as stack:
        for parameter in model.parameters():
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        for layer in model.model.layers:
            stack.callback(delattr, layer, "forward")
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=O).logits[0]
        total = logits.log_softmax(-1).gather(1, ids[-O:, None]).sum()
        return torch.autograd.grad(total, embeddings)[0]


VARIANTS = {
    "plain forward": plain,
    "flow, all heads": flow_all,
    "flow, 16 heads": flow_sixteen,
    "materialised": run_materialised,
    "generate": generate,
    "record, all heads": lambda model, ids: run_recorded("all", model, ids),
    "record, 16 heads": lambda model, ids: run_recorded("sixteen", model, ids),
    "effects": lambda model, ids: effects(model, ids, 1 << 62, rows="all"),
    "effects, checkpointed": lambda model, ids: effects(model, ids, 0, rows="all"),
    "effects, suffix": suffix_effects,
    "checkpointed backward": checkpointed_backward,
}
