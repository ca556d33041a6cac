// Heads of up to 128 elements.
#include "launch.h"

namespace attributor::cuda {

void launch_128(const Choice& choice, const Arguments& arguments, cudaStream_t stream) {
    launch_any<128>(choice, arguments, stream);
}

}  // namespace attributor::cuda
