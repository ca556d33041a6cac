"""The command `attributor eval learn`: head weights learned from the rows of a run, upper bounds for the others."""

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from attributor._cli import options as opt
from attributor._cli.calibrate import check_out
from attributor._cli.execute import guarded, standard_output
from attributor._cli.safe import safe
from attributor._errors import InputError

if TYPE_CHECKING:
    from attributor.eval.learning.fit import Epoch
    from attributor.eval.learning.rows import Source

__all__ = ["LEARN_HELP", "learn"]

LEARN_HELP = opt._flowing("""Learn head weights from the rows of a run, by gradient through the composed flow.

All heads of all layers, and the question's share, are changed so that the flow says what the rows say: against
[cyan]gold[/] that the marked evidence scores highest; against [cyan]ablations[/] that sums of scores go with what
leaving sentences out does to the answer's probability, as a run with --faithfulness measured it. Where [cyan]attributor
calibrate[/] needs no data set, this tells what better weights would be worth. Some rows are held out; the weights that
do best on them are kept. Report on rows of neither kind.

[bold]Examples[/]

[cyan]attributor eval hotpotqa train.jsonl --limit 100 --method random --faithfulness --out runs/train[/]

[cyan]attributor eval learn runs/train --against ablations --out learned.safetensors[/]

[cyan]attributor eval hotpotqa dev.jsonl --method flow:learned.safetensors,flow:retrieval --faithfulness[/]

--out is written as soon as there is something better than the start; Ctrl-C keeps it. Exit status: 0 done; 1 it
could not be done; 2 wrong options; 130 interrupted.""")

PANEL = "Learning"
EVERY = 30.0  # seconds between two lines in a log

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of attributor eval.", show_default=False)]
Against = Annotated[
    str, opt._option(PANEL, "What the flow should say: gold or ablations.", "--against", metavar="gold|ablations")
]
Epochs = Annotated[int, opt._option(PANEL, "Passes over the rows.", "--epochs", min=1, metavar="N")]
Rate = Annotated[
    float, opt._option(PANEL, "Adam's rate, in the logarithm of a weight.", "--rate", min=1e-6, max=10, metavar="R")
]
HeldOut = Annotated[
    float, opt._option(PANEL, "The share of the rows that only says when to stop.", "--held-out", metavar="SHARE")
]
Start = Annotated[str, opt._option(PANEL, "Weights to start from: a preset or a file.", "--start", metavar="WEIGHTS")]
Seed = Annotated[int, opt._option(PANEL, "Of the split and of the order.", "--seed", metavar="S")]
Out = Annotated[Path, opt._option(opt.OUTPUT, "Where to save the weights.", "--out", "-o", metavar="FILE")]
Overwrite = Annotated[bool, opt._option(opt.OUTPUT, "Replace --out if it is there already.", "--overwrite")]


def learn(
    run: Run,
    out: Out,
    against: Against = "ablations",
    epochs: Epochs = 20,
    rate: Rate = 0.1,
    held_out: HeldOut = 0.25,
    start: Start = "retrieval",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Learn head weights from the rows of a run."""
    with guarded("eval learn", debug):
        check_out(out, overwrite)
        from attributor.eval.learning.rows import open_source

        source = open_source(run, against)
        history, best = _learn(source, out, epochs, rate, held_out, start, seed)
        with standard_output():
            if as_json:
                print(json.dumps(_report(source, history, best, out, start), indent=2, allow_nan=False))
            else:
                _print(source, history, best, out)
        if not best.number:
            raise InputError("nothing better than the start was found on the rows held out, so nothing was written")


def _learn(
    source: "Source", out: Path, epochs: int, rate: float, held_out: float, start: str, seed: int
) -> tuple[list["Epoch"], "Epoch"]:
    """Every epoch, and the one whose weights were saved."""
    from attributor._calibration.bar import Bar
    from attributor._resolve import resolve
    from attributor._weights import Weights
    from attributor.eval.learning.fit import check_share, fit, split
    from attributor.eval.learning.rows import load_rows

    given = Weights.of(start)  # what cannot be is told before minutes are spent
    check_share(held_out, len(source.targets))
    with Bar(f"Reading {len(source.targets)} rows") as bar:
        rows, shape, model = load_rows(source, bar)
    found = Weights.of(resolve(given, model))
    learned, kept = split(rows, held_out, seed)
    history: list[Epoch] = []
    best: Epoch | None = None
    spoke = time.monotonic()
    with Bar(f"Learning from {len(learned)} rows") as bar:
        for epoch in fit(learned, kept, found, shape, epochs=epochs, rate=rate, seed=seed, progress=bar):
            history.append(epoch)
            if best is None or epoch.held_out > best.held_out:
                best = epoch
                if epoch.number:
                    _save(source, epoch, len(learned), start, out)
            if not bar.shown and time.monotonic() - spoke > EVERY:  # a log
                spoke = time.monotonic()
                print(_line(source, epoch, epochs), file=sys.stderr, flush=True)
    assert best is not None
    return history, best


def _save(source: "Source", epoch: "Epoch", rows: int, start: str, out: Path) -> None:
    from dataclasses import replace

    from torch import Tensor

    weights = epoch.weights
    assert isinstance(weights.heads, Tensor)
    heads = int((weights.heads > 0).sum())
    rule = (
        f"learned against {source.against} on {rows} rows of {source.config.dataset}, {epoch.number} epochs from "
        f"{Path(start).name}"
    )
    meta = {"name": f"learned-{source.against}", "model": source.config.model, "rule": rule}
    replace(weights, note=f"{heads} heads, {rule}", meta=meta).save(out)


def _line(source: "Source", epoch: "Epoch", epochs: int) -> str:
    measure = next(iter(source.targets.values())).measure
    return (
        f"epoch {epoch.number} of {epochs}: loss {epoch.loss:.3f}, {measure} {epoch.learned:.3f}, "
        f"held out {epoch.held_out:.3f}"
    )


def _numbers(epoch: "Epoch") -> dict[str, Any]:
    weights: Any = epoch.weights
    numbers = {"loss": epoch.loss, "learned": epoch.learned, "held_out": epoch.held_out}
    return {
        "epoch": epoch.number,
        **{name: None if math.isnan(value) else value for name, value in numbers.items()},
        "heads": int((weights.heads > 0).sum()),
        "question": weights.question,
    }


def _report(source: "Source", history: list["Epoch"], best: "Epoch", out: Path, start: str) -> dict[str, Any]:
    return {
        "version": 1,
        "run": str(source.path),
        "model": source.config.model,
        "against": source.against,
        "metric": next(iter(source.targets.values())).measure,
        "rows": len(source.targets),
        "start": start,
        "file": str(out) if best.number else None,
        "best": best.number,
        "epochs": [_numbers(epoch) for epoch in history],
    }


def _print(source: "Source", history: list["Epoch"], best: "Epoch", out: Path) -> None:
    from rich.table import Table

    console = Console(highlight=False)
    measure = next(iter(source.targets.values())).measure
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("Epoch", "Loss", measure, "Held out", "Heads", "Question"):
        table.add_column(name, justify="right", style="bold" if name == "Held out" else "")
    for epoch in history:
        shown = _numbers(epoch)
        cells = [f"{shown[name]:.3f}" if shown[name] is not None else "-" for name in ("loss", "learned", "held_out")]
        style = "green" if epoch is best else ""
        table.add_row(str(epoch.number), *cells, str(shown["heads"]), f"{shown['question']:.2f}", style=style)
    console.print(table)
    if best.number:
        console.print(Text(f"Wrote {safe(str(out))}: {measure} {best.held_out:.3f} on rows held out", "dim"))
