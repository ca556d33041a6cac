"""Move recorded tensors from a GPU to main memory until the sweep needs their layer.

Copies in both directions run on their own stream, in parallel with the model or the sweep. A layer's queries and keys
are copied out while the next layer runs, and copied back while the sweep computes the layer above.
"""

import torch
from torch import Tensor

from attributor._checks import shorten_value
from attributor._errors import InputError

__all__ = ["KEEP_CHOICES", "Offload", "OffloadedTensor"]

KEEP_CHOICES = ("auto", "device", "host")
# Memory that the model needs beside the recording, in units of one layer's queries: hidden states, the inner tensor of
# an MLP and its two inputs take about 8 in today's decoders. With less free memory, layers move out.
ROOM = 8


class Offload:
    """Decides where the recorded tensors of one sequence are stored, and moves them.

    Attributes:
        keep: "device", where they are; "host", pinned main memory; "auto": on the device as long as the rest of the
            recording fits there.
    """

    def __init__(self, keep: str) -> None:
        if not isinstance(keep, str) or keep not in KEEP_CHOICES:
            raise InputError(f"keep must be one of {', '.join(KEEP_CHOICES)}, got {shorten_value(keep)}")
        self.keep = keep
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def should_move(self, query: Tensor, key: Tensor, heads_ahead: int) -> bool:
        """Whether a layer should move to main memory.

        Args:
            query: (B, H, Q, D) of the layer, all heads.
            key: (B, G, K, D).
            heads_ahead: chosen heads of this layer and the following ones.
        """
        if self.keep == "device" or not _is_on_gpu(query):
            return False
        if self.keep == "host":
            return True
        ahead = heads_ahead * (query.nbytes + key.nbytes) // query.shape[1]
        return _free_bytes(query.device) < ahead + ROOM * query.nbytes

    def move(self, tensor: Tensor) -> "OffloadedTensor":
        """Start to copy a tensor out; its memory is free for reuse after the copy."""
        device = tensor.device
        if device not in self._streams:
            self._streams[device] = _stream(device)
        return OffloadedTensor(tensor, self._streams[device])


class OffloadedTensor:
    """One tensor in main memory."""

    def __init__(self, tensor: Tensor, stream: torch.cuda.Stream) -> None:
        self._device, self._stream = tensor.device, stream
        self._host = _pinned_like(tensor)
        stream.wait_stream(torch.cuda.current_stream(tensor.device))  # the tensor may not have been computed yet
        with torch.cuda.stream(stream):
            self._host.copy_(tensor, non_blocking=True)
        _mark_used_on(tensor, stream)
        self._coming: tuple[Tensor, torch.cuda.Event] | None = None

    def fetch(self) -> None:
        """Start to copy it back."""
        if self._coming is None:
            with torch.cuda.stream(self._stream):
                back = torch.empty_like(self._host, device=self._device)
                back.copy_(self._host, non_blocking=True)
                event = self._stream.record_event()
            self._coming = back, event

    def get(self) -> Tensor:
        """The tensor on its device; later work on the stream waits for the copy. Another call copies it again."""
        self.fetch()
        assert self._coming is not None
        (back, event), self._coming = self._coming, None
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        _mark_used_on(back, current)
        return back


def _is_on_gpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"


def _free_bytes(device: torch.device) -> int:
    """Free bytes: of the device, and in torch's unused cached memory."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pinned_like(tensor: Tensor) -> Tensor:
    """Pinned memory with the same strides, so that the copy is one transfer."""
    try:
        return torch.empty_like(tensor, device="cpu", pin_memory=True)
    except RuntimeError:  # no more memory can be pinned; other memory works too, without the overlap
        return torch.empty_like(tensor, device="cpu")


def _mark_used_on(tensor: Tensor, stream: torch.cuda.Stream) -> None:
    """Keep the allocator from reusing the tensor's memory before the stream has reached this point."""
    tensor.record_stream(stream)
