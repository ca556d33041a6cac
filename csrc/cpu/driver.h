// Code that the drivers (flow_step.cpp, removal_step.cpp) share: exponents in base 2, operands to pack, and the
// distribution of work to threads.
#pragma once

#include <algorithm>
#include <atomic>

#include "kernels.h"
#include "threads.h"

namespace attributor::cpu {

constexpr double kLog2e = 1.44269504088896340736;
constexpr float kNothing = -1e30f;  // 2^kNothing is 0; sums of a few stay finite, so there is no inf - inf in a kernel
constexpr double kFlopPerThread = 4e6;  // below this, starting a thread costs more than it saves

// The rows of a block of queries that must be computed, [first, last); none if equal.
struct Range {
    int first, last;
};

// Exponents are base 2, and logits are multiplied by float(factor * log2(e)). The biases are multiplied by log2(e) with
// the same rounding error, so that the errors of a logit and its log-sum-exp cancel.
class Base2 {
  public:
    explicit Base2(double factor) : gain_(float(factor * kLog2e)), log2e_(factor != 0 ? gain_ / factor : kLog2e) {}

    float gain() const { return gain_; }

    float bias(float natural) const {
        const float value = float(natural * log2e_);
        return value < kNothing ? kNothing : value;
    }

  private:
    float gain_;
    double log2e_;
};

// Rows [row, row + valid) of one head, of D elements each.
inline Source source_of(const Strided& matrices, Type type, int64_t head, int64_t row, int64_t D, int64_t valid) {
    const int64_t width = type == Type::float32 ? 4 : 2;
    const auto* data = static_cast<const uint8_t*>(matrices.data);
    return {data + (head * matrices.head + row * matrices.row) * width, matrices.row, D, int(valid)};
}

inline int count_threads(double flop, const Threads& threads) {
    return int(std::clamp<double>(flop / kFlopPerThread, 1, std::max(1, threads.count)));
}

// Distributes [0, count) in order, `group` indices at a time. Each thread makes a task with make() and calls
// task(first, last) until all indices are done or a stop is requested.
template <class Make>
void deal(int64_t count, int64_t group, Threads threads, const Kernels& kernels, Stop& stop, const Make& make) {
    std::atomic<int64_t> next{0};
    run_on(threads, kernels, stop, [&] {
        auto task = make();
        for (int64_t first; (first = next.fetch_add(group)) < count && !stop.requested();)
            task(first, std::min(first + group, count));
    });
}

}  // namespace attributor::cpu
