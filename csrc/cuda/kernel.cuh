// The kernel: Y[o, j] = sum_i R[o, i] sum_h 2^(gain q_h[i] . k[j] + row_bias[h, i] + key_bias[h, j]), never n x n.
//
// A thread block owns 128 keys and walks the tiles of queries that see them. One warp feeds shared memory, two
// warpgroups compute, each with 64 keys and by itself:
//
//     for each tile of queries, last first:
//         for each head:      S = K Q^T        64 keys x QUERIES, by the tensor cores, into registers
//                             W += 2^(gain S + biases)
//         Y += W R^T          W from registers as two float16 parts, R^T as two from shared memory
//
// The transposed product leaves W where the next product wants its operand: it never passes through shared memory, and
// the two warpgroups never wait for one another. README.md beside this file has the layout, the budget and the reasons.
#pragma once

#if defined(ATTRIBUTOR_EMULATED)
#include "emulated.h"
#else
#include "ptx.cuh"
#endif

#include "prepare.cuh"
#include "schedule.h"

namespace attributor::cuda {

enum class Rows { one, to_16, to_64, to_128, more };  // of R: how many, and so where Y is added up
enum class Overlap { halves, turns };                 // see `compute`

constexpr int BOX = 64;                   // rows and columns of what one copy brings, 8 KB
constexpr int BOX_BYTES = BOX * BOX * 2;  //
constexpr int WARPGROUP = 128;
constexpr int THREADS = 3 * WARPGROUP;

// What is decided when compiling.
//   D: columns of Q and K, a multiple of 64.   HALF: they are float16, else bfloat16.
//   GENERAL: there is a key bias or a softcap.   CLUSTER: thread blocks that share each tile of queries.
//   EMULATED: so many of every 8 exponentials come from the multipliers instead of the exponential unit.
//   KEYS_SHARED: K is multiplied from shared memory also where registers could hold it.
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
    // Whether K waits in registers: products that read both operands from shared memory, 64 x 64 at a time, would take
    // all of its bandwidth. There is room for D / 4 registers more where few rows of Y are held.
    static constexpr bool KEYS_HELD = OVERLAP == Overlap::halves && D <= 128 && HELD * BLOCK <= 16 && !KEYS_SHARED_;

    static constexpr int KEY_BYTES = KEYS * D * 2;
    static constexpr int QUERY_BYTES = QUERIES * D * 2;
    static constexpr int ROW_BYTES = BLOCK == 1 ? 0 : 2 * BLOCK * QUERIES * 2;  // both parts of R
    static constexpr int BIAS_BYTES = QUERIES * 4;
    static constexpr int STAGE_BYTES = QUERY_BYTES > ROW_BYTES ? QUERY_BYTES : ROW_BYTES;
    static constexpr int KEY_STAGES = D == 256 || KEYS_HELD ? 1 : 2;
    static constexpr int STAGES = D == 256 ? 2 : QUERIES > 128 ? 3 : KEYS_HELD ? 5 : 4;

    // Whether the next tile's first products run while this tile is finished. Their queries then lie in the ring until
    // those of the head after them are there too: beside both, all blocks of R of a tile need stages of their own.
    __host__ __device__ static constexpr bool ahead(int padded_rows) {
        return OVERLAP == Overlap::halves && (BLOCK == 1 || padded_rows <= (STAGES - 2) * BLOCK);
    }

    // Shared memory, in bytes from a multiple of 1024.
    static constexpr int KEY_AT = 0;
    static constexpr int STAGE_AT = KEY_AT + KEY_STAGES * KEY_BYTES;
    static constexpr int BIAS_AT = STAGE_AT + STAGES * STAGE_BYTES;
    static constexpr int BARRIER_AT = BIAS_AT + STAGES * BIAS_BYTES;
    static constexpr int TILES_AT = BARRIER_AT + 2 * (STAGES + KEY_STAGES) * 8;
    static constexpr int SHARED_BYTES = TILES_AT + MOST_TILES / 8 + 1024;  // 1024: to align

    static_assert(WIDTH % BOX == 0 || OVERLAP == Overlap::turns, "half a tile is a multiple of 64 queries");
    static_assert(SHARED_BYTES <= 227 * 1024, "shared memory of a multiprocessor");
};

struct Arguments {
    TensorMap query, key, high, low;  // (H, N, D), (G, N, D); R as (1, O', T QUERIES), twice
    Schedule schedule;
    const float* row_bias;  // (H, T QUERIES), base 2, by `heads`
    const float* key_bias;  // (H, blocks keys) or null, base 2, by `heads`
    const float* rows;      // (T QUERIES), O = 1 only
    const float* factor;    // (T, O'): what the rows of R of a tile were divided by
    const int32_t* active;  // (T,): whether R has anything there
    const int32_t* heads;   // (2, H): query heads, those of one key head together; and their key heads
    float* partial;         // (parts, O, N)
    int O, H, padded_rows;  // O' = padded_rows
    float gain, inner;      // logit = softcap tanh(inner q.k), gain q.k without a softcap
    bool softcap;
};

// How many stages of a ring were used so far, which says all: each time round, the barriers' parity turns.
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

// The tiles of an item that hold anything of R, last first; a bit each in shared memory.
struct Tiles {
    const uint32_t* bits;
    int begin, at;  // bits below this one are still to come

    // The next tile, or -1.
    __device__ int next() {
        while (at > 0) {
            int word = (at - 1) / 32, top = at - word * 32;
            uint32_t left = bits[word] & (top == 32 ? 0xffffffffu : (1u << top) - 1);
            if (left) {
                at = word * 32 + 31 - leading_zeros(left);
                return begin + at;
            }
            at = word * 32;
        }
        return -1;
    }
};

// Heads are walked up for one tile and down for the next, so that K of the head where they turn is loaded once.
__device__ inline int head_at(int i, int H, bool down) {
    return down ? H - 1 - i : i;
}

// 2^x to 3e-7, 0 below 2^-126, without the exponential unit: the fraction in [-1/2, 1/2] by a polynomial, the rest into
// the exponent.
__device__ inline float exp2_polynomial(float x) {
    constexpr float magic = 12582912.0f;  // 3 * 2^22: adding it rounds to a whole number
    const bool nothing = x < -126.0f;
    x = nothing ? -126.0f : x;
    float whole = x + magic, f = x - (whole - magic);
    float p = 0.00132765f;  // the least relative error on [-1/2, 1/2]: 7e-8, 2.4e-7 in float32
    p = p * f + 0.00967554f;
    p = p * f + 0.05550713f;
    p = p * f + 0.24022120f;
    p = p * f + 0.69314697f;
    p = p * f + 1.00000007f;
    return nothing ? 0.0f : from_bits(to_bits(p) + (to_bits(whole) << 23));
}

// To 1e-7 relative: 1 - 2 / (e^2x + 1) loses the small ones, which have an odd polynomial.
__device__ inline float tanh_precise(float x) {
    float u = x * x;
    float p = ((((-0.00626912f * u + 0.02111096f) * u - 0.05387395f) * u + 0.13332915f) * u - 0.3333333f) * u;
    float far = 1.0f - 2.0f / (exp2_unit(x * 2.8853900817779268f) + 1.0f);
    return (x < 0 ? -x : x) < 0.6f ? x + x * p : far;
}

// --- the warp that feeds

template <class V>
__device__ void load_keys(const Shared<V>& shared, const Arguments& a, int stage, int first_key, int kv) {
    Barrier* full = shared.key_full(stage);
    barrier_expect(full, V::KEY_BYTES);
    for (int panel = 0; panel < V::PANELS; ++panel)
        for (int row = 0; row < KEYS; row += BOX)
            load_box(shared.key(stage) + panel * KEYS * BOX * 2 + row * BOX * 2, &a.key, full, panel * BOX,
                     first_key + row, kv);
}

// One box of a tile that every block of the cluster wants; block `box` % CLUSTER brings it to all.
template <class V>
__device__ void load_shared_box(char* to, const TensorMap* map, Barrier* full, int box, uint32_t rank, int x, int y,
                                int z) {
    if constexpr (V::CLUSTER == 1)
        load_box(to, map, full, x, y, z);
    else if (box % V::CLUSTER == static_cast<int>(rank))
        load_box_to(to, map, full, x, y, z, (1 << V::CLUSTER) - 1);
}

// Everything in the order in which `compute` takes it: the heads of a tile, the first one of the next tile where that
// is multiplied ahead, the rows of R of the tile.
template <class V>
struct Feeding {
    Shared<V> shared;
    const Arguments& a;
    int first_key;  // of the thread block
    uint32_t rank;
    Ring<V::STAGES> ring;
    Ring<V::KEY_STAGES> keys;
    int loaded = -1;  // the key head that was loaded last

    // An empty stage of the ring, whose barrier now expects so many bytes.
    __device__ Barrier* take(uint32_t bytes) {
        barrier_wait(shared.empty(ring.stage()), ring.parity() ^ 1);
        Barrier* full = shared.full(ring.stage());
        barrier_expect(full, bytes);
        return full;
    }

    __device__ void head(int tile, int h) {
        const int kv = a.heads[a.H + h], first = tile * V::QUERIES;
        if (kv != loaded) {
            barrier_wait(shared.key_empty(keys.stage()), keys.parity() ^ 1);
            load_keys<V>(shared, a, keys.stage(), first_key, kv);
            keys.next();
            loaded = kv;
        }
        Barrier* full = take(V::QUERY_BYTES + V::BIAS_BYTES);
        char* to = shared.stage(ring.stage());
        for (int panel = 0, box = 0; panel < V::PANELS; ++panel)
            for (int row = 0; row < V::QUERIES; row += BOX, ++box)
                load_shared_box<V>(to + box * BOX_BYTES, &a.query, full, box, rank, panel * BOX, first + row,
                                   a.heads[h]);
        load_line(shared.bias(ring.stage()), a.row_bias + int64_t{h} * a.schedule.tiles * V::QUERIES + first,
                  V::BIAS_BYTES, full);
        ring.next();
    }

    __device__ void rows(int tile, int row) {
        Barrier* full = take(V::ROW_BYTES);
        char* to = shared.stage(ring.stage());
        for (int part = 0, box = 0; part < 2; ++part)
            for (int query = 0; query < V::QUERIES; query += BOX, ++box)
                load_shared_box<V>(to + box * V::BLOCK * BOX * 2, part ? &a.low : &a.high, full, box, rank,
                                   tile * V::QUERIES + query, row, 0);
        ring.next();
    }
};

template <class V>
__device__ void feed(const Shared<V>& shared, const Arguments& a, Tiles tiles, int first_key, uint32_t rank) {
    Feeding<V> f{shared, a, first_key, rank, {}, {}};
    bool down = false, ahead = false;
    for (int tile = tiles.next(), next; tile >= 0; tile = next, down = !down) {
        next = tiles.next();
        for (int i = ahead; i < a.H; ++i) f.head(tile, head_at(i, a.H, down));
        ahead = V::ahead(a.padded_rows) && next >= 0;
        if (ahead) f.head(next, head_at(0, a.H, !down));
        if constexpr (V::BLOCK > 1)
            for (int row = 0; row < a.padded_rows; row += V::BLOCK) f.rows(tile, row);
    }
}

// --- the warpgroups that compute

// Of one thread: which of 64 keys its two rows of S are, and which of every 8 queries its two columns.
//     s[4 b + 2 r + c] is key `row + 8 r`, query `8 b + column + c`
struct Place {
    int row, column;
};

// W += 2^(gain S + biases) for the queries of one S. `gap`: of its first query and the warpgroup's first key; where
// MASKED, each pair is asked whether the query sees the key.
template <class V, bool MASKED, int N>
__device__ void exponentials(float (&total)[V::QUERIES / 2], const float (&s)[N], int offset, const Arguments& a,
                             const float* bias, const float (&key_bias)[2], Place place, int gap) {
    const uint32_t window = static_cast<uint32_t>(a.schedule.window);
#pragma unroll
    for (int b = 0; b < N / 4; ++b) {
        const float2 row_bias = *reinterpret_cast<const float2*>(bias + offset + 8 * b + place.column);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int r = e / 2, c = e % 2;
            float x = s[4 * b + e];
            if constexpr (V::GENERAL)
                if (a.softcap) x = tanh_precise(x * a.inner);
            x = x * a.gain + (c ? row_bias.y : row_bias.x);
            if constexpr (V::GENERAL) x += key_bias[r];
            if constexpr (MASKED) {  // a query before the key is a large number without its sign
                const int distance = gap + 8 * b + place.column + c - (place.row + 8 * r);
                if (static_cast<uint32_t>(distance) >= window) x = -INFINITY;
            }
            total[offset / 2 + 4 * b + e] += b % 8 < V::EMULATED ? exp2_polynomial(x) : exp2_unit(x);
        }
    }
}

// What a warpgroup knows while it computes.
template <class V>
struct Computing {
    static constexpr int W = V::QUERIES / 2;  // values of W that a thread holds
    static constexpr int S = V::WIDTH / 2;    // and of S

    Shared<V> shared;
    const Arguments& a;
    int group;      // which of the two warpgroups
    uint32_t rank;  // of the thread block in its cluster
    int first_key;  // of the warpgroup
    Place place;
    Ring<V::STAGES> ring;
    Ring<V::KEY_STAGES> keys;
    int loaded = -1;  // the key head in use
    uint32_t key[V::KEYS_HELD ? V::D / 4 : 1] = {};

    __device__ int key_stage() const { return static_cast<int>((keys.used - 1) % V::KEY_STAGES); }  // where it lies

    // S = K Q^T for the WIDTH queries from `offset` of the tile in a stage; not waited for.
    __device__ void issue(float (&s)[S], int stage, int offset) const {
        const char* k = shared.key(key_stage()) + group * BOX_BYTES;
        const char* q = shared.stage(stage) + offset * BOX * 2;
        products_begin();
#pragma unroll
        for (int panel = 0; panel < V::PANELS; ++panel)
#pragma unroll
            for (int step = 0; step < BOX / 16; ++step) {
                const uint64_t b = matrix(q + panel * V::QUERIES * BOX * 2) + 2 * step;
                if constexpr (V::KEYS_HELD)
                    product_from<V::HALF>(s, key + 4 * (panel * BOX / 16 + step), b, panel + step > 0);
                else
                    product<V::HALF>(s, matrix(k + panel * KEYS * BOX * 2) + 2 * step, b, panel + step > 0);
            }
        products_commit();
    }

    // The next stage of the ring, once it is full.
    __device__ int take() {
        const int stage = ring.stage();
        barrier_wait(shared.full(stage), ring.parity());
        ring.next();
        return stage;
    }

    // Each warp arrives for itself, at every block of the cluster that fills the stage.
    __device__ void release(int stage) const {
        sync_warp();
        if (thread_index() % 32 == 0)
#pragma unroll
            for (uint32_t to = 0; to < V::CLUSTER; ++to) barrier_arrive(shared.empty(stage), to);
    }

    __device__ void release_keys() const {
        sync_warp();
        if (thread_index() % 32 == 0) barrier_arrive(shared.key_empty(key_stage()), rank);
    }

    // K of the warpgroup from shared memory, as the left operand of products: 16 keys a warp, 16 columns a time.
    __device__ void hold_keys() {
        const int row = thread_index() % WARPGROUP / 32 * 16 + thread_index() % 16, chunk = thread_index() % 32 / 16;
        const char* from = shared.key(key_stage()) + group * BOX_BYTES + row * BOX * 2;
#pragma unroll
        for (int panel = 0; panel < V::PANELS; ++panel)
#pragma unroll
            for (int step = 0; step < BOX / 16; ++step)  // 16 bytes are swizzled by the row
                load_matrices(key + 4 * (panel * BOX / 16 + step),
                              from + panel * KEYS * BOX * 2 + ((2 * step + chunk) ^ (row % 8)) * 16);
    }

    // The stage of head number h, once it and its keys are there. No product with the keys of the head before may still
    // be on its way.
    __device__ int take_head(int h) {
        const int kv = a.heads[a.H + h];
        if (kv != loaded) {
            if (!V::KEYS_HELD && loaded >= 0) release_keys();
            barrier_wait(shared.key_full(keys.stage()), keys.parity());
            keys.next();
            loaded = kv;
            if constexpr (V::KEYS_HELD) {
                hold_keys();
                release_keys();
            }
        }
        return take();
    }

    __device__ void key_biases(float (&bias)[2], int h) const {
        bias[0] = bias[1] = 0.0f;
        if constexpr (V::GENERAL)
            if (a.key_bias) {
                const float* p =
                    a.key_bias + int64_t{h} * a.schedule.blocks * a.schedule.keys() + first_key + place.row;
                bias[0] = p[0];
                bias[1] = p[8];
            }
    }

    __device__ void exponentiate(float (&total)[W], const float (&s)[S], int offset, int stage,
                                 const float (&key_bias)[2], bool masked, int gap) const {
        const float* bias = shared.bias(stage);
        if (masked)
            exponentials<V, true>(total, s, offset, a, bias, key_bias, place, gap + offset);
        else
            exponentials<V, false>(total, s, offset, a, bias, key_bias, place, gap + offset);
    }

    // W of one tile: the sum over the heads. While one half of a head's queries is exponentiated, the products of the
    // other half, or of the next head, are on their way: always issue, exponentiate, wait, in this order, because
    // products that were in flight where the loop turns would be serialised by the compiler. Where `more`
    // tiles come, `one` and `stage` are left with the next tile's first half; `stage` is -1 where nothing was
    // multiplied yet.
    __device__ void sum_heads_by_halves(float (&total)[W], float (&one)[S], int& stage, bool down, bool more,
                                        bool masked, int gap) {
        float other[S], key_bias[2];
        if (stage < 0) {
            stage = take_head(head_at(0, a.H, down));
            issue(one, stage, 0);
            products_wait(one);
        }
        for (int i = 0; i < a.H; ++i) {
            key_biases(key_bias, head_at(i, a.H, down));
            issue(other, stage, V::WIDTH);
            exponentiate(total, one, 0, stage, key_bias, masked, gap);
            products_wait(other);
            int ahead = -1;
            if (i + 1 < a.H || more) {
                ahead = take_head(i + 1 < a.H ? head_at(i + 1, a.H, down) : head_at(0, a.H, !down));
                issue(one, ahead, 0);
            }
            exponentiate(total, other, V::WIDTH, stage, key_bias, masked, gap);
            release(stage);
            products_wait(one);
            stage = ahead;
        }
    }

    // The same with one S, the two warpgroups taking turns: one exponentiates while the other one's products run.
    __device__ void sum_heads_in_turns(float (&total)[W], bool down, bool masked, int gap) {
        float s[S], key_bias[2];
        for (int i = 0; i < a.H; ++i) {
            const int h = head_at(i, a.H, down), stage = take_head(h);
            key_biases(key_bias, h);
            named_sync(1 + group, 2 * WARPGROUP);
            issue(s, stage, 0);
            named_arrive(2 - group, 2 * WARPGROUP);
            products_wait(s);
            exponentiate(total, s, 0, stage, key_bias, masked, gap);
            release(stage);
        }
    }
};

// W of one warp as two float16 parts, scaled by the power of two that its largest element asks for: to 22 bits of that.
//     high[2 b + r] and low[2 b + r] hold key row + 8 r, queries 8 b + column and the one after
template <int W>
__device__ float split(const float (&total)[W], uint32_t (&high)[W / 2], uint32_t (&low)[W / 2]) {
    float largest = total[0], up, down;
#pragma unroll
    for (int i = 1; i < W; ++i) largest = total[i] > largest ? total[i] : largest;
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

// W R^T for one block of rows of R, which the ring's stage holds: 64 keys x BLOCK. Low times low would be below 2^-22.
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

// Y of a warpgroup's 64 keys, in `part` (O, N); y[4 b + 2 r + c] is key row + 8 r of row 8 b + column + c of R.
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
    // uniform: the compiler then keeps addresses that hang on it once a warp
    const int thread = thread_index() % WARPGROUP, group = uniform(thread_index() / WARPGROUP) - 1;
    Computing<V> c{
        shared, a, group, rank, block_key + group * BOX, {thread / 32 * 16 + thread % 32 / 4, thread % 4 * 2}, {}, {}};
    auto put = [](float* p, float x) { *p = x; };
    constexpr int HALF_BLOCK = V::BLOCK == 1 ? 2 : V::BLOCK / 2;
    float y[V::HELD == 0 ? 1 : V::HELD][HALF_BLOCK] = {};
    bool down = false, first = true;
    if constexpr (V::OVERLAP == Overlap::turns)
        if (group == 1) named_arrive(1, 2 * WARPGROUP);  // the first warpgroup begins

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
            auto block = [&](int row, float (&into)[V::BLOCK / 2]) {  // into = its part of Y, of this tile
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
        if (group == 0) named_sync(1, 2 * WARPGROUP);  // takes the turn that is left over
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

// One item of the schedule. `raw`: SHARED_BYTES of shared memory, at the same place in every block of the cluster.
template <class V>
__device__ void flow_step_item(const Arguments& a, char* raw) {
    const Shared<V> shared{aligned(raw, 1024)};
    const uint32_t rank = V::CLUSTER == 1 ? 0 : cluster_rank();
    const Item item = a.schedule.item(static_cast<int>(block_index()) / V::CLUSTER);
    const int block_key = (item.block * V::CLUSTER + rank) * KEYS;

    if (thread_index() == 0) {
        for (int i = 0; i < V::STAGES; ++i) {
            barrier_init(shared.full(i), 1);
            barrier_init(shared.empty(i), 8 * V::CLUSTER);  // warps
        }
        for (int i = 0; i < V::KEY_STAGES; ++i) {
            barrier_init(shared.key_full(i), 1);
            barrier_init(shared.key_empty(i), 8);
        }
        barrier_init_fence();
    }
    const int count = item.tiles.count();
    for (int word = thread_index() / 32; word * 32 < count; word += THREADS / 32) {
        const int bit = word * 32 + thread_index() % 32;
        const uint32_t bits = warp_ballot(bit < count && a.active[item.tiles.begin + bit] != 0);
        if (thread_index() % 32 == 0) shared.tiles()[word] = bits;
    }
    sync_cluster();

    const Tiles tiles{shared.tiles(), item.tiles.begin, count};
    if (thread_index() < WARPGROUP) {
        give_registers<32>();
        if (thread_index() == 0) feed<V>(shared, a, tiles, block_key, rank);
    } else {
        take_registers<240>();
        if (count > 0)
            compute<V>(shared, a, tiles, block_key, rank, a.partial + int64_t{item.part} * a.O * a.schedule.N);
    }
    sync_warp();
    sync_cluster();  // the others of the cluster may still arrive at this block's barriers
}

}  // namespace attributor::cuda
