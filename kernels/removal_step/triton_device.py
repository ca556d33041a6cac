"""Device code of the Triton implementation; `triton.py` launches it.

    c[j] = sum_(h, i >= stops[j]) 2^(gain s_h[i, j] + bias[h, i]) (t_h[i, j] - delta[h, i]),    S = Q K^T, T = dO V^T

Capital letters are sizes, B* block sizes, i_ indices of this program, p_ pointers, o_ offsets, b_ tiles.
Conditions on capital letters are decided at compile time.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-any-return"

from typing import Any, NamedTuple

import triton
import triton.language as tl

from attributor.kernels.common.triton_device import load_tile, tanh

__all__ = ["Lists", "Rows", "Strides", "removal_kernel"]


# Arguments of `removal_kernel` in tuples. Sizes are separate arguments: Triton 3.6 and 3.7 specialise numbers inside of
# a tuple regardless of `do_not_specialize`, and another length would compile the kernel again.
class Rows(NamedTuple):
    """Numbers of each row of Q, float32."""

    bias: Any  # (H, T BQ), -lse in base 2, -inf beyond Q
    delta: Any  # (H, T BQ), 0 beyond Q


class Lists(NamedTuple):
    """The tiles of rows that a program loops over, int32."""

    tiles: Any  # (T,), tiles where dO is not zero first
    before: Any  # (T + 1,), how many such tiles precede each


class Strides(NamedTuple):
    """In elements."""

    query_head: int
    query_row: int
    key_head: int
    key_row: int
    gradient_head: int
    gradient_row: int
    value_head: int
    value_row: int


@triton.jit
def _products(left, right, i_left, i_right, first_left, first_right, left_head, left_row, right_head, right_row, NL, NR,
              D: tl.constexpr, BD: tl.constexpr, BL: tl.constexpr, BR: tl.constexpr, DESCRIBED: tl.constexpr,
              PRECISION: tl.constexpr):  # fmt: skip
    """L R^T of one head each, [BL, BR], with BD columns at a time."""
    s = tl.zeros([BL, BR], tl.float32)
    for column in range(0, D, BD):  # not unrolled: the compiler would keep all of R in registers
        b_left = load_tile(left, i_left, first_left, column, left_head, left_row, NL, D, BL, BD, DESCRIBED, False)
        b_right = load_tile(right, i_right, first_right, column, right_head, right_row, NR, D, BR, BD, DESCRIBED, False)
        s = tl.dot(b_left, b_right.T, s, input_precision=PRECISION)
    return s


@triton.jit(do_not_specialize=["Q", "N", "T", "heads", "parts", "window"])
def removal_kernel(query, key, d_output, value, rows, lists, p_stops, p_result, Q, N, T, heads, parts, window, scales,
                   strides, D: tl.constexpr, DV: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr, BQ: tl.constexpr,
                   BK: tl.constexpr, HELD: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
                   DESCRIBED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Compute one tile of c from one key head and a part of the rows of its query heads; p_result (G parts, N) float32.

    `heads` query heads share a key head. No other program writes to the same place.
    """
    first_key = tl.program_id(0) * BK
    i_kv = tl.program_id(1) // parts
    i_part = tl.program_id(1) % parts
    shift = N - Q  # the position of row 0
    o_key = first_key + tl.arange(0, BK)
    stops = tl.load(p_stops + o_key, mask=o_key < N, other=N)
    last_stop = tl.max(stops, axis=0)

    # The active tiles with rows that count for some of the keys; this program has a part of them, times the heads.
    first = tl.minimum(tl.maximum(tl.min(stops, axis=0) - shift, 0) // BQ, T)
    last = T
    if WINDOW:
        last = tl.minimum(tl.cdiv(tl.maximum(first_key + BK - 1 + window - shift, 0), BQ), T)
    begin = tl.load(lists.before + first)
    count = tl.maximum(tl.load(lists.before + last) - begin, 0)
    start = (count * heads * i_part) // parts
    stop = (count * heads * (i_part + 1)) // parts

    if HELD:
        b_key = load_tile(key, i_kv, first_key, 0, strides.key_head, strides.key_row, N, D, BK, BD, DESCRIBED, UPCAST)
        b_value = load_tile(value, i_kv, first_key, 0, strides.value_head, strides.value_row, N, DV, BK, BV, DESCRIBED,
                            UPCAST)  # fmt: skip
    total = tl.zeros([BQ // 16, 8, BK], tl.float32)
    for i in range(start, stop):  # one head after the other, from the last tile to the first
        h = i_kv * heads + i // count
        first_row = tl.load(lists.tiles + begin + count - 1 - i % count) * BQ
        if HELD:
            b_query = load_tile(query, h, first_row, 0, strides.query_head, strides.query_row, Q, D, BQ, BD, DESCRIBED,
                                UPCAST)  # fmt: skip
            b_gradient = load_tile(d_output, h, first_row, 0, strides.gradient_head, strides.gradient_row, Q, DV, BQ,
                                   BV, DESCRIBED, UPCAST)  # fmt: skip
            s = tl.dot(b_query, b_key.T)
            t = tl.dot(b_gradient, b_value.T)
        else:
            s = _products(query, key, h, i_kv, first_row, first_key, strides.query_head, strides.query_row,
                          strides.key_head, strides.key_row, Q, N, D, BD, BQ, BK, DESCRIBED, PRECISION)  # fmt: skip
            t = _products(d_output, value, h, i_kv, first_row, first_key, strides.gradient_head, strides.gradient_row,
                          strides.value_head, strides.value_row, Q, N, DV, BV, BQ, BK, DESCRIBED,
                          PRECISION)  # fmt: skip
        o_row = h * (T * BQ) + first_row + tl.arange(0, BQ)
        if SOFTCAP:
            s = tanh(s * scales.inner)
        x = s * scales.gain + tl.load(rows.bias + o_row)[:, None]
        first_position = shift + first_row
        masked = first_position < last_stop
        if WINDOW:
            masked = masked | (first_position + BQ - 1 - first_key >= window)
        if masked:
            o_position = first_position + tl.arange(0, BQ)
            hidden = o_position[:, None] < stops[None, :]
            if WINDOW:
                hidden = hidden | (o_position[:, None] - o_key[None, :] >= window)
            x = tl.where(hidden, float("-inf"), x)
        terms = tl.exp2(x) * (t - tl.load(rows.delta + o_row)[:, None])
        # Tensor cores put rows r and r + 8 of each 16 into one thread: their sum halves the registers of the total.
        total += tl.sum(terms.reshape(BQ // 16, 2, 8, BK), axis=1)
    p_tile = p_result + tl.program_id(1).to(tl.int64) * N + o_key
    tl.store(p_tile, tl.sum(tl.sum(total, axis=0), axis=0), mask=o_key < N)
