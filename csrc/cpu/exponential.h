// Coefficients that all exponentials of the kernels share, and the portable exponential.
#pragma once

#include <limits>

#include "pack.h"

namespace attributor::cpu {
namespace {

// 2^f on [0, 1): 1 + f (c[0] + f (c[1] + ...)). Relative error 8.2e-8 before rounding (minimax; exact at f = 0).
constexpr float kExp2[5] = {0x1.62e4bap-1f, 0x1.ebdb56p-3f, 0x1.c91ce6p-5f, 0x1.277854p-7f, 0x1.e974fcp-10f};

// 2^f - 1 on [-1/2, 1/2]: f (c[0] + f (c[1] + ...)). Relative error 1.1e-8, as tanh near 0 needs it.
constexpr float kExp2m1[6] = {0.6931471879267088f,  0.24022649794964934f,   0.05550357433555323f,
                              0.00961823749379134f, 0.0013390735520835578f, 0.00015403512802138276f};

constexpr float kTwoLog2e = 2.88539008177792681472f;
constexpr float kTanhLimit = 10.0f;  // above this, tanh is 1 in float32

// 2^x without branches, so that compilers vectorise it; 0 below the normal range, infinity above it, NaN for NaN.
ATTRIBUTOR_INLINE float exp2_portable(float x) {
    const float clamped = x < -126.0f ? -126.0f : (x > 127.0f ? 127.0f : x);
    int n = static_cast<int>(clamped == clamped ? clamped : 0.0f);
    n -= static_cast<float>(n) > clamped;
    const float f = clamped - static_cast<float>(n);
    float p = kExp2[4];
    for (int k = 3; k >= 0; --k) p = p * f + kExp2[k];
    const float value = (p * f + 1.0f) * as_float(static_cast<uint32_t>(n + 127) << 23);
    return x < -126.0f ? 0.0f : (x >= 128.0f ? std::numeric_limits<float>::infinity() : value);
}

// tanh(u) = (e^2u - 1) / (e^2u + 1), computed from e^2u - 1, so that small values keep their relative accuracy.
ATTRIBUTOR_INLINE float tanh_portable(float u) {
    const float bounded = u < -kTanhLimit ? -kTanhLimit : (u > kTanhLimit ? kTanhLimit : u);
    const float x = bounded * kTwoLog2e;
    const int n = static_cast<int>((x == x ? x : 0.0f) + (x < 0.0f ? -0.5f : 0.5f));
    const float f = x - static_cast<float>(n);
    float p = kExp2m1[5];
    for (int k = 4; k >= 0; --k) p = p * f + kExp2m1[k];
    const float power = as_float(static_cast<uint32_t>(n + 127) << 23);
    const float less_one = p * f * power + (power - 1.0f);
    return less_one / (less_one + 2.0f);
}

}  // namespace
}  // namespace attributor::cpu
