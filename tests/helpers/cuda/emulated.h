// The functions of csrc/cuda/ptx.cuh on a CPU, with exactly the documented guarantees of the instructions: a pending
// operation completes at any time up to the last moment, and until then memory and registers hold NaN.
#pragma once

#include "tensor_cores.h"

#define __host__
#define __device__
#define __forceinline__ inline

namespace attributor::cuda {

struct float2 {
    float x, y;
};

inline int exponential_error = 0;  // of exp2_unit, in units of the last place, with either sign

inline int fault = 0;  // number of the active fault in tests/helpers/cuda_faults.py

// --- indices of threads and blocks

inline int thread_index() {
    return machine.in_block(machine.current);
}
inline uint32_t cluster_rank() {
    return machine.block_of(machine.current);
}
inline int64_t block_index() {
    return machine.first_block + cluster_rank();
}

inline void sync_warp() {
    meet("sync_warp");
}

// A barrier of `count` threads; threads that call `arrive` do not wait.
struct Gathering {
    int count = 0, arrived = 0;
    std::vector<int> waiting;
    uint64_t warps = 0;  // arrived warps, one bit each
};

inline Gathering cluster_gathering, named_gatherings[MOST_BLOCKS][16];

inline void gather(Gathering& place, int count, bool stay, const char* what, int number) {
    machine.interrupt();
    machine.check(count % LANES == 0, "a barrier counts whole warps");
    machine.check(place.arrived == 0 || place.count == count, "a barrier for two numbers of threads");
    place.count = count;
    if (place.arrived % LANES == 0) {
        const uint64_t warp = uint64_t{1} << machine.current / LANES;
        machine.check(!(place.warps & warp), "a warp that arrives twice in one phase");
    }
    if (++place.arrived < count) {
        place.waiting.push_back(stay ? machine.current : -1);
        if (stay) machine.wait(what, number);
        return;
    }
    for (int t : place.waiting)
        if (t >= 0) machine.wake(t);
    place = {};
}

inline void sync_cluster() {
    gather(cluster_gathering, machine.blocks * machine.per_block, true, "sync_cluster", 0);
}
inline Gathering& named(int id) {
    machine.check(id >= 1 && id < 16, "barriers have numbers from 1 to 15");
    return named_gatherings[cluster_rank()][id];
}
inline void named_sync(int id, int threads) {
    gather(named(id), threads, true, "named barrier", id);
}
inline void named_arrive(int id, int threads) {
    gather(named(id), threads, false, "named barrier", id);
}
inline void sync_block() {
    gather(named_gatherings[cluster_rank()][0], machine.per_block, true, "sync_block", 0);
}

constexpr int REGISTERS_AT_START = 168;  // per thread, for 384 threads in 65,536 registers

template <int REGISTERS>
void give_registers() {
    static_assert(REGISTERS % 8 == 0 && REGISTERS >= 24, "what setmaxnreg takes");
    meet("give_registers");
    if (machine.current % LANES) return;
    machine.free_registers[cluster_rank()] += (REGISTERS_AT_START - REGISTERS) * LANES;
    for (int t : machine.short_of_registers) machine.wake(t);
    machine.short_of_registers.clear();
}
template <int REGISTERS>
void take_registers() {
    static_assert(REGISTERS % 8 == 0 && REGISTERS <= 256, "what setmaxnreg takes");
    constexpr int more = (REGISTERS - REGISTERS_AT_START) * LANES;
    meet("take_registers");
    if (machine.current % LANES == 0) {  // from those that other warps of the block freed
        while (machine.free_registers[cluster_rank()] < more) {
            machine.short_of_registers.push_back(machine.current);
            machine.wait("registers");
        }
        machine.free_registers[cluster_rank()] -= more;
    }
    meet("registers taken");
}

inline uint32_t warp_max(uint32_t value) {
    const uint32_t* values = meet("warp_max", value);
    return *std::max_element(values, values + LANES);
}
inline uint32_t warp_ballot(bool value) {
    const uint32_t* values = meet("warp_ballot", value);
    uint32_t bits = 0;
    for (int lane = 0; lane < LANES; ++lane) bits |= values[lane] << lane;
    return bits;
}
inline float warp_other(float value, int bits) {
    return bits_to_float(meet("warp_other", float_to_bits(value))[machine.current % LANES ^ bits]);
}
inline int uniform(int value) {
    return static_cast<int>(meet("uniform", static_cast<uint32_t>(value))[0]);
}
inline int leading_zeros(uint32_t x) {
    return x ? __builtin_clz(x) : 32;
}
inline char* aligned(char* p, uint32_t to) {
    return p + (-shared_address(p) & (to - 1));
}

// --- arithmetic

inline float from_bits(uint32_t x) {
    return bits_to_float(x);
}
inline uint32_t to_bits(float x) {
    return float_to_bits(x);
}

inline float divide(float x, float y) {
    return std::fabs(y) > 0x1p126f ? 0.0f : x / y;
}

// Subnormal inputs and results count as zero. The sign of the error depends on the number, not on the thread.
inline float exp2_unit(float x) {
    if (std::fabs(x) < 0x1p-126f) return 1.0f;
    float y = std::exp2(x);
    if (y < 0x1p-126f) return 0.0f;
    const float to = float_to_bits(x) * 0x9e3779b9u >> 31 ? INFINITY : 0.0f;
    for (int i = 0; i < exponential_error && std::isfinite(y); ++i) y = std::nextafter(y, to);
    return y;
}

inline uint32_t pack_half(float x, float y) {
    return float_to_half(x) | uint32_t{float_to_half(y)} << 16;
}
inline float2 unpack_half(uint32_t both) {
    return {static_cast<float>(widened(static_cast<uint16_t>(both), true)),
            static_cast<float>(widened(static_cast<uint16_t>(both >> 16), true))};
}
inline void add_to(float* p, float x) {
    *p += x;
}

}  // namespace attributor::cuda
