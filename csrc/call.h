// Types that the CPU steps share, apart from operands. Independent of Python and torch.
#pragma once

#include <string>
#include <vector>

namespace attributor {

// The threads that a call may use, including its own.
struct Threads {
    int count;
    // GOMP_parallel of the OpenMP runtime that the caller already uses, or null to start new threads. Idle threads of a
    // runtime spin for milliseconds and would compete with new threads for the cores.
    void (*team)(void (*work)(void*), void* context, unsigned threads, unsigned flags);
};

// The calling thread calls it about every fifth of a second; true ends the call early.
struct Interrupt {
    bool (*asked)(void* context);
    void* context;
};

// Names of the instruction sets that this build has kernels for and this machine can run, best first; never empty.
std::vector<std::string> usable_isas();

}  // namespace attributor
