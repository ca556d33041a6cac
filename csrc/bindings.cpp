// attributor._core: addresses and sizes in, nothing of torch; kernels/flow_step/cpu.py keeps the tensors alive.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "flow_step.h"

namespace py = pybind11;

namespace {

attributor::Type type_named(const std::string& name) {
    if (name == "float32") return attributor::Type::float32;
    if (name == "bfloat16") return attributor::Type::bfloat16;
    if (name == "float16") return attributor::Type::float16;
    throw py::value_error("query and key must be float32, bfloat16 or float16, got " + name);
}

// A signal's handler raised, KeyboardInterrupt as a rule: the exception waits in this thread until the call returns.
bool signal_raised(void*) {
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

template <class T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;
using Matrices = std::tuple<std::uintptr_t, int64_t, int64_t>;

void flow_step(const Sizes& sizes, const std::string& dtype, std::uintptr_t rows, const Matrices& query,
               const Matrices& key, std::uintptr_t row_bias, std::uintptr_t key_bias, std::uintptr_t kv_index,
               std::uintptr_t result, double scale, double power, int64_t window, double softcap, int threads,
               std::uintptr_t team, const std::string& isa) {
    attributor::FlowStep step{};
    std::tie(step.O, step.N, step.H, step.G, step.D) = sizes;
    step.type = type_named(dtype);
    step.rows = pointer<const float>(rows);
    step.query = {pointer<const void>(std::get<0>(query)), std::get<1>(query), std::get<2>(query)};
    step.key = {pointer<const void>(std::get<0>(key)), std::get<1>(key), std::get<2>(key)};
    step.row_bias = pointer<const float>(row_bias);
    step.key_bias = pointer<const float>(key_bias);
    step.kv_index = pointer<const int64_t>(kv_index);
    step.result = pointer<float>(result);
    step.scale = scale;
    step.power = power;
    step.window = window;
    step.softcap = softcap;
    step.threads = threads;
    step.team = reinterpret_cast<decltype(step.team)>(team);
    bool done;
    {
        py::gil_scoped_release release;
        done = attributor::flow_step(step, isa, {signal_raised, nullptr});
    }
    if (!done) throw py::error_already_set();
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "flow_step in C++ for the CPU; see kernels/flow_step/cpu.py";
    m.def("isas", &attributor::usable_isas, "Instruction sets with kernels that run here, best first.");
    m.def(
        "isa", [] { return attributor::usable_isas().front(); },
        "The instruction set that is used unless one is forced.");
    m.def("flow_step", &flow_step, py::kw_only(), py::arg("sizes"), py::arg("dtype"), py::arg("rows"), py::arg("query"),
          py::arg("key"), py::arg("row_bias"), py::arg("key_bias"), py::arg("kv_index"), py::arg("result"),
          py::arg("scale"), py::arg("power"), py::arg("window"), py::arg("softcap"), py::arg("threads"),
          py::arg("team"), py::arg("isa"),
          "Fill `result` (O, N); sizes are (O, N, H, G, D), query and key (address, head stride, row stride).");
}
