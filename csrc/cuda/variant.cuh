// Types that the parts of the kernel share: compile-time parameters, the arguments of a call, the layout of shared
// memory, and the list of active tiles.
#pragma once

#include "prepare.cuh"
#include "schedule.h"

namespace attributor::cuda {

enum class Rows { one, to_16, to_64, to_128, more };  // how many rows of R; determines where Y is added up
enum class Overlap { halves, turns };                 // see `compute`

constexpr int BOX = 64;                   // rows and columns of one copy, 8 KB
constexpr int BOX_BYTES = BOX * BOX * 2;  //
constexpr int WARPGROUP = 128;
constexpr int THREADS = 3 * WARPGROUP;

// Compile-time parameters.
//   D: columns of Q and K, a multiple of 64.   HALF: they are float16, else bfloat16.
//   GENERAL: there is a key bias or a softcap.   CLUSTER: thread blocks that share each tile of queries.
//   EMULATED: so many of every 8 exponentials are computed by the multipliers instead of the exponential unit.
//   KEYS_SHARED: K is multiplied from shared memory even if registers could hold it.
template <int D_, Rows ROWS_, bool HALF_, bool GENERAL_, int QUERIES_ = 128, Overlap OVERLAP_ = Overlap::halves,
          int CLUSTER_ = 2, int EMULATED_ = 0, bool KEYS_SHARED_ = false>
struct Variant {
    static constexpr int D = D_, QUERIES = QUERIES_, CLUSTER = CLUSTER_, EMULATED = EMULATED_;
    static constexpr Rows ROWS = ROWS_;
    static constexpr bool HALF = HALF_, GENERAL = GENERAL_;
    static constexpr Overlap OVERLAP = OVERLAP_;

    static constexpr int WIDTH = OVERLAP == Overlap::halves ? QUERIES / 2 : QUERIES;     // queries of one S
    static constexpr int BLOCK = ROWS == Rows::one ? 1 : ROWS == Rows::to_16 ? 16 : 64;  // rows of R at once
    static constexpr int HELD = ROWS == Rows::more ? 0 : ROWS == Rows::to_128 ? 2 : 1;   // blocks of Y in registers
    static constexpr int PANELS = D / BOX;
    // Whether K is kept in registers: products that read both operands from shared memory, 64 x 64 at a time, would use
    // all of its bandwidth. D / 4 more registers are free if few rows of Y are held.
    static constexpr bool KEYS_HELD = OVERLAP == Overlap::halves && D <= 128 && HELD * BLOCK <= 16 && !KEYS_SHARED_;

    static constexpr int KEY_BYTES = KEYS * D * 2;
    static constexpr int QUERY_BYTES = QUERIES * D * 2;
    static constexpr int ROW_BYTES = BLOCK == 1 ? 0 : 2 * BLOCK * QUERIES * 2;  // both parts of R
    static constexpr int BIAS_BYTES = QUERIES * 4;
    static constexpr int STAGE_BYTES = QUERY_BYTES > ROW_BYTES ? QUERY_BYTES : ROW_BYTES;
    static constexpr int KEY_STAGES = D == 256 || KEYS_HELD ? 1 : 2;
    static constexpr int STAGES = D == 256 ? 2 : QUERIES > 128 ? 3 : KEYS_HELD ? 5 : 4;

    // Whether the next tile's first products run while this tile is finished. Their queries then stay in the ring until
    // the next head's queries have arrived: besides both, all blocks of R of a tile need their own stages.
    __host__ __device__ static constexpr bool ahead(int padded_rows) {
        return OVERLAP == Overlap::halves && (BLOCK == 1 || padded_rows <= (STAGES - 2) * BLOCK);
    }

    // Shared memory, in bytes from a multiple of 1024.
    static constexpr int KEY_AT = 0;
    static constexpr int STAGE_AT = KEY_AT + KEY_STAGES * KEY_BYTES;
    static constexpr int BIAS_AT = STAGE_AT + STAGES * STAGE_BYTES;
    static constexpr int BARRIER_AT = BIAS_AT + STAGES * BIAS_BYTES;
    static constexpr int TILES_AT = BARRIER_AT + 2 * (STAGES + KEY_STAGES) * 8;
    static constexpr int SHARED_BYTES = TILES_AT + MOST_TILES / 8 + 4 + 1024;  // 4: Tiles' last word; 1024: to align

    static_assert(WIDTH % BOX == 0 || OVERLAP == Overlap::turns, "half a tile is a multiple of 64 queries");
    static_assert(SHARED_BYTES <= 227 * 1024, "shared memory of a multiprocessor");
};

struct Arguments {
    TensorMap query, key, high, low;  // (H, N, D), (G, N, D); R as (1, O', T QUERIES), twice
    Schedule schedule;
    const float* row_bias;  // (H, T QUERIES), base 2, by `heads`
    const float* key_bias;  // (H, blocks keys) or null, base 2, by `heads`
    const float* rows;      // (T QUERIES), O = 1 only
    const float* factor;    // (T, O'): the divisors of the rows of R, by tile
    const int32_t* active;  // (T,): whether R is not zero there
    const int32_t* heads;   // (2, H): query heads, grouped by key head; and their key heads
    float* partial;         // (parts, O, N)
    int O, H, padded_rows;  // O' = padded_rows
    float gain, inner;      // logit = softcap tanh(inner q.k), gain q.k without a softcap
    bool softcap;
};

// Position in a ring of STAGES buffers: slot and barrier parity follow from the number of stages used so far.
template <int STAGES>
struct Ring {
    uint32_t used = 0;
    __device__ int stage() const { return static_cast<int>(used % STAGES); }
    __device__ uint32_t parity() const { return used / STAGES & 1; }
    __device__ void next() { ++used; }
};

// The thread block's shared memory.
template <class V>
struct Shared {
    char* base;
    __device__ char* key(int stage) const { return base + V::KEY_AT + stage * V::KEY_BYTES; }
    __device__ char* stage(int stage) const { return base + V::STAGE_AT + stage * V::STAGE_BYTES; }
    __device__ float* bias(int stage) const {
        return reinterpret_cast<float*>(base + V::BIAS_AT + stage * V::BIAS_BYTES);
    }
    __device__ Barrier* barriers() const { return reinterpret_cast<Barrier*>(base + V::BARRIER_AT); }
    __device__ Barrier* full(int stage) const { return barriers() + stage; }
    __device__ Barrier* empty(int stage) const { return barriers() + V::STAGES + stage; }
    __device__ Barrier* key_full(int stage) const { return barriers() + 2 * V::STAGES + stage; }
    __device__ Barrier* key_empty(int stage) const { return barriers() + 2 * V::STAGES + V::KEY_STAGES + stage; }
    __device__ uint32_t* tiles() const { return reinterpret_cast<uint32_t*>(base + V::TILES_AT); }
};

// The tiles of an item where R is not zero, last first: one bit each in shared memory. After the bits comes the number
// of the item's first tile, for which the feeding warp has no register left.
struct Tiles {
    static constexpr int FIRST = MOST_TILES / 32;

    const uint32_t* bits;
    int at;  // bits below this one are not yet visited

    // The next tile, or -1.
    __device__ int next() {
        while (at > 0) {
            int word = (at - 1) / 32, top = at - word * 32;
            uint32_t left = bits[word] & (top == 32 ? 0xffffffffu : (1u << top) - 1);
            if (left) {
                at = word * 32 + 31 - leading_zeros(left);
                return static_cast<int>(bits[FIRST]) + at;
            }
            at = word * 32;
        }
        return -1;
    }
};

// Heads are visited in ascending order for one tile and descending for the next, so that K of the head at the turn is
// loaded once.
__device__ inline int head_at(int i, int H, bool down) {
    return down ? H - 1 - i : i;
}

}  // namespace attributor::cuda
