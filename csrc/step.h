// The operands of one layer of the recurrence, for every implementation. Independent of Python and torch.
#pragma once

#include <cstdint>

namespace attributor {

enum class Type { float32, bfloat16, float16 };

// A stack of matrices whose last dimension is contiguous; strides count elements.
struct Strided {
    const void* data;
    int64_t head;  // from one head to the next
    int64_t row;   // from one token to the next
};

// Y[o, j] = sum_i rows[o, i] sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j]), j <= i, i - j < window
struct Step {
    int64_t O, N, H, G, D;
    Type type;              // of query and key
    const float* rows;      // (O, N) contiguous
    Strided query;          // (H, N, D)
    Strided key;            // (G, N, D)
    const float* row_bias;  // (H, N) contiguous, natural logarithm; -inf leaves a row out
    const float* key_bias;  // (H, N) contiguous, or null
    float* result;          // (O, N) contiguous, completely written
    double scale, power;
    int64_t window;  // positions that a query sees, its own included; >= N: all
    double softcap;  // 0 for none
};

}  // namespace attributor
