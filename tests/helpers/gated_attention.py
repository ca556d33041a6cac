"""Effects by definition: autograd through a gate on every key of a float64 model with dense attention."""

import copy

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

NAME = "test-gated"
_state: dict = {}


def _gated(module, query, key, value, attention_mask, *, scaling=None, softcap=None, s_aux=None, **_):
    """Softmax attention with its unnormalised weights multiplied by exp(gate[j]) in rows i >= stops[j]."""
    gate, stops, start = _state["gate"], _state["stops"], _state.get("start", 0)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    logit = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        logit = softcap * torch.tanh(logit / softcap)
    N = query.shape[2]
    i = torch.arange(N)[:, None]
    logit = logit + torch.where(i >= stops.clamp(min=start), gate, 0.0)
    if attention_mask is not None:
        logit = logit + attention_mask[..., :N]
    else:
        logit = logit.masked_fill(torch.arange(N) > i, float("-inf"))
    if s_aux is not None:
        sink = s_aux.to(logit)[None, :, None, None].expand(*logit.shape[:3], 1)
        weight = torch.cat([logit, sink], -1).softmax(-1)[..., :-1]
    else:
        weight = logit.softmax(-1)
    return (weight @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _gated)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])


def gate_gradient(model, ids, k, stops, *, answer=None, start=0):
    """Return (N,) float64: the gradient of sum log p(answer token) with respect to the gate of every key.

    A key's gate applies from row `stops[j]` of `stops` (N,), and no gate applies before row `start`.
    """
    exact = copy.deepcopy(model).double().eval()
    exact.set_attn_implementation(NAME)
    if hasattr(exact, "set_experts_implementation"):
        exact.set_experts_implementation("eager")  # the other implementations refuse float64
    first, stop = answer or (0, len(ids) - k)
    ids = ids[: k + stop]
    gate = torch.zeros(len(ids) - 1, dtype=torch.float64, requires_grad=True)
    _state.update(gate=gate, stops=stops[: len(ids) - 1], start=start)
    try:
        logits = exact(ids[None, :-1], use_cache=False).logits[0, k + first - 1 :]
        log_probs = logits.log_softmax(-1).gather(1, ids[k + first :, None])
        (gradient,) = torch.autograd.grad(log_probs.sum(), gate)
    finally:
        _state.clear()
    return gradient
