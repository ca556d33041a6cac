// attributor._core takes addresses and sizes and does not use torch; kernels/*/cpu.py keep the tensors alive.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "flow_step.h"
#include "removal_step.h"

namespace py = pybind11;

namespace {

attributor::Type type_named(const std::string& name) {
    if (name == "float32") return attributor::Type::float32;
    if (name == "bfloat16") return attributor::Type::bfloat16;
    if (name == "float16") return attributor::Type::float16;
    throw py::value_error("operands must be float32, bfloat16 or float16, got " + name);
}

// Whether a signal handler raised, usually KeyboardInterrupt; the exception is pending in this thread until the call
// returns.
bool signal_raised(void*) {
    py::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

template <class T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;
using RemovalSizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
using Matrices = std::tuple<std::uintptr_t, int64_t, int64_t>;
using ThreadCount = std::tuple<int, std::uintptr_t>;

attributor::Strided strided(const Matrices& matrices) {
    return {pointer<const void>(std::get<0>(matrices)), std::get<1>(matrices), std::get<2>(matrices)};
}

attributor::Threads threads_of(const ThreadCount& threads) {
    return {std::get<0>(threads), reinterpret_cast<decltype(attributor::Threads::team)>(std::get<1>(threads))};
}

// Runs a step without the GIL.
template <class Step>
void run(bool (*function)(const Step&, const std::string&, attributor::Interrupt), const Step& step,
         const std::string& isa) {
    bool done;
    {
        py::gil_scoped_release release;
        done = function(step, isa, {signal_raised, nullptr});
    }
    if (!done) throw py::error_already_set();
}

void flow_step(const Sizes& sizes, const std::string& dtype, std::uintptr_t rows, const Matrices& query,
               const Matrices& key, std::uintptr_t row_bias, std::uintptr_t key_bias, std::uintptr_t kv_index,
               std::uintptr_t result, double scale, double power, int64_t window, double softcap,
               const ThreadCount& threads, const std::string& isa) {
    attributor::FlowStep step{};
    std::tie(step.O, step.N, step.H, step.G, step.D) = sizes;
    step.type = type_named(dtype);
    step.rows = pointer<const float>(rows);
    step.query = strided(query);
    step.key = strided(key);
    step.row_bias = pointer<const float>(row_bias);
    step.key_bias = pointer<const float>(key_bias);
    step.kv_index = pointer<const int64_t>(kv_index);
    step.result = pointer<float>(result);
    step.scale = scale;
    step.power = power;
    step.window = window;
    step.softcap = softcap;
    step.threads = threads_of(threads);
    run(attributor::flow_step, step, isa);
}

void removal_step(const RemovalSizes& sizes, const std::string& dtype, const Matrices& query, const Matrices& key,
                  const Matrices& value, const Matrices& d_output, std::uintptr_t lse, std::uintptr_t delta,
                  std::uintptr_t stops, std::uintptr_t result, double scale, int64_t window, double softcap,
                  const ThreadCount& threads, const std::string& isa) {
    attributor::RemovalStep step{};
    std::tie(step.Q, step.N, step.H, step.G, step.D, step.Dv) = sizes;
    step.type = type_named(dtype);
    step.query = strided(query);
    step.key = strided(key);
    step.value = strided(value);
    step.d_output = strided(d_output);
    step.lse = pointer<const float>(lse);
    step.delta = pointer<const float>(delta);
    step.stops = pointer<const int64_t>(stops);
    step.result = pointer<double>(result);
    step.scale = scale;
    step.window = window;
    step.softcap = softcap;
    step.threads = threads_of(threads);
    run(attributor::removal_step, step, isa);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    m.doc() = "The steps in C++ for the CPU; see kernels/flow_step/cpu.py and kernels/removal_step/cpu.py";
    m.def("isas", &attributor::usable_isas, "Instruction sets with kernels that run here, best first.");
    m.def(
        "isa", [] { return attributor::usable_isas().front(); },
        "The instruction set that is used unless one is forced.");
    m.def("flow_step", &flow_step, py::kw_only(), py::arg("sizes"), py::arg("dtype"), py::arg("rows"), py::arg("query"),
          py::arg("key"), py::arg("row_bias"), py::arg("key_bias"), py::arg("kv_index"), py::arg("result"),
          py::arg("scale"), py::arg("power"), py::arg("window"), py::arg("softcap"), py::arg("threads"), py::arg("isa"),
          "Fill `result` (O, N) float32; sizes are (O, N, H, G, D), query and key (address, head stride, row stride), "
          "threads (count, address of GOMP_parallel or 0).");
    m.def("removal_step", &removal_step, py::kw_only(), py::arg("sizes"), py::arg("dtype"), py::arg("query"),
          py::arg("key"), py::arg("value"), py::arg("d_output"), py::arg("lse"), py::arg("delta"), py::arg("stops"),
          py::arg("result"), py::arg("scale"), py::arg("window"), py::arg("softcap"), py::arg("threads"),
          py::arg("isa"),
          "Fill `result` (N,) float64; sizes are (Q, N, H, G, D, Dv), matrices and threads as for flow_step.");
}
