"""Generate the model's own answer from the keys and values of a pass that has read the prompt."""

from typing import Any

import torch
from torch import Tensor

from attributor._models import generate, strip_end_token

__all__ = ["write_from_cache"]


@torch.no_grad()
def write_from_cache(model: Any, prompt: Tensor, count: int, cache: Any) -> Tensor:
    """(a,) int64: what the model writes greedily after the prompt (k,), from the cache of a pass that read it.

    The cache is cut before the prompt's last token. A cache that cannot be cut is not used.
    """
    prefix = _cut(cache, len(prompt) - 1)
    options = {} if prefix is None else {"past_key_values": prefix}
    sequences: Tensor = generate(model, prompt, count, **options)
    return strip_end_token(model, sequences[0, len(prompt) :].cpu())[0]


def _cut(cache: Any, length: int) -> Any:
    """Cut the cache to its first `length` tokens; None if it cannot be cut, because sliding windows drop keys."""
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
