"""Device code of the Triton implementation; `triton.py` launches it.

    Y[o, j] = sum_i R[o, i] W[i, j],    W[i, j] = sum_h 2^(gain s_h[i, j] + row_bias[h, i] + key_bias[h, j])

Capital letters are sizes, B* block sizes, i_ indices of this program, p_ pointers, o_ offsets, b_ tiles.
Conditions on capital letters are decided at compile time.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-any-return"

from typing import Any, NamedTuple

import triton
import triton.language as tl

from attributor.kernels.common.triton_device import load_tile, tanh

__all__ = ["Bias", "Lists", "Rows", "Strides", "split_rows", "step_kernel"]


# Arguments of `step_kernel` in tuples. Sizes are separate arguments: Triton 3.6 and 3.7 specialise numbers inside of a
# tuple regardless of `do_not_specialize`, and another length would compile the kernel again.
class Rows(NamedTuple):
    """R: as float32 for one row, else as `split_rows` stores it."""

    single: Any  # (T BQ,) float32
    high: Any  # (O', T BQ) float16
    low: Any  # (O', T BQ) float16
    factor: Any  # (T, O') float32


class Bias(NamedTuple):
    """In base 2, -inf beyond N."""

    row: Any  # (H, T BQ) float32
    key: Any  # (H, NK) float32


class Lists(NamedTuple):
    """The heads and tiles that a program loops over, int32."""

    heads: Any  # (H,), grouped by key head
    kv: Any  # (H,), the key head of each
    tiles: Any  # (T,), tiles where R is not zero first
    before: Any  # (T + 1,), how many such tiles precede each


class Strides(NamedTuple):
    """In elements."""

    query_head: int
    query_row: int
    key_head: int
    key_row: int


@triton.jit
def _power_of_two(largest):
    """The exact scale that brings `largest` >= 0 into [2^14, 2^15), and its inverse.

    This is below fp16's 65504, and values 2^40 times smaller still reach the low part. 127 is the bias of float32's
    exponent. The exponent is at least -100, so that both scales are normal numbers also for 0, inf and NaN.
    """
    exponent = tl.maximum((largest.to(tl.int32, bitcast=True) >> 23) - 127, -100)
    up = ((14 + 127 - exponent) << 23).to(tl.float32, bitcast=True)
    down = ((exponent - 14 + 127) << 23).to(tl.float32, bitcast=True)
    return up, down


@triton.jit
def _halves(x):
    """Two fp16 numbers whose sum is x, to 22 bits or to an absolute 2^-25."""
    high = x.to(tl.float16)
    return high, (x - high.to(tl.float32)).to(tl.float16)


@triton.jit
def _products(query, key, h, kv, first_query, first_key, strides, N, D: tl.constexpr, BD: tl.constexpr,
              BQ: tl.constexpr, BK: tl.constexpr, DESCRIBED: tl.constexpr, UPCAST: tl.constexpr,
              PRECISION: tl.constexpr):  # fmt: skip
    """Q K^T of one head, [BQ, BK], with BD columns at a time."""
    b_query = load_tile(query, h, first_query, 0, strides.query_head, strides.query_row, N, D, BQ, BD, DESCRIBED,
                        UPCAST)  # fmt: skip
    b_key = load_tile(key, kv, first_key, 0, strides.key_head, strides.key_row, N, D, BK, BD, DESCRIBED, UPCAST)
    s = tl.dot(b_query, b_key.T, input_precision=PRECISION)
    for column in tl.static_range(BD, D, BD):
        b_query = load_tile(query, h, first_query, column, strides.query_head, strides.query_row, N, D, BQ, BD,
                            DESCRIBED, UPCAST)  # fmt: skip
        b_key = load_tile(key, kv, first_key, column, strides.key_head, strides.key_row, N, D, BK, BD, DESCRIBED,
                          UPCAST)  # fmt: skip
        s = tl.dot(b_query, b_key.T, s, input_precision=PRECISION)
    return s


@triton.jit(do_not_specialize=["O", "N"])
def split_rows(p_rows, p_high, p_low, p_factor, p_active, O, N, BQ: tl.constexpr, BO: tl.constexpr):
    """Split R into two fp16 parts, scaled per row and tile of queries, and mark the tiles that are not all zero.

    p_rows (O, N) float32 -> p_high, p_low (O', T BQ), p_factor (T, O'), p_active (T,), O' a multiple of BO.
    """
    i_tile = tl.program_id(0)
    T = tl.num_programs(0)
    OP = tl.cdiv(O, BO) * BO
    o_query = i_tile * BQ + tl.arange(0, BQ)
    seen = tl.zeros([BO, BQ], tl.int32)
    for first in range(0, OP, BO):
        o_row = first + tl.arange(0, BO)
        mask = (o_row < O)[:, None] & (o_query < N)[None, :]
        rows = tl.load(p_rows + o_row[:, None].to(tl.int64) * N + o_query[None, :], mask=mask, other=0.0)
        seen = tl.maximum(seen, (rows != 0).to(tl.int32))
        up, down = _power_of_two(tl.max(tl.abs(rows), axis=1))
        high, low = _halves(rows * up[:, None])
        o_out = o_row[:, None].to(tl.int64) * (T * BQ) + o_query[None, :]
        tl.store(p_high + o_out, high)
        tl.store(p_low + o_out, low)
        tl.store(p_factor + i_tile.to(tl.int64) * OP + o_row, down)
    tl.store(p_active + i_tile, tl.max(tl.max(seen, axis=1), axis=0))


@triton.jit
def _accumulate(y, total, rows, i_rows, p_part, i_tile, T, O, N, first_key, BQ: tl.constexpr, BK: tl.constexpr,
                BO: tl.constexpr, HELD: tl.constexpr):  # fmt: skip
    """Add R W of one tile of queries to Y, both as two fp16 parts, without low times low, below 2^-22 of it."""
    o_q = i_tile * BQ + tl.arange(0, BQ)
    # [1, 1] and not a scalar: Triton 3.7 cannot compile a one-dimensional maximum of products for compute capability 10
    up, down = _power_of_two(tl.max(tl.max(total, axis=1, keep_dims=True), axis=0, keep_dims=True))
    high, low = _halves(total * up)
    OP = tl.cdiv(O, BO) * BO
    NQ = T * BQ
    o_row = tl.arange(0, BO)
    o_r = o_row[:, None] * NQ + o_q[None, :]  # 32 bits are enough, because the base has 64 bits
    p_factor = rows.factor + i_tile.to(tl.int64) * OP
    if HELD:
        base = (i_rows * BO).to(tl.int64) * NQ
        factor = tl.load(p_factor + i_rows * BO + o_row)[:, None] * down
        r_high = tl.load(rows.high + base + o_r)
        y += tl.dot(r_high, low) * factor
        y += tl.dot(tl.load(rows.low + base + o_r), high) * factor
        y += tl.dot(r_high, high) * factor
    else:
        o_key = tl.arange(0, BK)
        for first in tl.range(0, OP, BO, num_stages=1):
            base = first * NQ.to(tl.int64)
            p_y = p_part + first * N.to(tl.int64) + (o_row[:, None] * N + o_key[None, :])
            mask = (first + o_row < O)[:, None] & (first_key + o_key < N)[None, :]
            factor = tl.load(p_factor + first + o_row)[:, None] * down
            r_high = tl.load(rows.high + base + o_r)
            part = tl.dot(r_high, low) * factor
            part += tl.dot(tl.load(rows.low + base + o_r), high) * factor
            part += tl.dot(r_high, high) * factor
            tl.store(p_y, tl.load(p_y, mask=mask, other=0.0) + part, mask=mask)
    return y


@triton.jit
def _exponents(s, h, i_tile, bias, T, NK, first_key, scales, BQ: tl.constexpr, BK: tl.constexpr,
               KEY_BIAS: tl.constexpr, SOFTCAP: tl.constexpr):  # fmt: skip
    """The exponents gain s + biases of one head, [BQ, BK]."""
    row_bias = tl.load(bias.row + h * (T * BQ) + i_tile * BQ + tl.arange(0, BQ))
    if SOFTCAP:
        s = tanh(s * scales.inner)
    x = s * scales.gain + row_bias[:, None]
    if KEY_BIAS:
        x += tl.load(bias.key + h * NK + first_key + tl.arange(0, BK))[None, :]
    return x


@triton.jit(do_not_specialize=["O", "N", "H", "T", "NK", "parts", "window"])
def step_kernel(query, key, rows, bias, lists, p_result, O, N, H, T, NK, parts, window, scales, strides,
                D: tl.constexpr, BD: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, BO: tl.constexpr,
                SINGLE: tl.constexpr, HELD: tl.constexpr, AHEAD: tl.constexpr, KEY_BIAS: tl.constexpr,
                WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, DESCRIBED: tl.constexpr, UPCAST: tl.constexpr,
                PRECISION: tl.constexpr):  # fmt: skip
    """Compute Y of one tile of keys from one part of the queries that see it; no other program writes there."""
    i_program = tl.program_id(0)
    i_part = i_program % parts
    i_rows = tl.program_id(1)
    first_key = i_program // parts * BK

    # Tiles that see some of the keys, and those that see all of them, as indices into the list of active tiles.
    first = first_key // BQ
    first_inside = tl.minimum((first_key + BK - 2) // BQ + 1, T)
    last = T
    last_inside = T
    if WINDOW:
        last = tl.minimum((first_key + BK + window - 2) // BQ + 1, T)
        last_inside = tl.minimum(tl.maximum((first_key + window) // BQ, first_inside), T)
    begin = tl.load(lists.before + first)
    end = tl.load(lists.before + last)
    inside = tl.load(lists.before + first_inside)
    outside = tl.load(lists.before + last_inside)
    some = end - begin
    stop = begin + (some * (i_part + 1)) // parts
    start = begin + (some * i_part) // parts
    inside = tl.minimum(tl.maximum(inside, start), stop)
    outside = tl.minimum(tl.maximum(outside, inside), stop)

    o_key = tl.arange(0, BK)
    p_part = p_result + i_part.to(tl.int64) * O * N + first_key
    total = tl.zeros([BQ, BK], tl.float32)
    y = tl.zeros([BO, BK], tl.float32)
    for MASKED in tl.static_range(2):  # the tiles inside .. outside - 1, then the others of start .. stop - 1
        if MASKED:
            end = stop
            count = (stop - start - (outside - inside)) * H
        else:
            end = outside
            count = (outside - inside) * H
        if AHEAD:  # the products of head i + 1 run while head i is exponentiated
            n = end - 1
            if MASKED:
                n -= tl.where(n < outside, outside - inside, 0)
            i_tile = tl.load(lists.tiles + tl.maximum(n, 0))
            h = tl.load(lists.heads)
            s = _products(query, key, h, tl.load(lists.kv), i_tile * BQ, first_key, strides, N, D, BD, BQ, BK,
                          DESCRIBED, UPCAST, PRECISION)  # fmt: skip
        for i in range(count):  # last tile first, all heads of a tile
            ahead = i
            if AHEAD:
                ahead = tl.minimum(i + 1, count - 1)
            i_head = ahead % H
            n = end - 1 - ahead // H
            if MASKED:
                n -= tl.where(n < outside, outside - inside, 0)
            i_tile_ahead = tl.load(lists.tiles + n)
            if AHEAD:  # before the next products are issued, so that the exponentials run beside them
                x = _exponents(s, h, i_tile, bias, T, NK, first_key, scales, BQ, BK, KEY_BIAS, SOFTCAP)
                if SINGLE:
                    b_rows = tl.load(rows.single + i_tile * BQ + tl.arange(0, BQ))
            kv = tl.load(lists.kv + i_head)
            h_ahead = tl.load(lists.heads + i_head)
            first_query = i_tile_ahead * BQ
            s_ahead = _products(query, key, h_ahead, kv, first_query, first_key, strides, N, D, BD, BQ, BK, DESCRIBED,
                                UPCAST, PRECISION)  # fmt: skip
            if not AHEAD:
                i_tile = i_tile_ahead
                h = h_ahead
                x = _exponents(s_ahead, h, i_tile, bias, T, NK, first_key, scales, BQ, BK, KEY_BIAS, SOFTCAP)
                if SINGLE:
                    b_rows = tl.load(rows.single + i_tile * BQ + tl.arange(0, BQ))
            if MASKED:
                gap = (i_tile * BQ + tl.arange(0, BQ))[:, None] - (first_key + tl.arange(0, BK))[None, :]
                hidden = gap < 0
                if WINDOW:
                    hidden = hidden | (gap >= window)
                x = tl.where(hidden, float("-inf"), x)
            if SINGLE:
                total += tl.exp2(x) * b_rows[:, None]
            else:
                total += tl.exp2(x)
                if i % H == H - 1:
                    y = _accumulate(y, total, rows, i_rows, p_part, i_tile, T, O, N, first_key, BQ, BK, BO, HELD)
                    total = tl.zeros([BQ, BK], tl.float32)
            if AHEAD:
                s = s_ahead
                h = h_ahead
                i_tile = i_tile_ahead
    if SINGLE:
        tl.store(p_part + o_key, tl.sum(total, axis=0), mask=first_key + o_key < N)
    elif HELD:
        o_row = i_rows * BO + tl.arange(0, BO)
        mask = (o_row < O)[:, None] & (first_key + o_key < N)[None, :]
        tl.store(p_part + o_row[:, None].to(tl.int64) * N + o_key[None, :], y, mask=mask)
