// AVX-512 code that the AVX-512, BF16 and AMX kernels share. Every function names its instruction set in an attribute
// and is in an anonymous namespace. With a -m flag for the file, the linker could choose an inline library function
// that is compiled for AVX-512, which would crash an older machine.
#pragma once

#include <immintrin.h>

#include "exponential.h"
#include "kernels.h"

#define ATTRIBUTOR_AVX512 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")))
#define ATTRIBUTOR_AVX512_INLINE inline __attribute__((always_inline)) ATTRIBUTOR_AVX512

namespace attributor::cpu {
namespace {

ATTRIBUTOR_AVX512_INLINE __m512 tanh_avx512(__m512 u) {
    const __m512 limit = _mm512_set1_ps(kTanhLimit);
    u = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), limit), _mm512_min_ps(limit, u));  // keeps NaN, operand 2
    const __m512 x = _mm512_mul_ps(u, _mm512_set1_ps(kTwoLog2e));
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(kExp2m1[5]);
    for (int k = 4; k >= 0; --k) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2m1[k]));
    const __m512 power = _mm512_scalef_ps(_mm512_set1_ps(1.0f), n);
    const __m512 less_one = _mm512_fmadd_ps(_mm512_mul_ps(p, f), power, _mm512_sub_ps(power, _mm512_set1_ps(1.0f)));
    return _mm512_div_ps(less_one, _mm512_add_ps(less_one, _mm512_set1_ps(2.0f)));
}

// The keys of the panel that row r sees.
ATTRIBUTOR_AVX512_INLINE uint64_t visible_keys(const Tile& tile, int r) {
    const int64_t last = r + tile.offset, before = last - tile.window;  // keys in (before, last]
    if (last < 0 || before >= kKeys - 1) return 0;
    const uint64_t causal = last >= kKeys - 1 ? ~uint64_t{0} : (uint64_t{2} << last) - 1;
    return before < 0 ? causal : causal & ~((uint64_t{2} << before) - 1);
}

// 2^x by a polynomial on [0, 1): 9 instructions, all on the multiplier ports. 0 for -inf, NaN for NaN.
struct Polynomial {
    ATTRIBUTOR_AVX512_INLINE __m512 operator()(__m512 x) const {
        const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
        __m512 p = _mm512_set1_ps(kExp2[4]);
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[3]));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[2]));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[1]));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kExp2[0]));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
        return _mm512_scalef_ps(p, x);  // p 2^floor(x)
    }
};

// The constants of a tile's exponentials, in registers.
template <class Exp2>
struct Weigher {
    __m512 gain, cap_in;
    Exp2 exp2;

    ATTRIBUTOR_AVX512_INLINE explicit Weigher(const Tile& tile)
        : gain(_mm512_set1_ps(tile.gain)), cap_in(_mm512_set1_ps(tile.cap_in)) {}

    // Adds (or stores) the weights of 16 products of one row; the pointers and `visible` begin at the first of 16 keys.
    template <class V>
    ATTRIBUTOR_AVX512_INLINE void add(__m512 s, __m512 row_bias, const float* key_bias, uint64_t visible,
                                      bool to_weights, float* weights) const {
        if (V::capped) s = tanh_avx512(_mm512_mul_ps(s, cap_in));
        __m512 x = _mm512_fmadd_ps(s, gain, row_bias);
        if (V::key_bias) x = _mm512_add_ps(x, _mm512_load_ps(key_bias));
        x = exp2(x);
        if (V::masked) x = _mm512_maskz_mov_ps(static_cast<__mmask16>(visible), x);
        if (to_weights) x = _mm512_add_ps(x, _mm512_load_ps(weights));
        _mm512_store_ps(weights, x);
    }
};

// sum + W (s - delta) for 16 keys of one row, for keys for which the row counts; the pointers begin at the first key.
template <bool Masked>
ATTRIBUTOR_AVX512_INLINE __m512 add_change(__m512 sum, __m512 s, __m512 delta, const float* weights, int32_t position,
                                           const int32_t* stops) {
    const __m512 difference = _mm512_sub_ps(s, delta), w = _mm512_load_ps(weights);
    if (!Masked) return _mm512_fmadd_ps(w, difference, sum);
    const __mmask16 counted = _mm512_cmple_epi32_mask(_mm512_load_si512(stops), _mm512_set1_epi32(position));
    return _mm512_mask3_fmadd_ps(w, difference, sum, counted);
}

// Y[o..o+Rows) += R W by fused multiply-adds: Rows x 4 accumulators in registers. A block's sum begins at zero, because
// small terms that are added one by one to a large Y would be lost.
template <int Rows>
ATTRIBUTOR_AVX512_INLINE void multiply_rows(const Product& product, int64_t o) {
    const float* x = product.rows + o * product.stride;
    float* y = product.result + o * kKeys;
    __m512 sum[Rows][4];
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sum[r][v] = _mm512_setzero_ps();
    for (int i = product.begin; i < product.end; ++i) {
        const float* w = product.weights + i * kKeys;
        const __m512 w0 = _mm512_load_ps(w), w1 = _mm512_load_ps(w + 16);
        const __m512 w2 = _mm512_load_ps(w + 32), w3 = _mm512_load_ps(w + 48);
#pragma GCC unroll 6
        for (int r = 0; r < Rows; ++r) {
            const __m512 xi = _mm512_set1_ps(x[r * product.stride + i]);
            sum[r][0] = _mm512_fmadd_ps(xi, w0, sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(xi, w1, sum[r][1]);
            sum[r][2] = _mm512_fmadd_ps(xi, w2, sum[r][2]);
            sum[r][3] = _mm512_fmadd_ps(xi, w3, sum[r][3]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
            float* to = y + r * kKeys + 16 * v;
            _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), sum[r][v]));
        }
}

ATTRIBUTOR_AVX512 void multiply_avx512(const Product& product) {
    int64_t o = 0;
    for (; o + 6 <= product.O; o += 6) multiply_rows<6>(product, o);
    switch (product.O - o) {
        case 5:
            return multiply_rows<5>(product, o);
        case 4:
            return multiply_rows<4>(product, o);
        case 3:
            return multiply_rows<3>(product, o);
        case 2:
            return multiply_rows<2>(product, o);
        case 1:
            return multiply_rows<1>(product, o);
    }
}

// 16 rows of 16 words, each given as a register, to 16 columns.
ATTRIBUTOR_AVX512_INLINE void transpose_registers(__m512i (&r)[16]) {
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// As transpose() in pack.h.
template <int Columns>
ATTRIBUTOR_AVX512 void transpose_avx512(const uint32_t* from, int64_t depth, uint32_t* to) {
    for (int c = 0; c < kKeys; c += 16) {
        uint32_t* columns = to + c / Columns * Columns * depth + c % Columns;
        for (int64_t d = 0; d < depth; d += 16) {
            const int words = static_cast<int>(depth - d < 16 ? depth - d : 16);
            const __mmask16 inside = static_cast<__mmask16>((1u << words) - 1);
            __m512i r[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) r[i] = _mm512_maskz_loadu_epi32(inside, from + (c + i) * depth + d);
            transpose_registers(r);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i)
                if (i < words) _mm512_storeu_si512(columns + (d + i) * Columns, r[i]);
        }
    }
}

template <class Element>
ATTRIBUTOR_AVX512 void pack_query_float32(const Source& source, int64_t depth, uint32_t* packed) {
    pack_float32<Element>(source, kRows, depth, packed);
}

template <class Element, int Columns>
ATTRIBUTOR_AVX512 void pack_key_float32(const Source& source, int64_t depth, uint32_t* packed, uint32_t* scratch) {
    pack_float32<Element>(source, kKeys, depth, scratch);
    transpose_avx512<Columns>(scratch, depth, packed);
}

}  // namespace
}  // namespace attributor::cpu
