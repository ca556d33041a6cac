"""Gradient x input: one backward pass from the answer's log-probability to the prompt's embeddings."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from attributor._errors import InputError
from attributor._models import token_log_probs, use_eval_mode
from attributor.methods._method import Needs

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["GradientXInput"]

NAME = "gradient-x-input"
SUMMARY = "gradient of the answer's log-probability times the embeddings; :norm (default), :signed or :absolute"
SOURCE = "https://arxiv.org/abs/1605.01713"
ARGUMENT = "reduction"
ORDER = 80

REDUCTIONS = ("norm", "signed", "absolute")


@dataclass(frozen=True)
class GradientXInput:
    """g_j * x_j reduced to one number for each token; g_j is the gradient of log p(answer), x_j the embedding.

    Attributes:
        reduction: "norm", the default: ||g_j * x_j||_2, as Inseq aggregates; "signed": sum_d g_jd x_jd, as Captum's
            tutorials do: the first-order change of log p when the embedding grows; "absolute": |sum_d g_jd x_jd|.
        name: "gradient-x-input", followed by the reduction if it is not the default.
    """

    reduction: str = "norm"
    name: str = field(default="", compare=False)
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "token"
    reads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the reduction."""
        if self.reduction not in REDUCTIONS:
            raise InputError(f"gradient-x-input takes {', '.join(REDUCTIONS)}, got {self.reduction!r}")
        if not self.name:
            shown = "" if self.reduction == "norm" else f":{self.reduction}"
            object.__setattr__(self, "name", f"gradient-x-input{shown}")

    def needs(self, model: Any) -> Needs:
        """Record nothing."""
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(k,): from one forward and one backward pass with the model's own attention; the model does not change.

        All reductions of a prompt share one pass.
        """
        norms, sums = reading.once(NAME, lambda: reduce_products(reading))
        return (norms if self.reduction == "norm" else sums if self.reduction == "signed" else sums.abs()).clone()


def reduce_products(reading: Reading) -> tuple[Tensor, Tensor]:
    """(k,) float32 each, of g_j * x_j: its norm, and its sum."""
    embedding, gradient = embedding_gradient(reading)
    product = (gradient.float() * embedding.float())[: len(reading.prompt.ids)]
    return torch.linalg.vector_norm(product, dim=-1).cpu(), product.sum(-1).cpu()


def embedding_gradient(reading: Reading) -> tuple[Tensor, Tensor]:
    """(n, d) each, n = k + a - 1: the embedding of each token, and the gradient of log p(answer) with respect to it."""
    model = reading.model
    ids = reading.ids[None, :-1]
    leaves: list[Tensor] = []

    def begin_here(_: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if leaves:
            return None
        leaves.append(output.detach().requires_grad_(True))
        return leaves[0]

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(use_eval_mode(model))
        for parameter in model.parameters():
            if parameter.requires_grad:
                stack.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        stack.callback(model.get_input_embeddings().register_forward_hook(begin_here).remove)
        log_p = token_log_probs(model, ids, reading.positions[None], reading.answer).sum()
        (gradient,) = torch.autograd.grad(log_p, leaves[0])
    reading.passes += 1
    return leaves[0].detach()[0], gradient[0]
