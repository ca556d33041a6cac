// removal_step on the CPU. Independent of Python and torch.
#pragma once

#include <cstdint>
#include <string>

#include "call.h"
#include "step.h"

namespace attributor {

// c[j] = sum_(h, i >= stops[j]) exp(logit_h[i, j] - lse[h, i]) (dO_h[i] . v_g(h)[j] - delta[h, i]), i - j < window
struct RemovalStep {
    int64_t Q, N, H, G, D, Dv;  // query row 0 is at position N - Q; head h reads key head h / (H / G)
    Type type;                  // of query, key, value and dO
    Strided query;              // (H, Q, D)
    Strided key;                // (G, N, D)
    Strided value;              // (G, N, Dv)
    Strided d_output;           // (H, Q, Dv), dO
    const float* lse;           // (H, Q) contiguous, natural logarithm; inf leaves a row out
    const float* delta;         // (H, Q) contiguous; 0 where dO is zero
    const int64_t* stops;       // (N,), stops[j] > j
    double* result;             // (N,), completely written
    double scale;
    int64_t window;  // positions that a query sees, its own included; >= N: all
    double softcap;  // 0 for none
    Threads threads;
};

// Returns false if `interrupt` ended it; `isa`, exceptions and reproducibility as in flow_step().
bool removal_step(const RemovalStep& step, const std::string& isa, Interrupt interrupt);

}  // namespace attributor
