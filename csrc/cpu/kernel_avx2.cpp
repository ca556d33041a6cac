// float32 products by AVX2 and FMA: 6 queries x 16 keys in 12 of 16 registers. A quarter of a panel of keys stays in
// the L1 cache during the loop over all queries.
#include <immintrin.h>

#include "exponential.h"
#include "kernels.h"

#define ATTRIBUTOR_AVX2 __attribute__((target("avx2,fma,f16c")))
#define ATTRIBUTOR_AVX2_INLINE inline __attribute__((always_inline)) ATTRIBUTOR_AVX2

namespace attributor::cpu {
namespace {

constexpr int kStep = 6;
constexpr int kColumns = 16;

// 2^x: 0 below the normal range and for -inf, infinity above it, NaN for NaN.
ATTRIBUTOR_AVX2_INLINE __m256 exp2_avx2(__m256 x) {
    const __m256 lowest = _mm256_set1_ps(-126.0f), one = _mm256_set1_ps(1.0f);
    const __m256 normal = _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ);          // or NaN
    x = _mm256_min_ps(_mm256_set1_ps(128.0f), _mm256_max_ps(lowest, x));  // NaN is the second operand, so it is kept
    const __m256 n = _mm256_floor_ps(x);
    const __m256 f = _mm256_sub_ps(x, n);
    __m256 p = _mm256_set1_ps(kExp2[4]);
#pragma GCC unroll 4
    for (int k = 3; k >= 0; --k) p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2[k]));
    p = _mm256_fmadd_ps(p, f, one);
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    // Adding to the exponent turns 1 at n = 128 into infinity.
    const __m256i value = _mm256_add_epi32(_mm256_castps_si256(p), exponent);
    return _mm256_and_ps(normal, _mm256_castsi256_ps(value));
}

ATTRIBUTOR_AVX2_INLINE __m256 tanh_avx2(__m256 u) {
    const __m256 limit = _mm256_set1_ps(kTanhLimit), one = _mm256_set1_ps(1.0f);
    u = _mm256_max_ps(_mm256_set1_ps(-kTanhLimit), _mm256_min_ps(limit, u));
    const __m256 x = _mm256_mul_ps(u, _mm256_set1_ps(kTwoLog2e));
    const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 f = _mm256_sub_ps(x, n);
    __m256 p = _mm256_set1_ps(kExp2m1[5]);
#pragma GCC unroll 5
    for (int k = 4; k >= 0; --k) p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kExp2m1[k]));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    const __m256 power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(one), exponent));
    const __m256 less_one = _mm256_fmadd_ps(_mm256_mul_ps(p, f), power, _mm256_sub_ps(power, one));
    return _mm256_div_ps(less_one, _mm256_add_ps(less_one, _mm256_set1_ps(2.0f)));
}

template <class V>
ATTRIBUTOR_AVX2_INLINE void add_weights(const Tile& tile, const Head& head, bool add, int r, int c, __m256 s) {
    const __m256 bias = _mm256_set1_ps(head.row_bias[r]), gain = _mm256_set1_ps(tile.gain);
    if (V::capped) s = tanh_avx2(_mm256_mul_ps(s, _mm256_set1_ps(tile.cap_in)));
    __m256 x = _mm256_fmadd_ps(s, gain, bias);
    if (V::key_bias) x = _mm256_add_ps(x, _mm256_loadu_ps(head.key_bias + c));
    x = exp2_avx2(x);
    if (V::masked) {
        // Visible where 0 <= last - column < window; both fit in 32 bits next to the diagonal and the window's edge.
        const int64_t last = r + tile.offset - c, before = last - tile.window;
        const __m256i column = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const __m256i causal = _mm256_cmpgt_epi32(column, _mm256_set1_epi32(static_cast<int>(last < 8 ? last : 8)));
        const __m256i inside = _mm256_cmpgt_epi32(column, _mm256_set1_epi32(static_cast<int>(before < -1  ? -1
                                                                                             : before < 8 ? before
                                                                                                          : 8)));
        x = _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_andnot_si256(causal, inside)));
    }
    float* weights = tile.weights + r * kKeys + c;
    if (add) x = _mm256_add_ps(x, _mm256_load_ps(weights));
    _mm256_store_ps(weights, x);
}

// s = queries . keys: kStep rows, of which `query` is the first, x kColumns keys.
ATTRIBUTOR_AVX2_INLINE void multiply_keys(const float* query, const float* key, int64_t depth, __m256 (&s)[kStep][2]) {
#pragma GCC unroll 6
    for (int r = 0; r < kStep; ++r) s[r][0] = s[r][1] = _mm256_setzero_ps();
    for (int64_t d = 0; d < depth; ++d, key += kColumns) {
        const __m256 k0 = _mm256_load_ps(key), k1 = _mm256_load_ps(key + 8);
#pragma GCC unroll 6
        for (int r = 0; r < kStep; ++r) {
            const __m256 q = _mm256_broadcast_ss(query + r * depth + d);
            s[r][0] = _mm256_fmadd_ps(q, k0, s[r][0]);
            s[r][1] = _mm256_fmadd_ps(q, k1, s[r][1]);
        }
    }
}

template <class V>
ATTRIBUTOR_AVX2_INLINE void weigh_rows(const Tile& tile, const Head& head, bool add, int first, int quarter) {
    __m256 s[kStep][2];
    multiply_keys(reinterpret_cast<const float*>(head.query) + first * tile.depth,
                  reinterpret_cast<const float*>(head.key) + quarter * tile.depth * kColumns, tile.depth, s);
#pragma GCC unroll 6
    for (int r = 0; r < kStep; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) add_weights<V>(tile, head, add, first + r, quarter * kColumns + 8 * v, s[r][v]);
}

template <class V>
ATTRIBUTOR_AVX2 void weigh_variant(const Tile& tile) {
    for (int h = 0; h < tile.count; ++h)
        for (int quarter = 0; quarter < kKeys / kColumns; ++quarter)
            for (int r = tile.begin; r < tile.end; r += kStep)
                weigh_rows<V>(tile, tile.heads[h], tile.add || h > 0, r, quarter);
}

void weigh(const Tile& tile) {
    static constexpr void (*variants[])(const Tile&) = ATTRIBUTOR_VARIANTS(weigh_variant);
    variants[variant_of(tile)](tile);
}

template <bool Masked>
ATTRIBUTOR_AVX2_INLINE void change_rows(const Change& change, int first, int quarter) {
    __m256 s[kStep][2];
    multiply_keys(reinterpret_cast<const float*>(change.d_output) + first * change.depth,
                  reinterpret_cast<const float*>(change.value) + quarter * change.depth * kColumns, change.depth, s);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
        const int c = quarter * kColumns + 8 * v;
        const __m256i stops = _mm256_load_si256(reinterpret_cast<const __m256i*>(change.stops + c));
        __m256 sum = _mm256_load_ps(change.sums + c);
#pragma GCC unroll 6
        for (int r = 0; r < kStep; ++r) {
            const __m256 weights = _mm256_load_ps(change.weights + (first + r) * kKeys + c);
            __m256 term = _mm256_mul_ps(weights, _mm256_sub_ps(s[r][v], _mm256_set1_ps(change.delta[first + r])));
            if (Masked) {
                const __m256i hidden = _mm256_cmpgt_epi32(stops, _mm256_set1_epi32(change.first + first + r));
                term = _mm256_andnot_ps(_mm256_castsi256_ps(hidden), term);
            }
            sum = _mm256_add_ps(sum, term);
        }
        _mm256_store_ps(change.sums + c, sum);
    }
}

template <bool Masked>
ATTRIBUTOR_AVX2 void sum_changes_of(const Change& change) {
    for (int quarter = 0; quarter < kKeys / kColumns; ++quarter)
        for (int r = change.begin; r < change.end; r += kStep) change_rows<Masked>(change, r, quarter);
}

void sum_changes(const Change& change) {
    (change.masked ? sum_changes_of<true> : sum_changes_of<false>)(change);
}

// Rows x 16 of Y in registers.
template <int Rows>
ATTRIBUTOR_AVX2_INLINE void multiply_rows(const Product& product, int64_t o) {
    const float* x = product.rows + o * product.stride;
    for (int c = 0; c < kKeys; c += kColumns) {
        float* y = product.result + o * kKeys + c;
        __m256 sum[Rows][2];
#pragma GCC unroll 6
        for (int r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
        for (int i = product.begin; i < product.end; ++i) {
            const __m256 w0 = _mm256_load_ps(product.weights + i * kKeys + c);
            const __m256 w1 = _mm256_load_ps(product.weights + i * kKeys + c + 8);
#pragma GCC unroll 6
            for (int r = 0; r < Rows; ++r) {
                const __m256 xi = _mm256_broadcast_ss(x + r * product.stride + i);
                sum[r][0] = _mm256_fmadd_ps(xi, w0, sum[r][0]);
                sum[r][1] = _mm256_fmadd_ps(xi, w1, sum[r][1]);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < Rows; ++r) {
            _mm256_store_ps(y + r * kKeys, _mm256_add_ps(_mm256_load_ps(y + r * kKeys), sum[r][0]));
            _mm256_store_ps(y + r * kKeys + 8, _mm256_add_ps(_mm256_load_ps(y + r * kKeys + 8), sum[r][1]));
        }
    }
}

ATTRIBUTOR_AVX2 void multiply(const Product& product) {
    int64_t o = 0;
    for (; o + 6 <= product.O; o += 6) multiply_rows<6>(product, o);
    for (; o + 3 <= product.O; o += 3) multiply_rows<3>(product, o);
    for (; o < product.O; ++o) multiply_rows<1>(product, o);
}

template <class Element>
ATTRIBUTOR_AVX2 void pack_query(const Source& source, int64_t depth, uint32_t* packed) {
    pack_float32<Element>(source, kRows, depth, packed);
}

template <class Element>
ATTRIBUTOR_AVX2 void pack_key(const Source& source, int64_t depth, uint32_t* packed, uint32_t* scratch) {
    pack_float32<Element>(source, kKeys, depth, scratch);
    transpose<kColumns>(scratch, depth, packed);
}

template <class Element>
constexpr Kernels kernels_of{
    {1, 1, 1}, kStep,  pack_query<Element>, pack_key<Element>, weigh, multiply, sum_changes, nullptr, nullptr,
    nullptr,   nullptr};

}  // namespace

const Kernels& avx2_kernels(Type type) {
    return type == Type::float32    ? kernels_of<Float32>
           : type == Type::bfloat16 ? kernels_of<BFloat16>
                                    : kernels_of<Float16>;
}

}  // namespace attributor::cpu
