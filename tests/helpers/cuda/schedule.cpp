// csrc/cuda/schedule.h and plan.h for tests/kernel/test_cuda_schedule.py.
#include "schedule.h"

#include "plan.h"

using namespace attributor::cuda;

extern "C" {

void make_schedule(int N, int window, int queries, int cluster, int group, int parts, Schedule* s) {
    *s = in_parts(N, window, queries, cluster, group, parts);
}

void make_plan(int N, int window, int64_t O, int queries, int cluster, int group, int64_t H, int D, int slots,
               Schedule* s) {
    *s = plan(N, window, O, queries, cluster, group, 0, H, D, slots);
}

int item_count(const Schedule* s) {
    return s->items();
}

// block, part, begin and end of items [first, first + count).
void list_items(const Schedule* s, int first, int count, int* to) {
    for (int i = 0; i < count; ++i, to += 4) {
        const Item item = s->item(first + i);
        to[0] = item.block, to[1] = item.part, to[2] = item.tiles.begin, to[3] = item.tiles.end;
    }
}

// begin and end of the parts of each block.
void list_parts(const Schedule* s, int first, int count, int* to) {
    for (int i = 0; i < count; ++i, to += 2) {
        const Range parts = s->parts_of(first + i);
        to[0] = parts.begin, to[1] = parts.end;
    }
}

// (tiles, cluster * blocks): whether the tile is masked for each 128 keys.
void list_masked(const Schedule* s, int8_t* to) {
    for (int tile = 0; tile < s->tiles; ++tile)
        for (int keys = 0; keys < s->blocks * s->cluster; ++keys) *to++ = s->masked(tile, keys * KEYS);
}

void list_workspace(const Schedule* s, int64_t O, int64_t H, bool key_bias, Workspace* to) {
    *to = workspace(*s, O, H, key_bias);
}

int64_t rows_padded(int64_t O) {
    return padded_rows(O);
}

int most_parts() {
    return MOST_PARTS;
}
int most_tiles() {
    return MOST_TILES;
}
int64_t most_part_bytes() {
    return MOST_PART_BYTES;
}
int64_t most_tokens() {
    return MOST_TOKENS;
}
}
