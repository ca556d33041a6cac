// The kernel: Y[o, j] = sum_i R[o, i] sum_h 2^(gain q_h[i] . k[j] + row_bias[h, i] + key_bias[h, j]), never n x n.
//
// A thread block owns 128 keys and loops over the tiles of queries that see them. One warp feeds shared memory. Two
// warpgroups compute independently, each with 64 keys:
//
//     for each tile of queries, last first:
//         for each head:      S = K Q^T        64 keys x QUERIES, by the tensor cores, into registers
//                             W += 2^(gain S + biases)
//         Y += W R^T          W from registers as two float16 parts, R^T as two from shared memory
//
// The transposed product leaves W in the registers of the next product's operand, so it never passes through shared
// memory, and the two warpgroups never wait for each other. README.md in this folder has the layout, the budget and the
// reasons.
#pragma once

#include "compute.cuh"
#include "feed.cuh"

namespace attributor::cuda {

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
        shared.tiles()[Tiles::FIRST] = item.tiles.begin;
        barrier_init_fence();
    }
    const int count = item.tiles.count();
    for (int word = thread_index() / 32; word * 32 < count; word += THREADS / 32) {
        const int bit = word * 32 + thread_index() % 32;
        const uint32_t bits = warp_ballot(bit < count && a.active[item.tiles.begin + bit] != 0);
        if (thread_index() % 32 == 0) shared.tiles()[word] = bits;
    }
    sync_cluster();

    const Tiles tiles{shared.tiles(), count};
    if (thread_index() < WARPGROUP) {
        give_registers<24>();  // 24 + 2 x 240 = 3 x 168, the total at the start; to take more would wait for ever
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
