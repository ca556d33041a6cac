"""The commands `attributor explore` and `attributor serve`: the two web views."""

import os
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attributor._errors import InputError
from attributor.cli import options as opt
from attributor.cli.run_command import report_errors

if TYPE_CHECKING:
    from attributor.web import Mode

__all__ = ["EXPLORE_HELP", "SERVE_HELP", "explore", "serve"]

EXPLORE_HELP = opt.unwrap("""Look at answers and where they came from, in the browser: a run of attributor eval, a
flow that was saved, or a JSON list of cases.

Without FILE the page asks for one; files can also be dropped on it. Nothing is uploaded and nothing is fetched: the
page and its data come from this machine, and only this machine can open it.

[bold]Examples[/]

[cyan]attributor explore runs/hotpotqa[/] (the folder of a run, or a folder of such folders to compare)

[cyan]attributor explore answer.safetensors[/] (from attributor flow --save, or flow.save())

[cyan]attributor explore --port 8080 --no-browser[/]

On a far machine: [cyan]ssh -L 3000:localhost:3000 HOST[/], the same port on both ends, and open the printed address.
Ctrl-C ends it. Exit status: 1 it could not be done; 2 wrong options; 130 ended by Ctrl-C.""")

SERVE_HELP = opt.unwrap("""Ask a model in the browser, and watch where its answer comes from: the flow through its
layers and heads, back to the tokens of the prompt.

The model is loaded on the page, or now with --model. It runs on this machine, one request after another; what you write
stays here, in memory, until the command ends.

[bold]Examples[/]

[cyan]attributor serve[/] (the page offers the default model, which runs on any CPU)

[cyan]attributor serve --model Qwen/Qwen2.5-7B-Instruct --device-map auto --dtype bfloat16[/]

[cyan]attributor serve --model Qwen/Qwen2.5-0.5B-Instruct --max-tokens 8192 --memory-budget 4[/]

On a far machine: [cyan]ssh -L 3000:localhost:3000 HOST[/], the same port on both ends, and open the printed address.
Ctrl-C ends it. Exit status: 1 it could not be done; 2 wrong options; 130 ended by Ctrl-C.""")

SERVER, LIMITS = "The server", "Limits"
FileToOpen = Annotated[
    Path | None, typer.Argument(help="What to open; without it the page asks.", metavar="FILE|DIR", show_default=False)
]
Port = Annotated[
    int | None,
    opt.option(
        SERVER, r"The port.  [dim]\[default: 3000, or the next free one][/]", "--port", min=0, max=65535, metavar="N"
    ),
]
Host = Annotated[
    str,
    opt.option(
        SERVER,
        "Where to listen. Another address than localhost can be reached by others, who need the token that is then "
        "part of the printed address; the connection is not encrypted.",
        "--host",
        metavar="ADDRESS",
    ),
]
NoBrowser = Annotated[bool, opt.option(SERVER, "Print the address and open no browser.", "--no-browser")]
Debug = Annotated[bool, opt.option(SERVER, "Show each request, and all that is known of an error.", "--debug")]
ServeModel = Annotated[
    str | None,
    opt.option(opt.MODEL, "Load this now: a hub id, a folder or a .gguf file.", "--model", "-m", metavar="MODEL"),
]
AllowPickle = Annotated[
    bool,
    opt.option(
        opt.MODEL, "Read weights in formats that can run code (.bin, .pt), not only safetensors.", "--allow-pickle"
    ),
]
MaxTokens = Annotated[
    int | None,
    opt.option(
        LIMITS,
        r"The longest prompt and answer together.  [dim]\[default: what the model was made for][/]",
        "--max-tokens",
        min=1,
        metavar="N",
    ),
]
Budget = Annotated[
    float | None,
    opt.option(
        LIMITS,
        r"How much memory answers may keep; older ones make room.  [dim]\[default: a quarter of it, 4.3 at most][/]",
        "--memory-budget",
        min=0.01,
        metavar="GB",
    ),
]


def explore(
    path: FileToOpen = None,
    port: Port = None,
    host: Host = "localhost",
    no_browser: NoBrowser = False,
    debug: Debug = False,
) -> None:
    """Look at a run, a flow or a list of cases in the browser."""
    with report_errors("explore", debug):
        _check_extra("explore")
        from attributor.web.explore import Sources

        sources = Sources(path)
        status = _bind_and_serve("explore", host, port, no_browser, debug, lambda: {"sources": sources})
    _exit(status)


def serve(
    model: ServeModel = None,
    dtype: opt.DtypeOption = opt.Dtype.auto,
    device_map: opt.DeviceMap = None,
    revision: opt.Revision = None,
    trust_remote_code: opt.TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    max_tokens: MaxTokens = None,
    memory_budget: Budget = None,
    port: Port = None,
    host: Host = "localhost",
    no_browser: NoBrowser = False,
    debug: Debug = False,
) -> None:
    """Ask a model in the browser and watch where its answer comes from."""
    with report_errors("serve", debug):
        _check_extra("serve")

        def live() -> dict[str, Any]:
            if sys.stderr.isatty():
                print("starting ...", file=sys.stderr, flush=True)  # importing torch takes seconds
            from attributor.web.live import LiveService, ServerSettings

            settings = ServerSettings(
                model=model,
                revision=revision,
                dtype=dtype.value,
                device_map=device_map,
                max_tokens=max_tokens,
                trust_remote_code=trust_remote_code,
                allow_pickle=allow_pickle,
                memory_budget=None if memory_budget is None else int(memory_budget * 1e9),
            )
            return {"live": LiveService(settings)}

        status = _bind_and_serve("serve", host, port, no_browser, debug, live)
    _exit(status)


def _check_extra(command: str) -> None:
    """Raise InputError where packages of the extra are missing."""
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(f"attributor {command} needs {' and '.join(missing)}: pip install 'attributor[web]'")


def _bind_and_serve(
    mode: "Mode", host: str, port: int | None, no_browser: bool, debug: bool, create_parts: Callable[[], dict[str, Any]]
) -> int:
    """Bind, make what the app needs, and serve; returns the exit status that says why it ended.

    The port comes first: where it is taken, the command ends before anything else is imported or loaded.
    """
    from attributor import web
    from attributor.web import create_app
    from attributor.web.http import Access

    number, sockets = web.bind(host, port)
    access = Access.at(host, number)
    live: Any = None
    try:
        parts = create_parts()
        live = parts.get("live")
        app = create_app(mode, access, **parts)
        if live is not None:
            _load_model(live)

        def ready() -> None:
            print(f"attributor {mode}: {access.url()}  (Ctrl-C ends it)", flush=True)
            if access.on_all_addresses:
                print("From another machine: the same, with an address of this one after http://", flush=True)
            if not no_browser:
                web.open_browser(access.url())

        ending = None if live is None else live.close
        status = web.serve(app, sockets, ready, ending=ending, verbose=debug)
    finally:
        for one in sockets:
            one.close()
        if live is not None:
            live.close()
    return status


def _exit(status: int) -> None:
    """End the command; at once where a thread still computes, since its result is not needed any more.

    Outside of `report_errors`: it takes typer.Exit, a RuntimeError, for memory that ran out, and imports torch to see.
    """
    others = [one for one in threading.enumerate() if one is not threading.current_thread()]
    deadline = time.monotonic() + 0.5
    for one in others:
        one.join(max(deadline - time.monotonic(), 0))
    if any(one.is_alive() for one in others):
        _end_now(status)
    raise typer.Exit(status)


def _end_now(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _load_model(live: Any) -> None:
    """Begin to load the model of the command line.

    Raises:
        InputError: it is refused at once.
    """
    from attributor.web.http import ApiError

    try:
        live.start()
    except ApiError as error:
        raise InputError(error.message) from error
