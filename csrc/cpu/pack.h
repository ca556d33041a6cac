// Packs query and key, row by row, into the 32-bit words that the kernels read. Plain C++, always inlined, so that each
// kernel file compiles it for its own instruction set (this would not hold for a lambda or a library function).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels.h"

#define ATTRIBUTOR_INLINE inline __attribute__((always_inline))

namespace attributor::cpu {
namespace {

ATTRIBUTOR_INLINE float as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

ATTRIBUTOR_INLINE uint32_t as_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// The three element types, as the bits of the float32 of the same value.
struct Float32 {
    using Element = uint32_t;
    static ATTRIBUTOR_INLINE uint32_t widen(uint32_t bits) { return bits; }
};

struct BFloat16 {
    using Element = uint16_t;
    static ATTRIBUTOR_INLINE uint32_t widen(uint16_t bits) { return uint32_t{bits} << 16; }
};

struct Float16 {
    using Element = uint16_t;
    static ATTRIBUTOR_INLINE uint32_t widen(uint16_t bits) {
        const uint32_t magnitude = (bits & 0x7fffu) << 13;
        // The exponent's bias differs by 112; a multiplication also normalises subnormal float16 numbers.
        const uint32_t finite = as_bits(as_float(magnitude) * 0x1p112f);
        const uint32_t special = magnitude | 0x7f800000u;
        return (magnitude >= (0x7c00u << 13) ? special : finite) | (uint32_t{bits} & 0x8000u) << 16;
    }
};

// [count][depth] float32 words.
template <class Element>
ATTRIBUTOR_INLINE void pack_float32(const Source& source, int count, int64_t depth, uint32_t* packed) {
    for (int r = 0; r < count; ++r, packed += depth) {
        int64_t d = 0;
        if (r < source.valid) {
            const auto* row = static_cast<const typename Element::Element*>(source.data) + r * source.stride;
            for (; d < source.D; ++d) packed[d] = Element::widen(row[d]);
        }
        for (; d < depth; ++d) packed[d] = 0;
    }
}

// [count][depth] words of two bfloat16 each, with unchanged bits.
ATTRIBUTOR_INLINE void pack_bf16_pairs(const Source& source, int count, int64_t depth, uint32_t* packed) {
    for (int r = 0; r < count; ++r, packed += depth) {
        const int64_t bytes = r < source.valid ? source.D * 2 : 0;
        if (bytes) std::memcpy(packed, static_cast<const uint16_t*>(source.data) + r * source.stride, bytes);
        std::memset(reinterpret_cast<char*>(packed) + bytes, 0, depth * 4 - bytes);
    }
}

// [kKeys][depth] words to [kKeys / Columns][depth][Columns]: the words that one pass over a head's queries reads are
// contiguous.
template <int Columns>
ATTRIBUTOR_INLINE void transpose(const uint32_t* from, int64_t depth, uint32_t* to) {
    for (int r = 0; r < kKeys; ++r) {
        uint32_t* column = to + r / Columns * Columns * depth + r % Columns;
        for (int64_t d = 0; d < depth; ++d) column[d * Columns] = from[r * depth + d];
    }
}

}  // namespace
}  // namespace attributor::cpu
