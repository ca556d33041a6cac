"""Run removal_step's Triton kernel under Triton's interpreter and print one JSON line per case.

Its own process for test_triton_removal_interpreter, because TRITON_INTERPRET holds for all kernels of a process.
"""

import json
from dataclasses import replace

import torch
from removal_step_cases import case, error, term_sizes, truth
from triton_interpreter import BF16, FP16, FP32

from attributor._step import removal_step
from attributor.kernels.removal_step import reference, triton
from attributor.kernels.removal_step.tiles import Tile, choose_tile

# With small tiles, small inputs have many tile borders.
BLOCK = Tile(16, 16, 16, 16, True, 4, 2, False)
TILES = {
    "block": BLOCK,
    "tall": replace(BLOCK, queries=32),
    "wide": replace(BLOCK, keys=64),
    "streamed": replace(BLOCK, held=False),
}
SMALL = {"D": 16, "H": 2, "G": 2}


def rows_from(first, last):
    """Return a change of the arguments: dO is zero except in some rows."""

    def change(args):
        d_output, delta = args[3], args[5]
        for tensor in (d_output, delta):
            tensor[:, :first] = 0
            tensor[:, last:] = 0

    return change


def one_head(args):
    args[3][1:, :40] = 0
    args[5][1:, :40] = 0


def stops_at(*positions):
    """The stop of each key is the first of the positions after it, or j + 1 if there is none."""

    def change(args):
        stops = args[6]
        for j in range(len(stops)):
            stops[j] = next((position for position in positions if position > j), j + 1)

    return change


def stops_beyond(args):
    args[6][::2] += 2**40


def leave_out(args):
    args[4][:, 20] = float("inf")
    args[4][1, 30:45] = float("inf")


def strided(args):
    """The layout of a fused projection of q, k and v, surrounded by NaN; the last dimension of dO is not contiguous."""
    query, key, value, d_output, lse, delta, stops = args
    H, Q, D = query.shape
    spread = torch.full((Q, H, 3, D), float("nan"), dtype=query.dtype)
    spread[:, :, 1] = query.transpose(0, 1)
    odd = torch.full((*value.shape[:2], value.shape[2] + 5), float("nan"), dtype=value.dtype)
    odd[..., 3:-2] = value
    views = [spread[:, :, 1].transpose(0, 1), key, odd[..., 3:-2], d_output.mT.contiguous().mT]
    args[:] = [*views, lse.T.contiguous().T, delta.T.contiguous().T, stops]


CASES = {}


def add(name, tile, change=None, **shape):
    CASES[name] = (tile, change, shape)


for which in TILES:
    for N in (1, 15, 16, 17, 65):
        add(f"{which} N {N}", which, stops_at() if N < 20 else None, N=N, **SMALL)
    for window in (1, 17, 40):
        add(f"{which} window {window}", which, N=70, Q=70 if window == 17 else 37, window=window, **SMALL)
    for Q in (1, 16, 33):
        add(f"{which} Q {Q}", which, N=65, Q=Q, **SMALL)
for which in ("block", "streamed"):
    add(f"{which} softcap", which, N=50, softcap=5.0, **SMALL)
    add(f"{which} everything", which, N=70, Q=51, window=33, softcap=20.0, D=16, Dv=8, H=4, G=2)
    for dtype in (FP16, FP32) if which == "streamed" else (BF16, FP16):
        add(f"{which} {dtype}", which, N=50, dtype=dtype, **SMALL)
for name, change in {
    "last row": rows_from(69, 70),
    "rows in the middle": rows_from(36, 41),
    "first rows": rows_from(0, 45),
    "no row": rows_from(0, 0),
    "one head": one_head,
    "two documents": stops_at(30, 60),
    "one document": stops_at(70),
    "stops beyond": stops_beyond,
    "left out": leave_out,
    "strided": strided,
}.items():
    for which in ("block", "wide"):
        add(f"{which} {name}", which, change, N=70, Q=70, window=50 if name == "rows in the middle" else None, **SMALL)
for H, G in ((1, 1), (7, 1), (9, 3), (4, 2)):
    add(f"block H {H} G {G}", "block", N=35, D=16, H=H, G=G)
for D, Dv in ((1, 16), (40, 40), (64, 24), (80, 64), (192, 128), (256, 256)):
    columns, value_columns = (max(16, 1 << (size - 1).bit_length()) for size in (D, Dv))
    padded = replace(BLOCK, columns=columns, value_columns=value_columns)
    add(f"block D {D}", padded, stops_at(), N=20, D=D, Dv=Dv, H=2, G=1, dtype=BF16)
    add(f"streamed D {D}", "streamed", stops_at(), N=20, D=D, Dv=Dv, H=1, G=1)

# The tiles of choose_tile on an A100, an H100 (the interpreter supports its descriptors) and elsewhere.
for capability, dtype in ((0, FP16), (80, BF16), (80, FP32), (90, BF16), (90, FP32)):
    add(f"real {capability} {dtype} N 63", capability, N=63, D=64, H=2, G=1, dtype=dtype)
    add(f"real {capability} {dtype} N 203", capability, strided, N=203, Q=150, D=80, Dv=40, H=2, G=2, dtype=dtype)
    add(f"real {capability} {dtype} everything", capability, rows_from(100, 133), N=203, Q=135, D=40, H=2, G=1,
        window=60, softcap=20.0, dtype=dtype)  # fmt: skip
add("real 90 D 256", 90, N=65, D=256, H=1, G=1, dtype=BF16)


def run(name):
    """Return the errors of one case: kernel, float32 reference, and the largest one relative to the largest sum."""
    which, change, shape = CASES[name]
    args, options = case(**shape)
    args = list(args)
    if change is not None:
        change(args)
    tile = TILES.get(which, which)
    if isinstance(which, int):
        D, Dv, bits = args[0].shape[2], args[2].shape[2], 8 * args[0].element_size()
        tile = choose_tile(D, Dv, bits, window=options["window"] is not None, capability=which)
    exact, sizes = truth(args, options), term_sizes(args, options)
    got = triton.removal_step(*args, **options, tile=tile)
    again = triton.removal_step(*args, **options, tile=tile) if "everything" in name else got
    return {
        "name": name,
        "error": error(got, exact, sizes),
        "budget": error(reference.removal_step(*args, **options), exact, sizes),
        "largest": float((got - exact).abs().max() / sizes.max().clamp(min=1e-30)),
        "finite": bool(torch.isfinite(got).all()),
        "same bits": torch.equal(got, again),
        "zeros": bool((got[sizes == 0] == 0).all()),
        "size": float(sizes.sum()),
        "dtype": str(got.dtype),
    }


def run_checked():
    """The checked function accepts this implementation by name and passes on its errors."""
    args, options = case(40, **SMALL)
    got = removal_step(*args, **options, impl="triton")
    return {"name": "checked", "same": torch.equal(got, triton.removal_step(*args, **options))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # new tensors hold NaN, so unwritten elements change the result
    for number, name in enumerate(CASES):
        triton.PROGRAMS = 1 if number % 2 else 40  # a tile of keys in one part or in several: fewer than on a GPU
        print(json.dumps(run(name)), flush=True)
    print(json.dumps(run_checked()))
