// Variants that are compiled for measurements only: heads of 64 and 128 elements, bfloat16, neither key bias nor
// softcap.
#include "launch.h"

namespace attributor::cuda {

#if defined(ATTRIBUTOR_CUDA_TUNING)

namespace {

template <int D, Rows ROWS>
bool launch_tuned(const Tuning& t, const Arguments& a, cudaStream_t stream) {
    if (t.keys_shared) {
        if (t.queries != 128 || t.turns || t.cluster != 2 || t.emulated != 0) return false;
        launch<Variant<D, ROWS, false, false, 128, Overlap::halves, 2, 0, true>>(a, stream);
    } else if (t.queries == 128 && !t.turns && t.cluster == 1 && t.emulated == 0)
        launch<Variant<D, ROWS, false, false, 128, Overlap::halves, 1>>(a, stream);
    else if (t.queries == 128 && !t.turns && t.cluster == 2 && t.emulated == 2)
        launch<Variant<D, ROWS, false, false, 128, Overlap::halves, 2, 2>>(a, stream);
    else if (t.queries == 128 && t.turns && t.cluster == 2 && t.emulated == 0)
        launch<Variant<D, ROWS, false, false, 128, Overlap::turns>>(a, stream);
    else if (t.queries == 128 && t.turns && t.cluster == 2 && t.emulated == 2)
        launch<Variant<D, ROWS, false, false, 128, Overlap::turns, 2, 2>>(a, stream);
    else
        return false;
    return true;
}

// 192 queries leave no registers for 128 rows of Y.
template <int D, Rows ROWS>
bool launch_wide(const Tuning& t, const Arguments& a, cudaStream_t stream) {
    if (t.keys_shared || t.queries != 192 || !t.turns || t.cluster != 2 || t.emulated != 0) return false;
    launch<Variant<D, ROWS, false, false, 192, Overlap::turns>>(a, stream);
    return true;
}

template <int D>
bool launch_of(const Choice& c, const Arguments& a, cudaStream_t stream) {
    switch (c.rows) {
        case Rows::one:
            return launch_tuned<D, Rows::one>(c.tuning, a, stream) || launch_wide<D, Rows::one>(c.tuning, a, stream);
        case Rows::to_16:
            return launch_tuned<D, Rows::to_16>(c.tuning, a, stream) ||
                   launch_wide<D, Rows::to_16>(c.tuning, a, stream);
        case Rows::to_128:
            return launch_tuned<D, Rows::to_128>(c.tuning, a, stream) ||
                   launch_wide<D, Rows::more>(c.tuning, a, stream);
        default:
            return launch_tuned<D, Rows::more>(c.tuning, a, stream) || launch_wide<D, Rows::more>(c.tuning, a, stream);
    }
}

}  // namespace

bool launch_tuning(int D, const Choice& choice, const Arguments& arguments, cudaStream_t stream) {
    if (choice.half || choice.general || D == 256) return false;
    return D == 64 ? launch_of<64>(choice, arguments, stream) : launch_of<128>(choice, arguments, stream);
}

#else

bool launch_tuning(int, const Choice&, const Arguments&, cudaStream_t) {
    return false;
}

#endif

}  // namespace attributor::cuda
