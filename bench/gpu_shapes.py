"""What is measured on a GPU, the most important first, and how many operations it takes. Imports nothing but Python."""

from dataclasses import dataclass, replace

__all__ = [
    "FLOWS",
    "GOALS",
    "HEADLINE",
    "MODELS",
    "NEAR",
    "NEAR_HEADLINE",
    "STEPS",
    "Shape",
    "Step",
    "chosen_heads",
    "rehearsed",
    "smaller",
]


@dataclass(frozen=True)
class Step:
    """One call of flow_step, causal, in the letters of the operation.

    Attributes:
        N: positions.
        O: rows.
        D: head size.
        H: chosen query heads of the layer.
        G: key heads that those read.
        dtype: of query and key.
    """

    N: int = 32_768
    O: int = 128
    D: int = 128
    H: int = 32
    G: int = 8
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """For tables and test ids."""
        kind = "" if self.dtype == "bfloat16" else f"-{self.dtype}"
        return f"N{self.N}-H{self.H}-G{self.G}-D{self.D}-O{self.O}{kind}"

    @property
    def flops(self) -> float:
        """Of Q K^T alone, below the diagonal: 2 H D N^2 / 2. What "TF" counts everywhere here."""
        return 2 * self.H * self.D * self.N**2 / 2

    @property
    def forward_flops(self) -> float:
        """Of causal attention's forward, which computes two such products."""
        return 2 * self.flops

    @property
    def nbytes(self) -> int:
        """What has to be read and written once: query, key, biases, rows and result."""
        size = 4 if self.dtype == "float32" else 2
        return (self.H + self.G) * self.N * self.D * size + 4 * self.H * self.N + 2 * 4 * self.O * self.N


HEADLINE = Step()
STEPS = (
    HEADLINE,
    replace(HEADLINE, N=131_072),
    replace(HEADLINE, O=16),
    replace(HEADLINE, O=1),
    replace(HEADLINE, H=4, G=4),  # chosen heads, each of its own group
    replace(HEADLINE, H=1, G=1),
    replace(HEADLINE, D=64),
    replace(HEADLINE, D=256),
    replace(HEADLINE, O=512),
    replace(HEADLINE, N=8192),
    replace(HEADLINE, N=4096),
    replace(HEADLINE, N=16_384),
    replace(HEADLINE, N=65_536),
    replace(HEADLINE, G=1),
    replace(HEADLINE, G=32),
    replace(HEADLINE, H=4, G=4, O=16),
    replace(HEADLINE, H=4, G=1, O=16),  # chosen heads of one group
    replace(HEADLINE, H=1, G=1, O=16),
    replace(HEADLINE, H=1, G=1, O=1),
    replace(HEADLINE, N=131_072, O=16),
    replace(HEADLINE, N=131_072, H=4, G=4),
    replace(HEADLINE, N=131_072, H=1, G=1),
    replace(HEADLINE, N=131_072, O=512),
    replace(HEADLINE, N=131_072, D=64),
    replace(HEADLINE, dtype="float16"),
    replace(HEADLINE, N=8192, dtype="float32"),
)

# What an H100 was meant to reach by the CUDA kernel: TF of these calls, and of others a share of the headline's rate.
GOALS = ((HEADLINE, 500.0), (HEADLINE, 600.0), (replace(HEADLINE, D=64), 400.0))
NEAR = 0.85
NEAR_HEADLINE = (replace(HEADLINE, O=1), replace(HEADLINE, O=512))


@dataclass(frozen=True)
class Shape:
    """A Llama of the published sizes; weights are random."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    wide: int
    tied: bool
    vocabulary: int = 128_256

    @property
    def parameters(self) -> int:
        """How many numbers the model holds, norms left out."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * (attention + 3 * self.hidden * self.wide) + embeddings

    def flops(self, tokens: int) -> float:
        """Of one prefill with one row of logits: twice the weights a token, and causal attention."""
        weights = self.parameters - self.vocabulary * self.hidden * (1 if self.tied else 2)
        return 2 * weights * tokens + self.layers * 2 * self.heads * self.head_size * tokens**2


MODELS = {
    "1B": Shape(16, 2048, 32, 8, 64, 8192, True),
    "3B": Shape(28, 3072, 24, 8, 128, 8192, True),
    "8B": Shape(32, 4096, 32, 8, 128, 14_336, False),
}
# (model, prompt tokens), the most telling first: a run that is cut off loses the end
FLOWS = (
    ("8B", 32_768),
    ("8B", 131_072),
    ("8B", 8192),
    ("8B", 65_536),
    ("1B", 32_768),
    ("1B", 131_072),
    ("1B", 8192),
    ("1B", 65_536),
    ("3B", 32_768),
    ("3B", 131_072),
    ("3B", 8192),
    ("3B", 65_536),
)


def chosen_heads(layers: int, heads: int, many: int = 32) -> list[tuple[int, int]]:
    """`many` heads spread over all layers and over the heads of each: (layer, head), none twice."""
    return [(i % layers, (7 * (i % layers) + i // layers) % heads) for i in range(min(many, layers * heads))]


def smaller(step: Step) -> Step:
    """The same kind of call at a size that a CPU walks in milliseconds."""
    H = min(step.H, 4)
    G = 2 if step.G == 8 else min(step.G, H)
    O = step.O if step.O < 17 else step.O // 8
    return replace(step, N=24 + step.N // 2048, O=O, D=step.D // 4, H=H, G=G)


def rehearsed(tokens: int) -> int:
    """A length in the same order as the real ones, for a model of a few kilobytes."""
    return 16 + tokens // 2048
