// float32 products by AVX-512: 12 queries x 32 keys in 24 registers, the exponential on the accumulators. Half a panel
// of keys (16 KiB at D = 128) stays in the L1 cache with the tile of weights during the loop over all queries. A whole
// panel does not fit, so a kernel of 6 x 64 waits for the L2 cache.
#include "avx512.h"

namespace attributor::cpu {
namespace {

constexpr int kStep = 12;
constexpr int kColumns = 32;

// s = queries . keys: kStep rows, of which `query` is the first, x kColumns keys.
ATTRIBUTOR_AVX512_INLINE void multiply_keys(const float* query, const float* key, int64_t depth,
                                            __m512 (&s)[kStep][2]) {
#pragma GCC unroll 12
    for (int r = 0; r < kStep; ++r) s[r][0] = s[r][1] = _mm512_setzero_ps();
    for (int64_t d = 0; d < depth; ++d, key += kColumns) {
        const __m512 k0 = _mm512_load_ps(key), k1 = _mm512_load_ps(key + 16);
#pragma GCC unroll 12
        for (int r = 0; r < kStep; ++r) {
            const __m512 q = _mm512_set1_ps(query[r * depth + d]);
            s[r][0] = _mm512_fmadd_ps(q, k0, s[r][0]);
            s[r][1] = _mm512_fmadd_ps(q, k1, s[r][1]);
        }
    }
}

template <class V>
ATTRIBUTOR_AVX512_INLINE void weigh_rows(const Tile& tile, const Head& head, bool add, int first, int half) {
    __m512 s[kStep][2];
    multiply_keys(reinterpret_cast<const float*>(head.query) + first * tile.depth,
                  reinterpret_cast<const float*>(head.key) + half * tile.depth * kColumns, tile.depth, s);
    const Weigher<Polynomial> weigher(tile);
    const float* bias = head.key_bias + half * kColumns;
    float* weights = tile.weights + first * kKeys + half * kColumns;
#pragma GCC unroll 12
    for (int r = 0; r < kStep; ++r, weights += kKeys) {
        const __m512 row_bias = _mm512_set1_ps(head.row_bias[first + r]);
        const uint64_t visible = V::masked ? visible_keys(tile, first + r) >> (half * kColumns) : 0;
        weigher.add<V>(s[r][0], row_bias, bias, visible, add, weights);
        weigher.add<V>(s[r][1], row_bias, bias + 16, visible >> 16, add, weights + 16);
    }
}

template <class V>
ATTRIBUTOR_AVX512 void weigh_variant(const Tile& tile) {
    for (int h = 0; h < tile.count; ++h)
        for (int half = 0; half < 2; ++half)
            for (int r = tile.begin; r < tile.end; r += kStep)
                weigh_rows<V>(tile, tile.heads[h], tile.add || h > 0, r, half);
}

void weigh(const Tile& tile) {
    static constexpr void (*variants[])(const Tile&) = ATTRIBUTOR_VARIANTS(weigh_variant);
    variants[variant_of(tile)](tile);
}

template <bool Masked>
ATTRIBUTOR_AVX512_INLINE void change_rows(const Change& change, int first, int half) {
    __m512 s[kStep][2];
    multiply_keys(reinterpret_cast<const float*>(change.d_output) + first * change.depth,
                  reinterpret_cast<const float*>(change.value) + half * change.depth * kColumns, change.depth, s);
    float* sums = change.sums + half * kColumns;
    const int32_t* stops = change.stops + half * kColumns;
    const float* weights = change.weights + first * kKeys + half * kColumns;
    __m512 sum0 = _mm512_load_ps(sums), sum1 = _mm512_load_ps(sums + 16);
#pragma GCC unroll 12
    for (int r = 0; r < kStep; ++r, weights += kKeys) {
        const __m512 delta = _mm512_set1_ps(change.delta[first + r]);
        const int32_t position = change.first + first + r;
        sum0 = add_change<Masked>(sum0, s[r][0], delta, weights, position, stops);
        sum1 = add_change<Masked>(sum1, s[r][1], delta, weights + 16, position, stops + 16);
    }
    _mm512_store_ps(sums, sum0);
    _mm512_store_ps(sums + 16, sum1);
}

template <bool Masked>
ATTRIBUTOR_AVX512 void sum_changes_of(const Change& change) {
    for (int half = 0; half < 2; ++half)
        for (int r = change.begin; r < change.end; r += kStep) change_rows<Masked>(change, r, half);
}

void sum_changes(const Change& change) {
    (change.masked ? sum_changes_of<true> : sum_changes_of<false>)(change);
}

template <class Element>
constexpr Kernels kernels_of{{1, 1, 1},
                             kStep,
                             pack_query_float32<Element>,
                             pack_key_float32<Element, kColumns>,
                             weigh,
                             multiply_avx512,
                             sum_changes,
                             nullptr,
                             nullptr,
                             nullptr,
                             nullptr};

}  // namespace

const Kernels& avx512_kernels(Type type) {
    return type == Type::float32    ? kernels_of<Float32>
           : type == Type::bfloat16 ? kernels_of<BFloat16>
                                    : kernels_of<Float16>;
}

}  // namespace attributor::cpu
