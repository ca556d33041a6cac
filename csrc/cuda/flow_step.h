// flow_step on a Hopper GPU. Independent of Python and torch; can be loaded without a driver.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "../step.h"

namespace attributor::cuda {

// How the kernel divides the work. For the first five, other values than these are compiled for measurements only
// (ATTRIBUTOR_CUDA_TUNING), and not in every combination.
struct Tuning {
    int queries = 128;         // per tile: 128, or 192 with `turns`
    bool turns = false;        // two warpgroups take turns with one S each, instead of two halves of S each
    int cluster = 2;           // thread blocks that share every tile of queries: 1 or 2
    int emulated = 0;          // how many of 8 exponentials the multipliers compute: 0 or 2
    bool keys_shared = false;  // K is multiplied from shared memory even if registers could hold it
    int held = -1;             // 1: Y stays in registers, up to 128 rows; 0: it is added up in memory; -1: automatic
    int group = 8;             // blocks of keys that run together
    int parts = 0;             // parts of the queries; 0: automatic
};

// Every pointer is to memory of `device`, which becomes the thread's current device. `type` has 16 bits. The addresses
// of query and key are multiples of 16 bytes, and so are the strides if there is more than one head or row.
struct FlowStep : Step {
    const int32_t* heads;  // (2, H): the query heads, grouped by key head; and the key head of each
    void* scratch;         // scratch_bytes() bytes, at a multiple of 256
    int device;
    void* stream;  // cudaStream_t
    Tuning tuning;
};

// An error of the driver or the runtime, with the call that failed.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

constexpr int MAX_HEAD_SIZE = 256;

// Bytes of device memory that a call needs beside its arguments. Throws std::invalid_argument like flow_step.
int64_t scratch_bytes(const FlowStep& step);

// Enqueues the work on the stream and returns without waiting or allocating. The result is bitwise reproducible. Throws
// std::invalid_argument if no kernel is compiled for the sizes or the tuning, and Error for a device that is not of
// compute capability 9.0 or for an error of the driver.
void flow_step(const FlowStep& step);

// The compiled kernels, in words.
std::string kernels();

}  // namespace attributor::cuda
