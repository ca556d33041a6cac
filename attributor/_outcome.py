"""From rows of numbers to a Flow: texts, how it was computed, and what would show that it went wrong."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from attributor._errors import NumericsError
from attributor._head_weights import HeadWeights
from attributor._resolve import model_id
from attributor._result import Flow

__all__ = ["complete", "describe", "draft"]

# Rows sum to 1 but for rounding; by more than this they were computed from other keys than the model attended to
# (a quantised cache, say). By what a model computes in.
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-2}
ROUNDING_16 = 0.1


def draft(sequence: Tensor, k: int, tokenizer: Any, documents: Sequence[Any] | None) -> Flow:
    """A Flow without scores yet, so that a document that cannot be found is told before anything is computed."""
    rows = max(1, sequence.numel() - k)
    empty = Flow(scores=torch.zeros(1, 1, dtype=torch.float32).expand(rows, k), ids=sequence)
    return empty if tokenizer is None else empty.with_text(tokenizer, documents=documents)


def complete(
    drafted: Flow,
    rows: Tensor,
    weights: HeadWeights,
    normalize: bool,
    meta: dict[str, str],
    *,
    exact_sums: torch.dtype | None,
) -> Flow:
    """The Flow with its scores, (O, N) -> (O, K).

    `exact_sums` is what the model computes in, where rows must sum to 1; None where a sink takes a share of them.

    Raises:
        NumericsError: rows that should sum to 1 do not.
    """
    missing = None
    if weights.stochastic:
        whole = 1.0 if normalize else weights.growth
        missing = (1 - rows.double().sum(1) / whole).float()
        worst = float(missing.abs().max())
        if exact_sums is not None and worst > ROUNDING.get(exact_sums, ROUNDING_16):
            raise NumericsError(
                f"rows of the flow sum to 1 only within {worst:.2g}: the recorded queries and keys are not those that "
                "the model's attention used (is its cache quantised or compressed?)"
            )
    return replace(drafted, scores=rows[:, : drafted.prompt_length].float(), missing_mass=missing, meta=meta)


def describe(
    model: Any,
    weights: HeadWeights,
    used: str,
    normalize: bool,
    question: Tensor | None = None,
) -> dict[str, str]:
    """What a Flow's meta says of how it was computed."""
    L, H = weights.shape
    return {
        "model": model_id(model) or type(model).__name__,
        "dtype": str(getattr(model, "dtype", "")).removeprefix("torch."),
        "layers": str(L),
        "heads": str(H),
        "heads_used": str(weights.count),
        "weights": weights.name,
        "power": f"{weights.power:g}",
        "value_norms": str(weights.value_norms).lower(),
        "sink": weights.sink,
        "question": f"{0.0 if question is None else weights.question:g}",
        "normalize": str(normalize).lower(),
        "implementation": used,
        "attributor": version("attributor"),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }
