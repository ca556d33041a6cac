// Products by AMX: 16 x 16 float32 tiles of bfloat16 pairs, four at a time (32 queries x 32 keys), for every type.
//
// A float32 is the exact sum of three bfloat16 (8 + 8 + 8 bits of mantissa, each rounded to nearest), a float16 of two.
// The product of two float32 is then the sum of six bfloat16 products; the three that are left out are below 2^-25 of
// it, the rounding of float32 itself. Six AMX products take half the time of one by fused multiply-adds.
//
// The tile unit and the vector unit run side by side: while four tiles multiply, the exponential of the four before
// them is computed, a few rows between every two groups of tile instructions.
#include "amx.h"

namespace attributor::cpu {
namespace {

constexpr int kUnit = 32;  // a unit: 32 queries x 32 keys of one head, in tile registers 0 to 3
constexpr int kStepWords = 16;

struct Unit {
    const Head* head;
    int row, column;
    bool add;
};

// The units of a tile in order, without those that no query sees. All heads of 32 queries, then the next 32: their
// weights (8 KiB) stay in the L1 cache beside the keys, which neighbouring heads share, while the queries stream by.
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

enum class Meanwhile { nothing, write, add };

// Turns the products of a unit into weights, row by row.
template <class V, Meanwhile M>
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
        if (M == Meanwhile::nothing) return;
        for (; row < until; ++row, products += kUnit, weights += kKeys) {
            const uint64_t visible = V::masked ? visible_keys(tile, unit.row + row) >> unit.column : 0;
            const __m512 bias = _mm512_set1_ps(unit.head->row_bias[unit.row + row]);
            const float* key_bias = unit.head->key_bias + unit.column;
            constexpr bool add = M == Meanwhile::add;
            weigher.template add<V>(_mm512_load_ps(products), bias, key_bias, visible, add, weights);
            weigher.template add<V>(_mm512_load_ps(products + 16), bias, key_bias + 16, visible >> 16, add,
                                    weights + 16);
        }
    }
};

// Computes the products of `unit` and, meanwhile, the weights of `previous` from its products `done`: a few rows after
// each tile instruction, because the out-of-order window is too short to mix what lies further apart.
template <class V, int Parts, Meanwhile M>
ATTRIBUTOR_AMX_INLINE void multiply_unit(const Tile& tile, const Weigher<Table>& weigher, const Unit& unit,
                                         float* products, const Unit& previous, const float* done) {
    const int64_t strip = tile.depth * 16;  // words of 16 packed rows
    const uint32_t* query = unit.head->query + unit.row / 16 * strip;
    const uint32_t* key = unit.head->key + unit.column / 16 * strip;
    const int slots = 4 * static_cast<int>(strip / kTileWords) * kPairs<Parts> + 4;  // products, stores
    const int pace = (kUnit << 16) / slots;                                          // rows a slot, in 16.16 bits
    int due = 0;
    Rows<V, M> rows(tile, weigher, previous, done);
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
            rows.advance((due += pace) >> 16);
            if (next_b) _tile_loadd(7, b + strip, kTileBytes);
            _tile_dpbf16ps(1, 4, 7);
            rows.advance((due += pace) >> 16);
            if (next_a) _tile_loadd(5, a + strip, kTileBytes);
            _tile_dpbf16ps(2, 5, 6);
            rows.advance((due += pace) >> 16);
            _tile_dpbf16ps(3, 5, 7);
            rows.advance((due += pace) >> 16);
        }
    }
    _tile_stored(0, products, kUnit * 4);
    rows.advance((due += pace) >> 16);
    _tile_stored(1, products + 16, kUnit * 4);
    rows.advance((due += pace) >> 16);
    _tile_stored(2, products + 16 * kUnit, kUnit * 4);
    rows.advance((due += pace) >> 16);
    _tile_stored(3, products + 16 * kUnit + 16, kUnit * 4);
    rows.advance(kUnit);
}

template <class V, int Parts>
ATTRIBUTOR_AMX void weigh_parts(const Tile& tile) {
    alignas(64) float products[2][kUnit * kUnit];
    Unit units[2];
    const Weigher<Table> weigher(tile);
    Cursor cursor{tile.begin};
    if (!cursor.next<V>(tile, units[0])) return;
    multiply_unit<V, Parts, Meanwhile::nothing>(tile, weigher, units[0], products[0], units[0], products[0]);
    int now = 0;
    for (; cursor.next<V>(tile, units[now ^ 1]); now ^= 1) {
        Unit &next = units[now ^ 1], &last = units[now];
        if (last.add)
            multiply_unit<V, Parts, Meanwhile::add>(tile, weigher, next, products[now ^ 1], last, products[now]);
        else
            multiply_unit<V, Parts, Meanwhile::write>(tile, weigher, next, products[now ^ 1], last, products[now]);
    }
    if (units[now].add)
        Rows<V, Meanwhile::add>(tile, weigher, units[now], products[now]).advance(kUnit);
    else
        Rows<V, Meanwhile::write>(tile, weigher, units[now], products[now]).advance(kUnit);
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

// A tile of keys is that of rows, transposed.
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
