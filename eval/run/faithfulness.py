"""Measures faithfulness: how the answer's log-probability changes when segments are left out."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attributor import methods as registry
from attributor.eval.metrics import DROPS, linear_datamodeling_score, main_aggregation

__all__ = ["case_seed", "measure"]


def measure(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    ablate: Callable[[Tensor], Tensor],
    S: int,
    *,
    convention: str,
    count: int,
    seed: int,
    case_id: str,
    fitted: Sequence[Tensor] = (),
) -> dict[str, Any]:
    """Measure, for one case, log-probability drops without each method's top segments, and LDS.

    Args:
        scores: by method and aggregation, S floats each; "sum" (token methods) or "segment" is used.
        ablate: (M, S) bool, the segments that are kept -> (M,) log p of the answer; shared by all methods.
        S: number of segments.
        convention: how `ablate` removes the others; stored in the record.
        count: number of masks for LDS; each keeps a segment with probability 1/2.
        seed: with `case_id` the seed of the masks, which are the same for every method and every run.
        case_id: id of the case.
        fitted: masks (M, S) that methods were fitted to; LDS uses none of them.

    Returns:
        The field "faithfulness" of a record.
    """
    ranked = {name: torch.tensor(by[main_aggregation(by)], dtype=torch.float64) for name, by in scores.items()}
    keep = [torch.ones(S, dtype=torch.bool)]
    for values in ranked.values():
        order = values.argsort(descending=True, stable=True)
        for k in DROPS:
            without = torch.ones(S, dtype=torch.bool)
            without[order[:k]] = False
            keep.append(without)
    masks = registry.draw_shared_masks(
        case_seed(seed, case_id), count, S, apart_from=torch.cat(list(fitted)) if fitted else None
    )
    effects = ablate(torch.cat([torch.stack(keep), masks]))
    full, ablated, measured = effects[0], effects[1 : len(keep)], effects[len(keep) :]
    drops = (full - ablated).reshape(len(ranked), len(DROPS)).tolist()
    return {
        "convention": convention,
        "masks": count,  # fewer masks exist if 2^S is smaller
        "seed": seed,
        "drops": {name: dict(zip(map(str, DROPS), row, strict=True)) for name, row in zip(ranked, drops, strict=True)},
        "lds": {
            name: linear_datamodeling_score(values.numpy(), masks.numpy(), measured.numpy()) if len(masks) > 1 else None
            for name, values in ranked.items()
        },
        "effects": {
            "full": float(full),
            "kept": ["".join("01"[bit] for bit in row) for row in masks.tolist()],
            "log_probs": measured.tolist(),
        },
    }


def case_seed(seed: int, case_id: str) -> int:
    """Return the seed of a case, from the run's seed and the case's id."""
    digest = hashlib.sha256(f"{seed}:{case_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big")
