"""One row that the model has read: its flow as a differentiable function of the head weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attributor._head_weights import Transform
from attributor._layer_step import layer_step
from attributor._recording import Recording
from attributor._sequence import span_tokens
from attributor._sweep import received
from attributor._tape import Layer
from attributor.eval.prompts import CasePrompt

__all__ = ["Trace"]

PLAIN = Transform()  # power 1, no value norms, the sink kept


@dataclass(frozen=True)
class Trace:
    """What the flow of one row needs: everything but the head weights.

    Attributes:
        layers: L, all H heads of each.
        answer: (N,) float32, the sum of the rows that the answer begins with: 1 at the positions that predict it.
        question: (N,) float32 of the same sum, on the question's tokens.
        segment_of: (k,) int64, the segment of each prompt token, -1 for none.
        segments: S.
    """

    layers: Sequence[Layer]
    answer: Tensor
    question: Tensor
    segment_of: Tensor
    segments: int

    @classmethod
    def of(cls, recording: Recording, case: CasePrompt, segment_of: Tensor, a: int, L: int) -> "Trace":
        """Keep what a recording of all heads holds, in memory of its own: 2 N (H D + G D) bytes a layer at 16 bits.

        Args:
            recording: of prompt and answer, all heads.
            case: the prompt, with its question's place.
            segment_of: (k,) int64.
            a: tokens of the answer.
            L: layers.
        """
        k = len(case.prompt.ids)
        N = k + a - 1
        answer, question = torch.zeros(N), torch.zeros(N)
        answer[k - 1 :] = 1
        assert case.prompt.question is not None
        tokens = span_tokens(case.prompt.offsets, *case.prompt.question)
        question[tokens] = a / tokens.numel()
        layers = [_kept(recording.layer(index)) for index in range(L)]
        return cls(layers, answer, question, segment_of, len(case.segments))

    def scores(self, weights: Tensor, share: Tensor) -> Tensor:
        """(S,): the flow from every segment, summed over its tokens and the answer's, with a gradient.

        R_(l-1) = R_l + R_l sum_h w[l, h] P[l, h]: not divided by 1 + sum_h w[l, h], one number for all segments. The
        answer's rows are added up first, because the flow is linear in them: so a row costs one vector a layer.

        Args:
            weights: (L, H) >= 0.
            share: (), 0 to 1, how much of the rows begins on the question's tokens.
        """
        found: Tensor = _Follow.apply(weights, share, self)  # type: ignore[no-untyped-call]
        return found


class _Follow(torch.autograd.Function):
    """The sweep and its adjoint.

    dL/dw[l, h] = R_l . P[l, h] g_(l-1), where g_l = g_(l-1) + sum_h w[l, h] P[l, h] g_(l-1) and g_0 = dL/dR_0.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, share: Tensor, trace: Trace) -> Tensor:
        rows = ((1 - share) * trace.answer + share * trace.question).to(trace.answer)
        passed = []
        for layer, w in zip(reversed(trace.layers), weights.flip(0), strict=True):
            passed.append(rows)
            chosen = w > 0
            if bool(chosen.any()):
                rows = rows + layer_step(rows[None].float(), _picked(layer, chosen), w[chosen].to(layer.lse), PLAIN)[0]
        ctx.trace, ctx.passed = trace, passed[::-1]
        ctx.save_for_backward(weights)
        tokens = trace.segment_of >= 0
        found = torch.zeros(trace.segments, dtype=torch.float64)
        k = tokens.numel()
        return found.index_add_(0, trace.segment_of[tokens], rows[:k][tokens].double())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        (weights,) = ctx.saved_tensors
        trace: Trace = ctx.trace
        values = torch.zeros_like(trace.answer)
        tokens = (trace.segment_of >= 0).nonzero()[:, 0]
        values[tokens] = gradient[trace.segment_of[tokens]].to(values)
        found = torch.empty_like(weights)
        for index, (layer, w, rows) in enumerate(zip(trace.layers, weights, ctx.passed, strict=True)):
            taken = received(layer, values)
            found[index] = (taken @ rows.to(taken)).to(found)
            values = values + w.to(taken) @ taken
        return found, (values @ (trace.question - trace.answer)).to(weights), None


def _picked(layer: Layer, chosen: Tensor) -> Layer:
    if bool(chosen.all()):
        return layer
    return replace(layer, query=layer.query[chosen], lse=layer.lse[chosen], kv_index=layer.kv_index[chosen])


def _kept(layer: Layer) -> Layer:
    """On the CPU, wherever the model is: no GPU holds every row of a run."""
    names = ("query", "key", "lse", "kv_index", "first")
    tensors = {name: getattr(layer, name).to("cpu", copy=True) for name in names}
    return replace(layer, **tensors, log_value=None)
