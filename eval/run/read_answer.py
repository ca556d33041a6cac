"""A model reads a prompt with an answer, or reads it and writes one: recorded, timed, with log-probabilities."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attributor._flow import Recording, record
from attributor._models import accepts_argument, device_of, generate, strip_end_token

__all__ = ["Read", "force", "write", "write_behind"]


@dataclass(frozen=True)
class Read:
    """What one recorded pass over a prompt and its answer gave.

    Attributes:
        answer: (a,) int64.
        log_probs: (a,) float64, log p of each answer token.
        seconds: of the pass.
        recording: None where no heads were asked for.
        cache: keys and values of what was read, where they were asked for.
    """

    answer: Tensor
    log_probs: Tensor
    seconds: float
    recording: Recording | None
    cache: Any = None


@torch.no_grad()
def force(model: Any, prompt: Tensor, answer: Tensor, weights: Any, *, cache: bool = False) -> Read:
    """Read the prompt (k,) with the answer (a,) behind it, recording the heads that `weights` choose (None: none)."""
    ids = torch.cat([prompt, answer])[None, :-1].to(device_of(model))
    a = answer.numel()
    options = {"logits_to_keep": a} if accepts_argument(model.forward, "logits_to_keep") else {}
    began = time.perf_counter()
    with nullcontext() if weights is None else record(model, weights=weights) as recording:
        out = model(input_ids=ids, use_cache=cache, **options)
    log_probs = out.logits[0, -a:].double().log_softmax(-1).cpu()[torch.arange(a), answer]
    seconds = time.perf_counter() - began
    return Read(answer, log_probs, seconds, recording, getattr(out, "past_key_values", None) if cache else None)


@torch.no_grad()
def write(model: Any, prompt: Tensor, count: int, weights: Any, *, end: bool = False) -> Read:
    """Have the model write at most `count` tokens behind the prompt (k,), greedily, recording while it does.

    The end token is a part of the answer where it is all of it, or `end` asks for it.
    """
    began = time.perf_counter()
    with nullcontext() if weights is None else record(model, weights=weights) as recording:
        out = generate(model, prompt, count, output_logits=True, return_dict_in_generate=True)
    answer = out.sequences[0, len(prompt) :].cpu()
    answer = answer if end else strip_end_token(model, answer)[0]
    rows = torch.stack([row[0] for row in out.logits[: len(answer)]]).double().log_softmax(-1).cpu()
    return Read(answer, rows[torch.arange(len(answer)), answer], time.perf_counter() - began, recording)


@torch.no_grad()
def write_behind(model: Any, prompt: Tensor, count: int, cache: Any) -> Tensor:
    """(a,) int64: what the model writes greedily behind the prompt (k,), from the cache of a pass that read it.

    What the cache holds from the prompt's last token on is dropped; a cache that cannot be cut is not used.
    """
    kept = _cut(cache, len(prompt) - 1)
    options = {} if kept is None else {"past_key_values": kept}
    sequences: Tensor = generate(model, prompt, count, **options)
    return strip_end_token(model, sequences[0, len(prompt) :].cpu())[0]


def _cut(cache: Any, length: int) -> Any:
    """The cache of the first `length` tokens, None where it cannot be had: sliding windows have thrown keys away."""
    layers = getattr(cache, "layers", None)
    if length < 1 or not layers or not hasattr(cache, "crop"):
        return None
    if any(getattr(layer, "is_sliding", True) or not hasattr(layer, "keys") for layer in layers):
        return None
    surplus = int(cache.get_seq_length()) - length
    if surplus < 0:
        return None
    if surplus:
        cache.crop(-surplus)
    return cache
