"""The command `attributor calibrate`: finds the retrieval heads of a model, prints them and saves their weights."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attributor._errors import OutputError
from attributor._models import DEFAULT_MODEL
from attributor.cli import options as opt
from attributor.cli.run_command import make_folder, report_errors, standard_output

if TYPE_CHECKING:
    from attributor._heads import HeadScores, Weights

__all__ = ["CALIBRATE_HELP", "calibrate"]

CALIBRATE_HELP = opt.unwrap("""Find a model's retrieval heads, for [cyan]--weights retrieval[/].

The model reads a few dozen generated prompts: ten short documents about invented people, towns, ships and firms, and a
question whose answer was planted in one or two sentences. A head is good if it attends to the planted sentences while
the model reads the question and while it answers. This needs no data set and no labels. It takes one forward pass for
each prompt: a minute or two for a small model on a CPU.

Average precision (AP) says how high the planted sentences rank among all sentences by a head's attention; 1 is best.
Mass is their share of its attention to all sentences. Kinds of prompts: fact, the question is about one fact; two_hop,
one fact leads to another; copy, a code must be repeated; paraphrase, the question uses other words.

[bold]Examples[/]

[cyan]attributor calibrate --model Qwen/Qwen2.5-0.5B-Instruct[/]

[cyan]attributor calibrate --model Qwen/Qwen2.5-0.5B-Instruct --heads 12 --out heads.safetensors[/]

[cyan]attributor ask --model Qwen/Qwen2.5-0.5B-Instruct -d notes/ -q "When?" --weights heads.safetensors[/]

Without --out the heads are saved to the cache folder, which [cyan]--weights retrieval[/] reads. It also does all of
this by itself if no heads are known for the model. Exit status: 0 done; 1 failed; 2 wrong options; 130
interrupted.""")

HEADS_PANEL = "The heads"
Out = Annotated[
    Path | None,
    opt.option(
        opt.OUTPUT, r"Where to save the weights.  [dim]\[default: the cache folder][/]", "--out", "-o", metavar="FILE"
    ),
]
Overwrite = Annotated[bool, opt.option(opt.OUTPUT, "Replace --out if it exists.", "--overwrite")]
Count = Annotated[int, opt.option(HEADS_PANEL, "How many prompts the model reads.", "--count", min=1, metavar="N")]
Seed = Annotated[int, opt.option(HEADS_PANEL, "Another seed generates other prompts.", "--seed", metavar="S")]
Heads = Annotated[
    int | None,
    opt.option(HEADS_PANEL, r"How many heads to take.  [dim]\[default: 4][/]", "--heads", min=1, metavar="K"),
]


def calibrate(
    model: opt.Model = DEFAULT_MODEL,
    dtype: opt.DtypeOption = opt.Dtype.auto,
    device_map: opt.DeviceMap = None,
    revision: opt.Revision = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    count: Count = 24,
    seed: Seed = 0,
    heads: Heads = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Find a model's retrieval heads."""
    with report_errors("calibrate", debug):
        if out is not None:
            _check_out(out, overwrite)
        from attributor import _models
        from attributor._heads import (
            ProgressBar,
            cache_path,
            check_head_count,
            choose_heads,
            has_shipped_heads,
            measure_heads,
            save_weights,
        )
        from attributor._models import model_facts

        loaded, tokenizer = _models.load_model(
            model, dtype=dtype.value, device_map=device_map, revision=revision, trust_remote_code=trust_remote_code
        )
        facts = model_facts(loaded)
        heads = check_head_count(heads, facts.layers * facts.heads)  # before the prompts are read
        with ProgressBar(f"Reading {count} prompts") as bar:
            scores = measure_heads(loaded, tokenizer, count=count, seed=seed, progress=bar)
        weights = choose_heads(scores, heads=heads, seed=seed)
        path = cache_path(loaded) if out is None else out
        save_weights(weights, path)
        with standard_output():
            if as_json:
                print(json.dumps(_build_report(scores, weights, path, seed), indent=2, allow_nan=False))
            else:
                _print_table(scores, weights, path, seed=seed, unused=out is None and has_shipped_heads(loaded))


def _check_out(out: Path, overwrite: bool) -> None:
    """Check that the file can be written, before a model is loaded.

    Raises:
        OutputError: the file exists, it is a folder, or its folder is not writable.
    """
    if out.is_dir():
        raise OutputError(f"{out} is a folder; give a file name")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} is there already; say --overwrite to replace it, or give another name")
    make_folder(out)
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"cannot write to the folder {out.parent}")


def _describe_best_heads(scores: "HeadScores", weights: "Weights") -> list[dict[str, Any]]:
    """The chosen heads, best first: weight, AP and mass, each as a mean and by kind."""
    from attributor._heads import rank_heads

    count = int((weights.heads > 0).sum())  # type: ignore[operator]
    by_name = {name: {"mean": scores.mean(name), **scores.by_kind(name)} for name in ("ap", "mass")}
    return [
        {
            "layer": layer,
            "head": head,
            "weight": float(weights.heads[layer, head]),  # type: ignore[index]
            **{name: {kind: float(of[layer, head]) for kind, of in kinds.items()} for name, kinds in by_name.items()},
        }
        for layer, head, _ in rank_heads(scores)[:count]
    ]


def _build_report(scores: "HeadScores", weights: "Weights", path: Path, seed: int) -> dict[str, Any]:
    return {
        "version": 1,
        "model": scores.model,
        "file": str(path),
        "prompts": len(scores.kinds),
        "seed": seed,
        "documents": scores.documents,
        "tokens": scores.tokens,
        "seconds": round(scores.seconds, 1),
        "layers": scores.shape[0],
        "heads_per_layer": scores.shape[1],
        "chance": round(float(scores.chance.mean()), 4),
        "heads": _describe_best_heads(scores, weights),
    }


def _print_table(scores: "HeadScores", weights: "Weights", path: Path, *, seed: int, unused: bool) -> None:
    """Print the heads; `unused`: --weights retrieval uses shipped heads for this model, not the cache folder's."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attributor.cli.terminal_text import escape

    console = Console(highlight=False, soft_wrap=True)
    L, H = scores.shape
    console.print(Text(f"{escape(scores.model)}: the heads that retrieve, of {L} layers of {H}", "bold"))
    table = Table(box=None, pad_edge=False)
    kinds = list(dict.fromkeys(scores.kinds))
    for name in ("layer", "head", "AP", "mass", *kinds):
        table.add_column(name, justify="right", no_wrap=True)
    for row in _describe_best_heads(scores, weights):
        cells = [f"{row['ap'][kind]:.2f} / {row['mass'][kind]:.2f}" for kind in kinds]
        table.add_row(
            str(row["layer"]), str(row["head"]), f"{row['ap']['mean']:.2f}", f"{row['mass']['mean']:.2f}", *cells
        )
    console.print(table)
    console.print(
        Text(
            f"AP and mass, then AP / mass by kind; {len(scores.kinds)} prompts of {scores.documents} documents, seed "
            f"{seed}; a random order would have AP {float(scores.chance.mean()):.2f}; {scores.seconds:.1f} seconds",
            "dim",
        )
    )
    console.print(Text(f"Wrote {escape(str(path))}", "dim"))
    if unused:
        console.print(
            Text("Note: for this model --weights retrieval takes the heads that are shipped; pass the file.", "yellow")
        )
