// AMX pieces: numbers split into bfloat16 parts, the tile registers' state, and R . W in split form.
#pragma once

#include "avx512.h"

#define ATTRIBUTOR_AMX \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")))
#define ATTRIBUTOR_AMX_INLINE inline __attribute__((always_inline)) ATTRIBUTOR_AMX

namespace attributor::cpu {
namespace {

// 2^x by a table of 2^(k/32) and a quadratic on [-1/64, 1/64]: 5 instructions for each of two kinds of ports. While AMX
// is in use (and for about a microsecond after), the multipliers of one of the two 512-bit ports are off: measured on
// one Intel machine with AMX, fma, mul, reduce and scalef fall to one per cycle, add and permute do not. x must be
// finite or NaN; error 5.4e-8 before rounding.
struct Table {
    __m512 low, high;

    ATTRIBUTOR_AVX512_INLINE Table() {
        alignas(64) static constexpr float powers[32] = {
            0x1.000000p+0f, 0x1.059b0ep+0f, 0x1.0b5586p+0f, 0x1.11301ep+0f, 0x1.172b84p+0f, 0x1.1d4874p+0f,
            0x1.2387a6p+0f, 0x1.29e9e0p+0f, 0x1.306fe0p+0f, 0x1.371a74p+0f, 0x1.3dea64p+0f, 0x1.44e086p+0f,
            0x1.4bfdaep+0f, 0x1.5342b6p+0f, 0x1.5ab07ep+0f, 0x1.6247ecp+0f, 0x1.6a09e6p+0f, 0x1.71f75ep+0f,
            0x1.7a1148p+0f, 0x1.82589ap+0f, 0x1.8ace54p+0f, 0x1.93737cp+0f, 0x1.9c4918p+0f, 0x1.a5503cp+0f,
            0x1.ae89fap+0f, 0x1.b7f770p+0f, 0x1.c199bep+0f, 0x1.cb720ep+0f, 0x1.d5818ep+0f, 0x1.dfc974p+0f,
            0x1.ea4afap+0f, 0x1.f50766p+0f};
        low = _mm512_load_ps(powers);
        high = _mm512_load_ps(powers + 16);
    }

    ATTRIBUTOR_AVX512_INLINE __m512 operator()(__m512 x) const {
        const __m512 magic = _mm512_set1_ps(0x1.8p18f);  // rounds to a multiple k/32; k is in the lowest bits
        const __m512 rounded = _mm512_add_ps(x, magic);
        const __m512 n = _mm512_sub_ps(rounded, magic);
        const __m512 f = _mm512_sub_ps(x, n);
        const __m512 power = _mm512_permutex2var_ps(low, _mm512_castps_si512(rounded), high);
        const __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(0x1.ebfbdep-3f), f, _mm512_set1_ps(0x1.62e584p-1f));
        return _mm512_scalef_ps(_mm512_fmadd_ps(_mm512_mul_ps(power, f), slope, power), n);
    }
};

// The pairs of parts of the left and right factors; neighbours differ in one part, so the other is not loaded again.
struct Pair {
    int a, b;
};
template <int Parts>
constexpr int kPairs = Parts == 1   ? 1
                       : Parts == 2 ? 4
                                    : 6;
template <int Parts>
constexpr Pair kPairsOf[6] = {};
template <>
constexpr Pair kPairsOf<1>[6] = {{0, 0}};
template <>
constexpr Pair kPairsOf<2>[6] = {{1, 1}, {1, 0}, {0, 0}, {0, 1}};
template <>
constexpr Pair kPairsOf<3>[6] = {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}};

// Subtracts from x its value rounded to bfloat16, and returns that value as float32.
ATTRIBUTOR_AVX512_INLINE __m512 take_part(__m512& x) {
    const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    const __m512 part = _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
    x = _mm512_sub_ps(x, part);
    return part;
}

// The upper halves of a's words, then of b's: 32 bfloat16.
ATTRIBUTOR_AVX512_INLINE __m512i upper_halves(__m512 a, __m512 b) {
    alignas(64) static constexpr uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                     33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(_mm512_castps_si512(a), _mm512_load_si512(odd), _mm512_castps_si512(b));
}

// Loads 16 elements of a row as float32; `parts` is how many bfloat16 parts an element needs.
struct LoadFloat32 {
    static constexpr int parts = 3, bytes = 4;
    static ATTRIBUTOR_AVX512_INLINE __m512 load(const char* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
};
struct LoadFloat16 {
    static constexpr int parts = 2, bytes = 2;
    static ATTRIBUTOR_AVX512_INLINE __m512 load(const char* p, __mmask16 m) {
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
    }
};
struct LoadBFloat16 {
    static constexpr int parts = 1, bytes = 2;
};

constexpr int kTileWords = 256;  // 16 rows of 16 words
constexpr int kTileBytes = 64;   // from one row to the next

// [parts][count / 16][depth / 16] tiles of 16 x 16 words.
template <class Loader>
ATTRIBUTOR_AVX512_INLINE void pack_parts(const Source& source, int count, int64_t depth, uint32_t* packed) {
    for (int r = 0; r < count; ++r) {
        const char* row = static_cast<const char*>(source.data) + r * source.stride * Loader::bytes;
        uint32_t* to = packed + r / 16 * 16 * depth + r % 16 * 16;
        for (int64_t w = 0; w < depth; w += 16, to += kTileWords, row += 32 * Loader::bytes) {
            const int64_t left = r < source.valid ? source.D - 2 * w : 0;
            const uint32_t inside = left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1;
            if constexpr (Loader::parts == 1) {
                _mm512_store_si512(to, _mm512_maskz_loadu_epi16(inside, row));
            } else {
                __m512 a = Loader::load(row, static_cast<__mmask16>(inside));
                __m512 b = Loader::load(row + 16 * Loader::bytes, static_cast<__mmask16>(inside >> 16));
                for (int part = 0; part < Loader::parts; ++part) {
                    const __m512 upper_a = take_part(a), upper_b = take_part(b);
                    _mm512_store_si512(to + part * count * depth, upper_halves(upper_a, upper_b));
                }
            }
        }
    }
}

// A compiler barrier: tile instructions read memory without the compiler's knowledge, so pending writes must finish
// here.
ATTRIBUTOR_INLINE void finish_writes() {
    __asm__ volatile("" ::: "memory");
}

ATTRIBUTOR_AMX void configure_tiles() {
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    finish_writes();
    _tile_loadconfig(&config);
}

ATTRIBUTOR_AMX void release_tiles() {
    _tile_release();
}

ATTRIBUTOR_AMX_INLINE void zero_tiles() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

constexpr int kRowTiles = 16;                   // rows of R to a tile
constexpr int kBlockWords = kRows / 2;          // pairs of queries in a block
constexpr int kPart = kRowTiles * kBlockWords;  // words of one part of 16 rows of R for one block
constexpr int64_t kFewRows = 12;                // below this, splitting W costs more than fused multiply-adds

// [O / 16][3] times kBlockWords / 16 tiles
int64_t packed_rows_bytes(int64_t O) {
    return O < kFewRows ? 0 : (O + kRowTiles - 1) / kRowTiles * 3 * kPart * int64_t{sizeof(uint32_t)};
}

ATTRIBUTOR_AVX512 void pack_rows(const float* rows, int64_t stride, int64_t O, int valid, void* packed) {
    auto* to = static_cast<uint32_t*>(packed);
    for (int64_t o = 0; o < O; o += kRowTiles, to += 3 * kPart) {
        const int count = static_cast<int>(O - o < kRowTiles ? O - o : kRowTiles);
        pack_parts<LoadFloat32>({rows + o * stride, stride, valid, count}, kRowTiles, kBlockWords, to);
    }
}

// Two rows of W interleaved for a tile product, in three parts: word `pair` of [3][words][kKeys].
ATTRIBUTOR_AVX512_INLINE void split_pair(const float* weights, int64_t words, int64_t pair, uint32_t* split) {
#pragma GCC unroll 4
    for (int c = 0; c < kKeys; c += 16) {
        __m512 even = _mm512_load_ps(weights + c), odd = _mm512_load_ps(weights + kKeys + c);
#pragma GCC unroll 3
        for (int part = 0; part < 3; ++part) {
            // The rest, for the last part, fits into a bfloat16.
            const __m512 a = part < 2 ? take_part(even) : even, b = part < 2 ? take_part(odd) : odd;
            const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(a), 16);
            _mm512_store_si512(split + (part * words + pair) * kKeys + c, _mm512_or_si512(_mm512_castps_si512(b), low));
        }
    }
}

// 32 rows of Y x 32 keys, as in the products of query and key.
ATTRIBUTOR_AMX_INLINE void multiply_square(const uint32_t* rows, const uint32_t* split, int begin, int end, float* y) {
    constexpr int y_stride = kKeys * 4;
    _tile_loadd(0, y, y_stride);
    _tile_loadd(1, y + 16, y_stride);
    _tile_loadd(2, y + 16 * kKeys, y_stride);
    _tile_loadd(3, y + 16 * kKeys + 16, y_stride);
    for (int w = begin / 2; w < end / 2; w += 16) {
#pragma GCC unroll 6
        for (int pair = 0; pair < 6; ++pair) {
            constexpr const Pair* pairs = kPairsOf<3>;
            if (pair == 0 || pairs[pair].a != pairs[pair - 1].a) {
                _tile_loadd(4, rows + pairs[pair].a * kPart + w * 16, kTileBytes);
                _tile_loadd(5, rows + (3 + pairs[pair].a) * kPart + w * 16, kTileBytes);
            }
            if (pair == 0 || pairs[pair].b != pairs[pair - 1].b) {
                const uint32_t* b = split + (pairs[pair].b * kBlockWords + w) * kKeys;
                _tile_loadd(6, b, y_stride);
                _tile_loadd(7, b + 16, y_stride);
            }
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, y, y_stride);
    _tile_stored(1, y + 16, y_stride);
    _tile_stored(2, y + 16 * kKeys, y_stride);
    _tile_stored(3, y + 16 * kKeys + 16, y_stride);
}

// Up to 16 rows of Y x 64 keys: each 32 rows of W are split while the previous 32 rows are multiplied.
ATTRIBUTOR_AMX void multiply_strip(const uint32_t* rows, const float* weights, int begin, int end, float* y) {
    constexpr int y_stride = kKeys * 4;
    alignas(64) uint32_t split[2][3 * 16 * kKeys];
    for (int pair = 0; pair < 16; ++pair) split_pair(weights + (begin + 2 * pair) * kKeys, 16, pair, split[0]);
    finish_writes();
    int now = 0;
    _tile_loadd(0, y, y_stride);
    _tile_loadd(1, y + 16, y_stride);
    _tile_loadd(2, y + 32, y_stride);
    _tile_loadd(3, y + 48, y_stride);
    for (int i = begin; i < end; i += 32, now ^= 1) {
        const float* next = weights + (i + 32) * kKeys;
        int row = i + 32 < end ? 0 : 32;
#pragma GCC unroll 6
        for (int pair = 0; pair < 6; ++pair) {
            constexpr const Pair* pairs = kPairsOf<3>;
            const uint32_t* b = split[now] + pairs[pair].b * 16 * kKeys;
            if (pair == 0 || pairs[pair].a != pairs[pair - 1].a)
                _tile_loadd(4, rows + pairs[pair].a * kPart + i * 8, kTileBytes);
            _tile_loadd(5, b, y_stride);
            _tile_loadd(6, b + 16, y_stride);
            _tile_dpbf16ps(0, 4, 5);
            _tile_loadd(7, b + 32, y_stride);
            _tile_dpbf16ps(1, 4, 6);
            _tile_loadd(5, b + 48, y_stride);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 4, 5);
            for (; row < 6 * (pair + 1) && row < 32; row += 2)
                split_pair(next + row * kKeys, 16, row / 2, split[now ^ 1]);
        }
        finish_writes();
    }
    _tile_stored(0, y, y_stride);
    _tile_stored(1, y + 16, y_stride);
    _tile_stored(2, y + 32, y_stride);
    _tile_stored(3, y + 48, y_stride);
}

ATTRIBUTOR_AMX void multiply_amx(const Product& product) {
    if (!product.packed) return multiply_avx512(product);
    const int begin = product.begin / 32 * 32, end = (product.end + 31) / 32 * 32;
    const auto* rows = static_cast<const uint32_t*>(product.packed);
    const int64_t squares = product.O / 32 + (product.O % 32 > 16);
    if (squares) {
        alignas(64) uint32_t split[3 * kBlockWords * kKeys];
        for (int r = begin; r < end; r += 2) split_pair(product.weights + r * kKeys, kBlockWords, r / 2, split);
        finish_writes();
        for (int c = 0; c < kKeys; c += 32)
            for (int64_t s = 0; s < squares; ++s)
                multiply_square(rows + s * 6 * kPart, split + c, begin, end, product.result + s * 32 * kKeys + c);
    }
    if (squares * 32 < product.O)
        multiply_strip(rows + squares * 6 * kPart, product.weights, begin, end, product.result + squares * 32 * kKeys);
}

}  // namespace
}  // namespace attributor::cpu
