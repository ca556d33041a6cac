// Plain C++ for any machine: loops over contiguous keys that a compiler vectorises for its target.
#include "exponential.h"
#include "kernels.h"

namespace attributor::cpu {
namespace {

constexpr Format kFormat{1, 1, 1};

// s[c] = query . key c, for one row of queries and a panel of keys.
ATTRIBUTOR_INLINE void multiply_row(const uint32_t* query, const uint32_t* key, int64_t depth, float (&s)[kKeys]) {
    const auto* q = reinterpret_cast<const float*>(query);
    const auto* k = reinterpret_cast<const float*>(key);
    for (int c = 0; c < kKeys; ++c) s[c] = 0.0f;
    for (int64_t d = 0; d < depth; ++d, k += kKeys)
        for (int c = 0; c < kKeys; ++c) s[c] += q[d] * k[c];
}

void weigh_head(const Tile& tile, const Head& head, bool add) {
    for (int r = tile.begin; r < tile.end; ++r) {
        float s[kKeys];
        multiply_row(head.query + r * tile.depth, head.key, tile.depth, s);
        const float bias = head.row_bias[r];
        if (tile.capped)
            for (int c = 0; c < kKeys; ++c) s[c] = tile.gain * tanh_portable(tile.cap_in * s[c]) + bias;
        else
            for (int c = 0; c < kKeys; ++c) s[c] = tile.gain * s[c] + bias;
        if (head.key_bias)
            for (int c = 0; c < kKeys; ++c) s[c] += head.key_bias[c];
        for (int c = 0; c < kKeys; ++c) s[c] = exp2_portable(s[c]);
        if (tile.masked) {
            for (int c = 0; c < kKeys; ++c) {
                const int64_t distance = r + tile.offset - c;
                s[c] = distance >= 0 && distance < tile.window ? s[c] : 0.0f;
            }
        }
        float* weights = tile.weights + r * kKeys;
        for (int c = 0; c < kKeys; ++c) weights[c] = add ? weights[c] + s[c] : s[c];
    }
}

void weigh(const Tile& tile) {
    for (int h = 0; h < tile.count; ++h) weigh_head(tile, tile.heads[h], tile.add || h > 0);
}

void multiply(const Product& product) {
    for (int64_t o = 0; o < product.O; ++o) {
        float* y = product.result + o * kKeys;
        float sum[kKeys] = {};  // from zero, because small terms that are added one by one to a large Y would be lost
        for (int r = product.begin; r < product.end; ++r) {
            const float x = product.rows[o * product.stride + r];
            const float* w = product.weights + r * kKeys;
            for (int c = 0; c < kKeys; ++c) sum[c] += x * w[c];
        }
        for (int c = 0; c < kKeys; ++c) y[c] += sum[c];
    }
}

void sum_changes(const Change& change) {
    for (int r = change.begin; r < change.end; ++r) {
        float s[kKeys];
        multiply_row(change.d_output + r * change.depth, change.value, change.depth, s);
        const float delta = change.delta[r];
        const float* weights = change.weights + r * kKeys;
        const int32_t position = change.first + r;
        for (int c = 0; c < kKeys; ++c)
            change.sums[c] += position >= change.stops[c] ? weights[c] * (s[c] - delta) : 0.0f;
    }
}

template <class Element>
void pack_query(const Source& source, int64_t depth, uint32_t* packed) {
    pack_float32<Element>(source, kRows, depth, packed);
}

template <class Element>
void pack_key(const Source& source, int64_t depth, uint32_t* packed, uint32_t* scratch) {
    pack_float32<Element>(source, kKeys, depth, scratch);
    transpose<kKeys>(scratch, depth, packed);
}

template <class Element>
constexpr Kernels kernels_of{
    kFormat, 1,      pack_query<Element>, pack_key<Element>, weigh, multiply, sum_changes, nullptr, nullptr,
    nullptr, nullptr};

}  // namespace

const Kernels& scalar_kernels(Type type) {
    return type == Type::float32    ? kernels_of<Float32>
           : type == Type::bfloat16 ? kernels_of<BFloat16>
                                    : kernels_of<Float16>;
}

}  // namespace attributor::cpu
