"""Python binding of the emulated kernel: built with the installed compiler, called with torch tensors."""

import ctypes
import math
import shutil
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent / "cuda"
SOURCES = HERE.parents[2] / "csrc" / "cuda"
COMPILER = shutil.which("g++") if sys.platform == "linux" else None
FLAGS = "-std=c++17 -O2 -ftree-vectorize -fPIC -shared -U_FORTIFY_SOURCE -Wall -Wextra -fmax-errors=3 "
FLAGS += "-Wno-unknown-pragmas"


class Call(ctypes.Structure):
    """`EmulatedCall` of emulate.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("O", "N", "H", "G", "D")),
        *((name, ctypes.c_void_p) for name in ("rows", "query", "key", "row_bias", "key_bias", "heads", "result")),
        *((name, ctypes.c_double) for name in ("scale", "power", "softcap")),
        ("window", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("variant", "group", "parts", "truncate", "exponential_error", "fault")),
        ("seed", ctypes.c_uint64),
    ]


class EmulatorError(Exception):
    """An error found by the emulator."""


def build(source: str, folder: Path, kernel: Path = SOURCES, *macros: str) -> ctypes.CDLL:
    """Build a library from tests/helpers/cuda/`source`, with the kernel's files from `kernel`."""
    assert COMPILER
    library = folder / f"{Path(source).stem}.so"
    command = [COMPILER, *FLAGS.split(), *macros, f"-I{kernel}", f"-I{HERE}", str(HERE / source), "-o", str(library)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        raise RuntimeError(f"{source} does not compile:\n{built.stderr[:4000]}")
    return ctypes.CDLL(str(library))


class Emulator:
    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.variant_name.restype = ctypes.c_char_p
        self.variants: list[str] = []
        while name := library.variant_name(len(self.variants)):
            self.variants.append(name.decode())

    def __call__(
        self, variant, args, options, *, group=8, parts=1, seed=0, truncate=False, exponential_error=0, fault=0
    ):
        """Return the result of flow_step, (O, N); raises EmulatorError.

        seed: determines the order of all events. truncate: round sums of products toward zero. exponential_error: error
        of the exponential unit in units of the last place. fault: number in FAULTS, for a library built with them.
        """
        rows, query, key, row_bias, key_bias = args
        (O, N), (H, _, D), G = rows.shape, query.shape, key.shape[0]
        kv = options["kv_index"]
        kv = torch.arange(H) // (H // G) if kv is None else kv
        order = torch.argsort(kv, stable=True)
        heads = torch.stack([order, kv[order]]).to(torch.int32).contiguous()
        query, key = _lines(query), _lines(key)
        tensors = [rows, row_bias, key_bias]
        rows, row_bias, key_bias = (None if x is None else x.float().contiguous() for x in tensors)
        result = torch.full((O, N), math.nan)
        pointers = [rows, query, key, row_bias, key_bias, heads, result]
        call = Call(
            O, N, H, G, D, *(None if x is None else x.data_ptr() for x in pointers),
            options["scale"], options["power"], options["softcap"] or 0.0, options["window"] or N,
            self.variants.index(variant), group, parts, truncate, exponential_error, fault, seed,
        )  # fmt: skip
        message = ctypes.create_string_buffer(4000)
        if self.library.emulate_call(ctypes.byref(call), message, len(message)):
            raise EmulatorError(message.value.decode())
        return result

    def to_half(self, numbers):
        """Convert float32 to float16 with the rounding of the emulator."""
        result = torch.empty(len(numbers), dtype=torch.float16)
        self.library.to_half(ctypes.c_void_p(numbers.data_ptr()), ctypes.c_void_p(result.data_ptr()), len(numbers))
        return result

    def from_half(self, numbers):
        result = torch.empty(len(numbers), dtype=torch.float32)
        self.library.from_half(ctypes.c_void_p(numbers.data_ptr()), ctypes.c_void_p(result.data_ptr()), len(numbers))
        return result


def _lines(tensor):
    """Return (heads, N, D) in 16 bits with lines at multiples of 16 bytes and NaN between them."""
    heads, N, D = tensor.shape
    padded = torch.full((heads, N, -(-D // 8) * 8), math.nan, dtype=tensor.dtype)
    padded[..., :D] = tensor
    return padded
