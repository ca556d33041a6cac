// Instructions of Hopper without a CUDA C++ function: barriers in shared memory, the tensor memory accelerator (TMA),
// products of warpgroups (wgmma). tests/cuda has the same functions for a CPU.
#pragma once

#include <cuda.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace attributor::cuda {

using TensorMap = CUtensorMap;
using Barrier = uint64_t;  // an mbarrier

__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// --- indices and synchronisation

__device__ __forceinline__ int thread_index() {
    return threadIdx.x;
}
__device__ __forceinline__ int64_t block_index() {
    return blockIdx.x;
}

__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ __forceinline__ void sync_block() {
    __syncthreads();
}
__device__ __forceinline__ void sync_warp() {
    __syncwarp();
}

// Synchronises all threads of the cluster; earlier writes to shared memory are visible to all afterwards.
__device__ __forceinline__ void sync_cluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Wait at, or only arrive at, a barrier of the thread block for `threads` threads; ids 1 to 15.
__device__ __forceinline__ void named_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <int REGISTERS>
__device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// The largest value in a warp.
__device__ __forceinline__ uint32_t warp_max(uint32_t value) {
    return __reduce_max_sync(0xffffffffu, value);
}
__device__ __forceinline__ uint32_t warp_ballot(bool value) {
    return __ballot_sync(0xffffffffu, value);
}

// The value of the thread whose lane number differs by these bits.
__device__ __forceinline__ float warp_other(float value, int bits) {
    return __shfl_xor_sync(0xffffffffu, value, bits);
}

// A value that is the same in all threads of a warp, in a form that the compiler recognises as uniform.
__device__ __forceinline__ int uniform(int value) {
    return __shfl_sync(0xffffffffu, value, 0);
}

__device__ __forceinline__ int leading_zeros(uint32_t x) {
    return __clz(static_cast<int>(x));
}

// The first multiple of `to` at or after p, in shared memory.
__device__ __forceinline__ char* aligned(char* p, uint32_t to) {
    return p + (-shared_address(p) & (to - 1));
}

// --- barriers in shared memory

__device__ __forceinline__ void barrier_init(Barrier* barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count));
}

// After the inits and before sync_cluster: makes them visible to the accelerator and the other blocks of the cluster.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives; the phase then also waits for so many bytes from the accelerator.
__device__ __forceinline__ void barrier_expect(Barrier* barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

// Arrives at the barrier at the same address in block `rank` of the cluster. Ordered within the thread block only: the
// earlier accesses are reads whose values are in registers. Cluster scope would be a fence of the whole device.
__device__ __forceinline__ void barrier_arrive(Barrier* barrier, uint32_t rank) {
    asm volatile(
        "{\n.reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(shared_address(barrier)),
        "r"(rank)
        : "memory");
}

// Waits until the phase of this parity has ended. The accelerator's writes are then visible; threads write nothing for
// each other.
__device__ __forceinline__ void barrier_wait(Barrier* barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
}

// --- copies from global to shared memory that complete on a barrier

// A box of a tensor of 3 dimensions, from coordinates x (innermost), y, z; zeros where the tensor ends.
__device__ __forceinline__ void load_box(void* to, const TensorMap* map, Barrier* barrier, int x, int y, int z) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
            "r"(shared_address(to)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
        : "memory");
}

// The same for every block of the cluster whose bit is set, to the same address, with the barrier at the same address.
__device__ __forceinline__ void load_box_to(void* to, const TensorMap* map, Barrier* barrier, int x, int y, int z,
                                            uint16_t blocks) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
        " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(to)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(blocks)
        : "memory");
}

// `bytes` contiguous bytes; their number and both addresses are multiples of 16.
__device__ __forceinline__ void load_line(void* to, const void* from, uint32_t bytes, Barrier* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

// --- products of a warpgroup: D (64, n) float32 (+)= A (64, 16) B (n, 16)^T

// The descriptor of a matrix in shared memory, rows of 64 elements of 16 bits, in boxes that the accelerator wrote with
// the 128-byte swizzle: groups of 8 rows are 1024 bytes apart. Adding 2 advances by 16 columns (the unit is 16 bytes).
__device__ __forceinline__ uint64_t matrix(const void* p) {
    constexpr uint64_t swizzle_128 = uint64_t{1} << 62, groups = uint64_t{1024 >> 4} << 32, one = uint64_t{1} << 16;
    return swizzle_128 | groups | one | ((shared_address(p) & 0x3ffff) >> 4);
}

// Before the first product: orders earlier writes to the registers and the shared memory that it reads.
__device__ __forceinline__ void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until all are done: then results may be read, and operands may be overwritten.
template <int N>
__device__ __forceinline__ void products_wait(float (&d)[N]) {
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");  // no read of d moves above this
}

#define ATTRIBUTOR_R8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define ATTRIBUTOR_R32                                                                                     \
    ATTRIBUTOR_R8                                                                                          \
    ", %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, " \
    "%28, %29, %30, %31"
#define ATTRIBUTOR_R64                                                                                           \
    ATTRIBUTOR_R32                                                                                               \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52," \
    " %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define ATTRIBUTOR_R96                                                                                           \
    ATTRIBUTOR_R64                                                                                               \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84," \
    " %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define ATTRIBUTOR_D4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ATTRIBUTOR_D8(d, i) ATTRIBUTOR_D4(d, i), ATTRIBUTOR_D4(d, i + 4)
#define ATTRIBUTOR_D32(d, i) \
    ATTRIBUTOR_D8(d, i), ATTRIBUTOR_D8(d, i + 8), ATTRIBUTOR_D8(d, i + 16), ATTRIBUTOR_D8(d, i + 24)
#define ATTRIBUTOR_D64(d, i) ATTRIBUTOR_D32(d, i), ATTRIBUTOR_D32(d, i + 32)
#define ATTRIBUTOR_D96(d, i) ATTRIBUTOR_D64(d, i), ATTRIBUTOR_D32(d, i + 64)

// Both operands from shared memory; A and B are `matrix` descriptors.
#define ATTRIBUTOR_PRODUCT(N, COUNT, A_AT, B_AT, C_AT, TYPE)                                              \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #C_AT                                               \
                 ", 0;\n"                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" ATTRIBUTOR_R##COUNT \
                 "}, %" #A_AT ", %" #B_AT ", p, 1, 1, 0, 0;\n}"                                           \
                 : ATTRIBUTOR_D##COUNT(d, 0)                                                              \
                 : "l"(a), "l"(b), "r"(static_cast<int>(add)))

template <bool HALF>
__device__ __forceinline__ void product(float (&d)[32], uint64_t a, uint64_t b, bool add) {
    if constexpr (HALF)
        ATTRIBUTOR_PRODUCT(64, 32, 32, 33, 34, "f16");
    else
        ATTRIBUTOR_PRODUCT(64, 32, 32, 33, 34, "bf16");
}

template <bool HALF>
__device__ __forceinline__ void product(float (&d)[64], uint64_t a, uint64_t b, bool add) {
    if constexpr (HALF)
        ATTRIBUTOR_PRODUCT(128, 64, 64, 65, 66, "f16");
    else
        ATTRIBUTOR_PRODUCT(128, 64, 64, 65, 66, "bf16");
}

template <bool HALF>
__device__ __forceinline__ void product(float (&d)[96], uint64_t a, uint64_t b, bool add) {
    if constexpr (HALF)
        ATTRIBUTOR_PRODUCT(192, 96, 96, 97, 98, "f16");
    else
        ATTRIBUTOR_PRODUCT(192, 96, 96, 97, 98, "bf16");
}

// A from registers: thread t of a warp holds rows t / 4 and t / 4 + 8 (a[0], a[1]), columns 2 (t % 4) and the next one;
// then the same 8 columns further (a[2], a[3]). They must not change before products_wait.
#define ATTRIBUTOR_PRODUCT_A(N, COUNT, A0, A1, A2, A3, B_AT, C_AT, TYPE)                                  \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #C_AT                                               \
                 ", 0;\n"                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" ATTRIBUTOR_R##COUNT \
                 "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B_AT ", p, 1, 1, 0;\n}"                \
                 : ATTRIBUTOR_D##COUNT(d, 0)                                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)))

template <bool HALF>
__device__ __forceinline__ void product_from(float (&d)[8], const uint32_t* a, uint64_t b, bool add) {
    static_assert(HALF, "the rows of R are float16");
    ATTRIBUTOR_PRODUCT_A(16, 8, 8, 9, 10, 11, 12, 13, "f16");
}

template <bool HALF>
__device__ __forceinline__ void product_from(float (&d)[32], const uint32_t* a, uint64_t b, bool add) {
    if constexpr (HALF)
        ATTRIBUTOR_PRODUCT_A(64, 32, 32, 33, 34, 35, 36, 37, "f16");
    else
        ATTRIBUTOR_PRODUCT_A(64, 32, 32, 33, 34, 35, 36, 37, "bf16");
}

// Four matrices of 8 rows of 16 bytes from shared memory. Each thread gives the address of one row: threads 0 to 7
// those of the first matrix. Thread t gets 4 bytes of each matrix: row t / 4, elements 2 (t % 4) and the next one.
__device__ __forceinline__ void load_matrices(uint32_t* to, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Keeps registers that products read unchanged up to here; call it after products_wait.
template <int N>
__device__ __forceinline__ void keep_until_here(const uint32_t (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" ::"r"(x[i]));
}

// --- arithmetic

__device__ __forceinline__ float exp2_unit(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Accurate to 2 units in the last place; 0 for divisors above 2^126.
__device__ __forceinline__ float divide(float x, float y) {
    return __fdividef(x, y);
}

__device__ __forceinline__ float from_bits(uint32_t x) {
    return __uint_as_float(x);
}
__device__ __forceinline__ uint32_t to_bits(float x) {
    return __float_as_uint(x);
}

// Two floats rounded to float16, the first in the low half; and back.
__device__ __forceinline__ uint32_t pack_half(float x, float y) {
    __half2 both = __floats2half2_rn(x, y);
    return *reinterpret_cast<uint32_t*>(&both);
}
__device__ __forceinline__ float2 unpack_half(uint32_t both) {
    return __half22float2(*reinterpret_cast<__half2*>(&both));
}

// Adds without waiting for the sum; only one thread adds to an address, so the order is that of its program.
__device__ __forceinline__ void add_to(float* p, float x) {
    asm volatile("red.global.add.f32 [%0], %1;" ::"l"(p), "f"(x) : "memory");
}

}  // namespace attributor::cuda
