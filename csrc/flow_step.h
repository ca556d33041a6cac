// flow_step on the CPU: one layer of the recurrence. Knows neither Python nor torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace attributor {

enum class Type { float32, bfloat16, float16 };

// A stack of matrices whose last dimension is contiguous; strides count elements.
struct Strided {
    const void* data;
    int64_t head;  // from one head to the next
    int64_t row;   // from one token to the next
};

// Y[o, j] = sum_i rows[o, i] sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j]), j <= i, i - j < window
struct FlowStep {
    int64_t O, N, H, G, D;
    Type type;                // of query and key
    const float* rows;        // (O, N) contiguous
    Strided query;            // (H, N, D)
    Strided key;              // (G, N, D)
    const float* row_bias;    // (H, N) contiguous, natural logarithm; -inf leaves a row out
    const float* key_bias;    // (H, N) contiguous, or null
    const int64_t* kv_index;  // (H,), each in [0, G)
    float* result;            // (O, N) contiguous, written whole
    double scale, power;
    int64_t window;  // positions that a query sees, its own included; >= N for all
    double softcap;  // 0 for none
    int threads;
    // Where the threads come from: GOMP_parallel of the OpenMP runtime that the caller uses already, or null to start
    // some. A runtime's idle threads spin for milliseconds and would compete with ours for the cores.
    void (*team)(void (*work)(void*), void* context, unsigned threads, unsigned flags);
};

// Asked by the calling thread about every fifth of a second: true ends the call early.
struct Interrupt {
    bool (*asked)(void* context);
    void* context;
};

// Names of the instruction sets that this build has kernels for and this machine can run, best first; never empty.
std::vector<std::string> usable_isas();

// False when `interrupt` ended it: the result is then incomplete. `isa` is one of usable_isas(); throws
// std::invalid_argument for any other and std::bad_alloc when the packed operands do not fit. The same bits come out
// for every number of threads.
bool flow_step(const FlowStep& step, const std::string& isa, Interrupt interrupt);

}  // namespace attributor
