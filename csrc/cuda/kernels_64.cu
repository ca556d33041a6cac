// Heads of up to 64 elements.
#include "launch.h"

namespace attributor::cuda {

void launch_64(const Choice& choice, const Arguments& arguments, cudaStream_t stream) {
    launch_any<64>(choice, arguments, stream);
}

}  // namespace attributor::cuda
