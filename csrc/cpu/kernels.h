// The functions that an instruction set provides, and their arguments from the drivers (flow_step.cpp,
// removal_step.cpp).
//
// A tile is kRows queries x kKeys keys. Its weights, summed over all heads (removal_step: of one head), stay in the L1
// cache as float32 (96 x 64 x 4 = 24 KiB) until they are multiplied: the n x n matrix is never formed.
#pragma once

#include <cstdint>
#include <string>

#include "../step.h"

namespace attributor::cpu {

constexpr int kRows = 96;  // a multiple of every kernel's row_step: 6 (registers), 32 (AMX)
constexpr int kKeys = 64;  // four 512-bit registers of float32

// A kernel's layout of query and key. A packed row is `parts` x depth(D) 32-bit words: float32 values (width 1) or
// bfloat16 pairs (width 2), zero beyond D. The sum of the parts is the value, see kernel_amx.cpp.
struct Format {
    int parts;
    int width;
    int multiple;  // the depth is rounded up to a multiple of so many words
    int64_t depth(int64_t D) const { return ((D + width - 1) / width + multiple - 1) / multiple * multiple; }
};

// `valid` rows of D elements, `stride` elements apart, to be packed as `count` rows (zero beyond `valid`).
struct Source {
    const void* data;
    int64_t stride;
    int64_t D;
    int valid;
};

struct Head {
    const uint32_t* query;  // [parts][kRows][depth]
    const uint32_t* key;    // parts x depth x kKeys words, in the kernel's own order
    const float* row_bias;  // [kRows], base-2 logarithm, finite; very negative beyond N
    const float* key_bias;  // [kKeys], base-2 logarithm, finite; or null
};

// One tile of weights: for each head, W[r][c] (+)= 2^(gain * s + row_bias[r] + key_bias[c]) with s = query . key,
// or gain * tanh(cap_in * s) where the logits are capped.
struct Tile {
    const Head* heads;
    int count;
    int64_t depth;
    float* weights;          // [kRows][kKeys], 64-byte aligned; only rows [begin, end) are touched
    int begin, end;          // multiples of the kernel's row_step
    bool add;                // add to the tile; else the first head overwrites it
    bool masked;             // whether any pair is hidden
    int64_t offset, window;  // key c is visible to row r when 0 <= r + offset - c < window
    bool capped;
    float cap_in, gain;
};

// The case of a tile that a kernel is compiled for; unused features cost nothing.
template <bool Masked, bool Capped, bool KeyBias>
struct Variant {
    static constexpr bool masked = Masked, capped = Capped, key_bias = KeyBias;
};

// The eight cases of a kernel `template <class V> void f(const Tile&)`, and the one that a tile needs.
#define ATTRIBUTOR_VARIANTS(f)                                                                        \
    {f<Variant<false, false, false>>, f<Variant<true, false, false>>, f<Variant<false, true, false>>, \
     f<Variant<true, true, false>>,   f<Variant<false, false, true>>, f<Variant<true, false, true>>,  \
     f<Variant<false, true, true>>,   f<Variant<true, true, true>>}

inline int variant_of(const Tile& tile) {
    return tile.masked + 2 * tile.capped + 4 * (tile.heads[0].key_bias != nullptr);
}

// Y[o][c] += sum over r in [begin, end) of R[o][r] W[r][c].
struct Product {
    const float* rows;   // R, at the tile's first query
    int64_t stride;      // of R
    const void* packed;  // R as pack_rows packed it for this block of queries, or null
    int64_t O;
    const float* weights;
    int begin, end;
    float* result;  // [O rounded up to 16][kKeys]
};

// One tile of one head: sums[c] += sum of W[r][c] (s[r][c] - delta[r]) over the rows r in [begin, end) with
// first + r >= stops[c], where s = dO . value. Weights of hidden rows may be infinite.
struct Change {
    const uint32_t* d_output;  // as Head::query
    const uint32_t* value;     // as Head::key
    const float* delta;        // [kRows], zero beyond N
    int64_t depth;             // of d_output and value
    const float* weights;      // [kRows][kKeys], W
    int begin, end;            // multiples of the kernel's row_step
    bool masked;               // whether any row is hidden from any key by its stop
    int32_t first;             // the position of row 0
    const int32_t* stops;      // [kKeys]
    float* sums;               // [kKeys]; like stops on a cache-line boundary
};

struct Kernels {
    Format format;
    int row_step;
    void (*pack_query)(const Source& source, int64_t depth, uint32_t* packed);  // kRows rows
    void (*pack_key)(const Source& source, int64_t depth, uint32_t* packed, uint32_t* scratch);
    void (*weigh)(const Tile& tile);
    void (*multiply)(const Product& product);
    void (*sum_changes)(const Change& change);
    // Optional (null): packs R once per call; packed_rows_bytes returns the bytes for one block of kRows queries, 0 if
    // R is not packed for this O.
    int64_t (*packed_rows_bytes)(int64_t O);
    void (*pack_rows)(const float* rows, int64_t stride, int64_t O, int valid, void* packed);
    void (*enter)();  // optional: set and reset a thread's state, before its first and after its last tile
    void (*leave)();
};

const Kernels& scalar_kernels(Type type);
#ifdef ATTRIBUTOR_X86
const Kernels& avx2_kernels(Type type);
const Kernels& avx512_kernels(Type type);
const Kernels& avx512_bf16_kernels(Type type);
const Kernels& amx_kernels(Type type);
#endif

// The kernels with the name `isa`; throws std::invalid_argument if they cannot run here.
const Kernels& kernels(const std::string& isa, Type type);

}  // namespace attributor::cpu
