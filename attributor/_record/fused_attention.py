"""Choose a fused attention kernel for a GPU, verify it once, and run it with its log-sum-exp.

torch has several kernels. Each supports certain head sizes, dtypes, devices and shapes, and not all of them raise an
error for other calls. So before its first use for a kind of call, a kernel runs a small call, whose result is compared
with the definition. The outcome is cached until the process ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["KERNELS", "Call", "kernels_to_try", "run_fused_kernel"]

HALF = (torch.float16, torch.bfloat16)
LONG = 512  # queries from which a plan for their number of keys pays off
PROBE = 200  # positions of the small call: no multiple of any tile
REFUSALS = (RuntimeError, NotImplementedError, TypeError)  # errors of kernels for unsupported calls
OUT_OF_MEMORY_MESSAGES = ("out of memory", "ALLOC_FAILED")  # in messages of CUDA and its libraries
TOLERANCE = 2e-2  # of outputs of order 1 at 16 bits, and of the log-sum-exp


@dataclass(frozen=True)
class Call:
    """A kind of call: the properties that decide whether a kernel supports it.

    Attributes:
        device: where, "cuda:0".
        dtype: of query, key and value.
        size: D, of query and key.
        value_size: Dv.
        groups: query heads per KV head.
        causal: as many keys as queries, each seeing those up to its own; else every query sees every key.
        windowed: causal, within a window.
    """

    device: torch.device
    dtype: torch.dtype
    size: int
    value_size: int
    groups: int
    causal: bool
    windowed: bool


Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, bool, int | None, float], tuple[Tensor, Tensor]]
_verified: dict[tuple[str, Call], bool] = {}


def run_fused_kernel(
    query: Tensor,  # (B, H, Q, D)
    key: Tensor,  # (B, G, K, D), not repeated
    value: Tensor,  # (B, G, K, Dv)
    *,
    causal: bool,
    window: int | None,
    scale: float,
    definition: Kernel,
) -> tuple[Tensor, Tensor] | None:
    """Output (B, H, Q, Dv) and log-sum-exp (B, H, Q) float32; None if no fused kernel supports such a call.

    Args:
        query: the queries.
        key: the keys.
        value: the values.
        causal: as many keys as queries, each seeing those up to its own; False: every query sees every key.
        window: of a causal call, how many positions a query sees, its own included; None for all before it.
        scale: of the logits.
        definition: attention in plain torch, to compare a small call with.
    """
    groups = query.shape[1] // key.shape[1]
    call = Call(query.device, query.dtype, query.shape[-1], value.shape[-1], groups, causal, window is not None)
    for name in kernels_to_try(call, query.shape[2]):
        if not _is_verified(name, call, definition):
            continue
        try:
            return KERNELS[name](query, key, value, causal, window, scale)
        except torch.OutOfMemoryError:
            raise
        except REFUSALS as error:  # unsupported for this size or these strides
            if any(text in str(error) for text in OUT_OF_MEMORY_MESSAGES):  # not a fault of the kernel
                raise
            _verified[name, call] = False
    return None


def kernels_to_try(call: Call, queries: int) -> list[str]:
    """The kernels to try for this kind of call with `queries` queries, the fastest first."""
    if call.dtype not in HALF:
        return ["efficient"] if call.dtype == torch.float32 and not call.windowed else []
    names = ["flash"]
    # twice as fast as flash on Hopper and later, but it plans each new number of keys, so each step of decoding
    if call.causal and not call.windowed and queries >= LONG and _capability(call.device) >= (9, 0):
        names.insert(0, "cudnn")
    return names if call.windowed else [*names, "efficient"]


def _capability(device: torch.device) -> tuple[int, int]:
    if device.type != "cuda" or torch.version.hip is not None:
        return (0, 0)
    return torch.cuda.get_device_capability(device)


def _is_verified(name: str, call: Call, definition: Kernel) -> bool:
    """Whether the kernel computes such a call correctly; probed once."""
    known = _verified.get((name, call))
    if known is None:
        known = _verified[name, call] = _probe(KERNELS[name], call, definition)
    return known


def _probe(kernel: Kernel, call: Call, definition: Kernel) -> bool:
    g = torch.Generator().manual_seed(0)  # its own generator: the global random state does not change
    Q = PROBE if call.causal else 1
    shapes = ((Q, 2 * call.groups, call.size), (PROBE, 2, call.size), (PROBE, 2, call.value_size))
    tensors = (torch.randn(1, *shape, generator=g).to(call.device, call.dtype) for shape in shapes)
    # as models pass them: a position's heads side by side
    q, k, v = (tensor.transpose(1, 2) for tensor in tensors)
    window, scale = 37 if call.windowed else None, call.size**-0.5
    try:
        output, lse = kernel(q, k, v, call.causal, window, scale)
        expected, sums = definition(q.float(), k.float(), v.float(), call.causal, window, scale)
    except torch.OutOfMemoryError:
        raise
    except REFUSALS as error:
        if any(text in str(error) for text in OUT_OF_MEMORY_MESSAGES):
            raise
        return False
    if output.shape != expected.shape or lse.shape != sums.shape:
        return False
    errors = [(mine.float() - true.float()).abs().max() for mine, true in ((output, expected), (lse, sums))]
    return all(bool(error < TOLERANCE) for error in errors)  # False for NaN


def _flash(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, window: int | None, scale: float
) -> tuple[Tensor, Tensor]:
    D, Dv, Q = query.shape[-1], value.shape[-1], query.shape[2]
    size = -(-max(D, Dv) // 8) * 8  # one size for all three, a multiple of 8; zeros change neither q.k nor the output
    query, key, value = (_pad(x, size) for x in (query, key, value))
    if window is None:
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, scale=scale)[
            :2
        ]
        return output[..., :Dv], lse[..., :Q]
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # this kernel takes (B, N, H, D)
    output, lse = torch.ops.aten._flash_attention_forward(
        q, k, v, None, None, Q, Q, 0.0, True, False, scale=scale, window_size_left=window - 1, window_size_right=0
    )[:2]
    return output.transpose(1, 2)[..., :Dv], lse[..., :Q]


def _cudnn(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, window: int | None, scale: float
) -> tuple[Tensor, Tensor]:
    if window is not None:
        raise NotImplementedError
    output, lse = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query, key, value, None, True, 0.0, causal, False, scale=scale
    )[:2]
    return output, (lse[..., 0] if lse.ndim == 4 else lse)[..., : query.shape[2]]


def _efficient(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, window: int | None, scale: float
) -> tuple[Tensor, Tensor]:
    if window is not None:
        raise NotImplementedError
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # the only kernel that needs keys for every query head
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    output, lse = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, causal, scale=scale
    )[:2]
    return output, lse[..., : query.shape[2]]


def _pad(tensor: Tensor, size: int) -> Tensor:
    return tensor if tensor.shape[-1] == size else pad(tensor, (0, size - tensor.shape[-1]))


KERNELS: dict[str, Kernel] = {"cudnn": _cudnn, "flash": _flash, "efficient": _efficient}
