// attributor._cuda takes addresses and sizes and does not use torch; kernels/flow_step/cuda.py keeps the tensors alive.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "flow_step.h"

namespace py = pybind11;
namespace cuda = attributor::cuda;

namespace {

attributor::Type type_named(const std::string& name) {
    if (name == "bfloat16") return attributor::Type::bfloat16;
    if (name == "float16") return attributor::Type::float16;
    throw std::invalid_argument("query and key must be bfloat16 or float16, got " + name);
}

template <class T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;
using Matrices = std::tuple<std::uintptr_t, int64_t, int64_t>;

// A step with the fields that determine the amount of scratch memory.
cuda::FlowStep sized(const Sizes& sizes, std::uintptr_t key_bias, int64_t window, int device,
                     const cuda::Tuning& tuning) {
    cuda::FlowStep step{};
    std::tie(step.O, step.N, step.H, step.G, step.D) = sizes;
    step.key_bias = pointer<const float>(key_bias);
    step.window = window;
    step.device = device;
    step.tuning = tuning;
    return step;
}

int64_t scratch_bytes(const Sizes& sizes, bool key_bias, int64_t window, int device, const cuda::Tuning& tuning) {
    return cuda::scratch_bytes(sized(sizes, key_bias, window, device, tuning));
}

void flow_step(const Sizes& sizes, const std::string& dtype, std::uintptr_t rows, const Matrices& query,
               const Matrices& key, std::uintptr_t row_bias, std::uintptr_t key_bias, std::uintptr_t heads,
               std::uintptr_t result, double scale, double power, int64_t window, double softcap,
               const std::pair<std::uintptr_t, int64_t>& scratch, int device, std::uintptr_t stream,
               const cuda::Tuning& tuning) {
    cuda::FlowStep step = sized(sizes, key_bias, window, device, tuning);
    step.type = type_named(dtype);
    step.rows = pointer<const float>(rows);
    step.query = {pointer<const void>(std::get<0>(query)), std::get<1>(query), std::get<2>(query)};
    step.key = {pointer<const void>(std::get<0>(key)), std::get<1>(key), std::get<2>(key)};
    step.row_bias = pointer<const float>(row_bias);
    step.heads = pointer<const int32_t>(heads);
    step.result = pointer<float>(result);
    step.scale = scale;
    step.power = power;
    step.softcap = softcap;
    step.scratch = pointer<void>(scratch.first);
    step.stream = pointer<void>(stream);
    const int64_t needed = cuda::scratch_bytes(step);
    if (scratch.second < needed)
        throw std::invalid_argument("scratch has " + std::to_string(scratch.second) + " bytes of the " +
                                    std::to_string(needed) + " that are needed");
    py::gil_scoped_release release;  // a launch blocks if the stream's queue is full
    cuda::flow_step(step);
}

cuda::Tuning tuning_of(const py::kwargs& values) {
    const py::object tuning = py::cast(cuda::Tuning{});
    for (const auto& [name, value] : values) py::setattr(tuning, name, value);
    return tuning.cast<cuda::Tuning>();
}

std::pair<int, int> versions() {
    int driver = 0, runtime = 0;  // the calls leave 0 if there is no driver
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaGetLastError();  // clears the error of a machine without a driver
    return {driver, runtime};
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.doc() = "flow_step for GPUs of compute capability 9.0; see kernels/flow_step/cuda.py";
    py::register_exception<cuda::Error>(m, "Error", PyExc_RuntimeError);
    py::class_<cuda::Tuning>(m, "Tuning",
                             "How the kernel is cut, for measuring; csrc/cuda/flow_step.h says what each is.")
        .def(py::init(&tuning_of))
        .def_readwrite("queries", &cuda::Tuning::queries)
        .def_readwrite("turns", &cuda::Tuning::turns)
        .def_readwrite("cluster", &cuda::Tuning::cluster)
        .def_readwrite("emulated", &cuda::Tuning::emulated)
        .def_readwrite("keys_shared", &cuda::Tuning::keys_shared)
        .def_readwrite("held", &cuda::Tuning::held)
        .def_readwrite("group", &cuda::Tuning::group)
        .def_readwrite("parts", &cuda::Tuning::parts);
    m.def("kernels", &cuda::kernels, "What is compiled, in words.");
    m.def("versions", &versions, "CUDA of the driver, 0 where there is none, and of this extension: 12040 is 12.4.");
    m.def("scratch_bytes", &scratch_bytes, py::kw_only(), py::arg("sizes"), py::arg("key_bias"), py::arg("window"),
          py::arg("device"), py::arg("tuning"),
          "Bytes of device memory that `flow_step` allocates; sizes are (O, N, H, G, D).");
    m.def("flow_step", &flow_step, py::kw_only(), py::arg("sizes"), py::arg("dtype"), py::arg("rows"), py::arg("query"),
          py::arg("key"), py::arg("row_bias"), py::arg("key_bias"), py::arg("heads"), py::arg("result"),
          py::arg("scale"), py::arg("power"), py::arg("window"), py::arg("softcap"), py::arg("scratch"),
          py::arg("device"), py::arg("stream"), py::arg("tuning"),
          "Enqueue what fills `result` (O, N); query and key are (address, head stride, row stride), scratch (address, "
          "bytes), heads (2, H) int32: query heads in the order of their key heads, and those.");
}
