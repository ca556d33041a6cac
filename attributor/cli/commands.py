"""Defines the commands of `attributor`, and adds those of the other files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attributor._models import DEFAULT_MODEL
from attributor.cli import eval_commands
from attributor.cli import options as opt
from attributor.cli.calibrate import CALIBRATE_HELP, calibrate
from attributor.cli.prompt_input import read_example, read_prompt_input
from attributor.cli.run_command import (
    OutputOptions,
    check_outputs,
    make_folder,
    report_errors,
    run_attribution,
    standard_output,
)
from attributor.cli.web import EXPLORE_HELP, SERVE_HELP, explore, serve

if TYPE_CHECKING:
    from attributor._ask import PromptSource

__all__ = ["app"]

OUTPUT_OPTIONS = ("how", "top", "as_json", "html", "save")
ANSWER_OPTIONS = (
    "model", "device_map", "revision", "trust_remote_code", "weights", "power", "impl", "max_new_tokens",
    "without",
)  # fmt: skip
EFFECTS = {None: False, opt.EffectsBy.answer: True, opt.EffectsBy.claims: "claims"}  # `effects=` of `attributor.ask`

app = typer.Typer(
    name="attributor",
    help=opt.HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # an unexpected error is a bug, and a bug report needs its plain traceback
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # --device_map is --device-map
    },
)
app.add_typer(eval_commands.app)


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"attributor {version('attributor')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _attribute_answer(options: dict[str, Any], read_input: "Callable[[], PromptSource]") -> None:
    """Check the options before a model is loaded, then run; `ask` and `demo` share this function.

    Args:
        options: the command's options by name, as typer parsed them.
        read_input: reads the prompt's files.
    """
    output = OutputOptions(by=options["by"].value, **{name: options[name] for name in OUTPUT_OPTIONS})
    prompt_input = read_input()
    check_outputs(output)
    run_attribution(
        prompt_input,
        output,
        dtype=options["dtype"].value,
        effects=EFFECTS[options.get("effects")],
        **{name: options[name] for name in ANSWER_OPTIONS if name in options},
    )


@app.command(help=opt.ASK_HELP)
def ask(
    context: typer.Context,
    document: opt.Documents = None,
    question: opt.Question = None,
    instruction: opt.Instruction = None,
    messages: opt.Messages = None,
    prompt_file: opt.PromptFile = None,
    chat: opt.Chat = None,
    system: opt.System = None,
    answer: opt.Answer = None,
    max_new_tokens: opt.MaxNewTokens = None,
    model: opt.Model = DEFAULT_MODEL,
    dtype: opt.DtypeOption = opt.Dtype.auto,
    device_map: opt.DeviceMap = None,
    revision: opt.Revision = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    weights: opt.Weights = "retrieval",
    power: opt.Power = None,
    impl: opt.Impl = None,
    by: opt.ByOption = opt.By.sentence,
    how: opt.How = "sum",
    top: opt.Top = 10,
    as_json: opt.Json = False,
    html: opt.Html = None,
    save: opt.Save = None,
    effects: opt.Effects = None,
    without: opt.Without = None,
    debug: opt.Debug = False,
) -> None:
    """Cite the sources of an answer in the user's own documents, messages or text."""
    with report_errors("ask", debug):
        _attribute_answer(
            context.params,
            lambda: read_prompt_input(
                documents=document or (),
                question=question,
                instruction=instruction,
                messages=messages,
                prompt_file=prompt_file,
                chat=chat,
                system=system,
                answer=answer,
                max_new_tokens=max_new_tokens,
            ),
        )


app.command("flow", hidden=True, help=opt.ASK_HELP)(ask)  # the command's old name


@app.command(help=opt.DEMO_HELP)
def demo(
    context: typer.Context,
    question: opt.Question = None,
    answer: opt.Answer = None,
    max_new_tokens: opt.MaxNewTokens = None,
    model: opt.Model = DEFAULT_MODEL,
    dtype: opt.DtypeOption = opt.Dtype.auto,
    device_map: opt.DeviceMap = None,
    weights: opt.Weights = "retrieval",
    impl: opt.Impl = None,
    by: opt.ByOption = opt.By.sentence,
    how: opt.How = "sum",
    top: opt.Top = 5,
    as_json: opt.Json = False,
    html: opt.Page = Path("out/demo.html"),
    save: opt.Save = None,
    debug: opt.Debug = False,
) -> None:
    """Cite the sources of an answer in the documents that come with attributor."""

    def read_input() -> "PromptSource":
        prompt_input = read_example(question, answer, max_new_tokens)
        make_folder(html)
        return prompt_input

    with report_errors("demo", debug):
        _attribute_answer(context.params, read_input)


app.command(help=CALIBRATE_HELP)(calibrate)
app.command(help=EXPLORE_HELP)(explore)
app.command(help=SERVE_HELP)(serve)


@app.command(help=opt.INFO_HELP)
def info(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Show what is installed and what can run here."""
    with report_errors("info", debug):
        from rich.console import Console

        from attributor.cli.info import collect_info, print_info

        facts = collect_info()
        with standard_output():
            if as_json:
                print(json.dumps(facts, indent=2))
            else:
                print_info(Console(), facts)
