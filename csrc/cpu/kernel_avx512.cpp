// float32 products by AVX-512: 6 queries x 64 keys in 24 registers, the exponential on the accumulators.
#include "avx512.h"

namespace attributor::cpu {
namespace {

constexpr int kStep = 6;

template <class V>
ATTRIBUTOR_AVX512_INLINE void weigh_rows(const Tile& tile, const Head& head, bool add, int first) {
    const float* query = reinterpret_cast<const float*>(head.query) + first * tile.depth;
    const float* key = reinterpret_cast<const float*>(head.key);
    __m512 s[kStep][4];
#pragma GCC unroll 6
    for (int r = 0; r < kStep; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) s[r][v] = _mm512_setzero_ps();
    for (int64_t d = 0; d < tile.depth; ++d, key += kKeys) {
        const __m512 k0 = _mm512_load_ps(key), k1 = _mm512_load_ps(key + 16);
        const __m512 k2 = _mm512_load_ps(key + 32), k3 = _mm512_load_ps(key + 48);
#pragma GCC unroll 6
        for (int r = 0; r < kStep; ++r) {
            const __m512 q = _mm512_set1_ps(query[r * tile.depth + d]);
            s[r][0] = _mm512_fmadd_ps(q, k0, s[r][0]);
            s[r][1] = _mm512_fmadd_ps(q, k1, s[r][1]);
            s[r][2] = _mm512_fmadd_ps(q, k2, s[r][2]);
            s[r][3] = _mm512_fmadd_ps(q, k3, s[r][3]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < kStep; ++r) {
        const uint64_t visible = V::masked ? visible_keys(tile, first + r) : 0;
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) add_weights<V>(tile, head, add, first + r, v, s[r][v], visible);
    }
}

template <class V>
ATTRIBUTOR_AVX512 void weigh_variant(const Tile& tile) {
    for (int h = 0; h < tile.count; ++h)
        for (int r = tile.begin; r < tile.end; r += kStep)
            weigh_rows<V>(tile, tile.heads[h], tile.add || h > 0, r);
}

void weigh(const Tile& tile) {
    static constexpr void (*variants[])(const Tile&) = ATTRIBUTOR_VARIANTS(weigh_variant);
    variants[variant_of(tile)](tile);
}

template <class Element>
constexpr Kernels kernels_of{{1, 1, 1}, kStep,   pack_query_float32<Element>, pack_key_float32<Element>, weigh,
                             multiply_avx512, nullptr, nullptr, nullptr, nullptr};

}  // namespace

const Kernels& avx512_kernels(Type type) {
    return type == Type::float32    ? kernels_of<Float32>
           : type == Type::bfloat16 ? kernels_of<BFloat16>
                                    : kernels_of<Float16>;
}

}  // namespace attributor::cpu
