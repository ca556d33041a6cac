// flow_step on the CPU. Knows neither Python nor torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "step.h"

namespace attributor {

struct FlowStep : Step {
    const int64_t* kv_index;  // (H,), each in [0, G)
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
