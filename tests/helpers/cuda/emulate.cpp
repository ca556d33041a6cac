// One call of the kernel on a CPU, with the preparation and the sum of the parts as enqueued by
// csrc/cuda/flow_step.cu. tests/kernel/test_cuda_emulated.py loads this.
#define ATTRIBUTOR_EMULATED
#include "kernel.cuh"
#include "prepare.cuh"

namespace attributor::cuda {

// Filled in by Python; see tests/helpers/cuda_emulator.py.
struct EmulatedCall {
    int64_t O, N, H, G, D;  // D: columns of query and key, padded with zeros by the variant
    const float* rows;
    const uint16_t *query, *key;
    const float *row_bias, *key_bias;
    const int32_t* heads;
    float* result;
    double scale, power, softcap;
    int64_t window;
    int32_t variant, group, parts, truncate, exponential_error, fault;
    uint64_t seed;
};

namespace {

struct Failure {
    std::string message;
};

// Device memory: filled with NaN, at a multiple of 256 bytes, between guard areas that must not be written.
class DeviceMemory {
  public:
    explicit DeviceMemory(int64_t bytes) : bytes_(bytes), memory_(bytes + 2 * WALL + 256, '\xff') {
        begin_ = memory_.data() + WALL;
        begin_ += (256 - reinterpret_cast<uintptr_t>(begin_) % 256) % 256;
    }
    template <class T>
    T* as(int64_t offset = 0) {
        return reinterpret_cast<T*>(begin_ + offset);
    }
    void check() const {
        for (const char* p = memory_.data(); p < memory_.data() + memory_.size(); ++p)
            if ((p < begin_ || p >= begin_ + bytes_) && *p != '\xff')
                throw Failure{"memory beside a buffer was written"};
    }

  private:
    static constexpr int64_t WALL = 4096;
    int64_t bytes_;
    std::vector<char> memory_;
    char* begin_;
};

void run(int blocks, int threads, int64_t block, uint64_t seed, std::function<void()> body) {
    for (auto& group : warpgroups) group = {};
    cluster_gathering = {};
    for (auto& row : named_gatherings)
        for (auto& place : row) place = {};
    const std::string failure = machine.run(blocks, threads, block, seed, std::move(body));
    if (!failure.empty()) throw Failure{failure};
}

// A grid of blocks whose threads do not share memory.
void run_small(int64_t threads, uint64_t seed, const std::function<void()>& body) {
    for (int64_t block = 0; block < ceil_div<int64_t>(threads, SMALL_BLOCK); ++block)
        run(1, SMALL_BLOCK, block, seed, body);
}

template <class V>
void run_item(const Arguments& a, int index, uint64_t seed) {
    Random random{seed + index};
    const uint32_t address = 1024 + 16 * random.below(64);
    for (int block = 0; block < V::CLUSTER; ++block) shared_memories[block].begin(address, V::SHARED_BYTES);
    run(V::CLUSTER, THREADS, int64_t{index} * V::CLUSTER, seed, [&] { flow_step_item<V>(a, shared_memory().host()); });
    for (int block = 0; block < V::CLUSTER; ++block) {
        if (!shared_memories[block].whole()) throw Failure{"memory beside the shared memory was written"};
        for (auto& [at, barrier] : shared_memories[block].barriers)
            if (barrier.bytes != 0) throw Failure{"a barrier has counted bytes that never came, or too many"};
    }
}

TensorMap map_of(const void* data, int64_t heads, int64_t count, int64_t columns, int64_t head_stride,
                 int64_t row_stride, int rows) {
    if (reinterpret_cast<uintptr_t>(data) % 16 || row_stride % 8 || head_stride % 8)
        throw Failure{"a tensor map's address and strides are multiples of 16 bytes"};
    return {
        static_cast<const char*>(data), {columns, count, heads}, {2, 2 * row_stride, 2 * head_stride}, {BOX, rows, 1}};
}

template <class V>
void emulate(const EmulatedCall& c) {
    truncate_sums = c.truncate;
    exponential_error = c.exponential_error;
    fault = c.fault;
    const int N = static_cast<int>(c.N), O = static_cast<int>(c.O), H = static_cast<int>(c.H);
    const int window = static_cast<int>(least(c.window, c.N));
    const Schedule s = in_parts(N, window, V::QUERIES, V::CLUSTER, c.group, c.parts);
    const Workspace at = workspace(s, c.O, c.H, c.key_bias != nullptr);
    DeviceMemory scratch(at.bytes), result(c.O * c.N * 4);

    const double factor = c.power * (c.softcap != 0 ? c.softcap : c.scale), log2e = 1 / std::log(2.0);
    const float gain = static_cast<float>(factor * log2e);
    const int padded_queries = s.tiles * s.queries;
    Preparation p{};
    p.rows = c.rows, p.heads = c.heads;
    p.O = O, p.N = N, p.H = H, p.tiles = s.tiles, p.queries = s.queries;
    p.padded_rows = static_cast<int>(padded_rows(c.O)), p.padded_keys = s.blocks * s.keys();
    p.base = factor != 0 && gain != 0 && std::isfinite(gain / factor) ? gain / factor : log2e;
    p.high = scratch.as<uint16_t>(at.high), p.low = scratch.as<uint16_t>(at.low);
    p.factor = scratch.as<float>(at.factor), p.padded = scratch.as<float>(at.rows);
    p.active = scratch.as<int32_t>(at.active);
    p.row_bias_out = scratch.as<float>(at.row_bias), p.key_bias_out = scratch.as<float>(at.key_bias);
    memset(p.active, 0, s.tiles * 4);
    if (O == 1)
        run_small(int64_t{s.tiles} * 32, c.seed, [&] { pad_row(p); });
    else
        run_small(int64_t{p.padded_rows} * s.tiles * 32, c.seed, [&] { split_rows(p); });
    run_small(int64_t{H} * padded_queries, c.seed, [&] { pad_bias(p, c.row_bias, padded_queries, p.row_bias_out); });
    if (c.key_bias)
        run_small(int64_t{H} * p.padded_keys, c.seed, [&] { pad_bias(p, c.key_bias, p.padded_keys, p.key_bias_out); });

    const int64_t line = ceil_div<int64_t>(c.D, 8) * 8;
    Arguments a{};
    a.query = map_of(c.query, c.H, c.N, c.D, c.N * line, line, BOX);
    a.key = map_of(c.key, c.G, c.N, c.D, c.N * line, line, BOX);
    if (O > 1) {
        a.high = map_of(p.high, 1, p.padded_rows, padded_queries, 0, padded_queries, V::BLOCK);
        a.low = map_of(p.low, 1, p.padded_rows, padded_queries, 0, padded_queries, V::BLOCK);
    }
    a.schedule = s, a.row_bias = p.row_bias_out, a.key_bias = c.key_bias ? p.key_bias_out : nullptr;
    a.rows = p.padded, a.factor = p.factor, a.active = p.active, a.heads = c.heads;
    a.partial = s.parts > 1 ? scratch.as<float>(at.partial) : result.as<float>();
    a.O = O, a.H = H, a.padded_rows = p.padded_rows, a.gain = gain;
    a.inner = c.softcap != 0 ? static_cast<float>(c.scale / c.softcap) : 0.0f, a.softcap = c.softcap != 0;
    for (int index = 0; index < s.items(); ++index) run_item<V>(a, index, c.seed);
    if (s.parts > 1) run_small(c.O * c.N, c.seed, [&] { add_parts(s, O, a.partial, result.as<float>()); });
    scratch.check();
    result.check();
    memcpy(c.result, result.as<char>(), c.O * c.N * 4);
}

struct Compiled {
    const char* name;
    void (*run)(const EmulatedCall&);
};

template <int D, Rows ROWS, bool HALF, bool GENERAL, int QUERIES = 128, Overlap OVERLAP = Overlap::halves,
          int CLUSTER = 2, int EXPONENTIALS = 0, bool KEYS_SHARED = false>
constexpr Compiled compiled(const char* name) {
    return {name, emulate<Variant<D, ROWS, HALF, GENERAL, QUERIES, OVERLAP, CLUSTER, EXPONENTIALS, KEYS_SHARED>>};
}

constexpr Compiled variants[] = {
    compiled<64, Rows::to_16, false, false>("64 to_16 bfloat16"),
    compiled<64, Rows::more, false, false>("64 more bfloat16"),
#if !defined(ATTRIBUTOR_FAULTS)
    compiled<64, Rows::to_128, true, false>("64 to_128 float16"),
    compiled<64, Rows::one, false, false>("64 one bfloat16"),
    compiled<64, Rows::to_16, false, false, 128, Overlap::halves, 2, 0, true>("64 to_16 bfloat16 keys shared"),
    compiled<64, Rows::to_64, false, true>("64 to_64 bfloat16 general"),
    compiled<64, Rows::to_16, true, true>("64 to_16 float16 general"),
    compiled<128, Rows::to_16, true, false>("128 to_16 float16"),
    compiled<128, Rows::to_128, false, false>("128 to_128 bfloat16"),
    compiled<256, Rows::to_16, false, true>("256 to_16 bfloat16 general"),
    compiled<256, Rows::one, true, false>("256 one float16"),
    compiled<256, Rows::to_64, false, false>("256 to_64 bfloat16"),
    compiled<256, Rows::more, false, true>("256 more bfloat16 general"),
    compiled<64, Rows::to_16, false, false, 128, Overlap::halves, 1>("64 to_16 bfloat16 alone"),
    compiled<64, Rows::to_16, false, false, 128, Overlap::turns>("64 to_16 bfloat16 turns"),
    compiled<64, Rows::to_16, false, false, 192, Overlap::turns>("64 to_16 bfloat16 192 turns"),
    compiled<64, Rows::one, false, false, 192, Overlap::turns, 1, 2>("64 one bfloat16 192 turns alone polynomial"),
    compiled<128, Rows::more, false, false, 192, Overlap::turns, 2>("128 more bfloat16 192 turns"),
#endif
};

}  // namespace

}  // namespace attributor::cuda

using namespace attributor::cuda;

extern "C" {

const char* variant_name(int index) {
    return index < static_cast<int>(std::size(variants)) ? variants[index].name : nullptr;
}

// Return 0, or 1 with the error in `message`.
int emulate_call(const EmulatedCall* call, char* message, int size) {
    try {
        variants[call->variant].run(*call);
        return 0;
    } catch (const Failure& failure) {
        snprintf(message, size, "%s", failure.message.c_str());
        return 1;
    }
}

void to_half(const float* from, uint16_t* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = float_to_half(from[i]);
}
void from_half(const uint16_t* from, float* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = half_to_float(from[i]);
}
}
