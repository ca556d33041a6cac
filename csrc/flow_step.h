// flow_step on the CPU. Independent of Python and torch.
#pragma once

#include <cstdint>
#include <string>

#include "call.h"
#include "step.h"

namespace attributor {

struct FlowStep : Step {
    const int64_t* kv_index;  // (H,), each in [0, G)
    Threads threads;
};

// Returns false if `interrupt` ended it; the result is then incomplete. `isa` is one of usable_isas(). Throws
// std::invalid_argument for any other name and std::bad_alloc if the packed operands do not fit. The result is bitwise
// the same for every number of threads.
bool flow_step(const FlowStep& step, const std::string& isa, Interrupt interrupt);

}  // namespace attributor
