"""The command line: `attributor flow`, `attributor demo`, `attributor info`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attributor._cli import options as opt
from attributor._cli.execute import View, check_outputs, guarded, make_folder, run
from attributor._cli.sources import UsageError, example, read_source
from attributor._default_model import DEFAULT_MODEL

__all__ = ["app", "main"]

app = typer.Typer(
    name="attributor",
    help=opt.HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # an unexpected error is a bug, and its plain traceback is what a report needs
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # --device_map is --device-map
    },
)


def _version(asked: bool) -> None:
    if asked:
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


@app.command(help=opt.FLOW_HELP)
def flow(
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
    weights: opt.Weights = "mean",
    power: opt.Power = None,
    impl: opt.Impl = None,
    by: opt.ByOption = opt.By.sentence,
    how: opt.How = "sum",
    top: opt.Top = 10,
    as_json: opt.Json = False,
    html: opt.Html = None,
    save: opt.Save = None,
    debug: opt.Debug = False,
) -> None:
    """Attribute an answer to the user's own documents, messages or text."""
    with guarded("flow", debug):
        view = View(by=by.value, how=how, top=top, as_json=as_json, html=html, save=save)
        source = read_source(
            documents=document or (),
            question=question,
            instruction=instruction,
            messages=messages,
            prompt_file=prompt_file,
            chat=chat,
            system=system,
            answer=answer,
            max_new_tokens=max_new_tokens,
        )
        check_outputs(view)
        run(
            source,
            view,
            model=model,
            dtype=dtype.value,
            device_map=device_map,
            revision=revision,
            trust_remote_code=trust_remote_code,
            weights=weights,
            power=power,
            impl=impl,
            max_new_tokens=max_new_tokens,
        )


@app.command(help=opt.DEMO_HELP)
def demo(
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
    """The same on the documents that are shipped."""
    with guarded("demo", debug):
        if answer is not None and max_new_tokens is not None:
            raise UsageError("--answer is taken as given, so --max-new-tokens does not go with it")
        view = View(by=by.value, how=how, top=top, as_json=as_json, html=html, save=save)
        source = example(answer)
        if question is not None:
            source = replace(source, question=question)
        make_folder(html)
        check_outputs(view)
        run(
            source,
            view,
            model=model,
            dtype=dtype.value,
            device_map=device_map,
            weights=weights,
            impl=impl,
            max_new_tokens=max_new_tokens,
        )


@app.command(help=opt.INFO_HELP)
def info(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """What is installed and what can run here."""
    with guarded("info", debug):
        from rich.console import Console

        from attributor._cli.info import gather, show

        found = gather()
        if as_json:
            print(json.dumps(found, indent=2))
        else:
            show(Console(), found)


def main() -> None:
    """The entry point `attributor`."""
    app()


if __name__ == "__main__":
    main()
