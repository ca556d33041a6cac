"""Small calls of flow_step that reach every kind of tile, for compute-sanitizer: python bench/gpu_sanitize.py KERNEL.

Without torch's caching allocator (PYTORCH_NO_CUDA_MEMORY_CACHING=1), each tensor has an allocation of its own, so that
an access one element beyond it is seen.
"""

import sys

import torch
from gpu_device import DEVICE, REHEARSAL, kernels

from attributor import flow_step

CALLS = [
    # N, O, D, H, G, dtype, options: borders inside tiles, one row and several, rows held and not, masks, each dtype
    (130, 5, 64, 2, 1, torch.bfloat16, {}),
    (257, 1, 64, 3, 3, torch.bfloat16, {}),
    (200, 40, 64, 2, 1, torch.bfloat16, {"window": 70}),
    (130, 3, 40, 2, 2, torch.float16, {"softcap": 20.0, "power": 2.0}),
]
OF_TRITON = [(100, 2, 64, 2, 1, torch.float32, {})]
# Y in registers and in memory, K in registers and not, heads of every compiled size, several key heads and parts
OF_CUDA = [
    (300, 100, 128, 2, 2, torch.bfloat16, {}),
    (300, 100, 128, 8, 4, torch.bfloat16, {}),
    (260, 130, 128, 3, 1, torch.float16, {"window": 100}),
    (260, 20, 200, 2, 2, torch.bfloat16, {}),
    (1100, 16, 128, 4, 2, torch.bfloat16, {}),
    (300, 70, 64, 2, 1, torch.float16, {"softcap": 20.0}),
]


def main() -> None:
    """Run them once; exit status 5 where the kernel cannot run."""
    kernel = sys.argv[1] if len(sys.argv) > 1 else "triton"
    if kernel not in kernels():
        raise SystemExit(5)
    g = torch.Generator(DEVICE).manual_seed(0)
    for N, O, D, H, G, dtype, options in CALLS + (OF_CUDA if kernel == "cuda" else OF_TRITON):
        query, key = (torch.randn(heads, N, D, generator=g, device=DEVICE).to(dtype) for heads in (H, G))
        rows, bias = torch.rand(O, N, generator=g, device=DEVICE), torch.full((H, N), -6.0, device=DEVICE)
        key_bias = torch.zeros(H, N, device=DEVICE) if "softcap" in options else None
        index = torch.arange(H, device=DEVICE) % G if H % G else None
        found = flow_step(
            rows, query, key, bias, key_bias, scale=D**-0.5, kv_index=index, impl=REHEARSAL or kernel, **options
        )
        assert torch.isfinite(found).all()
        print(f"    {kernel}, N {N}, O {O}, D {D}, {dtype}: {float(found.sum()):.6g}", flush=True)


if __name__ == "__main__":
    main()
