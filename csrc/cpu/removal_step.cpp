// The driver of removal_step: divides the work into tiles, skips tiles that are known to be zero, and distributes key
// panels to threads.
//
// A task is a group of neighbouring key panels, which owns their results. Within a task: for each KV head pack its keys
// and values once; for each block of queries that counts for a key of the group, and for each query head whose dO is
// not zero there, pack query and dO once, and for each panel compute the head's weights in an L1-resident tile, then dO
// . v and the sum of both. A tile is summed in float32, tiles are added up in float64. The terms of a panel and their
// order depend neither on the grouping nor on the threads, so results are bitwise reproducible.
#include "../removal_step.h"

#include <algorithm>
#include <vector>

#include "driver.h"

namespace attributor {
namespace {

using cpu::Buffer;
using cpu::divide_up;
using cpu::kKeys;
using cpu::kRows;

constexpr int64_t kPanelBytes = 1 << 20;  // of packed keys and values of one KV head in a task, for the L2 cache
constexpr int64_t kMaxPanels = 16;        // per task: packing a block of queries then costs a sixteenth

class Run {
  public:
    Run(const RemovalStep& step, const cpu::Kernels& kernels, Interrupt interrupt)
        : step_(step),
          kernels_(kernels),
          stop_(interrupt),
          depth_(kernels.format.depth(step.D)),
          value_depth_(kernels.format.depth(step.Dv)),
          panels_(divide_up(step.N, kKeys)),
          blocks_(divide_up(step.Q, kRows)),
          base_(step.softcap > 0 ? step.softcap : step.scale) {
        const double flop = double(step.Q) * std::min(step.N, step.window) * step.H * (step.D + step.Dv);
        threads_ = {cpu::count_threads(flop, step.threads), step.threads.team};
        const int64_t fitting = std::clamp<int64_t>(kPanelBytes / (words(kKeys) * 4), 1, kMaxPanels);
        group_ = std::clamp<int64_t>(panels_ / (threads_.count * 4), 1, fitting);
    }

    bool operator()() {
        ranges_.resize(step_.H * blocks_);
        cpu::deal(ranges_.size(), blocks_, threads_, kernels_, stop_, [&] {
            return [&](int64_t first, int64_t last) {
                for (int64_t index = first; index < last; ++index) measure(index);
            };
        });
        // The first panels are seen by the most queries, so the longest tasks come first.
        cpu::deal(panels_, group_, threads_, kernels_, stop_, [&] { return Task(*this); });
        return !stop_.requested();
    }

  private:
    // The keys of a panel, and the first rows that count for them.
    struct Panel {
        int64_t j0, valid;         // first key, number of keys
        int64_t earliest, latest;  // of their stops
    };

    // The memory of one thread.
    struct Task {
        explicit Task(Run& run);
        void operator()(int64_t first, int64_t last);
        int64_t measure_panels(int64_t first, int64_t last);
        void pack_keys(int64_t g);
        void pack_queries(int64_t head, int64_t block);
        void add_panel(size_t slot, int64_t head, int64_t block);

        Run& run;
        Buffer<uint32_t> key, value, query, d_output, scratch;  // [group][key words] ..., [query words] ...
        Buffer<float> row_bias, delta;                          // [kRows]
        Buffer<float> weights, sums;                            // [kRows][kKeys], [kKeys]
        Buffer<int32_t> stops;                                  // [group][kKeys]
        std::vector<Panel> panels;                              // [group]
        std::vector<double> totals;                             // [group][kKeys]
    };

    int64_t key_words(int64_t rows) const { return kernels_.format.parts * depth_ * rows; }
    int64_t value_words(int64_t rows) const { return kernels_.format.parts * value_depth_ * rows; }
    int64_t words(int64_t rows) const { return key_words(rows) + value_words(rows); }
    int64_t start() const { return step_.N - step_.Q; }  // the position of the first query

    // Finds the first and last row of a block where dO of one head is not zero.
    void measure(int64_t index) {
        const int64_t head = index / blocks_, row = index % blocks_ * kRows;
        const int valid = int(std::min<int64_t>(kRows, step_.Q - row));
        const cpu::Source rows = cpu::source_of(step_.d_output, step_.type, head, row, step_.Dv, valid);
        int first = 0, last = valid;
        while (last > 0 && is_zero(rows, last - 1)) --last;
        while (first < last && is_zero(rows, first)) ++first;
        ranges_[index] = {first, last};
    }

    // Plus or minus zero: no bit is set except the sign.
    bool is_zero(const cpu::Source& rows, int64_t row) const {
        if (step_.type == Type::float32) return is_zero<uint32_t>(rows, row);
        return is_zero<uint16_t>(rows, row);
    }

    template <class Bits>
    static bool is_zero(const cpu::Source& rows, int64_t row) {
        const Bits* element = static_cast<const Bits*>(rows.data) + row * rows.stride;
        Bits any = 0;
        for (int64_t d = 0; d < rows.D; ++d) any |= element[d];
        return Bits(any << 1) == 0;
    }

    const RemovalStep& step_;
    const cpu::Kernels& kernels_;
    cpu::Stop stop_;
    int64_t depth_, value_depth_, panels_, blocks_, group_;
    Threads threads_;
    cpu::Base2 base_;
    std::vector<cpu::Range> ranges_;  // (H, blocks)
};

Run::Task::Task(Run& r)
    : run(r),
      key(r.group_ * r.key_words(kKeys)),
      value(r.group_ * r.value_words(kKeys)),
      query(r.key_words(kRows)),
      d_output(r.value_words(kRows)),
      scratch(std::max(r.key_words(kKeys), r.value_words(kKeys))),
      row_bias(kRows),
      delta(kRows),
      weights(kRows * kKeys),
      sums(kKeys),
      stops(r.group_ * kKeys) {}

void Run::Task::operator()(int64_t first, int64_t last) {
    const RemovalStep& step = run.step_;
    const int64_t earliest = measure_panels(first, last), start = run.start();
    totals.assign(panels.size() * kKeys, 0.0);
    // No row before `begin` or from `end` on counts for a key of this group.
    const int64_t begin = std::max<int64_t>(0, earliest - start);
    const int64_t end = step.window >= step.N ? step.Q : std::min(step.Q, last * kKeys + step.window - 1 - start);
    const int64_t sharing = step.H / step.G;
    for (int64_t g = 0; g < step.G; ++g) {
        bool packed = false;
        for (int64_t b = begin / kRows; b * kRows < end; ++b) {
            for (int64_t head = g * sharing; head < (g + 1) * sharing; ++head) {
                const cpu::Range range = run.ranges_[head * run.blocks_ + b];
                if (range.first == range.last) continue;
                if (run.stop_.requested()) return;
                if (!packed) pack_keys(g);
                packed = true;
                pack_queries(head, b);
                for (size_t slot = 0; slot < panels.size(); ++slot) add_panel(slot, head, b);
            }
        }
    }
    for (size_t slot = 0; slot < panels.size(); ++slot)
        std::copy_n(totals.data() + slot * kKeys, panels[slot].valid, step.result + panels[slot].j0);
}

// Sets the panels of the task; returns the earliest of all stops.
int64_t Run::Task::measure_panels(int64_t first, int64_t last) {
    const RemovalStep& step = run.step_;
    panels.clear();
    int64_t earliest = step.N;
    for (int64_t p = first; p < last; ++p) {
        Panel panel{p * kKeys, std::min<int64_t>(kKeys, step.N - p * kKeys), step.N, 0};
        for (int64_t c = 0; c < kKeys; ++c) {
            const int64_t stop = c < panel.valid ? std::min(step.stops[panel.j0 + c], step.N) : panel.latest;
            stops[(p - first) * kKeys + c] = int32_t(stop);
            panel.earliest = std::min(panel.earliest, stop);
            panel.latest = std::max(panel.latest, stop);
        }
        earliest = std::min(earliest, panel.earliest);
        panels.push_back(panel);
    }
    return earliest;
}

void Run::Task::pack_keys(int64_t g) {
    const RemovalStep& step = run.step_;
    for (size_t slot = 0; slot < panels.size(); ++slot) {
        const int64_t j0 = panels[slot].j0, valid = panels[slot].valid;
        run.kernels_.pack_key(cpu::source_of(step.key, step.type, g, j0, step.D, valid), run.depth_,
                              key + slot * run.key_words(kKeys), scratch);
        run.kernels_.pack_key(cpu::source_of(step.value, step.type, g, j0, step.Dv, valid), run.value_depth_,
                              value + slot * run.value_words(kKeys), scratch);
    }
}

void Run::Task::pack_queries(int64_t head, int64_t block) {
    const RemovalStep& step = run.step_;
    const int64_t row = block * kRows, valid = std::min<int64_t>(kRows, step.Q - row);
    run.kernels_.pack_query(cpu::source_of(step.query, step.type, head, row, step.D, valid), run.depth_, query);
    run.kernels_.pack_query(cpu::source_of(step.d_output, step.type, head, row, step.Dv, valid), run.value_depth_,
                            d_output);
    for (int r = 0; r < kRows; ++r) {
        const int64_t index = head * step.Q + row + r;
        row_bias[r] = r < valid ? run.base_.bias(-step.lse[index]) : cpu::kNothing;
        delta[r] = r < valid ? step.delta[index] : 0.0f;
    }
}

void Run::Task::add_panel(size_t slot, int64_t head, int64_t block) {
    const RemovalStep& step = run.step_;
    const Panel& panel = panels[slot];
    const int64_t i0 = run.start() + block * kRows, offset = i0 - panel.j0;
    const cpu::Range range = run.ranges_[head * run.blocks_ + block];
    const int64_t visible_end = step.window >= step.N ? kRows : panel.j0 + panel.valid - 1 + step.window - i0;
    const int begin = int(std::max<int64_t>(range.first, panel.earliest - i0));
    const int end = int(std::min<int64_t>(range.last, visible_end));
    if (begin >= end) return;

    const int row_step = run.kernels_.row_step;
    const cpu::Head operands{query, key + slot * run.key_words(kKeys), row_bias, nullptr};
    cpu::Tile tile{};
    tile.heads = &operands;
    tile.count = 1;
    tile.depth = run.depth_;
    tile.weights = weights;
    tile.begin = begin / row_step * row_step;
    tile.end = int(divide_up(end, row_step)) * row_step;
    tile.masked = tile.end - 1 + offset >= step.window;  // stops hide more than causality does: see Change
    tile.offset = offset;
    tile.window = step.window;
    tile.capped = step.softcap > 0;
    tile.gain = run.base_.gain();
    tile.cap_in = tile.capped ? float(step.scale / step.softcap) : 1.0f;
    run.kernels_.weigh(tile);

    cpu::Change change{};
    change.d_output = d_output;
    change.value = value + slot * run.value_words(kKeys);
    change.delta = delta;
    change.depth = run.value_depth_;
    change.weights = weights;
    change.begin = tile.begin;
    change.end = tile.end;
    change.masked = tile.begin + i0 < panel.latest;
    change.first = int32_t(i0);
    change.stops = stops + slot * kKeys;
    change.sums = sums;
    std::fill_n(change.sums, kKeys, 0.0f);
    run.kernels_.sum_changes(change);
    double* total = totals.data() + slot * kKeys;
    for (int c = 0; c < kKeys; ++c) total[c] += sums[c];
}

}  // namespace

bool removal_step(const RemovalStep& step, const std::string& isa, Interrupt interrupt) {
    return Run(step, cpu::kernels(isa, step.type), interrupt)();
}

}  // namespace attributor
