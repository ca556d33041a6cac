"""Runs `attributor ask` and `attributor demo`, prints the result, and turns errors into exit statuses."""

import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attributor._errors import AttributorError, OutputError
from attributor.cli.prompt_input import UsageError

if TYPE_CHECKING:
    from attributor._ask import Answer, AnswerWithout, PromptSource

STAGES = {
    "load": "loading the model",
    "prompt": "reading",
    "answer": "writing",
    "sweep": "attribution",
    "effects": "effects",
    "removals": "removals",
}

SAYS = (
    "says: the part of the claim's words that a cited sentence contains. The list shows the largest value. "
    "Only words are compared: a sentence that denies the claim can have 1."
)
NEEDED = (
    "A share says how much of a sentence was read. needed says how much log p the answer, or the claim, loses without "
    "the sentence. --without N answers again without source N."
)

__all__ = ["OutputOptions", "check_outputs", "make_folder", "report_errors", "run_attribution", "standard_output"]


@dataclass(frozen=True)
class OutputOptions:
    """What to show, and the files to write."""

    by: str = "sentence"
    how: str = "sum"
    top: int = 10
    as_json: bool = False
    html: Path | None = None
    save: Path | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown `how` before the model answers."""
        if not re.fullmatch(r"sum|mean|max|top[1-9]\d{0,8}", self.how):
            raise UsageError(f"--how must be sum, mean, max or topK such as top5, got {self.how!r}")
        if self.html is not None and self.save is not None and self.html.absolute() == self.save.absolute():
            raise UsageError(f"--html and --save both name {self.html}")


@contextmanager
def report_errors(command: str, debug: bool) -> Iterator[None]:
    """Print an error of attributor as one sentence on stderr, and exit with its status."""
    try:
        yield
    except UsageError as error:
        _print_error(f"{error}\nTry 'attributor {command} --help'.")
        raise typer.Exit(2) from None
    except AttributorError as error:
        if debug:
            traceback.print_exc()
        _print_error(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader of the output has closed it, as `| head` does
        _discard_output()
        raise typer.Exit(1) from None
    except (MemoryError, RuntimeError) as error:
        if debug or not _out_of_memory(error):
            raise
        _print_error(
            "out of memory: give a shorter prompt, fewer heads (--weights), --dtype bfloat16, or a smaller model"
        )
        raise typer.Exit(1) from None


@contextmanager
def standard_output() -> Iterator[None]:
    """Wrap the code that prints the result: an error is raised unless all of it has been written at the end.

    Raises:
        OutputError: standard output cannot be written to, for example on a full disk.
    """
    try:
        yield
        if sys.stdout is not None:  # None if the program was started with standard output closed
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def _discard_output() -> None:
    """Discard the rest of the buffer; otherwise Python writes it at exit and reports the error again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _out_of_memory(error: BaseException) -> bool:
    from attributor._flow import is_out_of_memory  # imported here, because it imports torch

    return is_out_of_memory(error)


def _print_error(message: str) -> None:
    from attributor.cli.terminal_text import escape

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), escape(message)))


def make_folder(path: Path) -> None:
    """Create the folder of a file.

    Raises:
        OutputError: the folder cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error


def check_outputs(output: OutputOptions) -> None:
    """Check that every file can be written, before a model is loaded, so that no result is lost.

    Raises:
        OutputError: a folder that is missing or read-only, or a folder in place of a file.
    """
    for path in (output.html, output.save):
        if path is None:
            continue
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give a file name")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
        if path.exists() and not os.access(path, os.W_OK):
            raise OutputError(f"cannot write {path}: the file is read-only")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise OutputError(f"cannot write to the folder {path.parent}: {error.strerror or error}") from error


def run_attribution(
    prompt_input: "PromptSource",
    output: OutputOptions,
    *,
    max_new_tokens: int | None = None,
    without: int | None = None,
    **settings: Any,
) -> None:
    """Answer, attribute, write the files, and print: JSON, or the heat view."""
    progress = _create_progress()
    if progress.shown:
        progress.begin("import", "Starting")
    from attributor._ask import MAX_NEW_TOKENS
    from attributor.cli.answer_question import Settings, answer

    with progress:
        answer_options = Settings(max_new_tokens=max_new_tokens or MAX_NEW_TOKENS, **settings)
        answered = answer(prompt_input, answer_options, progress)
    files = {name: str(path) for name, path in (("html", output.html), ("save", output.save)) if path is not None}
    if output.html is not None:
        answered.flow.to_html(output.html)
    if output.save is not None:
        answered.flow.save(output.save)
    if without is None or not output.as_json:
        _print(answered, output, files)
    if without is None:
        return
    try:
        with _create_progress() as progress:
            shorter = answered.without(without, progress=progress)
    except BaseException:
        if output.as_json:  # print the first answer, so that it is not lost
            _print(answered, output, files)
        raise
    if output.as_json:
        _print(answered, output, files, shorter)
    else:
        _print_without(shorter)


def _print(
    answered: "Answer", output: OutputOptions, files: dict[str, str], without: "AnswerWithout | None" = None
) -> None:
    """Print the result on standard output: JSON, or the heat view."""
    if not output.as_json:
        _print_result(answered, output, files)
        return
    from attributor.cli.json_report import build_report

    report = build_report(answered, by=output.by, how=output.how, top=output.top, files=files, without=without)
    text = json.dumps(report, indent=2, allow_nan=False)
    with standard_output():
        print(text)


def _create_progress() -> Any:
    from attributor.cli.progress import StageProgress

    return StageProgress()


def _print_result(answered: "Answer", output: OutputOptions, files: dict[str, str]) -> None:
    from attributor._cite import list_sources, origin_sentence
    from attributor.cli.answer_question import describe
    from attributor.cli.heat_view import create_claims, create_heat_view
    from attributor.cli.terminal_text import escape

    console = Console(highlight=False)
    flow = answered.flow
    tokens = f"{flow.prompt_length:,} prompt and {len(flow.scores):,} answer tokens"
    head = Table.grid(padding=(0, 2, 0, 0))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    if answered.question is not None:
        head.add_row("Question", Text(escape(answered.question)))
    head.add_row(
        "Answer" if answered.written else "Given",
        Text(escape(answered.marked_text().strip()) or "(empty)", "bold"),
    )
    head.add_row("Model", Text(f"{escape(answered.model)}, {tokens}", "dim"))
    head.add_row("Weights", Text(escape(describe(answered)), "dim"))
    with standard_output():
        console.print(head)
        if len(answered.claims) > 1 or not _are_listed(answered, output):
            console.print(create_claims(console, answered))
        view = create_heat_view(
            console, flow, citations=list_sources(answered), by=output.by, how=output.how, top=output.top
        )
        console.print(view)
        if answered.origin is not None:
            console.print(Text(f"{origin_sentence(answered.origin)}\n", "dim"))
        if any(citation.says is not None for citation in list_sources(answered)):
            console.print(Text(f"{SAYS}\n", "dim"))
        if answered.effects is not None:
            console.print(Text(f"{NEEDED}\n", "dim"))
        for note in (*answered.notes, *_list_tips(answered)):
            console.print(Text(f"Note: {escape(note)}.", "yellow"))
        for path in files.values():
            console.print(Text(f"Wrote {escape(path)}", "dim"))
        spent = ", ".join(f"{STAGES[name]} {s:.2f}" for name, s in answered.seconds.items() if name in STAGES)
        console.print(Text(f"Seconds: {spent}", "dim"))


def _are_listed(answered: "Answer", output: OutputOptions) -> bool:
    """Whether the list of pieces shows every cited sentence with its number."""
    return output.by == "sentence" and (output.top == 0 or output.top >= len(answered.citations))


def _print_without(shorter: "AnswerWithout") -> None:
    """Print the answer without one source, and how much less probable the first answer is without it."""
    from attributor.cli.terminal_text import escape

    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(
        f"Without [{shorter.citation.number}]", Text(escape(shorter.answer.text.strip()) or "(empty)", "bold")
    )
    change = f"log p {shorter.log_prob:.2f} with it, {shorter.log_prob_without:.2f} without it ({shorter.change:+.2f})"
    table.add_row("First answer", Text(change))
    with standard_output():
        console.print(Text(), table)
        for note in shorter.answer.notes:
            console.print(Text(f"Note: {escape(note)}.", "yellow"))


def _list_tips(answered: "Answer") -> list[str]:
    """Advice for the terminal, which the JSON does not hold."""
    if answered.weights.name == "mean":
        return ["the mean of all heads follows everything that was read; --weights retrieval finds the sources"]
    return []
