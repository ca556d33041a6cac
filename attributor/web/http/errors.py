"""Sends every failure as JSON of one shape, {"error": {"code": ..., "message": ...}}, with its own HTTP status.

A message is a sentence for the user. The message of an unexpected failure only refers to the log: a traceback names
files of this machine, and the exception's message may hold parts of a prompt.
"""

import json
import logging
import secrets
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from attributor._errors import (
    AttributorError,
    DeviceMemoryError,
    FileFormatError,
    ImplementationError,
    InputError,
    ModelLoadError,
    NumericsError,
    OutputError,
    RecordingError,
    UnsupportedModelError,
)

__all__ = ["LOG", "ApiError", "add_error_handlers", "classify_error", "error_body", "error_response", "log_failure"]

LOG = logging.getLogger("attributor.web")

# subclasses before their base classes: the first match counts
_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (DeviceMemoryError, 507, "out_of_memory"),
    (MemoryError, 507, "out_of_memory"),
    (ModelLoadError, 424, "model_not_loaded"),
    (UnsupportedModelError, 422, "unsupported_model"),
    (FileFormatError, 422, "unreadable_file"),
    (RecordingError, 409, "recording_mismatch"),
    (OutputError, 409, "cannot_write"),
    (NumericsError, 422, "not_finite"),
    (ImplementationError, 400, "implementation_unavailable"),
    (InputError, 400, "invalid_input"),
    (AttributorError, 400, "refused"),
)

_CODES = {
    400: "bad_request",
    401: "token_missing",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    410: "gone",
    413: "too_large",
    415: "not_json",
    416: "invalid_range",
    422: "invalid_request",
    429: "queue_full",
    503: "not_ready",
}
_SENTENCES = {
    404: "there is nothing at this address",
    405: "this address does not take that method",
}


class ApiError(Exception):
    """A failure that a route raises, and that is sent as its response.

    Args:
        status: 4xx or 5xx.
        code: snake_case, for programs.
        message: a sentence for the user that says what to do.
        headers: more headers of the response.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


def error_body(code: str, message: str) -> bytes:
    """The JSON of an error, in ASCII: a message may quote a lone surrogate, which UTF-8 cannot encode."""
    return json.dumps({"error": {"code": code, "message": message}}).encode("ascii")


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error."""
    return Response(error_body(code, message), status, headers, "application/json")


def classify_error(error: BaseException) -> tuple[int, str] | None:
    """The status and the code of an error with a message for the user; None for an unexpected error."""
    return next(((status, code) for kind, status, code in _STATUS if isinstance(error, kind)), None)


def log_failure(error: BaseException, what: str) -> str:
    """Write an unexpected failure to the log; returns its id in the log.

    The log has the type and the traceback of the exception. Its message may quote a prompt and is logged only with
    --debug.
    """
    name = secrets.token_hex(4)
    if LOG.isEnabledFor(logging.DEBUG):
        details = "".join(traceback.format_exception(error))
    else:
        details = "".join(_format_without_messages(error)) + "(--debug shows what it said)"
    LOG.error("internal error %s in %a\n%s", name, what, details)  # %a: a path may hold line breaks
    return name


def _format_without_messages(error: BaseException) -> Iterator[str]:
    """The traceback of an error and of its causes, without their messages."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _format_without_messages(before)
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__name__}\n"


def internal_error_response(error: BaseException, what: str) -> Response:
    """Log an unexpected failure; returns the response for it."""
    name = log_failure(error, what)
    message = f"something went wrong that should not have: the terminal of this server says more, under {name}"
    return error_response(500, "internal_error", message)


def add_error_handlers(app: FastAPI) -> None:
    """Register handlers, so that the app sends every failure in this shape."""
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(Exception, _answer_unexpected_error)
    for kind, _, _ in _STATUS:
        app.add_exception_handler(kind, _answer_known_error)


async def _answer_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error.status, error.code, error.message, error.headers)


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    """Send Starlette's own errors (404, 405), and those that a route raised with a text or {"code", "message"}."""
    assert isinstance(error, HTTPException)
    detail: Any = error.detail
    code = _CODES.get(error.status_code, "refused")
    if isinstance(detail, dict) and {"code", "message"} <= set(detail):
        code, message = str(detail["code"]), str(detail["message"])
    else:
        message = _SENTENCES.get(error.status_code, str(detail))
    return error_response(error.status_code, code, message, error.headers)


async def _answer_invalid_request(_: Request, error: Exception) -> Response:
    """Send which part of the request is invalid, without repeating the received value."""
    assert isinstance(error, RequestValidationError)
    problems = []
    for one in error.errors()[:5]:
        field = ".".join(str(part) for part in one["loc"] if part not in ("body", "query", "path"))
        problems.append(f"{field[:100] or 'the body'}: {one['msg'][:200]}")
    return error_response(422, "invalid_request", "; ".join(problems))


async def _answer_known_error(request: Request, error: Exception) -> Response:
    status_and_code = classify_error(error)
    assert status_and_code is not None
    status, code = status_and_code
    if not isinstance(error, AttributorError):  # a bare MemoryError has no message for the user
        log_failure(error, f"{request.method} {request.url.path}")
        return error_response(status, code, "this machine ran out of memory: ask for less, or free some, and try again")
    return error_response(status, code, str(error))


async def _answer_unexpected_error(request: Request, error: Exception) -> Response:
    return internal_error_response(error, f"{request.method} {request.url.path}")
