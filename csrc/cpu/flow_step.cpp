// The driver: divides the work into tiles, skips tiles that are known to be zero, and distributes key panels to
// threads.
//
// A task is a group of neighbouring key panels, which owns its columns of Y. Within a task: for each block of queries
// that sees the group and has a non-zero row of R, pack the heads' queries once, and for each panel sum the weights of
// all heads in an L1-resident tile and multiply R by it. The terms of a panel and their order depend neither on the
// grouping nor on the threads, so results are bitwise reproducible.
#include "../flow_step.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "driver.h"

namespace attributor {
namespace {

using cpu::Buffer;
using cpu::divide_up;
using cpu::kKeys;
using cpu::kNothing;
using cpu::kRows;

constexpr int64_t kQueryBytes = 1 << 20;   // of packed queries, for the L2 cache
constexpr int64_t kPanelBytes = 16 << 20;  // of packed keys and Y in a task: the most memory per thread
constexpr int64_t kMaxPanels = 16;         // per task: packing a block of queries then costs a sixteenth

class Run {
  public:
    Run(const FlowStep& step, const cpu::Kernels& kernels, Interrupt interrupt)
        : step_(step),
          kernels_(kernels),
          stop_(interrupt),
          depth_(kernels.format.depth(step.D)),
          query_words_(kernels.format.parts * depth_ * kRows),
          key_words_(kernels.format.parts * depth_ * kKeys),
          panels_(divide_up(step.N, kKeys)),
          blocks_(divide_up(step.N, kRows)),
          base_(step.power * (step.softcap > 0 ? step.softcap : step.scale)) {
        order_heads();
        const double flop = double(step.N) * std::min(step.N, step.window) * (step.H * step.D + step.O);
        threads_ = {cpu::count_threads(flop, step.threads), step.threads.team};
        const int64_t bytes = used_heads_ * key_words_ * 4 + step.O * kKeys * 4;
        const int64_t fitting = std::clamp<int64_t>(kPanelBytes / bytes, 1, kMaxPanels);
        group_ = std::clamp<int64_t>(panels_ / (threads_.count * 4), 1, fitting);
        chunk_ = std::clamp<int64_t>(kQueryBytes / (query_words_ * 4), 1, step.H);
        packed_bytes_ = kernels.packed_rows_bytes ? kernels.packed_rows_bytes(step.O) : 0;
    }

    bool operator()() {
        Buffer<uint8_t> packed(blocks_ * packed_bytes_);
        packed_ = packed;
        ranges_.resize(blocks_);
        cpu::deal(blocks_, 1, threads_, kernels_, stop_, [&] { return [&](int64_t b, int64_t) { prepare(b); }; });
        // The first panels are seen by the most queries, so the longest tasks come first.
        cpu::deal(panels_, group_, threads_, kernels_, stop_, [&] { return Task(*this); });
        return !stop_.requested();
    }

  private:
    // The memory of one thread.
    struct Task {
        explicit Task(Run& run);
        void operator()(int64_t first, int64_t last);
        void pack_keys(int64_t first, int64_t last);
        void pack_queries(int64_t block, int64_t head, int64_t heads);
        void panel(int64_t panel, int slot, int64_t block, int64_t head, int64_t heads);

        Run& run;
        Buffer<uint32_t> key, query, scratch;  // [group][used heads][key words], [chunk][query words]
        Buffer<float> row_bias, key_bias;      // [chunk][kRows], [group][H][kKeys]
        Buffer<float> weights, result;         // [tiles][kRows][kKeys], [group][O rounded up][kKeys]
        std::vector<cpu::Head> heads;
    };

    // Tiles of weights in use at once: one in the L1 cache, unless chunks of heads are computed for all panels in turn.
    int64_t tiles() const { return chunk_ < step_.H ? group_ : 1; }

    // Heads that share a KV head become neighbours, so that its keys stay in the cache.
    void order_heads() {
        order_.resize(step_.H);
        std::iota(order_.begin(), order_.end(), int64_t{0});
        std::stable_sort(order_.begin(), order_.end(),
                         [&](int64_t a, int64_t b) { return step_.kv_index[a] < step_.kv_index[b]; });
        slot_.resize(step_.H);
        for (int64_t h = 0; h < step_.H; ++h) {
            const int64_t g = step_.kv_index[order_[h]];
            if (used_.empty() || used_.back() != g) used_.push_back(g);
            slot_[h] = used_.size() - 1;
        }
        used_heads_ = used_.size();
    }

    // Finds the first and last row of a block where R is not zero, and packs R for the kernel.
    void prepare(int64_t b) {
        const int64_t i0 = b * kRows;
        const int valid = int(std::min<int64_t>(kRows, step_.N - i0));
        bool any[kRows] = {};
        for (int64_t o = 0; o < step_.O; ++o) {
            const float* x = step_.rows + o * step_.N + i0;
            for (int r = 0; r < valid; ++r) any[r] |= x[r] != 0.0f;
        }
        int first = 0, last = valid;
        while (last > 0 && !any[last - 1]) --last;
        while (first < last && !any[first]) ++first;
        ranges_[b] = {first, last};
        if (packed_bytes_ && first < last)
            kernels_.pack_rows(step_.rows + i0, step_.N, step_.O, valid, packed_ + b * packed_bytes_);
    }

    const FlowStep& step_;
    const cpu::Kernels& kernels_;
    cpu::Stop stop_;
    int64_t depth_, query_words_, key_words_, panels_, blocks_;
    int64_t used_heads_, group_, chunk_, packed_bytes_;
    Threads threads_;
    cpu::Base2 base_;
    uint8_t* packed_ = nullptr;
    std::vector<int64_t> order_, slot_, used_;  // heads in order; slot of each one's KV head; used KV heads
    std::vector<cpu::Range> ranges_;
};

Run::Task::Task(Run& r)
    : run(r),
      key(r.group_ * r.used_heads_ * r.key_words_),
      query(r.chunk_ * r.query_words_),
      scratch(r.key_words_),
      row_bias(r.chunk_ * kRows),
      key_bias(r.step_.key_bias ? r.group_ * r.step_.H * kKeys : 0),
      weights(r.tiles() * kRows * kKeys),
      result(r.group_ * divide_up(r.step_.O, 16) * 16 * kKeys),
      heads(r.chunk_) {}

void Run::Task::operator()(int64_t first, int64_t last) {
    const FlowStep& step = run.step_;
    const int64_t padded = divide_up(step.O, 16) * 16 * kKeys;
    std::fill_n(static_cast<float*>(result), (last - first) * padded, 0.0f);
    bool packed = false;
    // No query from `end` on sees a key of this group.
    const int64_t end = step.window >= step.N ? step.N : std::min(step.N, last * kKeys + step.window - 1);
    for (int64_t b = first * kKeys / kRows; b * kRows < end; ++b) {
        if (run.ranges_[b].first == run.ranges_[b].last) continue;
        if (run.stop_.requested()) return;
        if (!packed) pack_keys(first, last);
        packed = true;
        for (int64_t h = 0; h < step.H; h += run.chunk_) {
            const int64_t count = std::min(run.chunk_, step.H - h);
            pack_queries(b, h, count);
            for (int64_t p = first; p < last; ++p) panel(p, int(p - first), b, h, count);
        }
    }
    for (int64_t p = first; p < last; ++p) {
        const int64_t j0 = p * kKeys, columns = std::min<int64_t>(kKeys, step.N - j0);
        for (int64_t o = 0; o < step.O; ++o)
            std::copy_n(result + (p - first) * padded + o * kKeys, columns, step.result + o * step.N + j0);
    }
}

void Run::Task::pack_keys(int64_t first, int64_t last) {
    const FlowStep& step = run.step_;
    for (int64_t p = first; p < last; ++p) {
        const int64_t j0 = p * kKeys, valid = std::min<int64_t>(kKeys, step.N - j0);
        for (int64_t u = 0; u < run.used_heads_; ++u)
            run.kernels_.pack_key(cpu::source_of(step.key, step.type, run.used_[u], j0, step.D, valid), run.depth_,
                                  key + ((p - first) * run.used_heads_ + u) * run.key_words_, scratch);
        if (!step.key_bias) continue;
        for (int64_t h = 0; h < step.H; ++h) {
            const float* bias = step.key_bias + run.order_[h] * step.N + j0;
            float* to = key_bias + ((p - first) * step.H + h) * kKeys;
            for (int c = 0; c < kKeys; ++c) to[c] = c < valid ? run.base_.bias(bias[c]) : kNothing;
        }
    }
}

void Run::Task::pack_queries(int64_t block, int64_t head, int64_t count) {
    const FlowStep& step = run.step_;
    const int64_t i0 = block * kRows, valid = std::min<int64_t>(kRows, step.N - i0);
    for (int64_t h = 0; h < count; ++h) {
        const int64_t from = run.order_[head + h];
        run.kernels_.pack_query(cpu::source_of(step.query, step.type, from, i0, step.D, valid), run.depth_,
                                query + h * run.query_words_);
        const float* bias = step.row_bias + from * step.N + i0;
        float* to = row_bias + h * kRows;
        for (int r = 0; r < kRows; ++r) to[r] = r < valid ? run.base_.bias(bias[r]) : kNothing;
    }
}

void Run::Task::panel(int64_t panel, int slot, int64_t block, int64_t head, int64_t count) {
    const FlowStep& step = run.step_;
    const int64_t i0 = block * kRows, j0 = panel * kKeys, offset = i0 - j0;
    const int64_t last_key = std::min(j0 + kKeys, step.N) - 1;
    const cpu::Range range = run.ranges_[block];
    const int64_t visible_end = step.window >= step.N ? kRows : last_key + step.window - i0;
    const int begin = int(std::max<int64_t>(range.first, -offset));
    const int end = int(std::min<int64_t>(range.last, visible_end));
    if (begin >= end) return;

    for (int64_t h = 0; h < count; ++h) {
        const uint32_t* keys = key + (slot * run.used_heads_ + run.slot_[head + h]) * run.key_words_;
        heads[h] = {query + h * run.query_words_, keys, row_bias + h * kRows,
                    step.key_bias ? key_bias + (slot * step.H + head + h) * kKeys : nullptr};
    }
    const int row_step = run.kernels_.row_step;
    cpu::Tile tile{};
    tile.heads = heads.data();
    tile.count = int(count);
    tile.depth = run.depth_;
    tile.weights = weights + slot % run.tiles() * kRows * kKeys;
    tile.begin = begin / row_step * row_step;
    tile.end = int(divide_up(end, row_step)) * row_step;
    tile.add = head > 0;
    tile.masked = tile.begin + offset < kKeys - 1 || tile.end - 1 + offset >= step.window;
    tile.offset = offset;
    tile.window = step.window;
    tile.capped = step.softcap > 0;
    tile.gain = run.base_.gain();
    tile.cap_in = tile.capped ? float(step.scale / step.softcap) : 1.0f;
    run.kernels_.weigh(tile);
    if (head + count < step.H) return;
    const int64_t padded = divide_up(step.O, 16) * 16 * kKeys;
    run.kernels_.multiply({step.rows + i0, step.N,
                           run.packed_bytes_ ? run.packed_ + block * run.packed_bytes_ : nullptr, step.O, tile.weights,
                           begin, end, result + slot * padded});
}

}  // namespace

bool flow_step(const FlowStep& step, const std::string& isa, Interrupt interrupt) {
    return Run(step, cpu::kernels(isa, step.type), interrupt)();
}

}  // namespace attributor
