"""Compute the matrix that an attention module's output projection applies, by head: W_O^h is (hidden, Dv).

For adapters, scaled float8, int8 and offloaded weights, `.weight` is not that matrix. So the matrix is computed from
the module's outputs, W = f(I) - f(0), and `.weight` is used only if f agrees with it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attributor._errors import UnsupportedModelError
from attributor._models import use_eval_mode
from attributor._record.fused_attention import OUT_OF_MEMORY_MESSAGES

__all__ = ["head_gram", "head_slices", "output_norm"]

NAMES = ("o_proj", "out_proj", "dense", "c_proj", "wo")
ROWS = 8  # random inputs across all heads, in addition to one per head
BLOCK = 1024  # rows of the identity per call
# A power of two, so that f(SCALE x) = SCALE f(x) to the last bit if f is linear; below 6, from which LLM.int8 computes
# an activation in 16 bits.
SCALE = 4.0
# How far f(x) may be from W x if activations are rounded to 8 bits: int8 with one scale per tensor gives 0.8% on these
# inputs, float8 (e4m3) 2.6%. W itself is exact, because 0 and SCALE are exact in these formats; only torchao's int8
# scales the largest activation, and so all of W, by 127/127.5.
ROUNDED_ACTIVATIONS = 0.05


@dataclass(frozen=True)
class _Projection:
    """An output projection, called as the model calls it.

    Attributes:
        module: the projection.
        label: its place and class, for messages.
        inner: H Dv, the size of its input.
        dtype: of its input.
        device: of its input.
    """

    module: nn.Module
    label: str
    inner: int
    dtype: torch.dtype
    device: torch.device

    def __call__(self, rows: Tensor) -> Tensor:
        """(R, inner) -> (R, hidden), both float32 (float64 for a float64 model).

        Raises:
            UnsupportedModelError: the module returns something else, or NaN or infinity.
        """
        output = self.module(rows.to(self.device, self.dtype)[None])
        R = len(rows)
        if not isinstance(output, Tensor) or output.shape[:-1] != (1, R) or not output.is_floating_point():
            got = f"{tuple(output.shape)} {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
            raise _make_error(self.label, f"returns {got} for an input of {(1, R, self.inner)}")
        if not bool(torch.isfinite(output).all()):
            raise _make_error(self.label, f"returns NaN or infinity for inputs between -{SCALE:g} and {SCALE:g}")
        return output[0].to(torch.promote_types(output.dtype, torch.float32))

    def tolerance(self, dtype: torch.dtype) -> float:
        """The rounding of f(x), relative to its norm: of the output's dtype and of float32 sums of `inner` terms."""
        coarse = max(torch.finfo(self.dtype).eps, torch.finfo(dtype).eps)
        return 2 * coarse + 4 * math.sqrt(self.inner) * torch.finfo(torch.float32).eps


def head_slices(module: nn.Module, heads: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(H, hidden, Dv), float32: the columns of the output projection that each head's values pass through.

    Args:
        module: an attention module.
        heads: H.
        dtype: of the activations that reach the projection; a projection with a plain weight has that weight's dtype.

    Raises:
        UnsupportedModelError: no projection is found, it cannot be called outside of a forward pass, or it is not
            linear.
    """
    matrix = _applied_matrix(_find_projection(module, heads, dtype), heads)
    hidden, inner = matrix.shape
    parts: Tensor = matrix.float().reshape(hidden, heads, inner // heads).transpose(0, 1)
    return parts


def head_gram(module: nn.Module, heads: int, chosen: list[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """(len(chosen), Dv, Dv) float32, G_h = W_O^hT W_O^h, so that ||W_O^h v|| = sqrt(v^T G_h v)."""
    parts = head_slices(module, heads, dtype)[chosen]
    return _product(parts.mT, parts)


def output_norm(module: nn.Module, heads: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(H,) float32, the Frobenius norm of every head's slice of the output projection."""
    norms: Tensor = torch.linalg.matrix_norm(head_slices(module, heads, dtype))
    return norms


def _find_projection(module: nn.Module, heads: int, dtype: torch.dtype) -> _Projection:
    for name in NAMES:
        projection = getattr(module, name, None)
        if not isinstance(projection, nn.Module):
            continue
        layer = getattr(module, "layer_idx", None)
        place = "" if layer is None else f" of layer {layer}"
        label = f"{type(module).__name__}.{name} ({type(projection).__name__}){place}"
        inner = _input_size(projection)
        if inner is None:
            raise _make_error(label, "does not say the size of its input")
        if inner % heads:
            break
        weight = _plain_weight(projection)
        device = _input_device(projection)
        return _Projection(projection, label, inner, dtype if weight is None else weight.dtype, device)
    raise UnsupportedModelError(
        f"no output projection for {heads} heads was found in {type(module).__name__} (looked for {', '.join(NAMES)})"
    )


def _input_size(projection: nn.Module) -> int | None:
    for name in ("in_features", "nx"):  # nn.Linear and its replacements; transformers' Conv1D
        size = getattr(projection, name, None)
        if isinstance(size, int):
            return size
    weight = _plain_weight(projection)
    return None if weight is None else weight.shape[1]


def _plain_weight(projection: nn.Module) -> Tensor | None:
    """The module's weight if it is an ordinary matrix of 16 bits or more, perhaps on the meta device; else None.

    Tensors of other classes hold quantised or distributed numbers, and float8 tensors have a separate scale.
    """
    weight = getattr(projection, "weight", None)
    if not isinstance(weight, Tensor) or type(weight) not in (Tensor, nn.Parameter) or weight.ndim != 2:
        return None
    return weight.detach() if weight.is_floating_point() and weight.dtype.itemsize > 1 else None


def _input_device(projection: nn.Module) -> torch.device:
    """The device of its numbers; if accelerate offloads them, its hook moves the input."""
    tensors = [*projection.parameters(), *projection.buffers()]
    return next((tensor.device for tensor in tensors if tensor.device.type != "meta"), torch.device("cpu"))


@torch.no_grad()
def _applied_matrix(projection: _Projection, heads: int) -> Tensor:
    """(hidden, inner), W of f(x) = W x + b.

    f is called on seeded random rows x and on SCALE x. If both agree with the module's weight up to rounding, W is that
    weight. Else W is computed from rows of the identity. Then f(SCALE x) = SCALE f(x) must hold up to rounding, and
    f(x) = W x up to ROUNDED_ACTIVATIONS.
    """
    with use_eval_mode(projection.module), _name_errors(projection.label):
        rows = _random_rows(heads, projection.inner).to(projection.dtype).float()
        offset = projection(torch.zeros_like(rows[:1]))
        output, scaled = projection(rows), projection(SCALE * rows)
        rows = rows.to(output)
        tolerance = projection.tolerance(output.dtype)
        size = _norm(output) + _norm(offset)
        scaled_size = _norm(scaled) + SCALE * size

        weight = _plain_weight(projection.module)
        if weight is not None and weight.device == output.device:
            for matrix in (weight, weight.T):  # transformers' Conv1D (GPT-2) keeps (in, out)
                if matrix.shape != (output.shape[1], projection.inner):
                    continue
                expected = _product(rows, matrix.to(output).T)
                if _within(output - offset - expected, tolerance * size) and _within(
                    scaled - offset - SCALE * expected, tolerance * scaled_size
                ):
                    return matrix

        matrix = _columns(projection, offset)
        off_scale = scaled - offset - SCALE * (output - offset)
        residue = output - offset - _product(rows, matrix.T)
        linear = ROUNDED_ACTIVATIONS * _norm(output - offset) + tolerance * size
        if not (_within(off_scale, tolerance * scaled_size) and _within(residue, linear)):
            worst = max(
                float((_norm(off_scale) / scaled_size.clamp(min=1e-30)).max()),
                float((_norm(residue) / size.clamp(min=1e-30)).max()),
            )
            raise _make_error(projection.label, f"is not linear: it is {worst:.1%} off the matrix of its columns")
        return matrix


def _random_rows(heads: int, inner: int) -> Tensor:
    """(H + ROWS, inner), uniform between -1 and 1; each of the first H rows tests one head alone."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.empty(heads + ROWS, inner, dtype=torch.float32, device="cpu").uniform_(-1, 1, generator=generator)
    head_of = torch.arange(inner, device="cpu") // (inner // heads)
    rows[:heads] *= head_of == torch.arange(heads, device="cpu")[:, None]
    return rows


def _columns(projection: _Projection, offset: Tensor) -> Tensor:
    """(hidden, inner), the columns (f(SCALE e_j) - f(0)) / SCALE; the scale reduces the rounding beside a bias."""
    matrix = offset.new_empty(offset.shape[1], projection.inner)
    for low in range(0, projection.inner, BLOCK):
        high = min(low + BLOCK, projection.inner)
        rows = torch.zeros(high - low, projection.inner, dtype=torch.float32, device="cpu")
        rows[:, low:high].fill_diagonal_(SCALE)
        matrix[:, low:high] = ((projection(rows) - offset) / SCALE).T
    return matrix


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply in the precision of the factors, also under autocast."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right


def _norm(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms


def _within(error: Tensor, limit: Tensor) -> bool:
    """Whether no row's error is above its limit."""
    return bool((_norm(error) <= limit).all())


@contextmanager
def _name_errors(label: str) -> Iterator[None]:
    """Name the projection in errors of other libraries' modules; out-of-memory errors pass unchanged."""
    try:
        yield
    except (UnsupportedModelError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if any(text in str(error) for text in OUT_OF_MEMORY_MESSAGES):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        raise _make_error(label, f"cannot be called for its matrix ({type(error).__name__}: {first[:200]})") from error


def _make_error(label: str, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{label} {reason}; weights='output_norm' and value norms need its matrix, other weights do not"
    )
