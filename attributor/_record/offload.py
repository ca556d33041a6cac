"""Move recorded tensors from a GPU to main memory until the sweep needs their layer.

Copies in both directions run on a stream of their own, beside what the model or the sweep computes: a layer's queries
and keys go out while the next layer is read, and come back while the layer above is swept.
"""

import torch
from torch import Tensor

from attributor._checks import shorten_value
from attributor._errors import InputError

__all__ = ["KEEP_CHOICES", "Offload", "OffloadedTensor"]

KEEP_CHOICES = ("auto", "device", "host")
# What the model needs beside the recording while it reads, in units of one layer's queries: hidden states, the wide
# middle of an MLP and its two inputs come to about 8 in today's decoders. Less room than that, and layers move out.
ROOM = 8


class Offload:
    """Decides where the recorded tensors of one sequence wait, and moves them.

    Attributes:
        keep: "device", where they are; "host", pinned main memory; "auto": on the device as long as what is still to
            be recorded fits there.
    """

    def __init__(self, keep: str) -> None:
        if not isinstance(keep, str) or keep not in KEEP_CHOICES:
            raise InputError(f"keep must be one of {', '.join(KEEP_CHOICES)}, got {shorten_value(keep)}")
        self.keep = keep
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def should_move(self, query: Tensor, key: Tensor, heads_ahead: int) -> bool:
        """Whether a layer should move out.

        Args:
            query: (B, H, Q, D) of the layer, all heads.
            key: (B, G, K, D).
            heads_ahead: chosen heads of this layer and of those that follow.
        """
        if self.keep == "device" or not _is_on_gpu(query):
            return False
        if self.keep == "host":
            return True
        ahead = heads_ahead * (query.nbytes + key.nbytes) // query.shape[1]
        return _free_bytes(query.device) < ahead + ROOM * query.nbytes

    def move(self, tensor: Tensor) -> "OffloadedTensor":
        """Start to copy a tensor out; its memory is used again once that is done."""
        device = tensor.device
        if device not in self._streams:
            self._streams[device] = _stream(device)
        return OffloadedTensor(tensor, self._streams[device])


class OffloadedTensor:
    """One tensor in main memory."""

    def __init__(self, tensor: Tensor, stream: torch.cuda.Stream) -> None:
        self._device, self._stream = tensor.device, stream
        self._host = _pinned_like(tensor)
        stream.wait_stream(torch.cuda.current_stream(tensor.device))  # it may not have been computed yet
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
        """On its device; what is computed next waits for the copy. It is let go of here: another call copies anew."""
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
    """Bytes that can still be had: of the device, and of what torch holds without using it."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pinned_like(tensor: Tensor) -> Tensor:
    """Page-locked, with the same strides, so that the copy is one transfer."""
    try:
        return torch.empty_like(tensor, device="cpu", pin_memory=True)
    except RuntimeError:  # no more of it can be locked: pages that are not do as well, without the overlap
        return torch.empty_like(tensor, device="cpu")


def _mark_used_on(tensor: Tensor, stream: torch.cuda.Stream) -> None:
    """The tensor's memory must not be given to others before the stream has come this far."""
    tensor.record_stream(stream)
