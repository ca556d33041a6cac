"""Shared parts of the GPU tests: the device, its kernels, arguments on it, and the error budget of an implementation.

ATTRIBUTOR_GPU_REHEARSAL=reference runs every test on the CPU with small shapes, so that a typing error costs no time
on a GPU; it proves nothing about a GPU.
"""

import os

import pytest
import torch

from attributor import ImplementationError, flow_step
from attributor._step.implementations import list_availability

__all__ = [
    "DEVICE",
    "EVERY_KERNEL",
    "IMPL",
    "KERNELS",
    "REHEARSAL",
    "allocated",
    "at_most",
    "case",
    "check",
    "error",
    "exact",
    "lse_of",
    "poison",
    "refused",
    "why_not",
]

REHEARSAL = os.environ.get("ATTRIBUTOR_GPU_REHEARSAL", "")
DEVICE = torch.device("cpu") if REHEARSAL else torch.device("cuda", 0)
IMPL = REHEARSAL or "triton"  # the default on a GPU
# Tensor cores truncate the last bits of float32 sums where other units round. This is the effect on logits of 30:
# about 16 additions with a relative error of 2^-23 each, before exp.
FLOOR = 1e-5 if not REHEARSAL else 1e-6
ELEMENTS = 1 << 26  # logits computed at once


def kernels() -> list[str]:
    """Return the kernels to test: triton, and cuda if it can run. A rehearsal replaces both by its implementation."""
    usable = {entry.name for entry in list_availability() if entry.usable}
    return ["triton", *(["cuda"] if REHEARSAL or "cuda" in usable else [])]


KERNELS = kernels()
EVERY_KERNEL = pytest.mark.parametrize("impl", [pytest.param(REHEARSAL or name, id=name) for name in KERNELS])


def why_not() -> str | None:
    """Return the reason why the GPU tests are skipped; None if they run."""
    if REHEARSAL or torch.cuda.is_available():
        return None
    return f"needs a GPU: torch {torch.__version__} finds none"


def at_most(size: int, rehearsed: int = 100) -> int:
    """Return a size for the GPU, reduced in a rehearsal."""
    return min(size, rehearsed) if REHEARSAL else size


def allocated() -> int:
    """Return the bytes of tensors on the device; 0 if torch does not count them."""
    return torch.cuda.memory_allocated(DEVICE) if DEVICE.type == "cuda" else 0


def case(N, D=64, H=4, G=2, O=5, dtype=torch.float32, *, window=None, softcap=None, power=1.0, key_bias=False, seed=0):
    """Return arguments on the device with sharp attention and the log-sum-exp in the row bias, as in test_step."""
    g = torch.Generator().manual_seed(seed)
    # the sharper half of the heads has logits of up to about 30
    query = (torch.randn(H, N, D, generator=g) * torch.linspace(1, 4, H)[:, None, None]).to(DEVICE, dtype)
    key = torch.randn(G, N, D, generator=g).to(DEVICE, dtype)
    rows = torch.rand(O, N, generator=g).to(DEVICE)
    kv_index = torch.randint(0, G, (H,), generator=g).to(DEVICE) if H % G else None
    index = torch.arange(H, device=DEVICE) // (H // G) if kv_index is None else kv_index
    options = {"scale": D**-0.5, "kv_index": kv_index, "power": power, "window": window, "softcap": softcap}
    lse = lse_of(query, key[index], scale=D**-0.5, window=window, softcap=softcap, dtype=torch.float64)
    row_bias = (-power * lse - torch.log(torch.tensor(float(H)))).float()
    bias = torch.randn(H, N, generator=g).to(DEVICE) if key_bias else None
    return (rows, query, key, row_bias, bias), options


def lse_of(query, key, *, scale, dtype, window=None, softcap=None, causal=True):
    """Compute (H, Q) log-sum-exp by the definition, in blocks of queries; key (H, K, D), one per query head."""
    H, Q, _ = query.shape
    K = key.shape[1]
    found = torch.empty(H, Q, dtype=dtype, device=query.device)
    keys = torch.arange(K, device=query.device)
    block = max(1, ELEMENTS // (H * K))
    for low in range(0, Q, block):
        high = min(low + block, Q)
        near = high if causal else K
        logit = scale * products(query[:, low:high], key[:, :near], dtype)
        if softcap is not None:
            logit = softcap * torch.tanh(logit / softcap)
        if causal:
            gap = torch.arange(low, high, device=query.device)[:, None] - keys[None, :near]
            logit = logit.masked_fill((gap < 0) | (gap >= (window or Q)), float("-inf"))
        found[:, low:high] = logit.logsumexp(-1)
    return found


def products(query, key, dtype):
    """Return the products of query (H, Q, D) and key (H, K, D) in `dtype`.

    Tensor cores compute float32 products of 16-bit inputs if torch supports it, as in a fused kernel.
    """
    if query.device.type == "cuda" and dtype == torch.float32 and query.element_size() == 2:
        try:
            return torch.bmm(query, key.mT, out_dtype=torch.float32)
        except (RuntimeError, TypeError):  # not for every size and device
            pass
    return query.to(dtype) @ key.mT.to(dtype)


def exact(args, options):
    """Compute the reference in float64."""
    rows, query, key, row_bias, key_bias = args
    bias = None if key_bias is None else key_bias.double()
    return flow_step(rows.double(), query.double(), key.double(), row_bias.double(), bias, **options, impl="reference")


def plain(args, options, block=512):
    """Compute the definition in the working precision: 16-bit products by tensor cores, all else in float32."""
    rows, query, key, row_bias, key_bias = args
    (O, N), H = rows.shape, query.shape[0]
    index = options["kv_index"]
    index = torch.arange(H, device=DEVICE) // (H // key.shape[0]) if index is None else index
    found = torch.zeros(O, N, dtype=torch.float32, device=DEVICE)
    keys = torch.arange(N, device=DEVICE)
    for low in range(0, N, block):
        high = min(low + block, N)
        logit = options["scale"] * products(query[:, low:high], key[index, :high], torch.float32)
        if options["softcap"] is not None:
            logit = options["softcap"] * torch.tanh(logit / options["softcap"])
        exponent = options["power"] * logit + row_bias[:, low:high, None]
        if key_bias is not None:
            exponent = exponent + key_bias[:, None, :high]
        gap = torch.arange(low, high, device=DEVICE)[:, None] - keys[None, :high]
        hidden = (gap < 0) | (gap >= (options["window"] or N))
        found[:, :high] += rows[:, low:high] @ exponent.masked_fill(hidden, float("-inf")).exp().sum(0)
    return found


def error(got, true):
    """Return the relative L1 error."""
    return float((got.double() - true).abs().sum() / true.abs().sum().clamp(min=1e-30))


def refused(args, options, impl):
    """Return whether the kernel refuses queries of this dtype; check that the message names an alternative."""
    if impl != "cuda" or args[1].dtype in (torch.bfloat16, torch.float16):
        return False
    with pytest.raises(ImplementationError, match=r"takes bfloat16 or float16 .*use impl='triton'"):
        flow_step(*args, **options, impl=impl)
    return True


def poison(value=float("nan")):
    """Fill memory that torch will reuse, so that unwritten or stale elements change the result."""
    if DEVICE.type != "cuda":
        return
    torch.cuda.empty_cache()
    blocks = [torch.full((1 << size,), value, device=DEVICE) for size in range(6, 27) for _ in range(3)]
    del blocks


def check(args, options, impl=IMPL):
    """Return the kernel's result after a check that its error is at most twice that of plain torch on this device.

    Return None if the kernel refuses such queries.
    """
    if refused(args, options, impl):
        return None
    true = exact(args, options)
    budget = error(plain(args, options), true)
    got = flow_step(*args, **options, impl=impl)
    assert got.dtype == torch.float32
    assert got.device == args[0].device
    assert torch.isfinite(got).all()
    assert error(got, true) <= 2 * budget + FLOOR
    # also for small values: the largest value of a row bounds the error of each element
    assert ((got.double() - true).abs() <= 1e-4 * true.abs().amax(1, keepdim=True) + 1e-12).all()
    return got
