// The small steps before and after the kernel; threads work alone or with their warp.
#pragma once

#if defined(ATTRIBUTOR_EMULATED)
#include "emulated.h"
#else
#include "ptx.cuh"
#endif

#include "schedule.h"

namespace attributor::cuda {

constexpr int SMALL_BLOCK = 256;  // threads per block of these kernels

struct Preparation {
    const float* rows;     // (O, N)
    const int32_t* heads;  // (2, H)
    int O, N, H, tiles, queries, padded_rows, padded_keys;
    double base;           // the factor on biases: log2(e) with the rounding error of the kernel's gain
    uint16_t *high, *low;  // (O', T queries) float16
    float* factor;         // (T, O')
    float* padded;         // (T queries), O = 1 only
    int32_t* active;       // (T,), zeros before
    float *row_bias_out, *key_bias_out;
};

// The exact power of two that brings `largest` >= 0 into [2^14, 2^15), and its inverse; the largest float16 is 65504.
// The exponent is at least -100, so that both are normal numbers also for 0. For inf and NaN the inverse is NaN,
// because other values with this scale would become 0.
__device__ inline void power_of_two(uint32_t largest, float& up, float& down) {
    int exponent = static_cast<int>(largest >> 23) - 127;
    exponent = exponent < -100 ? -100 : exponent;
    up = from_bits(static_cast<uint32_t>(14 + 127 - exponent) << 23);
    down = from_bits(exponent == 128 ? 0x7fffffffu : static_cast<uint32_t>(exponent - 14 + 127) << 23);
}

// Splits R into two float16 whose sum is R to 22 bits, scaled for each row and tile of queries; marks the tiles that
// are not all zero. One warp per row and tile, ceil(O' T / 8) blocks.
__device__ inline void split_rows(const Preparation& p) {
    const int64_t index = block_index() * (SMALL_BLOCK / 32) + thread_index() / 32;
    if (index >= int64_t{p.padded_rows} * p.tiles) return;
    const int row = static_cast<int>(index / p.tiles), tile = static_cast<int>(index % p.tiles);
    const int first = tile * p.queries, lane = thread_index() % 32;
    uint32_t largest = 0;
    for (int i = first + lane; i < first + p.queries; i += 32)
        if (row < p.O && i < p.N) {
            const uint32_t size = to_bits(p.rows[int64_t{row} * p.N + i]) & 0x7fffffff;
            largest = size > largest ? size : largest;
        }
    largest = warp_max(largest);
    float up, down;
    power_of_two(largest, up, down);
    for (int i = first + lane; i < first + p.queries; i += 32) {
        const float x = row < p.O && i < p.N ? p.rows[int64_t{row} * p.N + i] * up : 0.0f;
        const uint32_t high = pack_half(x, 0.0f);
        const int64_t at = int64_t{row} * p.tiles * p.queries + i;
        p.high[at] = static_cast<uint16_t>(high);
        p.low[at] = static_cast<uint16_t>(pack_half(x - unpack_half(high).x, 0.0f));
    }
    if (lane == 0) {
        p.factor[int64_t{tile} * p.padded_rows + row] = down;
        if (largest) p.active[tile] = 1;  // all writers write 1
    }
}

// Pads the one row of R with zeros; marks the tiles that are not all zero. One warp per tile, ceil(T / 8) blocks.
__device__ inline void pad_row(const Preparation& p) {
    const int64_t tile = block_index() * (SMALL_BLOCK / 32) + thread_index() / 32;
    if (tile >= p.tiles) return;
    uint32_t any = 0;
    for (int64_t i = tile * p.queries + thread_index() % 32; i < (tile + 1) * p.queries; i += 32) {
        const float x = i < p.N ? p.rows[i] : 0.0f;
        p.padded[i] = x;
        any |= to_bits(x) & 0x7fffffff;
    }
    any = warp_max(any);
    if (thread_index() % 32 == 0 && any) p.active[tile] = 1;
}

// Converts a bias, (H, N) natural logarithm, to (H, length) in the order of `heads`, in base 2, -inf beyond N. ceil(H
// length / 256) blocks.
__device__ inline void pad_bias(const Preparation& p, const float* bias, int length, float* out) {
    const int64_t index = block_index() * SMALL_BLOCK + thread_index();
    if (index >= int64_t{p.H} * length) return;
    const int64_t h = index / length, i = index % length;
    out[index] = i < p.N ? static_cast<float>(bias[p.heads[h] * int64_t{p.N} + i] * p.base) : -INFINITY;
}

// Adds up the parts of Y, always in the same order. ceil(O N / 256) blocks.
__device__ inline void add_parts(const Schedule& s, int O, const float* partial, float* result) {
    const int64_t index = block_index() * SMALL_BLOCK + thread_index();
    if (index >= int64_t{O} * s.N) return;
    const Range parts = s.parts_of(static_cast<int>(index % s.N) / s.keys());
    float sum = 0.0f;
    for (int part = parts.begin; part < parts.end; ++part) sum += partial[int64_t{part} * O * s.N + index];
    result[index] = sum;
}

}  // namespace attributor::cuda
