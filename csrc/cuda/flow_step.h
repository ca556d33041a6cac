// flow_step on a Hopper GPU. Knows neither Python nor torch; needs no driver to be loaded.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "../step.h"

namespace attributor::cuda {

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

// Every pointer is to memory of `device`, which is the thread's current device afterwards. `type` is a 16-bit one; the
// addresses of query and key and, where there is more than one head or row, the strides are multiples of 16 bytes.
struct FlowStep : Step {
    const int32_t* heads;  // (2, H): the query heads, those of one key head together; and the key head of each
    void* scratch;         // scratch_bytes() of them, at a multiple of 256
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
