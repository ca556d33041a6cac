"""Compute the log-probabilities of an answer's tokens without a (positions, vocabulary) matrix."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from attributor._errors import UnsupportedModelError
from attributor._models.facts import device_of

__all__ = ["token_log_probs"]


def token_log_probs(model: Any, ids: Tensor, rows: Tensor, answer: Tensor, **options: Any) -> Tensor:
    """(B, a) float64 on the CPU: log p of the answer's tokens after each of B prompts, from one forward pass.

    The output embedding is applied only to the hidden states at `rows`, so no (B, n, vocabulary) tensor is formed, even
    if the sequences have different rows. Later changes of the logits (a scale, a cap) still apply.

    Args:
        model: a transformers decoder-only model; gradients are kept if they are enabled.
        ids: (B, n) int64, padded on the right if the sequences differ in length.
        rows: (B, a) int64, the positions that predict the answer's tokens.
        answer: (a,) int64.
        options: other arguments of the model's forward.

    Raises:
        UnsupportedModelError: the model has no output embedding, or does not apply it once to all positions.
    """
    head = model.get_output_embeddings()
    name = type(model).__name__
    if head is None:
        raise UnsupportedModelError(f"{name} names no output embedding (get_output_embeddings() is None)")
    (B, a), device = rows.shape, device_of(model)

    caller = threading.current_thread()

    def pick(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if threading.current_thread() is not caller:  # another call of the same model
            return args
        hidden = args[0]
        if hidden.shape[:2] != ids.shape:
            raise UnsupportedModelError(
                f"{name} hands its output embedding {tuple(hidden.shape)} hidden states for ids {tuple(ids.shape)}"
            )
        index = rows.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[-1])
        return (hidden.gather(1, index), *args[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        logits = model(input_ids=ids.to(device), **({"use_cache": False} | options)).logits
    finally:
        handle.remove()
    if logits.shape[:2] != (B, a):
        raise UnsupportedModelError(f"{name} gave logits {tuple(logits.shape)} for {B} x {a} rows")
    chosen = answer.to(logits.device)[:, None]
    # one sequence at a time, so that the float64 copy is (a, vocabulary)
    return torch.stack([row.double().log_softmax(-1).gather(1, chosen)[:, 0] for row in logits]).cpu()
