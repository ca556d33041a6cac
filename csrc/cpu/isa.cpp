// Detects which kernels this machine can run.
#include <algorithm>
#include <stdexcept>

#include "../call.h"
#include "kernels.h"

#ifdef ATTRIBUTOR_X86
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace attributor {
namespace {

struct Isa {
    const char* name;
    bool (*usable)();
    const cpu::Kernels& (*kernels)(Type);
};

bool always() {
    return true;
}

#ifdef ATTRIBUTOR_X86
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

// Intel runs VDPBF16PS at half the rate of float32, so there it is slower and listed after AVX-512.
bool prefers_bf16() {
    return !__builtin_cpu_is("intel");
}

bool has_avx512_bf16() {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

// Linux enables tile registers only on request, because they add 8 KiB to every signal frame.
bool has_amx() {
#ifdef __linux__
    static const bool usable = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        constexpr unsigned tile_and_bf16 = (1u << 24) | (1u << 22);
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tile_and_bf16) != tile_and_bf16) return false;
        constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
        return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    }();
    return usable && has_avx512_bf16();
#else
    return false;
#endif
}
#endif

constexpr Isa kIsas[] = {
#ifdef ATTRIBUTOR_X86
    {"amx", has_amx, cpu::amx_kernels},          {"avx512_bf16", has_avx512_bf16, cpu::avx512_bf16_kernels},
    {"avx512", has_avx512, cpu::avx512_kernels}, {"avx2", has_avx2, cpu::avx2_kernels},
#endif
    {"scalar", always, cpu::scalar_kernels},
};

}  // namespace

std::vector<std::string> usable_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : kIsas)
        if (isa.usable()) names.push_back(isa.name);
#ifdef ATTRIBUTOR_X86
    const auto bf16 = std::find(names.begin(), names.end(), "avx512_bf16");
    if (bf16 != names.end() && !prefers_bf16()) std::swap(bf16[0], bf16[1]);
#endif
    return names;
}

const cpu::Kernels& cpu::kernels(const std::string& name, Type type) {
    for (const Isa& isa : kIsas)
        if (name == isa.name && isa.usable()) return isa.kernels(type);
    throw std::invalid_argument("no kernels named '" + name + "' are usable here");
}

}  // namespace attributor
