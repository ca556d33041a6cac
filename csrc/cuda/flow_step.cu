// The host's side of a call: check sizes, make tensor maps, enqueue five kernels.
#include "flow_step.h"

#include <cudaTypedefs.h>

#include <cmath>
#include <deque>
#include <mutex>
#include <tuple>
#include <utility>

#include "launch.h"
#include "plan.h"

namespace attributor::cuda {

namespace {

// The arguments that determine a schedule.
using Asked = std::tuple<int64_t, int64_t, int, int, int, int, int, int, int, int>;

void refuse(const std::string& what) {
    throw std::invalid_argument(what);
}

bool is_default(const Tuning& t) {
    return t.queries == 128 && !t.turns && t.cluster == 2 && t.emulated == 0 && !t.keys_shared;
}

// Where Y is added up: chosen, or as the tuning sets it.
Rows rows_for(const FlowStep& s, int D, bool general) {
    if (s.tuning.held == 0 && s.O > 16) return Rows::more;
    return rows_of(s.O, s.tuning.held == 1 ? 1 : s.H, D, general);
}

void check_sizes(const FlowStep& s) {
    constexpr int64_t most_int = (int64_t{1} << 31) - 1;
    if (s.O < 1 || s.N < 1 || s.H < 1 || s.G < 1 || s.D < 1) refuse("sizes must be at least 1");
    if (s.D > MAX_HEAD_SIZE) refuse("heads have at most 256 elements, got " + std::to_string(s.D));
    if (s.N > MOST_TOKENS) refuse("at most 2^24 tokens, got " + std::to_string(s.N));
    if (s.O > most_int / 2 || s.H > most_int / 2) refuse("too many rows or heads");
    if (s.window < 1) refuse("a window is at least 1");
    const Tuning& t = s.tuning;
    if ((t.queries != 128 && t.queries != 192) || (t.cluster != 1 && t.cluster != 2) || t.group < 1 || t.parts < 0)
        refuse("no such tuning");
}

// The number of columns of the compiled kernel.
int padded_size(int64_t D) {
    return D <= 64 ? 64 : D <= 128 ? 128 : 256;
}

// The schedule of a call; the last few are cached, because all layers of a model need the same ones.
Schedule schedule_of(const FlowStep& s) {
    int processors = 0;
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, s.device), "number of multiprocessors");
    const Tuning& t = s.tuning;
    const int N = static_cast<int>(s.N), window = static_cast<int>(least(s.window, s.N)), D = padded_size(s.D);
    const Asked asked{s.O, s.H, N, window, D, t.queries, t.cluster, t.group, t.parts, processors};
    static std::mutex mutex;
    static std::deque<std::pair<Asked, Schedule>> known;
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [before, schedule] : known)
        if (before == asked) return schedule;
    known.emplace_front(
        asked, plan(N, window, s.O, t.queries, t.cluster, t.group, t.parts, s.H, D, most(1, processors / t.cluster)));
    if (known.size() > 16) known.pop_back();
    return known.front().second;
}

// The driver's function, obtained without linking the driver.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
    static void* function = nullptr;
    static std::once_flag once;
    std::call_once(once, [] {
        cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
        const cudaError_t status =
            cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
        const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
        if (status != cudaSuccess || found != cudaDriverEntryPointSuccess) function = nullptr;
    });
    if (!function) throw Error("the driver has no cuTensorMapEncodeTiled; it must be of CUDA 12.0 or later");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

// Boxes of `rows` rows and 64 columns of a stack of matrices (heads, count, columns), swizzled as wgmma reads them;
// zeros outside. Strides in elements; the stride of a dimension of size 1 is ignored, and strides need not grow.
TensorMap map_of(const void* data, CUtensorMapDataType type, int64_t heads, int64_t count, int64_t columns,
                 int64_t head_stride, int64_t row_stride, int rows) {
    const int64_t line = ceil_div<int64_t>(columns, 8) * 8;
    const cuuint64_t sizes[3] = {cuuint64_t(columns), cuuint64_t(count), cuuint64_t(heads)};
    const cuuint64_t strides[2] = {cuuint64_t(2 * (count > 1 ? row_stride : line)),
                                   cuuint64_t(2 * (heads > 1 ? head_stride : line))};
    const cuuint32_t box[3] = {BOX, cuuint32_t(rows), 1}, steps[3] = {1, 1, 1};
    TensorMap map;
    const CUresult status =
        encoder()(&map, type, 3, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS)
        throw Error("cuTensorMapEncodeTiled: error " + std::to_string(status) + " for (" + std::to_string(heads) +
                    ", " + std::to_string(count) + ", " + std::to_string(columns) + "), strides " +
                    std::to_string(head_stride) + " and " + std::to_string(row_stride));
    return map;
}

__global__ void __launch_bounds__(SMALL_BLOCK) split_rows_kernel(const Preparation p) {
    split_rows(p);
}
__global__ void __launch_bounds__(SMALL_BLOCK) pad_row_kernel(const Preparation p) {
    pad_row(p);
}
__global__ void __launch_bounds__(SMALL_BLOCK)
    pad_bias_kernel(const Preparation p, const float* bias, int length, float* out) {
    pad_bias(p, bias, length, out);
}
__global__ void __launch_bounds__(SMALL_BLOCK)
    add_parts_kernel(const Schedule s, int O, const float* partial, float* result) {
    add_parts(s, O, partial, result);
}

unsigned blocks(int64_t threads) {
    const int64_t count = ceil_div<int64_t>(threads, SMALL_BLOCK);
    if (count >= int64_t{1} << 31) refuse("too many elements for one launch");
    return static_cast<unsigned>(count);
}

}  // namespace

int64_t scratch_bytes(const FlowStep& s) {
    check_sizes(s);
    return workspace(schedule_of(s), s.O, s.H, s.key_bias != nullptr).bytes;
}

void flow_step(const FlowStep& s) {
    check_sizes(s);
    check(cudaSetDevice(s.device), "choice of the device");  // also binds its context in a new thread
    int major = 0, minor = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, s.device), "compute capability");
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, s.device), "compute capability");
    if (major != 9 || minor != 0)
        throw Error("needs a GPU of compute capability 9.0, this one has " + std::to_string(major) + "." +
                    std::to_string(minor));

    const Schedule schedule = schedule_of(s);
    const Workspace at = workspace(schedule, s.O, s.H, s.key_bias != nullptr);
    char* scratch = static_cast<char*>(s.scratch);
    auto floats = [&](int64_t offset) { return reinterpret_cast<float*>(scratch + offset); };
    const int D = padded_size(s.D), H = static_cast<int>(s.H);
    const bool general = s.key_bias != nullptr || s.softcap != 0;
    const cudaStream_t stream = static_cast<cudaStream_t>(s.stream);

    // The kernel's gain is float32; the biases are multiplied by log2(e) with exactly the same rounding error.
    const double factor = s.power * (s.softcap != 0 ? s.softcap : s.scale), log2e = 1 / std::log(2.0);
    const float gain = static_cast<float>(factor * log2e);
    const double base = factor != 0 && gain != 0 && std::isfinite(gain / factor) ? gain / factor : log2e;

    Preparation p{};
    p.rows = s.rows;
    p.heads = s.heads;
    p.O = static_cast<int>(s.O);
    p.N = static_cast<int>(s.N);
    p.H = H;
    p.tiles = schedule.tiles;
    p.queries = schedule.queries;
    p.padded_rows = static_cast<int>(padded_rows(s.O));
    p.padded_keys = schedule.blocks * schedule.keys();
    p.base = base;
    p.high = reinterpret_cast<uint16_t*>(scratch + at.high);
    p.low = reinterpret_cast<uint16_t*>(scratch + at.low);
    p.factor = floats(at.factor);
    p.padded = floats(at.rows);
    p.active = reinterpret_cast<int32_t*>(scratch + at.active);
    p.row_bias_out = floats(at.row_bias);
    p.key_bias_out = floats(at.key_bias);
    const int padded_queries = p.tiles * p.queries;

    Arguments a{};
    const CUtensorMapDataType type =
        s.type == Type::float16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    a.query = map_of(s.query.data, type, s.H, s.N, s.D, s.query.head, s.query.row, BOX);
    a.key = map_of(s.key.data, type, s.G, s.N, s.D, s.key.head, s.key.row, BOX);
    if (s.O > 1) {
        const CUtensorMapDataType half = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
        a.high = map_of(p.high, half, 1, p.padded_rows, padded_queries, 0, padded_queries, row_block(s.O));
        a.low = map_of(p.low, half, 1, p.padded_rows, padded_queries, 0, padded_queries, row_block(s.O));
    }
    a.schedule = schedule;
    a.row_bias = p.row_bias_out;
    a.key_bias = s.key_bias ? p.key_bias_out : nullptr;
    a.rows = p.padded;
    a.factor = p.factor;
    a.active = p.active;
    a.heads = s.heads;
    a.partial = schedule.parts > 1 ? floats(at.partial) : s.result;
    a.O = p.O;
    a.H = H;
    a.padded_rows = p.padded_rows;
    a.gain = gain;
    a.inner = s.softcap != 0 ? static_cast<float>(s.scale / s.softcap) : 0.0f;
    a.softcap = s.softcap != 0;

    check(cudaMemsetAsync(p.active, 0, int64_t{p.tiles} * 4, stream), "memset");
    if (s.O == 1)
        pad_row_kernel<<<blocks(int64_t{p.tiles} * 32), SMALL_BLOCK, 0, stream>>>(p);
    else
        split_rows_kernel<<<blocks(int64_t{p.padded_rows} * p.tiles * 32), SMALL_BLOCK, 0, stream>>>(p);
    pad_bias_kernel<<<blocks(int64_t{H} * padded_queries), SMALL_BLOCK, 0, stream>>>(p, s.row_bias, padded_queries,
                                                                                     p.row_bias_out);
    if (s.key_bias)
        pad_bias_kernel<<<blocks(int64_t{H} * p.padded_keys), SMALL_BLOCK, 0, stream>>>(p, s.key_bias, p.padded_keys,
                                                                                        p.key_bias_out);
    check(cudaGetLastError(), "launch of the preparation");

    const Choice choice{rows_for(s, D, general), s.type == Type::float16, general, s.tuning};
    if (!is_default(s.tuning)) {
        if (!launch_tuning(D, choice, a, stream))
            refuse("this tuning is not compiled for such a call; build with ATTRIBUTOR_CUDA_TUNING=ON for some more");
    } else if (D == 64) {
        launch_64(choice, a, stream);
    } else if (D == 128) {
        launch_128(choice, a, stream);
    } else {
        launch_256(choice, a, stream);
    }
    if (schedule.parts > 1) {
        add_parts_kernel<<<blocks(s.O * s.N), SMALL_BLOCK, 0, stream>>>(schedule, p.O, a.partial, s.result);
        check(cudaGetLastError(), "launch of the sum of the parts");
    }
}

std::string kernels() {
    std::string names = "D 64, 128, 256 x rows 1, 16, 64 or 128, more x bfloat16, float16 x plain, general";
#if defined(ATTRIBUTOR_CUDA_TUNING)
    names += "; tuning";
#endif
    return names;
}

}  // namespace attributor::cuda
