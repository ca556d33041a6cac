"""The web app in its two modes: `explore` shows saved runs and flows, `serve` runs a model."""

import hashlib
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from attributor._errors import AttributorError
from attributor.web import explore, http
from attributor.web.explore import Sources
from attributor.web.http import LOG, Access, ApiError, ErrorBody, Guard, Session

__all__ = ["Mode", "create_api", "create_app"]

Mode = Literal["explore", "serve"]
NO_FRONT_END = "this installation has no front end, or not all of it: install attributor anew; in a checkout, make web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".map": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


def create_app(mode: Mode, access: Access, *, sources: Sources | None = None, live: Any = None) -> ASGIApp:
    """The whole server as one ASGI app: the routes behind their guard.

    Args:
        mode: "explore" or "serve".
        access: the security rules for requests.
        sources: the files of `explore`; None for `serve`.
        live: the service of `serve` (attributor.web.live.LiveService).
    """
    return Guard(create_api(mode, access, sources=sources, live=live), access)


def create_api(mode: Mode, access: Access, *, sources: Sources | None = None, live: Any = None) -> FastAPI:
    """The routes without their guard, for the description (openapi.py) and for tests."""
    app = FastAPI(
        title=f"attributor {mode}",
        version=version("attributor"),
        docs_url=None,  # the pages of these docs load scripts from other servers
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
    )
    http.add_error_handlers(app)
    files = Sources() if sources is None else sources

    @app.get("/api/session", tags=["explore"])
    def session() -> Session:
        """The server's mode, and the token for requests that change something."""
        return Session(door=mode, version=version("attributor"), csrf=access.csrf, opened=files.only_source_id)

    app.include_router(explore.create_router(files))
    for routes in _mode_routers(mode, files, live):
        app.include_router(routes)

    @app.get("/api/{rest:path}", include_in_schema=False)
    def answer_not_found(rest: str) -> None:
        raise ApiError(404, "not_found", "there is nothing at this address")

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> Response:
        return _respond_with_static_file("index.html", request)

    @app.get("/static/{name:path}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        return _respond_with_static_file(name, request)

    return app


def _mode_routers(mode: Mode, files: Sources, live: Any) -> list[Any]:
    find_flow: Callable[[str], Any] = files.flow
    routers = []
    if mode == "serve":
        from attributor.web.live import create_router as live_router

        routers.append(live_router(live))
        find_flow = files.flow if live is None else live.get_view  # without a service the routes are only described
    return [*routers, http.create_router(find_flow)]


def _respond_with_static_file(name: str, request: Request) -> Response:
    """A file of the built front end. Browsers revalidate it by its ETag on each request, so they see an upgrade."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", name) is None:
        raise ApiError(404, "not_found", "there is nothing at this address")
    data = _read_static(name)
    tag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(None, 304, headers)
    kind = TYPES.get(Path(name).suffix, "application/octet-stream")
    return Response(data, 200, {**headers, "Content-Type": kind})


def _read_static(name: str) -> bytes:
    from attributor._result import static_folder

    try:
        folder = static_folder().resolve()
        path = (folder / name).resolve()
        if path.is_relative_to(folder):
            return path.read_bytes()
    except AttributorError as error:
        LOG.error("%s", error)  # the error names the folder, which the response must not name
        raise ApiError(503, "no_front_end", NO_FRONT_END) from error
    except OSError:
        pass
    if name == "index.html":
        raise ApiError(503, "no_front_end", NO_FRONT_END)
    raise ApiError(404, "not_found", "there is nothing at this address")
