// The interface between the host code and the kernels, which are compiled in one file per head size.
#pragma once

#include <cuda_runtime.h>

#include "flow_step.h"
#include "kernel.cuh"

namespace attributor::cuda {

// The properties that select a variant.
struct Choice {
    Rows rows;
    bool half, general;
    Tuning tuning;
};

// Where Y is added up. Up to 16 rows stay in registers. More rows stay there if few heads share the pass over Y in
// memory, which is needed once per tile for all heads. With 128 columns and 8 heads or more, that pass is cheap, and it
// pays more to keep K in registers, because shared memory would be too slow. With the biases of `general`, or with 256
// columns, 128 rows would spill.
constexpr int MANY_HEADS = 8;
constexpr Rows rows_of(int64_t O, int64_t H, int D, bool general) {
    if (O == 1) return Rows::one;
    if (O <= 16) return Rows::to_16;
    const bool roomy = !general && D <= 128;
    if (O > (roomy ? 128 : 64) || (H >= MANY_HEADS && D == 128)) return Rows::more;
    return roomy ? Rows::to_128 : Rows::to_64;
}

void launch_64(const Choice& choice, const Arguments& arguments, cudaStream_t stream);
void launch_128(const Choice& choice, const Arguments& arguments, cudaStream_t stream);
void launch_256(const Choice& choice, const Arguments& arguments, cudaStream_t stream);
// Returns whether there is such a variant; only in a build for measurements.
bool launch_tuning(int D, const Choice& choice, const Arguments& arguments, cudaStream_t stream);

inline void check(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // else the next successful call would report this error
    throw Error(std::string(call) + ": " + cudaGetErrorString(status));
}

#if defined(__CUDACC__)

template <class V>
__global__ void __cluster_dims__(V::CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
    flow_step_kernel(const __grid_constant__ Arguments a) {
    extern __shared__ char raw[];
    flow_step_item<V>(a, raw);
}

template <class V>
void launch(const Arguments& a, cudaStream_t stream) {
    check(cudaFuncSetAttribute(flow_step_kernel<V>, cudaFuncAttributeMaxDynamicSharedMemorySize, V::SHARED_BYTES),
          "shared memory of the kernel");
    flow_step_kernel<V><<<a.schedule.items() * V::CLUSTER, THREADS, V::SHARED_BYTES, stream>>>(a);
    check(cudaGetLastError(), "launch of the kernel");
}

template <int D, bool HALF, bool GENERAL>
void launch_rows(Rows rows, const Arguments& a, cudaStream_t stream) {
    switch (rows) {
        case Rows::one:
            return launch<Variant<D, Rows::one, HALF, GENERAL>>(a, stream);
        case Rows::to_16:
            return launch<Variant<D, Rows::to_16, HALF, GENERAL>>(a, stream);
        case Rows::more:
            return launch<Variant<D, Rows::more, HALF, GENERAL>>(a, stream);
        default:
            return launch<Variant<D, rows_of(64, 1, D, GENERAL), HALF, GENERAL>>(a, stream);
    }
}

template <int D>
void launch_any(const Choice& choice, const Arguments& a, cudaStream_t stream) {
    if (choice.half)
        choice.general ? launch_rows<D, true, true>(choice.rows, a, stream)
                       : launch_rows<D, true, false>(choice.rows, a, stream);
    else
        choice.general ? launch_rows<D, false, true>(choice.rows, a, stream)
                       : launch_rows<D, false, false>(choice.rows, a, stream);
}

#endif

}  // namespace attributor::cuda
