// Chooses the number of parts into which the queries of a call are divided. Host code; flow_step.cu caches the result.
//
// With one part, Y is written once and each key is read once. More parts distribute the work more evenly if there are
// few blocks of keys, and cost a pass over the parts of Y. The device assigns the items to the multiprocessors one
// after another; this is simulated here with estimated times.
#pragma once

#include <functional>
#include <queue>
#include <vector>

#include "schedule.h"

namespace attributor::cuda {

// Calculated seconds on an H100 at 1.755 GHz; they only serve to compare schedules.
struct Costs {
    double tile;         // one tile of queries against one thread block's keys, all heads and rows
    double item = 3e-6;  // start and end of a cluster
    double bytes_a_second = 3e12;

    Costs(int64_t O, int64_t H, int D, int queries) {
        const double pairs = double(queries) * KEYS, clock = 1.755e9;
        const double products = 2.0 * D / 4096, exponential = 1.0 / 16, rows = O == 1 ? 0 : 3 * 2.0 * O / 4096;
        tile = pairs * (double(H) * (products > exponential ? products : exponential) + rows) / clock;
    }
};

// The time until the last of `slots` concurrent clusters is done and Y is added up.
inline double duration(const Schedule& s, int64_t O, const Costs& costs, int slots) {
    std::priority_queue<double, std::vector<double>, std::greater<double>> free;
    for (int i = 0; i < slots; ++i) free.push(0.0);
    double last = 0;
    for (int g = 0; g < s.groups(); ++g) {  // in the order of Schedule::item
        const Range parts = s.parts_of_group(g);
        for (int part = parts.end - 1; part >= parts.begin; --part)
            for (int block = g * s.group; block < g * s.group + s.blocks_in(g); ++block) {
                const double end = free.top() + costs.item + s.tiles_of(block, part).count() * costs.tile;
                free.pop();
                free.push(end);
                last = most(last, end);
            }
    }
    if (s.parts == 1) return last;
    double written = 0;
    for (int block = 0; block < s.blocks; ++block) written += 4.0 * O * s.keys() * s.parts_of(block).count();
    return last + (2 * written + 4.0 * O * s.N) / costs.bytes_a_second;
}

// The schedule of a call on a device with so many slots for clusters. `parts` 0: choose the number, within
// MOST_PART_BYTES of parts.
inline Schedule plan(int N, int window, int64_t O, int queries, int cluster, int group, int parts = 0, int64_t H = 32,
                     int D = 128, int slots = 66) {
    if (parts > 0) return in_parts(N, window, queries, cluster, group, parts);
    const Costs costs(O, H, D, queries);
    Schedule best{};
    double least_time = 0;
    for (int candidate = 1; candidate <= MOST_PARTS; candidate *= 2) {
        const Schedule s = in_parts(N, window, queries, cluster, group, candidate);
        if (candidate > 1 && (s.parts * O * 4 > MOST_PART_BYTES / N || s.parts == best.parts)) continue;
        const double time = duration(s, O, costs, slots);
        if (candidate == 1 || time < least_time) {
            best = s;
            least_time = time;
        }
    }
    return best;
}

}  // namespace attributor::cuda
