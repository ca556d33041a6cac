"""Adam on the logarithms of the head weights, row by row through the composed flow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._weights import Weights
from attributor.eval.learning.targets import Target
from attributor.eval.learning.trace import Trace

__all__ = ["Epoch", "Row", "check_share", "fit", "split"]

Progress = Callable[[str, int, int], None]

LEAST = 5e-4  # heads start with this at least: a weight of 0 has no logarithm, and could not grow
DROPPED = 0.01  # of the largest weight: what is below it costs a recorded head and changes nothing that shows


@dataclass(frozen=True)
class Row:
    """One row that is learned from: its flow, and what that should say."""

    trace: Trace
    target: Target


@dataclass(frozen=True)
class Epoch:
    """After one pass over the rows.

    Attributes:
        number: 0 is before the first.
        weights: with the small ones dropped.
        loss: mean over the rows that are learned from, before each step.
        learned: the metric there, likewise.
        held_out: the metric of `weights` on the rows held out.
    """

    number: int
    weights: Weights
    loss: float
    learned: float
    held_out: float


def check_share(held_out: float, rows: int) -> int:
    """How many of so many rows are held out.

    Raises:
        InputError: a share that leaves nothing on one side.
    """
    count = round(held_out * rows)
    if not 0 < count < rows:
        raise InputError(f"holding out {held_out:g} of {rows} rows leaves nothing on one side")
    return count


def split(rows: Sequence[Row], held_out: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(learned from, held out), at least one each, by chance.

    Raises:
        InputError: a share that leaves one of them empty.
    """
    count = check_share(held_out, len(rows))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[i] for i in order[count:]], [rows[i] for i in order[:count]]


def fit(
    learned: Sequence[Row],
    held_out: Sequence[Row],
    start: Weights,
    shape: tuple[int, int],
    *,
    epochs: int,
    rate: float = 0.1,
    batch: int = 8,
    seed: int = 0,
    progress: Progress,
) -> Iterator[Epoch]:
    """Change all L x H weights, and the question's share, so that the rows' losses fall.

    Args:
        learned: rows whose losses are followed.
        held_out: rows that only say when to stop.
        start: where to start, of the same model; heads without weight start with 1/2000.
        shape: (L, H).
        epochs: passes over the rows.
        rate: of Adam, in the logarithm of a weight.
        batch: rows a step.
        seed: of the rows' order.
        progress: told ("learn", rows done, rows to do), over all epochs.

    Raises:
        InputError: a start that is not plain.

    Yields:
        One `Epoch` before the first step and one after each pass.
    """
    if start.power != 1 or start.value_norms or start.sink != "keep":
        raise InputError(
            "learning starts from plain weights: power 1, no value norms, the sink kept; got " + repr(start)
        )
    assert isinstance(start.heads, Tensor)
    heads = start.heads.clamp(min=LEAST).double().log().requires_grad_()
    share = torch.tensor(min(max(start.question, 0.02), 0.98), dtype=torch.float64).logit().requires_grad_()
    optimizer = torch.optim.Adam([heads, share], lr=rate)
    generator = torch.Generator().manual_seed(seed)
    total, done = epochs * len(learned) + (epochs + 1) * len(held_out), 0

    def told() -> None:
        nonlocal done
        done += 1
        progress("learn", done, total)

    def state(number: int, losses: Sequence[float], metrics: Sequence[float]) -> Epoch:
        weights = _weights(heads, share, shape) if number else start
        assert isinstance(weights.heads, Tensor)
        scores = []
        for row in held_out:
            scores.append(row.target.metric(_flow(row.trace, weights)))
            told()
        return Epoch(number, weights, _mean(losses), _mean(metrics), _mean(scores))

    yield state(0, [], [])
    for number in range(1, epochs + 1):
        losses, metrics = [], []
        order = torch.randperm(len(learned), generator=generator).tolist()
        for low in range(0, len(order), batch):
            part = order[low : low + batch]
            optimizer.zero_grad()
            for i in part:
                scores = learned[i].trace.scores(heads.exp(), share.sigmoid())
                loss = learned[i].target.loss(scores) / len(part)
                loss.backward()
                losses.append(float(loss.detach()) * len(part))
                metrics.append(learned[i].target.metric(scores))
                told()
            optimizer.step()
        yield state(number, losses, metrics)


def _weights(heads: Tensor, share: Tensor, shape: tuple[int, int]) -> Weights:
    found = heads.detach().exp().float().reshape(shape)
    found[found < DROPPED * found.max()] = 0
    return Weights(found, question=min(float(share.detach().sigmoid()), 0.999))


def _flow(trace: Trace, weights: Weights) -> Tensor:
    """(S,): the scores under weights of which some are 0."""
    assert isinstance(weights.heads, Tensor)
    with torch.no_grad():
        found: Tensor = trace.scores(weights.heads.double(), torch.tensor(weights.question, dtype=torch.float64))
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
