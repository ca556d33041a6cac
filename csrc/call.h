// What the CPU steps have in common beside their operands. Knows neither Python nor torch.
#pragma once

#include <string>
#include <vector>

namespace attributor {

// The threads that a call may use, its own among them.
struct Threads {
    int count;
    // Where they come from: GOMP_parallel of the OpenMP runtime that the caller uses already, or null to start some. A
    // runtime's idle threads spin for milliseconds and would compete with ours for the cores.
    void (*team)(void (*work)(void*), void* context, unsigned threads, unsigned flags);
};

// Asked by the calling thread about every fifth of a second: true ends the call early.
struct Interrupt {
    bool (*asked)(void* context);
    void* context;
};

// Names of the instruction sets that this build has kernels for and this machine can run, best first; never empty.
std::vector<std::string> usable_isas();

}  // namespace attributor
