"""Combine the gradient's effects with real removals: a Gaussian linear model with the gradient as its prior mean.

    y_m = b + v_m . w + e_m,    w ~ N(alpha g, tau^2 diag(|g| + eps)),    e ~ N(0, sigma^2)

Here y_m is log p of the answer without the sentences with v_m = 0, and g are the effects by the gradient. The prior on
b is flat. `eps` is a hundredth of the mean of |g|, so that an effect of 0 can change.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Posterior", "fit_least_squares", "fit_posterior"]

EVIDENCE_FROM = 8  # removals; fewer do not determine alpha and tau / sigma
# medians over HotPotQA train rows with 80 removals each (bench/effects.py)
ALPHA, RATIO = 1.0, 1.0
RATIOS = tuple(2.0**power for power in range(-8, 17))  # candidates of tau / sigma, nats^-1/2
FLOOR = 0.01


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior of the effects.

    Attributes:
        mean: (S,) float64, nats.
        deviation: (S,) float64, standard deviations.
        alpha: the factor on the gradient's effects.
        ratio: tau / sigma.
    """

    mean: Tensor
    deviation: Tensor
    alpha: float
    ratio: float


def fit_posterior(gradient: Tensor, kept: Tensor, log_probs: Tensor) -> Posterior:
    """The posterior of the effects of S segments from M + 1 readings of the answer.

    Args:
        gradient: (S,) float64, g.
        kept: (M + 1, S) bool, the segments that stay; the intact prompt is one of them.
        log_probs: (M + 1,) float64, log p of the answer.
    """
    size = gradient.abs()
    spread = size + FLOOR * size.mean() if bool(size.any()) else torch.ones_like(size)
    features, y = kept.double(), log_probs.double()
    if len(y) - 1 < EVIDENCE_FROM:
        return _condition(gradient, spread, features, y, ALPHA, RATIO)[1]

    def choose(alpha: float | None) -> Posterior:
        candidates = [_condition(gradient, spread, features, y, alpha, ratio) for ratio in RATIOS]
        return max(candidates, key=lambda candidate: candidate[0])[1]

    posterior = choose(None)
    return posterior if posterior.alpha >= 0 else choose(0.0)  # removals contradict the gradient: leave it out


def fit_least_squares(kept: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """The effects (S,) and their standard deviations (S,), from the readings of all possible sets alone.

    With no more readings than unknowns, the deviations are 0: each effect is then the difference of two readings.

    Args:
        kept: (M + 1, S) bool, every set of segments but the empty one, the intact prompt among them.
        log_probs: (M + 1,) float64, log p of the answer.
    """
    design = torch.cat([torch.ones(len(kept), 1), kept], 1).double()
    inverse = torch.linalg.pinv(design)
    solution = inverse @ log_probs.double()
    degrees = len(kept) - design.shape[1]
    residual = log_probs.double() - design @ solution
    variance = float(residual @ residual) / degrees if degrees > 0 else 0.0
    deviation = (variance * (inverse @ inverse.T).diagonal()).sqrt()
    return solution[1:], deviation[1:]


def _condition(
    gradient: Tensor, spread: Tensor, features: Tensor, y: Tensor, alpha: float | None, ratio: float
) -> tuple[float, Posterior]:
    """The log evidence (up to a constant) of tau / sigma = ratio, and the posterior.

    b, and alpha if it is None, are fitted by generalised least squares, and sigma by restricted maximum likelihood.
    """
    count = len(y)
    prior = ratio**2 * spread  # of sigma^2
    covariance = torch.eye(count, dtype=torch.float64) + (features * prior) @ features.T
    factor = torch.linalg.cholesky(covariance)
    predicted = features @ gradient
    fixed = torch.ones(count, 1, dtype=torch.float64)
    if alpha is None and bool((predicted - predicted.mean()).abs().max() > 0):
        fixed = torch.stack([fixed[:, 0], predicted], 1)
    target = y if alpha is None else y - alpha * predicted
    inverse = torch.cholesky_solve(fixed, factor)
    normal = fixed.T @ inverse
    beta = torch.linalg.solve(normal, inverse.T @ target)
    residual = target - fixed @ beta
    solved = torch.cholesky_solve(residual[:, None], factor)[:, 0]
    degrees = max(1, count - fixed.shape[1])
    variance = max(float(residual @ solved) / degrees, 1e-12)
    evidence = -0.5 * (
        degrees * math.log(variance) + 2 * float(factor.diagonal().log().sum()) + float(torch.logdet(normal))
    )
    scale = float(beta[1]) if len(beta) == 2 else (alpha or 0.0)
    mean = scale * gradient + prior * (features.T @ solved)
    # the variance of w given y, the uncertainty of b and alpha included
    gain = prior[:, None] * torch.cholesky_solve(features, factor).T  # (S, M + 1)
    slope = torch.stack([torch.zeros_like(gradient), gradient], 1)[:, : fixed.shape[1]] - gain @ fixed
    own = prior - (gain * (prior[:, None] * features.T)).sum(1)
    uncertain = (slope @ torch.linalg.inv(normal) * slope).sum(1)
    deviation = (variance * (own + uncertain).clamp(min=0)).sqrt()
    return evidence, Posterior(mean, deviation, scale, ratio)
