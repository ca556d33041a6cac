"""The rollout of a model's own attention matrices in float64, independent of the product's code."""

import copy

import torch


@torch.no_grad()
def rollout(model, ids, prompt_length, **inputs):
    """Return (o, k) float64: the answer's rows of X_L for the ids (n,), from eager attention of a float64 copy."""
    exact = copy.deepcopy(model).double().eval()
    exact.set_attn_implementation("eager")
    if hasattr(exact, "set_experts_implementation"):
        exact.set_experts_implementation("eager")  # the other implementations refuse float64
    attentions = exact(ids[None, :-1], output_attentions=True, use_cache=False, **inputs).attentions
    flow = torch.eye(ids.numel() - 1, dtype=torch.float64)
    for attention in attentions:
        flow = (attention[0].double().mean(0)[:, : len(flow)] @ flow + flow) / 2
    return flow[prompt_length - 1 :, :prompt_length]
