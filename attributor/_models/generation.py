"""Generate an answer greedily; the command line and the evaluation share this code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attributor._models.facts import device_of

__all__ = ["end_token_ids", "generate", "strip_end_token", "use_eval_mode"]


def generate(model: Any, prompt: Tensor, count: int, **options: Any) -> Any:
    """Generate at most `count` tokens after the prompt, always the likeliest one.

    Args:
        model: a transformers decoder-only model.
        prompt: (k,) int64, on any device.
        count: at least 1.
        options: other arguments of `model.generate`.

    Returns:
        What `model.generate` returns: (1, k + a) int64, on the model's device, unless the options select more.
    """
    ids = prompt[None].to(device_of(model))
    ends, pad = end_token_ids(model), getattr(model.generation_config, "pad_token_id", None)
    return model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=ends[0] if pad is None and ends else pad,  # nothing is padded; without it, generate() warns
        **options,
    )


@contextmanager
def use_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, without dropout; restore each mode on exit."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def strip_end_token(model: Any, answer: Tensor) -> tuple[Tensor, bool]:
    """The answer (a,) without its end token, unless it has no other token; and whether it had an end token."""
    ended = bool(answer.numel()) and int(answer[-1]) in end_token_ids(model)
    return (answer[:-1] if ended and answer.numel() > 1 else answer), ended


def end_token_ids(model: Any) -> list[int]:
    """The tokens that end generation: none, one or several."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return [] if ends is None else [int(end) for end in torch.as_tensor(ends).reshape(-1)]
