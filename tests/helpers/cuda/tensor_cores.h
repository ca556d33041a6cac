// Products of warpgroups: operands are located by the bits of the descriptors, and execution is between issue and wait.
#pragma once

#include <cmath>
#include <deque>

#include "memory.h"

namespace attributor::cuda {

constexpr int WARPGROUP_THREADS = 128, WARPS = 4, ROWS = 64, WARP_ROWS = ROWS / WARPS, STEP = 16, MOST_COLUMNS = 256;

inline bool truncate_sums = false;  // sums of products toward zero, as in tensor cores

inline float bits_to_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t float_to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float half_to_float(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double x = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
    if (exponent == 31) x = fraction ? NAN : INFINITY;
    return static_cast<float>(bits >> 15 ? -x : x);
}

// Round to nearest, ties to even; with subnormal numbers and infinity.
inline uint16_t float_to_half(float x) {
    const uint16_t sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
    const float size = std::fabs(x);
    if (std::isnan(x)) return 0x7fff;
    if (size == 0.0f) return sign;
    if (size >= 65520.0f) return sign | 0x7c00;
    int exponent;
    std::frexp(size, &exponent);
    exponent = std::max(exponent, -13);  // the spacing of subnormal numbers starts here
    const int fraction = static_cast<int>(std::nearbyint(std::ldexp(size, 11 - exponent)));
    return static_cast<uint16_t>(sign | (((exponent + 13) << 10) + fraction));
}

inline const std::vector<float> halves = [] {
    std::vector<float> all(1 << 16);
    for (int i = 0; i < 1 << 16; ++i) all[i] = half_to_float(static_cast<uint16_t>(i));
    return all;
}();

inline double widened(uint16_t bits, bool half) {
    return half ? halves[bits] : bits_to_float(uint32_t{bits} << 16);
}

// One call of a warpgroup; its threads reach it one after another.
struct Call {
    enum Kind { BEGIN, MULTIPLY, COMMIT, WAIT } kind;
    uint64_t a, b;
    bool add, half, registers;
    int columns;
    int64_t sum;  // number of the accumulator

    bool operator==(const Call& o) const {
        return kind == o.kind && a == o.a && b == o.b && add == o.add && half == o.half && registers == o.registers &&
               columns == o.columns && sum == o.sum;
    }
};

// A pending accumulator. Meanwhile the arrays of the threads hold this value:
constexpr uint32_t UNDER_WAY = 0x7fc0dead;  // a NaN
struct Sum {
    int columns, closed = 0;
    float values[ROWS * MOST_COLUMNS];
};

// Warps are independent: the 16 rows of a warp are computed at some time after its own threads have issued them.
struct Warpgroup {
    struct Step {
        Call call;
        int reached[WARPS] = {}, executed = 0;
        const uint32_t* a[WARPGROUP_THREADS];  // read at execution
    };
    struct Member {
        int64_t calls = 0, sums = 0;
        bool begun = false, committed = true;
        std::vector<std::pair<float*, int64_t>> open;
    };
    std::map<int64_t, Step> steps;
    std::map<int64_t, Sum> sums;
    Member members[WARPGROUP_THREADS];
    int64_t executed[WARPS] = {};  // calls
    std::vector<int> waiting[WARPS];
};

inline Warpgroup warpgroups[MOST_THREADS / WARPGROUP_THREADS];
inline Warpgroup& warpgroup() {
    return warpgroups[machine.current / WARPGROUP_THREADS];
}
inline int member_index() {
    return machine.current % WARPGROUP_THREADS;
}

// The place of element i in the array of thread t.
inline int sum_row(int t, int i) {
    return t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8;
}
inline int sum_column(int t, int i) {
    return i / 4 * 8 + t % 4 * 2 + i % 2;
}

// Row `row`, columns 0 to 15 of the matrix of a descriptor: rows of 128 bytes, groups of 8 rows at the distance of the
// stride; bits 4 to 6 of each address are combined with bits 7 to 9 by XOR.
inline void read_row(SharedMemory& memory, uint64_t descriptor, int row, bool half, double* to) {
    machine.check(descriptor >> 62 == 1, "a matrix without the swizzle of 128 bytes");
    machine.check((descriptor >> 49 & 7) == 0, "a matrix with a base offset");
    const uint32_t start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
    for (int k = 0; k < STEP; k += 8) {
        uint16_t bits[8];
        memcpy(bits, memory.at(swizzled(start + row / 8 * stride + row % 8 * 128 + k * 2), 16), 16);
        for (int i = 0; i < 8; ++i) to[k + i] = widened(bits[i], half);
    }
}

inline float rounded(double x) {
    float nearest = static_cast<float>(x);
    return truncate_sums && std::fabs(nearest) > std::fabs(x) ? std::nextafter(nearest, 0.0f) : nearest;
}

inline void multiply(Warpgroup& group, SharedMemory& memory, const Warpgroup::Step& step, int warp) {
    const Call& call = step.call;
    const int n = call.columns;
    static double a[WARP_ROWS][STEP], b[STEP][MOST_COLUMNS];
    for (int row = 0; row < WARP_ROWS && !call.registers; ++row)
        read_row(memory, call.a, warp * WARP_ROWS + row, call.half, a[row]);
    for (int lane = 0; lane < LANES && call.registers; ++lane)
        for (int i = 0; i < 8; ++i) {
            const uint32_t pair = step.a[warp * LANES + lane][i / 2];
            a[lane / 4 + i / 2 % 2 * 8][lane % 4 * 2 + i % 2 + i / 4 * 8] =
                widened(static_cast<uint16_t>(i % 2 ? pair >> 16 : pair), call.half);
        }
    for (int column = 0; column < n; ++column) {
        double row[STEP];
        read_row(memory, call.b, column, call.half, row);
        for (int k = 0; k < STEP; ++k) b[k][column] = row[k];
    }
    for (int row = 0; row < WARP_ROWS; ++row) {
        float* sum = group.sums.at(call.sum).values + (warp * WARP_ROWS + row) * n;
        double line[MOST_COLUMNS];
        for (int i = 0; i < n; ++i) line[i] = call.add ? sum[i] : 0.0;
        for (int k = 0; k < STEP; ++k)
            for (int i = 0; i < n; ++i) line[i] += a[row][k] * b[k][i];
        for (int i = 0; i < n; ++i) sum[i] = rounded(line[i]);
    }
}

// The oldest call of a warp that is not yet executed.
inline void execute_next(int group_index, int warp) {
    Warpgroup& group = warpgroups[group_index];
    auto found = group.steps.find(group.executed[warp]++);
    if (found->second.call.kind == Call::MULTIPLY)
        multiply(group, shared_memories[machine.block_of(group_index * WARPGROUP_THREADS)], found->second, warp);
    if (++found->second.executed == WARPS) group.steps.erase(found);
    for (int t : group.waiting[warp]) machine.wake(t);
    group.waiting[warp].clear();
}

// Make the next call of this thread, which must equal the call of the other threads of its warpgroup.
inline Warpgroup::Step& reach(const Call& call) {
    machine.interrupt();
    Warpgroup& group = warpgroup();
    const int64_t number = group.members[member_index()].calls++;
    auto [found, first] = group.steps.try_emplace(number);
    if (first) found->second.call = call;
    machine.check(found->second.call == call, "a warpgroup whose threads do not issue the same");
    return found->second;
}

inline void reached(Warpgroup::Step& step) {
    const int warp = member_index() / LANES;
    if (++step.reached[warp] < LANES) return;
    const int group = machine.current / WARPGROUP_THREADS;
    machine.later(PRODUCT, [=] { execute_next(group, warp); });
}

template <int COUNT>
int64_t open_sum(float (&d)[COUNT]) {
    Warpgroup& group = warpgroup();
    Warpgroup::Member& member = group.members[member_index()];
    for (auto& [array, number] : member.open)
        if (array == d) return number;
    const int64_t number = member.sums++;
    Sum& sum = group.sums[number];
    sum.columns = COUNT * 2;
    for (int i = 0; i < COUNT; ++i) {
        sum.values[sum_row(member_index(), i) * sum.columns + sum_column(member_index(), i)] = d[i];
        d[i] = bits_to_float(UNDER_WAY);
    }
    member.open.emplace_back(d, number);
    return number;
}

template <int COUNT>
void issue(float (&d)[COUNT], Call call, const uint32_t* registers) {
    Warpgroup::Member& member = warpgroup().members[member_index()];
    machine.check(member.begun, "a product without products_begin");
    member.committed = false;
    call.sum = open_sum(d);
    Warpgroup::Step& step = reach(call);
    step.a[member_index()] = registers;
    reached(step);
}

inline void products_begin() {
    warpgroup().members[member_index()].begun = true;
    reached(reach({Call::BEGIN, 0, 0, false, false, false, 0, 0}));
}

inline void products_commit() {
    Warpgroup::Member& member = warpgroup().members[member_index()];
    member.committed = true, member.begun = false;
    reached(reach({Call::COMMIT, 0, 0, false, false, false, 0, 0}));
}

template <bool HALF, int COUNT>
void product(float (&d)[COUNT], uint64_t a, uint64_t b, bool add) {
    issue(d, {Call::MULTIPLY, a, b, add, HALF, false, COUNT * 2, 0}, nullptr);
}

template <bool HALF, int COUNT>
void product_from(float (&d)[COUNT], const uint32_t* a, uint64_t b, bool add) {
    issue(d, {Call::MULTIPLY, 0, b, add, HALF, true, COUNT * 2, 0}, a);
}

// Wait for every product of this thread; only then do its arrays hold the sums.
template <int COUNT>
void products_wait(float (&)[COUNT]) {
    Warpgroup& group = warpgroup();
    Warpgroup::Member& member = group.members[member_index()];
    machine.check(member.committed, "products that were not committed");
    reached(reach({Call::WAIT, 0, 0, false, false, false, COUNT, 0}));
    const int warp = member_index() / LANES;
    while (group.executed[warp] < member.calls) {
        group.waiting[warp].push_back(machine.current);
        machine.wait("products", static_cast<uint32_t>(member.calls));
    }
    for (auto& [array, number] : member.open) {
        Sum& sum = group.sums.at(number);
        for (int i = 0; i < sum.columns / 2; ++i) {
            machine.check(float_to_bits(array[i]) == UNDER_WAY, "an accumulator written while products are under way");
            array[i] = sum.values[sum_row(member_index(), i) * sum.columns + sum_column(member_index(), i)];
        }
        if (++sum.closed == WARPGROUP_THREADS) group.sums.erase(number);
    }
    member.open.clear();
}

// Four matrices of 8 rows of 16 bytes; thread 8 m + i passes the address of row i of matrix m.
inline void load_matrices(uint32_t* to, const void* row) {
    const uint32_t* rows = meet("load_matrices", shared_address(row));
    const int lane = machine.current % LANES;
    for (int m = 0; m < 4; ++m) {
        const uint32_t address = rows[8 * m + lane / 4];
        machine.check(address % 16 == 0, "a row of a matrix begins at a multiple of 16");
        memcpy(&to[m], shared_memory().at(address + lane % 4 * 4, 4), 4);
    }
}

template <int COUNT>
void keep_until_here(const uint32_t (&)[COUNT]) {}

inline uint64_t matrix(const void* p) {
    constexpr uint64_t swizzle_128 = uint64_t{1} << 62, groups = uint64_t{1024 >> 4} << 32, one = uint64_t{1} << 16;
    return swizzle_128 | groups | one | ((shared_address(p) & 0x3ffff) >> 4);
}

}  // namespace attributor::cuda
