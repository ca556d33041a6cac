// The work of a computing warpgroup: W of each tile, its product with R, and finally Y of 64 keys.
#pragma once

#include "heads.cuh"

namespace attributor::cuda {

// W of one warp as two float16 parts, scaled by a power of two from its largest element: accurate to 22 bits of that.
//     high[2 b + r] and low[2 b + r] hold key row + 8 r, queries 8 b + column and the one after
template <int W>
__device__ float split(const float (&total)[W], uint32_t (&high)[W / 2], uint32_t (&low)[W / 2]) {
    float largest = 0.0f, up, down;  // ignores NaN, which concerns its own key only
#pragma unroll
    for (int i = 0; i < W; ++i) largest = total[i] > largest ? total[i] : largest;
    power_of_two(warp_max(to_bits(largest)), up, down);
#pragma unroll
    for (int i = 0; i < W / 2; ++i) {
        const float x = total[2 * i] * up, y = total[2 * i + 1] * up;
        high[i] = pack_half(x, y);
        const float2 back = unpack_half(high[i]);
        low[i] = pack_half(x - back.x, y - back.y);
    }
    return down;
}

// W R^T for one block of rows of R in the ring's stage: 64 keys x BLOCK. Low times low is omitted, being below 2^-22.
template <class V>
__device__ void multiply_rows(float (&product_)[V::BLOCK / 2], const uint32_t (&high)[V::QUERIES / 4],
                              const uint32_t (&low)[V::QUERIES / 4], const char* rows) {
    constexpr int PANEL = V::BLOCK * BOX * 2, PART = V::QUERIES / BOX * PANEL;
    products_begin();
#pragma unroll
    for (int k = 0; k < V::QUERIES / 16; ++k) {
        const uint64_t r_high = matrix(rows + k / 4 * PANEL) + 2 * (k % 4);
        const uint64_t r_low = matrix(rows + PART + k / 4 * PANEL) + 2 * (k % 4);
        product_from<true>(product_, high + 4 * k, r_low, k > 0);
        product_from<true>(product_, low + 4 * k, r_high, true);
        product_from<true>(product_, high + 4 * k, r_high, true);
    }
    products_commit();
}

// Stores Y of a warpgroup's 64 keys in `part` (O, N); y[4 b + 2 r + c] is key row + 8 r, row 8 b + column + c of R.
template <int BLOCK, class Store>
__device__ void each_row(const Arguments& a, int first_key, Place place, int first_row, const float (&y)[BLOCK / 2],
                         float* part, Store store) {
#pragma unroll
    for (int b = 0; b < BLOCK / 8; ++b)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int key = first_key + place.row + 8 * (e / 2), o = first_row + 8 * b + place.column + e % 2;
            if (key < a.schedule.N && o < a.O) store(part + int64_t{o} * a.schedule.N + key, y[4 * b + e]);
        }
}

template <class V>
__device__ void compute(const Shared<V>& shared, const Arguments& a, Tiles tiles, int block_key, uint32_t rank,
                        float* part) {
    // uniform, so that the compiler keeps addresses that depend on it once per warp
    const int thread = thread_index() % WARPGROUP, group = uniform(thread_index() / WARPGROUP) - 1;
    Computing<V> c{
        shared, a, group, rank, block_key + group * BOX, {thread / 32 * 16 + thread % 32 / 4, thread % 4 * 2}, {}, {}};
    auto put = [](float* p, float x) { *p = x; };
    constexpr int HALF_BLOCK = V::BLOCK == 1 ? 2 : V::BLOCK / 2;
    float y[V::HELD == 0 ? 1 : V::HELD][HALF_BLOCK] = {};
    bool down = false, first = true;
    if constexpr (V::OVERLAP == Overlap::turns)
        if (group == 1) named_arrive(1, 2 * WARPGROUP);  // lets the first warpgroup begin

    float one[V::WIDTH / 2];
    int stage = -1;
    for (int tile = tiles.next(), next; tile >= 0; tile = next, down = !down) {
        next = tiles.next();
        float total[V::QUERIES / 2] = {};
        const bool masked = a.schedule.masked(tile, block_key);
        const int gap = tile * V::QUERIES - c.first_key;
        if constexpr (V::OVERLAP == Overlap::halves)
            c.sum_heads_by_halves(total, one, stage, down, next >= 0 && V::ahead(a.padded_rows), masked, gap);
        else
            c.sum_heads_in_turns(total, down, masked, gap);

        if constexpr (V::BLOCK == 1) {
            const float* r = a.rows + tile * V::QUERIES + c.place.column;
#pragma unroll
            for (int b = 0; b < V::QUERIES / 8; ++b) {
                const float2 row = *reinterpret_cast<const float2*>(r + 8 * b);
                y[0][0] += total[4 * b] * row.x + total[4 * b + 1] * row.y;
                y[0][1] += total[4 * b + 2] * row.x + total[4 * b + 3] * row.y;
            }
        } else {
            uint32_t high[V::QUERIES / 4], low[V::QUERIES / 4];
            const float scale = split(total, high, low);
            const float* factor = a.factor + int64_t{tile} * a.padded_rows + c.place.column;
            auto block = [&](int row, float (&into)[V::BLOCK / 2]) {  // into = the tile's part of Y
                const int at = c.take();
                multiply_rows<V>(into, high, low, shared.stage(at));
                float2 factors[V::BLOCK / 8];
#pragma unroll
                for (int b = 0; b < V::BLOCK / 8; ++b)
                    factors[b] = *reinterpret_cast<const float2*>(factor + row + 8 * b);
                products_wait(into);
                c.release(at);
#pragma unroll
                for (int i = 0; i < V::BLOCK / 2; ++i) into[i] *= (i % 2 ? factors[i / 4].y : factors[i / 4].x) * scale;
            };
            if constexpr (V::HELD > 0) {
#pragma unroll
                for (int held = 0; held < V::HELD; ++held)
                    if (held * V::BLOCK < a.padded_rows) {
                        float product_[V::BLOCK / 2];
                        block(held * V::BLOCK, product_);
#pragma unroll
                        for (int i = 0; i < V::BLOCK / 2; ++i) y[held][i] += product_[i];
                    }
            } else {
                for (int row = 0; row < a.padded_rows; row += V::BLOCK) {
                    float product_[V::BLOCK / 2];
                    block(row, product_);
                    if (first)
                        each_row<V::BLOCK>(a, c.first_key, c.place, row, product_, part, put);
                    else
                        each_row<V::BLOCK>(a, c.first_key, c.place, row, product_, part, add_to);
                }
            }
            keep_until_here(high);
            keep_until_here(low);
        }
        first = false;
    }

    if constexpr (V::OVERLAP == Overlap::turns)
        if (group == 0) named_sync(1, 2 * WARPGROUP);  // takes the last turn, which is left over
    if constexpr (V::BLOCK == 1) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {  // the four threads of a row
            float sum = y[0][r];
            sum += warp_other(sum, 1);
            sum += warp_other(sum, 2);
            const int key = c.first_key + c.place.row + 8 * r;
            if (thread % 4 == 0 && key < a.schedule.N) part[key] = sum;
        }
    } else if constexpr (V::HELD > 0) {
#pragma unroll
        for (int held = 0; held < V::HELD; ++held)
            each_row<V::BLOCK>(a, c.first_key, c.place, held * V::BLOCK, y[held], part, put);
    } else if (first) {  // every tile was empty
        const float nothing[V::BLOCK / 2] = {};
        for (int row = 0; row < a.padded_rows; row += V::BLOCK)
            each_row<V::BLOCK>(a, c.first_key, c.place, row, nothing, part, put);
    }
}

}  // namespace attributor::cuda
