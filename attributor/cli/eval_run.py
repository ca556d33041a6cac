"""Runs `attributor eval DATA`: turns options into a configuration, runs it, and prints its table."""

import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from attributor._errors import InputError
from attributor.cli.eval_report import wide_console
from attributor.cli.prompt_input import UsageError
from attributor.cli.run_command import standard_output
from attributor.cli.terminal_text import escape
from attributor.eval.data import DataSet, data_sets

if TYPE_CHECKING:
    from attributor.eval.config import Config
    from attributor.eval.run import RunOutcome

__all__ = ["build_config", "default_folder", "evaluate"]

STRAIGHT = {  # options that become settings of the same name
    "max_tokens",
    "max_new_tokens",
    "check_answer",
    "end_token",
    "faithfulness",
    "masks",
    "mask_seed",
    "ablation_batch",
    "save_flows",
    "verifier",
    "verifier_model",
    "cost_rows",
    "limit",
    "rows",
    "tokens",
    "seed",
    "model",
    "device_map",
    "revision",
    "trust_remote_code",
}


def build_config(dataset: str, options: dict[str, Any]) -> "Config":
    """Build the configuration of a run from the options.

    Raises:
        UsageError: conflicting options, or an unknown method.
    """
    from attributor.eval.config import Config

    data, config, split = options.get("data"), options.get("config"), options.get("split")
    if data is not None and (config is not None or split is not None):
        raise UsageError(f"--config and --split are for the public data set, and {data} is a file; give one of them")
    data_set = data_sets()[dataset]
    if data is None and data_set.hub:
        if config is None and split is None and data_set.without_data:
            dataset = data_set.without_data
        else:
            default_config, default_split = data_set.default_split
            config, split = config or default_config, split or default_split
    names = options["method"]
    default = _default_removal_methods if data_set.kinds else _default_methods
    try:
        return Config(
            dataset=dataset,
            source=None if data is None else str(data),
            config=config,
            split=split,
            dtype=options["dtype"].value,
            answer=options["answer"].value,
            ablation=options["ablation"].value,
            methods=default(options["model"]) if names is None else _parse_methods(names),
            kinds=_parse_kinds(options.get("kinds"), data_set),
            **{name: options[name] for name in STRAIGHT if name in options},
        )
    except InputError as error:
        raise UsageError(str(error)) from None


def _default_methods(model: str) -> tuple[str, ...]:
    """The default methods, with the flow through retrieval heads if heads are shipped for the model."""
    from attributor._heads import shipped_models
    from attributor.eval.config import default_methods

    first, *rest = default_methods()
    return (first, *(["flow:retrieval"] if model in shipped_models() else []), *rest)


def _default_removal_methods(model: str) -> tuple[str, ...]:
    """The default methods for removed documents: the flow is through retrieval heads if heads are shipped."""
    from attributor._heads import shipped_models
    from attributor.eval.config import removal_methods

    flow, *rest = removal_methods()
    return ("flow:retrieval" if model in shipped_models() else flow, *rest)


def _parse_kinds(names: str | None, data_set: DataSet) -> tuple[str, ...] | None:
    """The kinds of rows that --kinds names; None for all.

    Raises:
        InputError: a kind that the data set does not have, or that is named twice.
    """
    if names is None:
        return None
    kinds = tuple(name.strip() for name in names.split(","))
    for kind in kinds:
        if kind not in data_set.kinds:
            raise InputError(f"unknown kind {kind!r}; there are {', '.join(data_set.kinds)}")
        if kinds.count(kind) > 1:
            raise InputError(f"the kind {kind!r} is named twice")
    return kinds


def _parse_methods(names: str) -> tuple[str, ...]:
    from attributor.methods import parse

    parse(names)
    return tuple(name.strip() for name in names.split(","))


def default_folder(config: "Config") -> Path:
    """runs/DATA-MODEL-ROWS, with only letters that every file system allows; see `_list_generated_parts`."""
    data = config.dataset if config.source is None else Path(config.source).stem
    parts = [data if config.split is None else f"{data}-{config.config}-{config.split}"]
    parts.append(Path(config.model).name or config.model)
    if config.answer == "generated":
        parts.append("generated")
    if config.limit is not None:
        parts.append(str(config.limit))
    parts += _list_generated_parts(config)
    return Path("runs") / re.sub(r"[^\w.-]+", "_", "-".join(parts)).strip("._")


def _list_generated_parts(config: "Config") -> list[str]:
    """For a run with generated rows, the parts of its name after the model: rows of each kind, tokens, seed, kinds."""
    parts = [] if config.rows is None else [f"{config.rows}x{config.tokens}"]
    if config.seed:
        parts.append(f"seed{config.seed}")
    return parts + list(config.kinds or ())


def evaluate(dataset: str, options: dict[str, Any]) -> None:
    """Run or resume an evaluation, and print its table or run.json.

    Raises:
        UsageError: conflicting options.
        AttributorError: the run failed.
        KeyboardInterrupt: the run was interrupted.
        typer.Exit: 1 if rows or another process failed.
    """
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    config = build_config(dataset, options)
    out = options["out"] or default_folder(config)
    first = _first_process()
    if first and not options["as_json"]:
        errors.print(Text(f"Run: {escape(str(out))}", "bold"))
        if note := data_sets()[config.dataset].note:
            errors.print(Text(f"Note: {note}.", "yellow"))
    from attributor.cli.eval_progress import Display
    from attributor.eval.run import OtherProcessError, run_evaluation

    try:
        outcome = run_evaluation(
            config,
            out,
            overwrite=options["overwrite"],
            retry_failed=options["retry_failed"],
            observer=Display(),
            debug=(lambda text: errors.print(Text(text, "dim"))) if options["debug"] else None,
        )
    except KeyboardInterrupt:
        if first:
            message = f"Interrupted. What was done is kept in {escape(str(out))}; the same command goes on from there."
            errors.print(Text(message))
        raise
    except OtherProcessError as error:
        if first:
            raise
        time.sleep(1)  # a launcher stops all processes when one fails, and the first one must still print the reason
        raise typer.Exit(1) from error
    if not outcome.is_first:
        return  # the exit status of the first process counts, which may still be printing
    with standard_output():
        if options["as_json"]:
            print(json.dumps(outcome.run, indent=2, allow_nan=False))
        else:
            _print_outcome(outcome, errors)
    if outcome.failed:
        retry = "" if options["retry_failed"] else "; --retry-failed runs them again"
        errors.print(
            Text.assemble(
                ("error: ", "bold red"),
                f"{outcome.failed} of {outcome.run['counts']['rows']} rows failed; cases.jsonl says why{retry}",
            )
        )
        raise typer.Exit(1)


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _print_outcome(outcome: "RunOutcome", errors: Console) -> None:
    from attributor.eval.report import build_report, print_report, read_run

    if outcome.was_complete:
        errors.print(Text("This run is complete; --overwrite runs it again.", "yellow"))
    print_report(wide_console(), build_report([read_run(outcome.folder)]))
    folder = escape(str(outcome.folder))
    errors.print(
        Text(
            f"The cases are in {folder}; attributor eval report {folder} writes tables and plots.",
            "dim",
        )
    )
