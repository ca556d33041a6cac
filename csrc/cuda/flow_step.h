// flow_step on a Hopper GPU: one layer of the recurrence. Knows neither Python nor torch; needs no driver to be loaded.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace attributor::cuda {

enum class Type { bfloat16, float16 };

// A stack of matrices in device memory whose last dimension is contiguous; strides count elements. The address and,
// where there is more than one, the strides are multiples of 16 bytes.
struct Strided {
    const void* data;
    int64_t head;
    int64_t row;
};

// How the kernel is cut. Other values than these of the first five are compiled for measuring only
// (ATTRIBUTOR_CUDA_TUNING), and not in every combination.
struct Tuning {
    int queries = 128;         // of a tile: 128, or 192 with `turns`
    bool turns = false;        // two warpgroups take turns with one S each, instead of two halves of S each
    int cluster = 2;           // thread blocks that share every tile of queries: 1 or 2
    int emulated = 0;          // of 8 exponentials, those computed by the multipliers: 0 or 2
    bool keys_shared = false;  // K is multiplied from shared memory also where registers could hold it
    int held = -1;             // 1: Y stays in registers, up to 128 rows; 0: it is added up in memory; -1 chooses
    int group = 8;             // blocks of keys that run side by side
    int parts = 0;             // of the queries; 0 chooses
};

// Y[o, j] = sum_i rows[o, i] sum_h exp(power * logit_h[i, j] + row_bias[h, i] + key_bias[h, j]), j <= i, i - j <
// window. Every pointer is to memory of `device`, which is the thread's current device afterwards.
struct FlowStep {
    int64_t O, N, H, G, D;
    Type type;              // of query and key
    const float* rows;      // (O, N) contiguous
    Strided query;          // (H, N, D)
    Strided key;            // (G, N, D)
    const float* row_bias;  // (H, N) contiguous, natural logarithm; -inf leaves a row out
    const float* key_bias;  // (H, N) contiguous, or null
    const int32_t* heads;   // (2, H): the query heads, those of one key head together; and the key head of each
    float* result;          // (O, N) contiguous, written whole
    double scale, power;
    int64_t window;  // positions that a query sees, its own included; >= N for all
    double softcap;  // 0 for none
    void* scratch;   // scratch_bytes() of them, at a multiple of 256
    int device;
    void* stream;  // cudaStream_t
    Tuning tuning;
};

// What the driver or the runtime said, and at which call.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

constexpr int MAX_HEAD_SIZE = 256;

// Bytes of device memory that a call needs beside its arguments. Throws std::invalid_argument like flow_step.
int64_t scratch_bytes(const FlowStep& step);

// Enqueues the work on the stream and returns: nothing is waited for, nothing allocated. The same bits come out every
// time. Throws std::invalid_argument for sizes or a tuning that no kernel is compiled for, and Error for a device that
// is not of compute capability 9.0 or a driver that refuses.
void flow_step(const FlowStep& step);

// Names of the kernels that are compiled, in the order that they are tried.
std::string kernels();

}  // namespace attributor::cuda
