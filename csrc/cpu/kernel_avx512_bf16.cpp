// bfloat16 products by VDPBF16PS, accumulated in float32: 6 queries x 64 keys in 24 registers, two elements of D per
// instruction. It is for Zen 4, where it runs at twice the rate of float32 (Intel: at the same rate, but with half the
// loads). Other types use the float32 kernel.
#include "avx512.h"

#define ATTRIBUTOR_BF16 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define ATTRIBUTOR_BF16_INLINE inline __attribute__((always_inline)) ATTRIBUTOR_BF16

namespace attributor::cpu {
namespace {

constexpr int kStep = 6;

ATTRIBUTOR_BF16_INLINE __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

// s = queries . keys: kStep rows, of which `query` is the first, x the keys of a panel.
ATTRIBUTOR_BF16_INLINE void multiply_keys(const uint32_t* query, const uint32_t* key, int64_t depth,
                                          __m512 (&s)[kStep][4]) {
#pragma GCC unroll 6
    for (int r = 0; r < kStep; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) s[r][v] = _mm512_setzero_ps();
    for (int64_t d = 0; d < depth; ++d, key += kKeys) {
        const __m512i k0 = _mm512_load_si512(key), k1 = _mm512_load_si512(key + 16);
        const __m512i k2 = _mm512_load_si512(key + 32), k3 = _mm512_load_si512(key + 48);
#pragma GCC unroll 6
        for (int r = 0; r < kStep; ++r) {
            const __m512i q = _mm512_set1_epi32(static_cast<int>(query[r * depth + d]));
            s[r][0] = dot(s[r][0], q, k0);
            s[r][1] = dot(s[r][1], q, k1);
            s[r][2] = dot(s[r][2], q, k2);
            s[r][3] = dot(s[r][3], q, k3);
        }
    }
}

template <class V>
ATTRIBUTOR_BF16_INLINE void weigh_rows(const Tile& tile, const Head& head, bool add, int first) {
    __m512 s[kStep][4];
    multiply_keys(head.query + first * tile.depth, head.key, tile.depth, s);
    const Weigher<Polynomial> weigher(tile);
    float* weights = tile.weights + first * kKeys;
#pragma GCC unroll 6
    for (int r = 0; r < kStep; ++r, weights += kKeys) {
        const __m512 row_bias = _mm512_set1_ps(head.row_bias[first + r]);
        const uint64_t visible = V::masked ? visible_keys(tile, first + r) : 0;
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v)
            weigher.add<V>(s[r][v], row_bias, head.key_bias + 16 * v, visible >> (16 * v), add, weights + 16 * v);
    }
}

template <class V>
ATTRIBUTOR_BF16 void weigh_variant(const Tile& tile) {
    for (int h = 0; h < tile.count; ++h)
        for (int r = tile.begin; r < tile.end; r += kStep) weigh_rows<V>(tile, tile.heads[h], tile.add || h > 0, r);
}

void weigh(const Tile& tile) {
    static constexpr void (*variants[])(const Tile&) = ATTRIBUTOR_VARIANTS(weigh_variant);
    variants[variant_of(tile)](tile);
}

template <bool Masked>
ATTRIBUTOR_BF16_INLINE void change_rows(const Change& change, int first) {
    __m512 s[kStep][4];
    multiply_keys(change.d_output + first * change.depth, change.value, change.depth, s);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
        const float* weights = change.weights + first * kKeys + 16 * v;
        __m512 sum = _mm512_load_ps(change.sums + 16 * v);
#pragma GCC unroll 6
        for (int r = 0; r < kStep; ++r)
            sum = add_change<Masked>(sum, s[r][v], _mm512_set1_ps(change.delta[first + r]), weights + r * kKeys,
                                     change.first + first + r, change.stops + 16 * v);
        _mm512_store_ps(change.sums + 16 * v, sum);
    }
}

template <bool Masked>
ATTRIBUTOR_BF16 void sum_changes_of(const Change& change) {
    for (int r = change.begin; r < change.end; r += kStep) change_rows<Masked>(change, r);
}

void sum_changes(const Change& change) {
    (change.masked ? sum_changes_of<true> : sum_changes_of<false>)(change);
}

void pack_query(const Source& source, int64_t depth, uint32_t* packed) {
    pack_bf16_pairs(source, kRows, depth, packed);
}

void pack_key(const Source& source, int64_t depth, uint32_t* packed, uint32_t* scratch) {
    pack_bf16_pairs(source, kKeys, depth, scratch);
    transpose_avx512<kKeys>(scratch, depth, packed);
}

constexpr Kernels kKernels{{1, 2, 1},   kStep,   pack_query, pack_key, weigh,  multiply_avx512,
                           sum_changes, nullptr, nullptr,    nullptr,  nullptr};

}  // namespace

const Kernels& avx512_bf16_kernels(Type type) {
    return type == Type::bfloat16 ? kKernels : avx512_kernels(type);
}

}  // namespace attributor::cpu
