"""Copy the tensors of a recording into a few large blocks of memory.

A C allocator takes tensors of some megabytes from its heap. Recorded tensors then lie between tensors that the model
frees, and the heap does not return that memory to the system. A process that recorded every head of a long prompt held
50% more than it needed. Larger blocks come from the system one by one, and go back to it.
"""

import torch
from torch import Tensor

__all__ = ["Arena"]

BLOCK = 64 << 20  # bytes; glibc always maps blocks larger than 32 MiB
ALIGNMENT = 64


class Arena:
    """Copies of tensors, side by side in blocks of 64 MiB; a block lives as long as one of its tensors."""

    def __init__(self) -> None:
        self._block: Tensor | None = None
        self._used = BLOCK

    def copy(self, tensor: Tensor) -> Tensor | None:
        """A contiguous copy; None if a copy gains nothing: for small or very large tensors, and on other devices."""
        size = tensor.numel() * tensor.element_size()
        if tensor.device.type != "cpu" or not BLOCK >> 10 <= size <= BLOCK >> 1:
            return None
        if self._block is None or self._used + size > BLOCK:
            self._block, self._used = torch.empty(BLOCK, dtype=torch.uint8, device="cpu"), 0
        place = self._block[self._used : self._used + size].view(tensor.dtype).view(tensor.shape)
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return place.copy_(tensor)
