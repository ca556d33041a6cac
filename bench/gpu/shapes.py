"""The measurements of the GPU check, the most important first. Imports only the standard library."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Step:
    """One causal call of flow_step: N positions, O rows, H query heads and G key heads of size D."""

    N: int = 32_768
    O: int = 128
    D: int = 128
    H: int = 32
    G: int = 8
    dtype: str = "bfloat16"  # of query and key

    @property
    def name(self) -> str:
        """Return the name of the call in results."""
        return f"N{self.N} H{self.H} G{self.G} D{self.D} O{self.O} {self.dtype}"

    @property
    def flops(self) -> float:
        """Return the operations of Q K^T below the diagonal, 2 H D N^2 / 2; half of attention's forward pass."""
        return self.H * self.D * self.N**2

    def rehearsal(self) -> "Step":
        """Return the same kind of call at a size that a CPU computes in milliseconds."""
        H = min(self.H, 4)
        G = 2 if self.G == 8 else min(self.G, H)
        return replace(self, N=24 + self.N // 2048, O=self.O if self.O < 17 else self.O // 8, D=self.D // 4, H=H, G=G)


@dataclass(frozen=True)
class Removal:
    """One call of removal_step: the last Q of N positions, H query heads and G key heads of size D and Dv."""

    N: int = 32_768
    Q: int = 32_768
    D: int = 128
    Dv: int = 128
    H: int = 32
    G: int = 8
    dtype: str = "bfloat16"  # of query, key, value and dO

    @property
    def name(self) -> str:
        """Return the name of the call in results."""
        return f"N{self.N} Q{self.Q} H{self.H} G{self.G} D{self.D} Dv{self.Dv} {self.dtype}"

    @property
    def flops(self) -> float:
        """Return the operations of Q K^T and dO V^T below the diagonal, as many as attention's forward pass."""
        return 2 * (self.D + self.Dv) * self.H * self.Q * (self.N - self.Q / 2)

    def rehearsal(self) -> "Removal":
        """Return the same kind of call at a size that a CPU computes in milliseconds."""
        N = 60 + self.N // 2048
        return replace(self, N=N, Q=N if self.Q == self.N else 5, D=self.D // 4, Dv=self.Dv // 4, H=4, G=2)


HEADLINE = Step()
LONG = Step(N=131_072)
STEPS = (
    HEADLINE,
    replace(HEADLINE, O=1),
    replace(HEADLINE, O=16),
    LONG,
    replace(HEADLINE, D=64),
    replace(HEADLINE, D=256),
    replace(HEADLINE, O=512),
    replace(HEADLINE, H=4, G=4),  # few selected heads
    replace(HEADLINE, H=1, G=1),
    replace(HEADLINE, N=8192),
    replace(HEADLINE, N=4096),
    replace(HEADLINE, H=4, G=1, O=16),
    replace(HEADLINE, H=1, G=1, O=1),
    replace(HEADLINE, G=1),
    replace(HEADLINE, G=32),
    replace(LONG, O=16),
    replace(LONG, H=1, G=1),
    replace(HEADLINE, dtype="float16"),
    replace(HEADLINE, N=8192, dtype="float32"),
)

REMOVALS = (
    Removal(),
    Removal(Q=64),  # question and answer after a long prompt
    Removal(N=8192, Q=8192),
    Removal(D=64, Dv=64),
    Removal(D=256, Dv=256),
    Removal(N=8192, Q=8192, dtype="float16"),
    Removal(N=8192, Q=8192, dtype="float32"),
)

# Variants of the CUDA kernel: fields of Tuning in csrc/cuda/flow_step.h. The first is the default of a call.
TUNINGS: tuple[dict[str, int], ...] = (
    {},
    {"held": 1},
    {"held": 0},
    {"keys_shared": True},
    {"turns": True},
    {"turns": True, "queries": 192},
    {"cluster": 1},
    {"emulated": 2},
    {"group": 4},
    {"group": 32},
    {"parts": 1},
    {"parts": 4},
    {"parts": 16},
)
TUNED = (HEADLINE, replace(HEADLINE, D=64), replace(HEADLINE, H=1, G=1), replace(HEADLINE, H=4, G=4, O=16))

# Small calls for compute-sanitizer, with options: borders inside tiles, one row and several, masks.
Small = tuple[tuple[Step, dict[str, Any]], ...]
SMALL: Small = (
    (Step(130, 5, 64, 2, 1), {}),
    (Step(257, 1, 64, 3, 3), {}),
    (Step(200, 40, 64, 2, 1), {"window": 70}),
    (Step(130, 3, 40, 2, 2, "float16"), {"softcap": 20.0, "power": 2.0}),
)
SMALL_TRITON: Small = ((Step(100, 2, 64, 2, 1, "float32"), {}),)
SMALL_REMOVALS: tuple[tuple[Removal, dict[str, Any]], ...] = (
    (Removal(130, 130, 64, 64, 2, 1), {}),
    (Removal(257, 70, 80, 40, 4, 2), {"window": 90}),
    (Removal(200, 200, 256, 256, 1, 1, "float16"), {"softcap": 20.0}),
    (Removal(100, 100, 64, 64, 2, 1, "float32"), {"window": 30, "softcap": 20.0}),
)
SMALL_CUDA: Small = (  # Y in registers and in memory, K in registers and not, each size, several parts
    (Step(300, 100, 128, 2, 2), {}),
    (Step(300, 100, 128, 8, 4), {}),
    (Step(260, 130, 128, 3, 1, "float16"), {"window": 100}),
    (Step(260, 20, 200, 2, 2), {}),
    (Step(1100, 16, 128, 4, 2), {}),
    (Step(300, 70, 64, 2, 1, "float16"), {"softcap": 20.0}),
)

# Llamas: layers, hidden size, heads, key heads, intermediate size
MODELS = {
    "8B": (32, 4096, 32, 8, 14_336),
    "1B": (16, 2048, 32, 8, 8192),
    "3B": (28, 3072, 24, 8, 8192),
    "rehearsal": (2, 64, 4, 2, 64),
}
# (measurement, model, prompt tokens). Each model is built once.
FLOWS = (
    ("flow", "8B", 32_768),
    ("record", "8B", 32_768),
    ("flow", "8B", 131_072),
    ("flow", "8B", 8192),
    ("flow", "1B", 32_768),
    ("record", "1B", 32_768),
    ("flow", "1B", 131_072),
    ("flow", "1B", 8192),
    ("flow", "3B", 32_768),
    ("flow", "3B", 131_072),
)
