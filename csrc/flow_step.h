// flow_step on the CPU. Knows neither Python nor torch.
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

// False when `interrupt` ended it: the result is then incomplete. `isa` is one of usable_isas(); throws
// std::invalid_argument for any other and std::bad_alloc when the packed operands do not fit. The same bits come out
// for every number of threads.
bool flow_step(const FlowStep& step, const std::string& isa, Interrupt interrupt);

}  // namespace attributor
