"""ContextCite: a sparse linear model of the answer's probability, fitted to random ablations of the context."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from attributor._effects import case_seed, draw_shared_masks
from attributor._errors import InputError, NumericsError
from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["ContextCite", "fit_lasso", "logit"]

NAME = "contextcite"
SUMMARY = "lasso on random ablations; contextcite:M for M passes, default 32"
SOURCE = "https://arxiv.org/abs/2409.00729"
ARGUMENT = "masks"
ORDER = 100
LIBRARY = "sklearn"

CERTAIN = -1e-12  # a log p nearer to 0 than this is a rounding error


@dataclass(frozen=True)
class ContextCite:
    """Lasso on the logit of p(answer) over M random sets of segments, each kept with probability 1/2: M passes.

    Attributes:
        masks: M, the number of sets; all 2^S sets if there are fewer than M.
        seed: seed of the sets; each prompt derives its own from it.
        alpha: the lasso's penalty, for standardised features and the logit divided by the answer's tokens.
        name: "contextcite:M".
    """

    masks: int = 32
    seed: int = 0
    alpha: float = 0.01
    name: str = field(default="", compare=False)
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check that there are at least two sets to compare, and that alpha is above 0."""
        if isinstance(self.masks, bool) or not isinstance(self.masks, int) or self.masks < 2:
            raise InputError(f"contextcite needs a whole number of masks >= 2, got {self.masks!r}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise InputError(f"the lasso's alpha must be > 0, got {self.alpha!r}")
        if not self.name:
            object.__setattr__(self, "name", f"contextcite:{self.masks}")

    def needs(self, model: Any) -> Needs:
        """Record nothing."""
        return Needs()

    def design(self, reading: Reading) -> Tensor:
        """(M, S) bool: the sets that are read for this prompt; measurements must not use them."""
        return draw_shared_masks(case_seed(self.seed, reading.prompt.ids), self.masks, len(reading.segments))

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): the change of the logit with each segment."""
        design = self.design(reading)
        if not reading.segments:
            return torch.zeros(0, dtype=torch.float64)
        a = reading.answer.numel()
        return fit_lasso(design, logit(reading.ablate(design)) / a, self.alpha) * a


def logit(log_p: Tensor) -> Tensor:
    """Log p - log(1 - p) from log p, float64: exact where p is tiny and where it is nearly 1.

    Raises:
        NumericsError: log p is NaN or minus infinity.
    """
    if not bool(torch.isfinite(log_p).all()):
        raise NumericsError(f"log-probabilities of the answer are not finite: {log_p[~log_p.isfinite()][:3].tolist()}")
    log_p = log_p.double().clamp(max=CERTAIN)
    # log(1 - e^x), by the form without loss of digits
    rest = torch.where(log_p > -math.log(2), torch.log(-torch.expm1(log_p)), torch.log1p(-torch.exp(log_p)))
    return log_p - rest


def fit_lasso(masks: Tensor, targets: Tensor, alpha: float) -> Tensor:
    """(S,) float64: coefficients of the lasso of `targets` on `masks`, in the units of the targets.

    Minimises ||y - b - Z w||^2 / 2M + alpha ||w||_1 and returns w over the deviations. The columns of Z are the masks,
    scaled to mean 0 and deviation 1, as in the paper's code. A segment that every set keeps, or no set, gets 0.

    Args:
        masks: (M, S) bool.
        targets: (M,).
        alpha: > 0.
    """
    from sklearn.linear_model import Lasso  # type: ignore[import-untyped, unused-ignore]  # takes half a second

    X = masks.numpy().astype(np.float64)
    deviation = X.std(0)
    deviation[deviation == 0] = 1
    fitted = Lasso(alpha=alpha, max_iter=100_000).fit((X - X.mean(0)) / deviation, targets.double().numpy())
    return torch.from_numpy(np.asarray(fitted.coef_, dtype=np.float64) / deviation)
