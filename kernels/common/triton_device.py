"""Device functions that the Triton kernels share."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-any-return"

from typing import NamedTuple

import triton
import triton.language as tl

__all__ = ["Scales", "load_tile", "tanh"]


class Scales(NamedTuple):
    """The exponent is gain f(inner s) + biases, with f the hyperbolic tangent or the identity."""

    gain: float
    inner: float


@triton.jit
def tanh(x):
    """Accurate to 1e-7 relative: 1 - 2 / (e^2x + 1) is inaccurate for small x, where an odd polynomial is used."""
    u = x * x
    p = ((((-0.00626912 * u + 0.02111096) * u - 0.05387395) * u + 0.13332915) * u - 0.3333333) * u
    return tl.where(tl.abs(x) < 0.6, x + x * p, 1.0 - 2.0 / (tl.exp2(x * 2.8853900817779268) + 1.0))


@triton.jit
def load_tile(source, head, first, column, stride_head, stride_row, N, D: tl.constexpr, B: tl.constexpr,
              BD: tl.constexpr, DESCRIBED: tl.constexpr, UPCAST: tl.constexpr):  # fmt: skip
    """Rows first .. first + B - 1 of one head, BD columns from `column` on, [B, BD]; zeros outside."""
    if DESCRIBED:
        tile = source.load([head, first, column]).reshape(B, BD)
    else:
        o_row = tl.arange(0, B)
        o_col = column + tl.arange(0, BD)
        base = source + head.to(tl.int64) * stride_head + first.to(tl.int64) * stride_row
        mask = (first + o_row < N)[:, None]
        if D % BD != 0:
            mask = mask & (o_col < D)[None, :]
        tile = tl.load(base + o_row[:, None] * stride_row + o_col[None, :], mask=mask, other=0.0)
    if UPCAST:  # the interpreter has no bfloat16 arithmetic
        tile = tile.to(tl.float32)
    return tile
