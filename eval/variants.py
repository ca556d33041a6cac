"""The settings of the retrieval heads, varied one at a time: weights files for a run on train rows.

python -m attributor.eval.variants runs/variants
attributor eval hotpotqa train.jsonl --method "$(cat runs/variants/methods.txt)" --out runs/sweep

What `weights="retrieval"` does was chosen this way; docs/quality.md has the numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from attributor._calibration.bar import Bar
from attributor._calibration.choose import choose
from attributor._calibration.run import COUNT, SEED, measure
from attributor._calibration.scores import HeadScores
from attributor._default_model import DEFAULT_MODEL
from attributor._models import load_model
from attributor._weights import Weights

__all__ = ["combined", "methods", "variants"]

STRAIGHT = (
    "standard",
    "value-norms",
    "all-4",
    "all-4-power-2",
    "all-4-value-norms",
    "two_hop-4",
    "two_hop-4-power-2",
)  # which of them are also read without composition


def variants(scores: HeadScores, heads: int | None = None) -> dict[str, Weights]:
    """By name: the standard choice, and others that differ from it in one thing.

    Args:
        scores: of all heads on generated prompts of all kinds.
        heads: how many the standard takes; None: as many as `weights="retrieval"` does.
    """
    standard = choose(scores, heads=heads)
    usual = len(standard.heads.nonzero())  # type: ignore[union-attr]
    found = {"standard": standard}
    L, H = scores.shape
    for many in (count for count in (3, 4, 6, 8, 12, 20) if count <= L * H and count != usual):
        found[f"heads-{many}"] = choose(scores, heads=many)
    for weight in (1 / 64, 1 / 8, 3 / 8):
        found[f"weight-{weight:g}"] = choose(scores, heads=heads, total=usual * weight)
    for share in (0.0, 0.25, 0.67, 0.8):
        found[f"question-{share:g}"] = replace(standard, question=share)
    for power in (0.7, 2.0):
        found[f"power-{power:g}"] = replace(standard, power=power)
    found["sink-drop"] = replace(standard, sink="drop")
    # norms of projected values are of the order of 1 to 10 here: smaller weights keep the flow from mixing
    found["value-norms"] = replace(_times(standard, lambda l, L: 1 / 4), value_norms=True)
    found["by-mass"] = choose(scores, heads=heads, by="mass")
    for kind in dict.fromkeys(scores.kinds):
        found[f"only-{kind}"] = choose(_only(scores, kind), heads=heads)
    # strength per layer, with the same sum: early layers act on what late ones have brought together, or the reverse
    found["late-layers"] = _times(standard, lambda l, L: 2 * l / L)
    found["early-layers"] = _times(standard, lambda l, L: 2 * (L - l) / L)
    found["all-heads"] = _graded(scores, standard)
    return found


def combined(scores: HeadScores) -> dict[str, Weights]:
    """By name: what helped alone, together: fewer heads, those of two hops, sharpened, with value norms.

    Args:
        scores: as in `variants`.
    """
    found = {}
    for source, of in (("all", scores), ("two_hop", _only(scores, "two_hop"))):
        for heads in (3, 4, 5, 6):
            plain = choose(of, heads=heads)
            found[f"{source}-{heads}"] = plain
            found[f"{source}-{heads}-power-2"] = replace(plain, power=2.0)
    for weight in (1 / 64, 1 / 4, 1.0):  # without early heads more weight may mean a second hop
        found[f"all-4-weight-{weight:g}"] = choose(scores, heads=4, total=4 * weight)
    for name in ("all-4", "two_hop-4"):
        found[f"{name}-question-0.67"] = replace(found[name], question=0.67)
        found[f"{name}-value-norms"] = replace(_times(found[name], lambda l, L: 1 / 4), value_norms=True)
        found[f"{name}-power-2-value-norms"] = replace(found[f"{name}-value-norms"], power=2.0)
    return found


def methods(folder: Path, found: dict[str, Weights]) -> str:
    """What `--method` takes: the flow through every variant, and straight attention for a few."""
    names = [f"flow:{folder / name}.safetensors" for name in found]
    straight = [f"straight:{folder / name}.safetensors" for name in found if name in STRAIGHT]
    return ",".join([*names, *straight, "max-attention"])


def _times(weights: Weights, factor: Callable[[int, int], float]) -> Weights:
    """Each layer's weights times factor(layer, layers)."""
    assert isinstance(weights.heads, Tensor)
    L = len(weights.heads)
    factors = torch.tensor([factor(layer, L) for layer in range(L)], dtype=torch.float32)
    return replace(weights, heads=weights.heads * factors[:, None])


def _only(scores: HeadScores, kind: str) -> HeadScores:
    """The scores of one kind of prompts."""
    cases = [case for case, of in enumerate(scores.kinds) if of == kind]
    tensors: dict[str, Any] = {name: value[cases] for name, value in vars(scores).items() if isinstance(value, Tensor)}
    return replace(scores, kinds=(kind,) * len(cases), **tensors)


def _graded(scores: HeadScores, standard: Weights) -> Weights:
    """All heads above the median, by the fourth power of what their AP is above it, with the standard's sum."""
    assert isinstance(standard.heads, Tensor)
    ap = scores.mean("ap").nan_to_num(0).float()
    above = (ap - ap.median()).clamp(min=0) ** 4
    return replace(standard, heads=above / above.sum() * standard.heads.sum())


def _write(
    folder: Annotated[Path, typer.Argument(help="Where the weights files go.", show_default=False)],
    model: Annotated[str, typer.Option(help="Hub id, folder or .gguf file.")] = DEFAULT_MODEL,
    dtype: Annotated[str, typer.Option(help="What the model is loaded as.")] = "float32",
    count: Annotated[int, typer.Option(min=1, help="How many generated prompts to read.")] = COUNT,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = SEED,
    heads: Annotated[int | None, typer.Option(min=1, help="How many the standard takes.")] = None,
    together: Annotated[bool, typer.Option("--combined", help="What helped alone, together, instead.")] = False,
) -> None:
    """Write weights files that differ from the retrieval heads of a model in one thing each, for a sweep."""
    loaded, tokenizer = load_model(model, dtype=dtype)
    with Bar(f"Reading {count} prompts") as bar:
        scores = measure(loaded, tokenizer, count=count, seed=seed, progress=bar)
    found = combined(scores) if together else variants(scores, heads)
    folder.mkdir(parents=True, exist_ok=True)
    for name, weights in found.items():
        weights.save(folder / f"{name}.safetensors")
    (folder / "methods.txt").write_text(methods(folder, found) + "\n", encoding="utf-8")
    typer.echo(f"Wrote {len(found)} weights files to {folder}, and methods.txt with their names for --method")


if __name__ == "__main__":
    typer.run(_write)
