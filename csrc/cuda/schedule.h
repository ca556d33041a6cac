// How the work of one call is divided into clusters of thread blocks. Plain C++: the kernel and the host call the same
// functions, and tests/kernel/test_cuda_schedule.py proves on a CPU that they cover every pair of tiles exactly once.
//
//     keys      | cluster: 128 keys a thread block, CLUSTER blocks |   x   queries | part: some tiles of QUERIES
//     queries |
//
// A cluster owns its columns of Y in its part; parts are added up in a fixed order. So no two clusters write to the
// same place, and results are bitwise reproducible.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define ATTRIBUTOR_BOTH __host__ __device__
#else
#define ATTRIBUTOR_BOTH
#endif

namespace attributor::cuda {

constexpr int KEYS = 128;                              // of one thread block: two warpgroups of 64
constexpr int MOST_PARTS = 16;                         // of the queries
constexpr int MOST_TILES = 8192;                       // of one part, each one bit in shared memory
constexpr int64_t MOST_TOKENS = int64_t{1} << 24;      // so that positions and items fit into 32 bits
constexpr int64_t MOST_PART_BYTES = int64_t{1} << 28;  // of partial results

template <class T>
ATTRIBUTOR_BOTH constexpr T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}
template <class T>
ATTRIBUTOR_BOTH constexpr T least(T a, T b) {
    return a < b ? a : b;
}
template <class T>
ATTRIBUTOR_BOTH constexpr T most(T a, T b) {
    return a < b ? b : a;
}

// Tiles of queries, [begin, end).
struct Range {
    int begin, end;
    ATTRIBUTOR_BOTH int count() const { return end > begin ? end - begin : 0; }
};

// One cluster's work: a block of keys, and the tiles of queries of one part that see some of them.
struct Item {
    int block, part;
    Range tiles;
};

struct Schedule {
    int N, window;  // window: >= N means no window
    int queries;    // of a tile
    int cluster;    // thread blocks, so cluster * KEYS keys per block
    int group;      // blocks of keys with consecutive items: they read the same queries at the same time
    int tiles, blocks, part_tiles, parts;

    ATTRIBUTOR_BOTH int keys() const { return cluster * KEYS; }

    // Tiles of queries of which some query sees some key of the block: j <= i and i - j < window.
    ATTRIBUTOR_BOTH Range seen_by(int block) const {
        int first = block * keys(), last = least(N, first + keys()) - 1;
        return {first / queries, least(tiles, (least(N, last + window) - 1) / queries + 1)};
    }

    // The parts that hold some tile of `seen_by(block)`; the others are neither computed nor added up.
    ATTRIBUTOR_BOTH Range parts_of(int block) const {
        Range seen = seen_by(block);
        return {seen.begin / part_tiles, ceil_div(seen.end, part_tiles)};
    }

    // The tiles of a part that the block sees.
    ATTRIBUTOR_BOTH Range tiles_of(int block, int part) const {
        Range seen = seen_by(block);
        return {most(seen.begin, part * part_tiles), least(seen.end, (part + 1) * part_tiles)};
    }

    ATTRIBUTOR_BOTH int groups() const { return ceil_div(blocks, group); }
    ATTRIBUTOR_BOTH int blocks_in(int g) const { return least(group, blocks - g * group); }

    // The parts that some block of the group sees: from the first block's first part to the last block's last part.
    ATTRIBUTOR_BOTH Range parts_of_group(int g) const {
        return {parts_of(g * group).begin, parts_of(g * group + blocks_in(g) - 1).end};
    }

    ATTRIBUTOR_BOTH int items() const {
        int sum = 0;
        for (int g = 0; g < groups(); ++g) sum += parts_of_group(g).count() * blocks_in(g);
        return sum;
    }

    // Item number `index`: groups of keys in order; in a group the parts from last to first; in a part the group's
    // blocks. Some items at the corners of a group see no tile; their part is not added up.
    ATTRIBUTOR_BOTH Item item(int index) const {
        int g = 0;
        for (;; ++g) {
            int here = parts_of_group(g).count() * blocks_in(g);
            if (index < here) break;
            index -= here;
        }
        int block = g * group + index % blocks_in(g);
        int part = parts_of_group(g).end - 1 - index / blocks_in(g);
        return {block, part, tiles_of(block, part)};
    }

    // Whether some pair of the tile and of the 128 keys from `first_key` on is hidden, so that each pair needs the
    // mask.
    ATTRIBUTOR_BOTH bool masked(int tile, int first_key) const {
        int low = tile * queries, high = low + queries - 1;
        return low < first_key + KEYS - 1 || high - first_key >= window;
    }
};

// A schedule of at most so many parts; window >= N means no window.
inline Schedule in_parts(int N, int window, int queries, int cluster, int group, int parts) {
    Schedule s{N, least(window, N), queries, cluster, group, ceil_div(N, queries), 0, 0, 0};
    s.blocks = ceil_div(N, s.keys());
    s.part_tiles = ceil_div(s.tiles, least(most(parts, ceil_div(s.tiles, MOST_TILES)), s.tiles));
    s.parts = ceil_div(s.tiles, s.part_tiles);
    return s;
}

// Offsets of the buffers in the caller's scratch memory, in bytes; each is a multiple of 256.
struct Workspace {
    int64_t row_bias, key_bias, high, low, factor, rows, active, partial, bytes;
};

// Rows of R that are multiplied at once: 16 or 64, to which the buffers are padded; one row needs no product.
constexpr int row_block(int64_t O) {
    return O == 1 ? 1 : O <= 16 ? 16 : 64;
}
inline int64_t padded_rows(int64_t O) {
    return ceil_div<int64_t>(O, row_block(O)) * row_block(O);
}

inline Workspace workspace(const Schedule& s, int64_t O, int64_t H, bool key_bias) {
    Workspace w{};
    auto take = [&](int64_t bytes) {
        int64_t at = w.bytes;
        w.bytes += ceil_div<int64_t>(bytes, 256) * 256;
        return at;
    };
    const int64_t queries = int64_t{s.tiles} * s.queries, keys = int64_t{s.blocks} * s.keys(), rows = padded_rows(O);
    w.row_bias = take(H * queries * 4);
    w.key_bias = take(key_bias ? H * keys * 4 : 0);
    w.high = take(O == 1 ? 0 : rows * queries * 2);
    w.low = take(O == 1 ? 0 : rows * queries * 2);
    w.factor = take(O == 1 ? 0 : s.tiles * rows * 4);
    w.rows = take(O == 1 ? queries * 4 : 0);
    w.active = take(int64_t{s.tiles} * 4);
    w.partial = take(s.parts > 1 ? s.parts * O * s.N * 4 : 0);
    return w;
}

}  // namespace attributor::cuda
