// The feeding warp: it copies K, Q, biases and R into shared memory as stages become free.
#pragma once

#include "variant.cuh"

namespace attributor::cuda {

template <class V>
__device__ void load_keys(const Shared<V>& shared, const Arguments& a, int stage, int first_key, int kv) {
    Barrier* full = shared.key_full(stage);
    barrier_expect(full, V::KEY_BYTES);
    for (int panel = 0; panel < V::PANELS; ++panel)
        for (int row = 0; row < KEYS; row += BOX)
            load_box(shared.key(stage) + panel * KEYS * BOX * 2 + row * BOX * 2, &a.key, full, panel * BOX,
                     first_key + row, kv);
}

// Loads one box of a tile that every block of the cluster needs; block `box` % CLUSTER loads it for all.
template <class V>
__device__ void load_shared_box(char* to, const TensorMap* map, Barrier* full, int box, uint32_t rank, int x, int y,
                                int z) {
    if constexpr (V::CLUSTER == 1)
        load_box(to, map, full, x, y, z);
    else if (box % V::CLUSTER == static_cast<int>(rank))
        load_box_to(to, map, full, x, y, z, (1 << V::CLUSTER) - 1);
}

// Loads everything in the order in which `compute` reads it: the heads of a tile, the first head of the next tile if
// that is multiplied ahead, the rows of R of the tile.
template <class V>
struct Feeding {
    Shared<V> shared;
    const Arguments& a;
    int first_key;  // of the thread block
    uint32_t rank;
    Ring<V::STAGES> ring;
    Ring<V::KEY_STAGES> keys;
    int loaded = -1;  // the key head that was loaded last

    // Waits for an empty stage of the ring, and lets its barrier expect so many bytes.
    __device__ Barrier* take(uint32_t bytes) {
        barrier_wait(shared.empty(ring.stage()), ring.parity() ^ 1);
        Barrier* full = shared.full(ring.stage());
        barrier_expect(full, bytes);
        return full;
    }

    __device__ void head(int tile, int h) {
        const int kv = a.heads[a.H + h], query_head = a.heads[h], first = tile * V::QUERIES;
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
                                   query_head);
        load_line(shared.bias(ring.stage()), a.row_bias + int64_t{h * a.schedule.tiles + tile} * V::QUERIES,
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

}  // namespace attributor::cuda
