// The sum over the heads of one tile, by a warpgroup: W = sum_h 2^(gain K Q_h^T + biases), 64 keys x QUERIES.
#pragma once

#include "variant.cuh"

namespace attributor::cuda {

// 2^x of a finite x below 127, accurate to 3e-7, 0 below 2^-126, without the exponential unit; for measurements. The
// fraction in [-1/2, 1/2] goes through a polynomial, the rest into the exponent.
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

// Accurate to 1e-7 relative: 1 - 2 / (e^2x + 1) is inaccurate for small x, where an odd polynomial is used.
__device__ inline float tanh_precise(float x) {
    float u = x * x;
    float p = ((((-0.00626912f * u + 0.02111096f) * u - 0.05387395f) * u + 0.13332915f) * u - 0.3333333f) * u;
    float far = 1.0f - divide(2.0f, exp2_unit(x * 2.8853900817779268f) + 1.0f);
    return (x < 0 ? -x : x) < 0.6f ? x + x * p : far;
}

// The place of one thread: which of 64 keys are its two rows of S, and which of every 8 queries its two columns.
//     s[4 b + 2 r + c] is key `row + 8 r`, query `8 b + column + c`
struct Place {
    int row, column;
};

// W += 2^(gain S + biases) for the queries of one S. `gap`: its first query minus the warpgroup's first key. If MASKED,
// pairs whose query does not see the key are excluded.
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
            if constexpr (MASKED) {  // a query before the key gives a large unsigned number
                const int distance = gap + 8 * b + place.column + c - (place.row + 8 * r);
                if (static_cast<uint32_t>(distance) >= window) x = -INFINITY;
            }
            total[offset / 2 + 4 * b + e] += b % 8 < V::EMULATED ? exp2_polynomial(x) : exp2_unit(x);
        }
    }
}

// The state of a computing warpgroup.
template <class V>
struct Computing {
    static constexpr int W = V::QUERIES / 2;  // values of W per thread
    static constexpr int S = V::WIDTH / 2;    // values of S per thread

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

    __device__ int key_stage() const { return static_cast<int>((keys.used - 1) % V::KEY_STAGES); }  // of `loaded`

    // Starts S = K Q^T for the WIDTH queries from `offset` of the tile in a stage, without waiting for it.
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

    // Waits until the next stage of the ring is full, and returns it.
    __device__ int take() {
        const int stage = ring.stage();
        barrier_wait(shared.full(stage), ring.parity());
        ring.next();
        return stage;
    }

    // Releases a stage: each warp arrives by itself, at every block of the cluster that fills the stage.
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

    // Loads K of the warpgroup from shared memory, as the left operand of products: 16 keys per warp, 16 columns at a
    // time.
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

    // Waits for head number h and its keys, and returns the head's stage. No product with the previous head's keys may
    // still be running.
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
    // other half, or of the next head, run. The order is always issue, exponentiate, wait, because the compiler would
    // serialise products that are still running at the end of a loop's pass. If `more` tiles follow, `one` and `stage`
    // hold the next tile's first half on return; `stage` is -1 before the first product.
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

    // As above with one S, where the two warpgroups take turns: one exponentiates while the products of the other run.
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

}  // namespace attributor::cuda
