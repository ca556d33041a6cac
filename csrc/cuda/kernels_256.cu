// Heads of up to 256 elements.
#include "launch.h"

namespace attributor::cuda {

void launch_256(const Choice& choice, const Arguments& arguments, cudaStream_t stream) {
    launch_any<256>(choice, arguments, stream);
}

}  // namespace attributor::cuda
