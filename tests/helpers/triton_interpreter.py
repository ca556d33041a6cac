"""Run the Triton kernel under Triton's interpreter and print one JSON line per case, for test_triton_interpreter.

It needs its own process: TRITON_INTERPRET must be set before triton is first imported and then holds for all kernels.
"""

import functools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
os.environ.pop("ATTRIBUTOR_IMPL", None)
sys.path.insert(0, str(Path(__file__).parent))

import torch
from flow_step_cases import case, error, truth
from triton.runtime import interpreter

from attributor.kernels.flow_step import reference, triton
from attributor.kernels.flow_step.tiles import Tile, choose_tile

patch_once = functools.cache(interpreter._patch_lang)


def call_device_function(self, *args, **kwargs):
    """Call a device function as the interpreter does, but patch triton.language only at the first call.

    The launch of a kernel patches it too, and patching it again for each call takes a third of the time.
    """
    patch_once(self.fn)
    return self.rewrite()(*args, **kwargs)


interpreter.InterpretedFunction.__call__ = call_device_function
# Without `debug` the interpreter computes integer overflows and discards the result, which takes half of the time.
interpreter.interpreter_builder.options = replace(interpreter.interpreter_builder.options, sanitize_overflow=False)

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
INF = float("inf")

# With small tiles, small inputs have many tile borders; the real tiles are REAL, below.
BLOCK = Tile(16, 16, 16, True, 16, False, 4, 2, False)
ONE = replace(BLOCK, rows=1)
AHEAD = replace(ONE, ahead=True)
TALL = replace(BLOCK, queries=32)
WIDE = replace(BLOCK, keys=64)
MEMORY = replace(BLOCK, held=False)
TILES = {"block": BLOCK, "one": ONE, "ahead": AHEAD, "tall": TALL, "wide": WIDE, "memory": MEMORY}
SMALL = {"D": 16, "H": 3, "G": 3}


def leave_out(args):
    row_bias, key_bias = args[3:]
    row_bias[:, 20] = -INF
    row_bias[1, 30:45] = -INF
    key_bias[:, 0] = -INF
    key_bias[2, 10:25] = -INF


def nothing(args):
    args[3][:] = -INF


def zero_rows(args):
    args[0][:, :37] = 0
    args[0][0] = 0


def last_row_only(args):
    args[0][:, :-1] = 0


def one_row_in_the_middle(args):
    args[0][:] = 0
    args[0][:, 40] = 1


def signed(args):
    args[0].sub_(0.5)


def tiny(args):
    args[0].mul_(1e-30)


def mixed(args):
    """Rows and positions of very different sizes, with a sink that holds nearly all mass."""
    args[0].mul_(1e-6)
    args[0][:, 0] = 1
    args[0][1:].mul_(torch.tensor([1e20, 1e-20, 1e-7, 3.0])[: args[0].shape[0] - 1, None])


def huge_weights(args):
    """W from e^-30 to e^30, as with row biases other than the log-sum-exp."""
    args[3].add_(torch.linspace(-30, 30, args[3].shape[1]))


def sparse(args):
    args[0][:, ::3] = 0
    args[0][:, 16:64] = 0


def strided(args):
    rows, query, key, row_bias, key_bias = args
    N, (H, _, D) = rows.shape[1], query.shape
    spread = torch.full((N, H, 3, D), float("nan"), dtype=query.dtype)
    spread[:, :, 1] = query.transpose(0, 1)
    wide = torch.full((rows.shape[0], 3 * N), float("nan"))
    wide[:, N : 2 * N] = rows
    args[:] = [
        wide[:, N : 2 * N],
        spread[:, :, 1].transpose(0, 1),
        key.mT.contiguous().mT,
        row_bias.T.contiguous().T,
        key_bias,
    ]


CASES = {}


def add(name, tile, change=None, kv=None, **shape):
    CASES[name] = (tile, change, kv, shape)


for which in TILES:
    for N in (1, 15, 16, 17, 65):
        add(f"{which} N {N}", which, N=N, O=1 if TILES[which].rows == 1 else 3, **SMALL)
    O = 1 if TILES[which].rows == 1 else 2
    for window in (1, 16, 17, 40, 70):
        add(f"{which} window {window}", which, N=70, O=O, window=window, **SMALL)
for which in ("block", "one", "ahead", "memory"):
    O = 1 if TILES[which].rows == 1 else 2
    add(f"{which} softcap", which, N=50, O=O, softcap=5.0, **SMALL)
    add(f"{which} softcap 50", which, N=50, O=O, softcap=50.0, **SMALL)
    add(f"{which} power 3", which, N=50, O=O, power=3.0, **SMALL)
    add(f"{which} power one half", which, N=50, O=O, power=0.5, **SMALL)
    add(f"{which} key bias", which, N=50, O=O, key_bias=True, **SMALL)
    add(f"{which} everything", which, N=70, O=O, key_bias=True, window=33, softcap=20.0, power=2.0, D=16, H=5, G=2)
    add(f"{which} minus infinity", which, leave_out, N=50, O=O, key_bias=True, **SMALL)
    add(f"{which} nothing left", which, nothing, N=50, O=O, **SMALL)
    add(f"{which} zero rows", which, zero_rows, N=50, O=O, **SMALL)
    add(f"{which} last row only", which, last_row_only, N=50, O=O, **SMALL)
    add(f"{which} one row in the middle", which, one_row_in_the_middle, N=70, O=O, **SMALL)
    add(f"{which} sparse rows", which, sparse, N=100, O=O, window=50, **SMALL)
    add(f"{which} signed", which, signed, N=50, O=O, **SMALL)
    add(f"{which} tiny", which, tiny, N=50, O=O, **SMALL)
    add(f"{which} huge weights", which, huge_weights, N=50, O=O, **SMALL)
    add(f"{which} strided", which, strided, N=50, O=O, **SMALL)
    for dtype in (BF16, FP16):
        add(f"{which} {dtype}", which, N=50, O=O, dtype=dtype, **SMALL)
    for H, G in ((1, 1), (7, 1), (9, 3), (5, 3)):
        add(f"{which} H {H} G {G}", which, N=35, O=O, D=16, H=H, G=G)
    add(f"{which} any kv_index", which, N=35, O=O, D=16, H=5, G=3, kv=[2, 0, 2, 2, 1])
for which in ("block", "memory"):
    for O in (2, 15, 16, 17, 65):
        add(f"{which} O {O}", which, N=35, O=O, **SMALL)
    add(f"{which} mixed", which, mixed, N=50, O=4, **SMALL)
for D in (1, 8, 36, 40, 64, 80, 128, 192, 256):
    for dtype in (BF16, FP16, FP32):
        add(f"D {D} {dtype}", "one" if D % 3 else "block", N=20, O=1 if D % 3 else 2, D=D, H=2, G=1, dtype=dtype)

# The tiles of choose_tile on an A100, an H100 (the interpreter supports its descriptors) and elsewhere.
for capability in (0, 80, 90):
    for O in (1, 2, 17, 65):
        for N in (63, 64, 127, 129, 200):
            if N == 200 or (O + N + capability) % 3 == 0:
                add(
                    f"real {capability} O {O} N {N}",
                    capability,
                    strided if N == 129 else None,
                    N=N,
                    O=O,
                    D=64,
                    dtype=(BF16, FP16, FP32)[(O + N) % 3],
                    window=100 if N == 127 else None,
                )
    add(f"real {capability} D 256", capability, N=130, O=2, D=256, dtype=BF16)
    add(f"real {capability} D 80", capability, N=130, O=1, D=80, dtype=FP16)
    add(f"real {capability} D 36", capability, N=130, O=1, D=36, H=3, G=3, dtype=BF16)
    add(f"real {capability} everything", capability, leave_out, N=260, O=17, D=40, H=6, G=2, dtype=BF16, key_bias=True,
        window=130, softcap=20.0, power=2.0)  # fmt: skip


def run(name):
    """Return the errors of one case: of the kernel, of the reference in float32, and the largest by row."""
    which, change, kv, shape = CASES[name]
    args, options = case(**shape)
    H, G = shape.get("H", 4), shape.get("G", 2)
    if kv is not None:
        options["kv_index"] = torch.tensor(kv)
    elif options["kv_index"] is None:
        options["kv_index"] = torch.arange(H) // (H // G)
    args = list(args)
    if change is not None:
        change(args)
    O, D, bits = args[0].shape[0], args[1].shape[2], 8 * args[1].element_size()
    plain = not shape.get("key_bias") and not shape.get("softcap")
    tile = TILES[which] if which in TILES else choose_tile(O, D, bits, plain=plain, capability=which)
    exact = truth(args, options)
    plain = reference.flow_step(*args, **options)
    got = triton.flow_step(*args, **options, tile=tile)
    again = triton.flow_step(*args, **options, tile=tile) if "key bias" in name else got
    off = (got.double() - exact).abs() / exact.abs().amax(1, keepdim=True).clamp(min=1e-300)
    return {
        "name": name,
        "error": error(got, exact),
        "budget": error(plain, exact),
        "largest": float(off.max()),
        "finite": bool(torch.isfinite(got).all()),
        "same bits": torch.equal(got, again),
        "zeros": bool((got[exact == 0] == 0).all()),
        "size": float(exact.abs().sum()),
        "dtype": str(got.dtype),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, name in enumerate(CASES):
        triton.PROGRAMS = 1 if number % 2 else 12  # a tile of keys in one part or in several: fewer than on a GPU
        print(json.dumps(run(name)), flush=True)
