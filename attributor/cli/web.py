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

EXPLORE_HELP = opt.unwrap("""Show answers and their sources in the browser: a run of attributor eval, a saved flow, or
a JSON list of cases.

Without FILE the page lets you choose a file, or drop one on it. Nothing is uploaded or downloaded: the page and its
data come from this machine. Without --host only this machine can open the page.

[bold]Examples[/]

[cyan]attributor explore runs/hotpotqa[/] (the folder of a run, or a folder of such folders to compare)

[cyan]attributor explore answer.safetensors[/] (from attributor ask --save, or flow.save())

[cyan]attributor explore --port 8080 --no-browser[/]

For a remote machine: run [cyan]ssh -L 3000:localhost:3000 HOST[/], with the same port on both ends, and open the
printed address. Ctrl-C ends the command. Exit status: 1 failed; 2 wrong options; 130 ended by Ctrl-C.""")

SERVE_HELP = opt.unwrap("""Load a model in the browser, let it answer, and show where the answer came from: the flow
through its layers and heads, back to the tokens of the prompt.

--model loads the model now; otherwise you choose it on the page. It runs on this machine, one request after another.
What you write stays in the memory of this machine until the command ends.

[bold]Examples[/]

[cyan]attributor serve[/] (the page offers the default model, which runs on any CPU)

[cyan]attributor serve --model Qwen/Qwen2.5-7B-Instruct --device-map auto --dtype bfloat16[/]

[cyan]attributor serve --model Qwen/Qwen2.5-0.5B-Instruct --max-tokens 8192 --memory-budget 4[/]

For a remote machine: run [cyan]ssh -L 3000:localhost:3000 HOST[/], with the same port on both ends, and open the
printed address. Ctrl-C ends the command. Exit status: 1 failed; 2 wrong options; 130 ended by Ctrl-C.""")

SERVER, LIMITS = "The server", "Limits"
FileToOpen = Annotated[
    Path | None, typer.Argument(help="The file or folder to open.", metavar="FILE|DIR", show_default=False)
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
        "The address to listen on. Other machines can reach any address except loopback (localhost, 127.0.0.1, "
        "::1). They need the token in the printed address. The connection is not encrypted.",
        "--host",
        metavar="ADDRESS",
    ),
]
NoBrowser = Annotated[bool, opt.option(SERVER, "Print the address and open no browser.", "--no-browser")]
Debug = Annotated[bool, opt.option(SERVER, "Show each request, and all details of an error.", "--debug")]
ServeModel = Annotated[
    str | None,
    opt.option(opt.MODEL, "Load this model now: a hub id, a folder or a .gguf file.", "--model", "-m", metavar="MODEL"),
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
        r"The longest prompt and answer together.  [dim]\[default: the model's window][/]",
        "--max-tokens",
        min=1,
        metavar="N",
    ),
]
Budget = Annotated[
    float | None,
    opt.option(
        LIMITS,
        r"How much memory stored answers may take; older ones are removed first.  "
        r"[dim]\[default: a quarter of the memory, 4.3 at most][/]",
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
    """Show a run, a flow or a list of cases in the browser."""
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
    """Load a model in the browser, let it answer, and show where the answer came from."""
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
    """Raise InputError if packages of the extra `web` are missing."""
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(f"attributor {command} needs {' and '.join(missing)}: pip install 'attributor[web]'")


def _bind_and_serve(
    mode: "Mode", host: str, port: int | None, no_browser: bool, debug: bool, create_parts: Callable[[], dict[str, Any]]
) -> int:
    """Bind the port, create the parts of the app, and serve; returns the exit status.

    The port is bound first. If it is taken, the command ends before it imports or loads anything else.
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
    """End the command; immediately if a thread still computes, because its result is no longer needed.

    It must be called outside of `report_errors`. That would inspect typer.Exit, a RuntimeError, for out-of-memory, and
    import torch for it.
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
    """Start to load the model of the command line.

    Raises:
        InputError: the model is refused immediately.
    """
    from attributor.web.http import ApiError

    try:
        live.start()
    except ApiError as error:
        raise InputError(error.message) from error
