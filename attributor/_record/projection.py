"""Slice the output projection of an attention module by head: W_O^h is (hidden, Dv)."""

import torch
from torch import Tensor, nn

from attributor._errors import UnsupportedModelError

__all__ = ["head_gram", "head_slices", "output_norm"]

NAMES = ("o_proj", "out_proj", "dense", "c_proj", "wo")


def head_slices(module: nn.Module, heads: int) -> Tensor:
    """(H, hidden, Dv), float32: the columns of the output projection that each head's values pass through.

    Raises:
        UnsupportedModelError: no projection is found, or its weight is not a plain matrix (quantised, offloaded).
    """
    for name in NAMES:
        projection = getattr(module, name, None)
        weight = getattr(projection, "weight", None)
        if weight is None:
            continue
        if weight.ndim != 2 or not weight.is_floating_point() or weight.device.type == "meta":
            raise UnsupportedModelError(
                f"{type(module).__name__}.{name} is quantised or offloaded ({tuple(weight.shape)}, {weight.dtype}, "
                f"{weight.device}); value norms and output norms need its plain weight"
            )
        # transformers' Conv1D (GPT-2) keeps (in, out); nn.Linear keeps (out, in)
        matrix = weight.detach().T if type(projection).__name__ == "Conv1D" else weight.detach()
        hidden, inner = matrix.shape
        if inner % heads:
            break
        parts: Tensor = matrix.float().reshape(hidden, heads, inner // heads).transpose(0, 1)
        return parts
    raise UnsupportedModelError(
        f"no output projection for {heads} heads was found in {type(module).__name__} (looked for {', '.join(NAMES)})"
    )


def head_gram(module: nn.Module, heads: int, chosen: list[int]) -> Tensor:
    """(len(chosen), Dv, Dv) float32, G_h = W_O^hT W_O^h, so that ||W_O^h v|| = sqrt(v^T G_h v)."""
    parts = head_slices(module, heads)[chosen]
    return parts.mT @ parts


def output_norm(module: nn.Module, heads: int) -> Tensor:
    """(H,) float32, the Frobenius norm of every head's slice of the output projection."""
    norms: Tensor = torch.linalg.matrix_norm(head_slices(module, heads))
    return norms
