// Products by AMX: 16 x 16 float32 tiles of bfloat16 pairs, four at a time (32 queries x 32 keys), for every type.
//
// A float32 is the exact sum of three bfloat16 (8 + 8 + 8 bits of mantissa, each rounded to nearest), a float16 of two.
// The product of two float32 is then the sum of six bfloat16 products; the other three are omitted, because they are
// below 2^-25 of it, the rounding of float32 itself. Six AMX products take half the time of one by fused multiply-adds.
//
// The tile unit and the vector unit run in parallel: while four tiles are multiplied, the exponentials of the previous
// four are computed, a few rows between every two groups of tile instructions.
#include "amx.h"

namespace attributor::cpu {
namespace {

constexpr int kUnit = 32;  // rows and columns of a unit: 32 queries x 32 keys of one head, in tile registers 0 to 3
constexpr int kStepWords = 16;

struct Unit {
    const Head* head;
    int row, column;
    bool add;
};

// Iterates over the units of a tile, without those that no query sees: all heads of 32 queries, then the next 32. The
// weights (8 KiB) stay in the L1 cache with the keys, which neighbouring heads share, while the queries are streamed.
struct Cursor {
    int row, head = 0, column = -kUnit;

    template <class V>
    ATTRIBUTOR_AMX_INLINE bool next(const Tile& tile, Unit& unit) {
        for (;;) {
            column += kUnit;
            if (column == kKeys) column = 0, ++head;
            if (head == tile.count) head = 0, row += kUnit;
            if (row >= tile.end) return false;
            const bool add = tile.add || head > 0;
            if (V::masked && row + kUnit - 1 + tile.offset < column) {
                if (!add) clear(tile);
                continue;
            }
            unit = {tile.heads + head, row, column, add};
            return true;
        }
    }

    ATTRIBUTOR_AMX_INLINE void clear(const Tile& tile) const {
        for (int r = 0; r < kUnit; ++r) {
            float* weights = tile.weights + (row + r) * kKeys + column;
            _mm512_store_ps(weights, _mm512_setzero_ps());
            _mm512_store_ps(weights + 16, _mm512_setzero_ps());
        }
    }
};

// The vector unit's work on the products of a unit, row by row, while the next ones are multiplied: none, ...
struct Idle {
    ATTRIBUTOR_AMX_INLINE void advance(int) {}
    ATTRIBUTOR_AMX_INLINE void finish() {}
};

// ... or computing their weights, stored in the tile or added to it, ...
template <class V, bool Add>
struct Rows {
    const Tile& tile;
    const Weigher<Table>& weigher;
    const Unit& unit;
    const float* products;  // [kUnit][kUnit]
    float* weights;
    int row = 0;

    ATTRIBUTOR_AMX_INLINE Rows(const Tile& tile_, const Weigher<Table>& weigher_, const Unit& unit_,
                               const float* products_)
        : tile(tile_),
          weigher(weigher_),
          unit(unit_),
          products(products_),
          weights(tile.weights + unit.row * kKeys + unit.column) {}

    ATTRIBUTOR_AMX_INLINE void advance(int until) {
        for (; row < until; ++row, products += kUnit, weights += kKeys) {
            const uint64_t visible = V::masked ? visible_keys(tile, unit.row + row) >> unit.column : 0;
            const __m512 bias = _mm512_set1_ps(unit.head->row_bias[unit.row + row]);
            const float* key_bias = unit.head->key_bias + unit.column;
            weigher.template add<V>(_mm512_load_ps(products), bias, key_bias, visible, Add, weights);
            weigher.template add<V>(_mm512_load_ps(products + 16), bias, key_bias + 16, visible >> 16, Add,
                                    weights + 16);
        }
    }

    ATTRIBUTOR_AMX_INLINE void finish() { advance(kUnit); }
};

// ... or adding up weight times change.
template <bool Masked>
struct Changes {
    const Change& change;
    int first, column;      // of the unit
    const float* products;  // [kUnit][kUnit]
    const float* weights;
    __m512 sum0, sum1;
    int row = 0;

    ATTRIBUTOR_AMX_INLINE Changes(const Change& change_, int first_, int column_, const float* products_)
        : change(change_),
          first(first_),
          column(column_),
          products(products_),
          weights(change.weights + first * kKeys + column),
          sum0(_mm512_load_ps(change.sums + column)),
          sum1(_mm512_load_ps(change.sums + column + 16)) {}

    ATTRIBUTOR_AMX_INLINE void advance(int until) {
        const int32_t* stops = change.stops + column;
        for (; row < until; ++row, products += kUnit, weights += kKeys) {
            const __m512 delta = _mm512_set1_ps(change.delta[first + row]);
            const int32_t position = change.first + first + row;
            sum0 = add_change<Masked>(sum0, _mm512_load_ps(products), delta, weights, position, stops);
            sum1 = add_change<Masked>(sum1, _mm512_load_ps(products + 16), delta, weights + 16, position, stops + 16);
        }
    }

    ATTRIBUTOR_AMX_INLINE void finish() {
        advance(kUnit);
        _mm512_store_ps(change.sums + column, sum0);
        _mm512_store_ps(change.sums + column + 16, sum1);
    }
};

// Computes the products of the unit at `row` and `column` and does the work on the previous unit's products at the same
// time: a few rows after each tile instruction, because the out-of-order window is too short to overlap instructions
// further apart.
template <int Parts, class Work>
ATTRIBUTOR_AMX_INLINE void multiply_unit(const uint32_t* queries, const uint32_t* keys, int64_t depth, int row,
                                         int column, float* products, Work work) {
    const int64_t strip = depth * 16;  // words of 16 packed rows
    const uint32_t* query = queries + row / 16 * strip;
    const uint32_t* key = keys + column / 16 * strip;
    const int slots = 4 * static_cast<int>(strip / kTileWords) * kPairs<Parts> + 4;  // products, stores
    const int pace = (kUnit << 16) / slots;                                          // rows per slot, in 16.16 bits
    int due = 0;
    zero_tiles();
    for (int64_t d = 0; d < strip; d += kTileWords) {
#pragma GCC unroll 6
        for (int pair = 0; pair < kPairs<Parts>; ++pair) {
            constexpr const Pair* pairs = kPairsOf<Parts>;
            const bool next_a = pair == 0 || pairs[pair].a != pairs[pair - 1].a;
            const bool next_b = pair == 0 || pairs[pair].b != pairs[pair - 1].b;
            const uint32_t* a = query + pairs[pair].a * (kRows / 16) * strip + d;
            const uint32_t* b = key + pairs[pair].b * (kKeys / 16) * strip + d;
            if (next_a) _tile_loadd(4, a, kTileBytes);
            if (next_b) _tile_loadd(6, b, kTileBytes);
            _tile_dpbf16ps(0, 4, 6);
            work.advance((due += pace) >> 16);
            if (next_b) _tile_loadd(7, b + strip, kTileBytes);
            _tile_dpbf16ps(1, 4, 7);
            work.advance((due += pace) >> 16);
            if (next_a) _tile_loadd(5, a + strip, kTileBytes);
            _tile_dpbf16ps(2, 5, 6);
            work.advance((due += pace) >> 16);
            _tile_dpbf16ps(3, 5, 7);
            work.advance((due += pace) >> 16);
        }
    }
    _tile_stored(0, products, kUnit * 4);
    work.advance((due += pace) >> 16);
    _tile_stored(1, products + 16, kUnit * 4);
    work.advance((due += pace) >> 16);
    _tile_stored(2, products + 16 * kUnit, kUnit * 4);
    work.advance((due += pace) >> 16);
    _tile_stored(3, products + 16 * kUnit + 16, kUnit * 4);
    work.finish();
}

template <int Parts, class Work>
ATTRIBUTOR_AMX_INLINE void multiply_unit(const Tile& tile, const Unit& unit, float* products, Work work) {
    multiply_unit<Parts>(unit.head->query, unit.head->key, tile.depth, unit.row, unit.column, products, work);
}

template <class V, int Parts>
ATTRIBUTOR_AMX void weigh_parts(const Tile& tile) {
    alignas(64) float products[2][kUnit * kUnit];
    Unit units[2];
    const Weigher<Table> weigher(tile);
    Cursor cursor{tile.begin};
    if (!cursor.next<V>(tile, units[0])) return;
    multiply_unit<Parts>(tile, units[0], products[0], Idle());
    int now = 0;
    for (; cursor.next<V>(tile, units[now ^ 1]); now ^= 1) {
        Unit &next = units[now ^ 1], &last = units[now];
        if (last.add)
            multiply_unit<Parts>(tile, next, products[now ^ 1], Rows<V, true>(tile, weigher, last, products[now]));
        else
            multiply_unit<Parts>(tile, next, products[now ^ 1], Rows<V, false>(tile, weigher, last, products[now]));
    }
    if (units[now].add)
        Rows<V, true>(tile, weigher, units[now], products[now]).finish();
    else
        Rows<V, false>(tile, weigher, units[now], products[now]).finish();
}

template <int Parts, bool Masked>
ATTRIBUTOR_AMX void sum_changes_of(const Change& change) {
    alignas(64) float products[2][kUnit * kUnit];
    int row = change.begin, column = 0, now = 0;
    multiply_unit<Parts>(change.d_output, change.value, change.depth, row, column, products[0], Idle());
    for (;; now ^= 1) {
        const Changes<Masked> last(change, row, column, products[now]);
        column += kUnit;
        if (column == kKeys) column = 0, row += kUnit;
        if (row == change.end) break;
        multiply_unit<Parts>(change.d_output, change.value, change.depth, row, column, products[now ^ 1], last);
    }
    Changes<Masked>(change, change.end - kUnit, kKeys - kUnit, products[now]).finish();
}

template <int Parts>
void sum_changes(const Change& change) {
    (change.masked ? sum_changes_of<Parts, true> : sum_changes_of<Parts, false>)(change);
}

template <class V>
void weigh_1(const Tile& tile) {
    weigh_parts<V, 1>(tile);
}
template <class V>
void weigh_2(const Tile& tile) {
    weigh_parts<V, 2>(tile);
}
template <class V>
void weigh_3(const Tile& tile) {
    weigh_parts<V, 3>(tile);
}

void weigh_bfloat16(const Tile& tile) {
    static constexpr void (*variants[])(const Tile&) = ATTRIBUTOR_VARIANTS(weigh_1);
    variants[variant_of(tile)](tile);
}

void weigh_float16(const Tile& tile) {
    static constexpr void (*variants[])(const Tile&) = ATTRIBUTOR_VARIANTS(weigh_2);
    variants[variant_of(tile)](tile);
}

void weigh_float32(const Tile& tile) {
    static constexpr void (*variants[])(const Tile&) = ATTRIBUTOR_VARIANTS(weigh_3);
    variants[variant_of(tile)](tile);
}

template <class Loader>
ATTRIBUTOR_AMX void pack_query(const Source& source, int64_t depth, uint32_t* packed) {
    pack_parts<Loader>(source, kRows, depth, packed);
}

// A tile of keys is a transposed tile of rows.
template <class Loader>
ATTRIBUTOR_AMX void pack_key(const Source& source, int64_t depth, uint32_t* packed, uint32_t*) {
    pack_parts<Loader>(source, kKeys, depth, packed);
    for (int64_t tile = 0; tile < Loader::parts * kKeys / 16 * (depth / 16); ++tile, packed += kTileWords) {
        __m512i r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) r[i] = _mm512_load_si512(packed + 16 * i);
        transpose_registers(r);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) _mm512_store_si512(packed + 16 * i, r[i]);
    }
}

template <class Loader>
constexpr Kernels kernels_of(void (*weigh)(const Tile&)) {
    return {{Loader::parts, 2, kStepWords},
            kUnit,
            pack_query<Loader>,
            pack_key<Loader>,
            weigh,
            multiply_amx,
            sum_changes<Loader::parts>,
            packed_rows_bytes,
            pack_rows,
            configure_tiles,
            release_tiles};
}

constexpr Kernels kFloat32 = kernels_of<LoadFloat32>(weigh_float32);
constexpr Kernels kBFloat16 = kernels_of<LoadBFloat16>(weigh_bfloat16);
constexpr Kernels kFloat16 = kernels_of<LoadFloat16>(weigh_float16);

}  // namespace

const Kernels& amx_kernels(Type type) {
    return type == Type::float32 ? kFloat32 : type == Type::bfloat16 ? kBFloat16 : kFloat16;
}

}  // namespace attributor::cpu
