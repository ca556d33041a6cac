"""Run what the command line asked for, print it, and turn errors into sentences and exit statuses."""

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
from attributor.cli.prompt_source import Source, UsageError

if TYPE_CHECKING:
    from attributor.cli.answer_question import Answered

STAGES = {"load": "loading the model", "prompt": "reading", "answer": "writing", "sweep": "attribution"}

__all__ = ["View", "check_outputs", "guarded", "make_folder", "run", "standard_output"]


@dataclass(frozen=True)
class View:
    """What to show, and where to."""

    by: str = "sentence"
    how: str = "sum"
    top: int = 10
    as_json: bool = False
    html: Path | None = None
    save: Path | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown `how` now and not after the model has answered."""
        if not re.fullmatch(r"sum|mean|max|top[1-9]\d{0,8}", self.how):
            raise UsageError(f"--how must be sum, mean, max or topK such as top5, got {self.how!r}")
        if self.html is not None and self.save is not None and self.html.absolute() == self.save.absolute():
            raise UsageError(f"--html and --save both name {self.html}")


@contextmanager
def guarded(command: str, debug: bool) -> Iterator[None]:
    """Errors that are meant for the user become one sentence on stderr and an exit status."""
    try:
        yield
    except UsageError as error:
        _fail(f"{error}\nTry 'attributor {command} --help'.")
        raise typer.Exit(2) from None
    except AttributorError as error:
        if debug:
            traceback.print_exc()
        _fail(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:  # whoever read our output has gone, `| head` for one
        _give_up_output()
        raise typer.Exit(1) from None
    except (MemoryError, RuntimeError) as error:
        if debug or not _out_of_memory(error):
            raise
        _fail("out of memory: give a shorter prompt, fewer heads (--weights), --dtype bfloat16, or a smaller model")
        raise typer.Exit(1) from None


@contextmanager
def standard_output() -> Iterator[None]:
    """Around whatever prints the result: all of it has been written at the end, or it is an error.

    Raises:
        OutputError: standard output cannot be written to, on a full disk for one.
    """
    try:
        yield
        if sys.stdout is not None:  # it is, where the program was started with it closed
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def _give_up_output() -> None:
    """Let the rest of the buffer go nowhere: Python writes it at exit, and would complain once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _out_of_memory(error: BaseException) -> bool:
    from attributor._flow import is_full  # it brings torch along, and most commands end well

    return is_full(error)


def _fail(message: str) -> None:
    from attributor.cli.safe import safe

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), safe(message)))


def make_folder(path: Path) -> None:
    """Make the folder that a file will lie in.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error


def check_outputs(view: View) -> None:
    """See that every file can be written, before a model is loaded and anything computed could get lost.

    Raises:
        OutputError: a folder that is missing or read-only, or a folder where a file is meant.
    """
    for path in (view.html, view.save):
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


def run(source: Source, view: View, *, max_new_tokens: int | None = None, **settings: Any) -> None:
    """Answer, attribute, write the files, and print: JSON, or the heat view."""
    stages = _stages()
    if stages.shown:
        stages.begin("import", "Starting")
    from attributor.cli.answer_question import MAX_NEW_TOKENS, Settings, answer

    with stages:
        asked = Settings(max_new_tokens=max_new_tokens or MAX_NEW_TOKENS, **settings)
        answered = answer(source, asked, stages)
    files = {name: str(path) for name, path in (("html", view.html), ("save", view.save)) if path is not None}
    if view.html is not None:
        answered.flow.to_html(view.html)
    if view.save is not None:
        answered.flow.save(view.save)
    if view.as_json:
        from attributor.cli.json_report import report

        found = report(answered, question=source.question, by=view.by, how=view.how, top=view.top, files=files)
        text = json.dumps(found, indent=2, allow_nan=False)
        with standard_output():
            print(text)
    else:
        with standard_output():
            _print(Console(highlight=False), source, answered, view, files)


def _stages() -> Any:
    from attributor.cli.progress import Stages

    return Stages()


def _print(console: Console, source: Source, answered: "Answered", view: View, files: dict[str, str]) -> None:
    from attributor.cli.answer_question import describe
    from attributor.cli.safe import safe
    from attributor.cli.terminal import heat_view

    flow = answered.flow
    tokens = f"{flow.prompt_length:,} prompt and {len(flow.scores):,} answer tokens"
    head = Table.grid(padding=(0, 2, 0, 0))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    if source.question is not None:
        head.add_row("Question", Text(safe(source.question)))
    head.add_row(
        "Answer" if answered.written else "Given", Text(safe((flow.answer or "").strip()) or "(empty)", "bold")
    )
    head.add_row("Model", Text(f"{safe(answered.model)}, {tokens}", "dim"))
    head.add_row("Weights", Text(safe(describe(answered)), "dim"))
    console.print(head)
    console.print(heat_view(console, flow, by=view.by, how=view.how, top=view.top))
    for note in (*answered.notes, *_tips(answered)):
        console.print(Text(f"Note: {safe(note)}.", "yellow"))
    for path in files.values():
        console.print(Text(f"Wrote {safe(path)}", "dim"))
    spent = ", ".join(f"{STAGES[name]} {s:.2f}" for name, s in answered.seconds.items() if name in STAGES)
    console.print(Text(f"Seconds: {spent}", "dim"))


def _tips(answered: "Answered") -> list[str]:
    """What a person who looks at this should know, and a program need not."""
    from attributor._heads import shipped_models

    if answered.weights.name == "mean" and answered.model in shipped_models():
        return [
            "most of the plain mean ends in the first token; --weights retrieval follows the heads that look facts up"
        ]
    return []
