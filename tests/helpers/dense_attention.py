"""Tiny recorded models with their full attention matrices, for the tests of the live flow views."""

from dataclasses import dataclass
from typing import Any

import torch
from families import VOCABULARY, tiny

from attributor import record
from attributor._flow.eager import eager_attentions

FAMILIES = ["llama", "gemma2", "gpt_oss", "llama4_text"]  # plain, soft cap and windows, sinks, chunks
K, ANSWER = 60, 12
CLOSE = {"rtol": 0, "atol": 2e-6}  # as for the flow against eager attention (test_families.py)


@dataclass(frozen=True)
class Case:
    """One recorded answer: the recording, its ids, and (L, H, N, N) float64 attention with N = K + ANSWER - 1."""

    recording: Any
    ids: torch.Tensor
    attentions: torch.Tensor

    @property
    def length(self) -> int:
        return self.attentions.shape[-1]


def recorded(family: str, *, heads: Any = "mean", generated: bool = True, k: int = K, answer: int = ANSWER) -> Case:
    """Return a tiny model's own answer, recorded during generation, or the same ids read at once."""
    model = tiny(family)
    prompt = torch.randint(3, VOCABULARY, (k,), generator=torch.Generator().manual_seed(1))
    with record(model, weights=heads) as recording:
        out = model.generate(prompt[None], max_new_tokens=answer, min_new_tokens=answer, do_sample=False)
    ids = out[0]
    if not generated:
        with record(model, weights=heads) as recording, torch.no_grad():
            model(ids[None, :-1])
    return Case(recording, ids, eager_attentions(model, ids[:-1]).double())


def weights_of(seed: int = 2) -> torch.Tensor:
    """Return (4, 4) head weights in which one head and one layer have weight 0."""
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(seed))
    weights[1, 2] = weights[2] = 0
    return weights
