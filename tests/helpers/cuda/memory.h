// Shared memory, its barriers, and the copies that complete on them, as the PTX ISA describes them.
#pragma once

#include <algorithm>

#include "machine.h"

namespace attributor::cuda {

using Barrier = uint64_t;

// A tensor of 3 dimensions, innermost first, and the box of one copy, in the swizzle of 128 bytes.
struct TensorMap {
    const char* data;
    int64_t size[3], stride[3];  // strides in bytes
    int box[3];
};

struct BarrierState {
    uint32_t count, pending;
    int64_t bytes;  // expected and not yet arrived; negative if they arrive first
    uint32_t phase;
    bool fenced;
    std::vector<int> waiting;
};

// The shared memory of one block, with a guard area on both sides. Its address is only a multiple of 16.
struct SharedMemory {
    static constexpr uint32_t BYTES = 227 * 1024, WALL = 4096;
    std::vector<char> bytes = std::vector<char>(BYTES + 2 * WALL);
    uint32_t base = 0, size = 0;
    std::map<uint32_t, BarrierState> barriers;

    char* host() { return bytes.data() + WALL; }
    void begin(uint32_t address, uint32_t wanted) {
        base = address, size = wanted;
        barriers.clear();
        std::fill(bytes.begin(), bytes.end(), '\xff');  // NaN in every format, and every bit of a mask set
    }
    bool whole() {
        auto poison = [](char x) { return x == '\xff'; };
        return std::all_of(bytes.begin(), bytes.begin() + WALL, poison) &&
               std::all_of(bytes.begin() + WALL + size, bytes.end(), poison);
    }
    char* at(uint32_t address, uint32_t count) {
        if (address < base || address + count > base + size) machine.fail("an address outside of shared memory");
        return host() + (address - base);
    }
    BarrierState& barrier(uint32_t address) {
        auto found = barriers.find(address);
        if (found == barriers.end()) machine.fail("no barrier at shared address " + std::to_string(address));
        return found->second;
    }
};

inline SharedMemory shared_memories[MOST_BLOCKS];
inline SharedMemory& shared_memory() {
    return shared_memories[machine.block_of(machine.current)];
}

inline uint32_t shared_address(const void* p) {
    SharedMemory& memory = shared_memory();
    const int64_t offset = static_cast<const char*>(p) - memory.host();
    if (offset < 0 || offset > memory.size) machine.fail("a pointer that is not to this block's shared memory");
    return memory.base + static_cast<uint32_t>(offset);
}

// --- barriers

inline void barrier_settle(BarrierState& b) {
    if (b.pending > 0 || b.bytes != 0) return;
    ++b.phase;
    b.pending = b.count;
    for (int t : b.waiting) machine.wake(t);
    b.waiting.clear();
}

inline void barrier_add_bytes(BarrierState& b, int64_t bytes) {
    b.bytes += bytes;
    if (std::abs(b.bytes) >= 1 << 20) machine.fail("more bytes than a barrier can count");
}

inline void barrier_count(BarrierState& b) {
    machine.check(b.fenced, "a barrier in use whose init was not fenced");
    machine.check(b.pending > 0, "an arrival that the barrier's phase does not expect");
    --b.pending;
    barrier_settle(b);
}

inline void barrier_init(Barrier* barrier, uint32_t count) {
    const uint32_t address = shared_address(barrier);
    machine.check(address % 8 == 0 && count > 0 && count < 1 << 20, "an invalid barrier");
    shared_memory().barriers[address] = {count, count, 0, 0, false, {}};
}

inline void barrier_init_fence() {
    for (auto& [address, barrier] : shared_memory().barriers) barrier.fenced = true;
}

inline void barrier_expect(Barrier* barrier, uint32_t bytes) {
    machine.interrupt();
    BarrierState& b = shared_memory().barrier(shared_address(barrier));
    barrier_add_bytes(b, bytes);
    barrier_count(b);
}

// Arrive at the same barrier in block `rank`.
inline void barrier_arrive(Barrier* barrier, uint32_t rank) {
    machine.interrupt();
    machine.check(static_cast<int>(rank) < machine.blocks, "a block that the cluster does not have");
    machine.check(!machine.ended(rank), "an arrival at a block that has ended");
    barrier_count(shared_memories[rank].barrier(shared_address(barrier)));
}

// try_wait.parity: the phase of this parity has ended when the current one has the other parity.
inline void barrier_wait(Barrier* barrier, uint32_t parity) {
    machine.interrupt();
    machine.check(parity <= 1, "a parity is 0 or 1");
    const uint32_t address = shared_address(barrier);
    BarrierState& b = shared_memory().barrier(address);
    machine.check(b.fenced, "a barrier in use whose init was not fenced");
    while ((b.phase & 1) == parity) {
        b.waiting.push_back(machine.current);
        machine.wait("barrier", address - shared_memory().base);
    }
}

// --- copies

// Copy into the memory of one block at any later time; until then its content is undefined.
inline void copy_later(int block, uint32_t to, uint32_t bytes, uint32_t barrier, std::function<void()> write) {
    SharedMemory& memory = shared_memories[block];
    machine.check(!machine.ended(block), "a copy into a block that has ended");
    char* host = memory.at(to, bytes);
    for (auto& [address, state] : memory.barriers)
        machine.check(address + 8 <= to || to + bytes <= address, "a copy over a barrier");
    machine.check(memory.barrier(barrier).fenced, "a copy to a barrier whose init was not fenced");
    memset(host, 0xff, bytes);
    machine.later(COPY, [=, &memory] {
        machine.check(!machine.ended(block), "a copy into a block that has ended");
        write();
        BarrierState& b = memory.barrier(barrier);
        barrier_add_bytes(b, -int64_t{bytes});
        barrier_settle(b);
    });
}

inline uint32_t swizzled(uint32_t address) {
    return address ^ (address >> 3 & 0x70);
}

inline void write_box(SharedMemory& memory, uint32_t to, const TensorMap& map, const int64_t (&at)[3]) {
    for (int z = 0; z < map.box[2]; ++z)
        for (int y = 0; y < map.box[1]; ++y)
            for (int x = 0; x < map.box[0]; ++x, to += 2) {
                const int64_t place[3] = {at[0] + x, at[1] + y, at[2] + z};
                const char* from = map.data;
                bool inside = true;
                for (int i = 0; i < 3; ++i) {
                    inside = inside && place[i] >= 0 && place[i] < map.size[i];
                    from += place[i] * map.stride[i];
                }
                const char nothing[2] = {};
                memcpy(memory.at(swizzled(to), 2), inside ? from : nothing, 2);
            }
}

inline void load_box_to(void* to, const TensorMap* map, Barrier* barrier, int x, int y, int z, uint16_t blocks) {
    machine.interrupt();
    const uint32_t address = shared_address(to), bytes = 2 * map->box[0] * map->box[1] * map->box[2];
    machine.check(blocks != 0 && blocks >> machine.blocks == 0, "blocks that the cluster does not have");
    machine.check(address % 1024 == 0, "a swizzled box is placed at a multiple of 1024");
    for (int block = 0; block < machine.blocks; ++block)
        if (blocks >> block & 1)
            copy_later(block, address, bytes, shared_address(barrier),
                       [=] { write_box(shared_memories[block], address, *map, {x, y, z}); });
}

inline void load_box(void* to, const TensorMap* map, Barrier* barrier, int x, int y, int z) {
    load_box_to(to, map, barrier, x, y, z, static_cast<uint16_t>(1 << machine.block_of(machine.current)));
}

inline void load_line(void* to, const void* from, uint32_t bytes, Barrier* barrier) {
    machine.interrupt();
    const uint32_t address = shared_address(to);
    machine.check(address % 16 == 0 && bytes % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0,
                  "a line's addresses and its length are multiples of 16");
    const int block = machine.block_of(machine.current);
    copy_later(block, address, bytes, shared_address(barrier),
               [=] { memcpy(shared_memories[block].at(address, bytes), from, bytes); });
}

}  // namespace attributor::cuda
