"""The security rules of the server: every request is checked against them before it reaches a route.

The server listens on this machine, so every page that is open in a browser here can send requests to it. The rules:

- Host must name this server and its port. So a foreign name that points at 127.0.0.1 (DNS rebinding) is refused.
- Origin and Sec-Fetch-Site must name the server's own page. There are no CORS headers, so other pages cannot read a
  response.
- A request that changes something needs JSON, which a form cannot send, and a token that only the server's page can
  read.
- On any address except loopback, every request needs the access token in the printed address.

The rules fail closed: requests with missing, repeated or malformed headers are refused.
"""

import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BODY_LIMIT", "CSRF_HEADER", "HEADERS", "UNSAFE", "Access", "Refusal", "is_loopback"]

BODY_LIMIT = 32_000_000  # bytes; messages of a million tokens are about 5 MB
CSRF_HEADER = "X-Attributor-Token"
SAFE, UNSAFE = ("GET", "HEAD"), ("POST", "PUT", "PATCH", "DELETE")
HEADER_LIMIT, HEADER_BYTES, TARGET_BYTES = 64, 32_768, 16_384

# of every response
HEADERS: dict[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}

_SINGLE = {"host", "origin", "content-length", "content-type", "transfer-encoding", "authorization", "range", "cookie"}
_SINGLE |= {"sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", CSRF_HEADER.lower()}
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::(?P<port>[0-9]{1,5}))?")
Scope = MutableMapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """The reason why a request is refused: an error's status, code and message."""

    status: int
    code: str
    message: str


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; of names only "localhost" counts."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bracket_ipv6(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


@dataclass(frozen=True)
class Access:
    """What one running server allows.

    Attributes:
        host: the host that it listens on.
        port: the port that it listens on, and that every Host header must name.
        csrf: the token that unsafe methods need; the server's page reads it from GET /api/session.
        token: the access token that every request needs; None on loopback.
        body_limit: the largest number of bytes of a body.
    """

    host: str
    port: int
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    token: str | None = field(default=None, repr=False)
    body_limit: int = BODY_LIMIT

    @classmethod
    def at(cls, host: str, port: int) -> "Access":
        """The rules of a server at this address; with an access token if other machines can reach it."""
        return cls(host.strip("[]"), port, token=None if is_loopback(host) else secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """The name of the cookie with the access token. It has the port, because cookies of all ports are shared."""
        return f"attributor_{self.port}"

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that a request may name, without the port."""
        own = () if self.on_all_addresses else (_bracket_ipv6(self.host),)
        return tuple(dict.fromkeys(("localhost", "127.0.0.1", "[::1]", *own)))

    @property
    def on_all_addresses(self) -> bool:
        """Whether it listens on all addresses of this machine; a browser cannot open such a host."""
        return self.host in ("0.0.0.0", "::", "")

    def url(self) -> str:
        """The address to open on this machine, with the access token if one is needed."""
        shown = "localhost" if self.host in ("localhost", "127.0.0.1", "::1") else self.host
        if self.on_all_addresses:
            shown = "::1" if ":" in self.host else "127.0.0.1"
        port = "" if self.port == 80 else f":{self.port}"
        return f"http://{_bracket_ipv6(shown)}{port}/" + (f"?token={self.token}" if self.token else "")

    def check(self, scope: Scope) -> Refusal | None:
        """Check the head of a request; None if it may pass. `scope` is ASGI's, of an HTTP request.

        The real length of the body is checked when it is read, because a Content-Length may be wrong.
        """
        headers: dict[str, str] = {}
        if len(scope["headers"]) > HEADER_LIMIT or sum(len(k) + len(v) for k, v in scope["headers"]) > HEADER_BYTES:
            message = f"a request may have {HEADER_LIMIT} headers of {HEADER_BYTES:,} bytes together"
            return Refusal(431, "too_many_headers", message)
        if len(scope["path"]) + len(scope["query_string"]) > TARGET_BYTES:
            return Refusal(414, "too_long", f"an address may be {TARGET_BYTES:,} bytes long")
        for key, value in scope["headers"]:
            name = key.decode("latin-1").lower()
            if name in headers and name in _SINGLE:
                return Refusal(400, "doubled_header", f"the header {name} was sent twice")
            headers[name] = value.decode("latin-1")
        return (
            self._check_host(headers.get("host"), scope.get("server"))
            or _check_method(scope["method"])
            or _check_fetch(headers, scope)
            or self._check_token(headers)
            or self._check_unsafe(headers, scope["method"])
            or self._check_length(headers, scope["method"])
        )

    def _check_host(self, host: str | None, server: Any) -> Refusal | None:
        """421 for a host that is not this server. On all addresses it may also be the one that was connected to."""
        match = _HOST.fullmatch((host or "").lower())
        if match is None:
            return Refusal(400, "bad_host", "the request names no host, or none that could be one")
        name, port = match["name"], int(match["port"] or 80)
        if port == self.port:
            if name in self.names:
                return None
            if self.on_all_addresses and server and name == _bracket_ipv6(str(server[0]).removeprefix("::ffff:")):
                return None
        addresses = " or ".join(f"{name}:{self.port}" for name in self.names)
        return Refusal(421, "wrong_host", f"this server answers as {addresses} only: open it under that name and port")

    def _check_token(self, headers: dict[str, str]) -> Refusal | None:
        if self.token is None or self._carries_token(headers):
            return None
        return Refusal(401, "token_missing", "open the address that the command printed, with the token at its end")

    def _carries_token(self, headers: dict[str, str]) -> bool:
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie and self.accepts_token(value):
                return True
        scheme, _, value = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.accepts_token(value.strip())

    def accepts_token(self, token: str) -> bool:
        """Whether this is the access token."""
        return self.token is not None and _equal_in_constant_time(token, self.token)

    def _check_unsafe(self, headers: dict[str, str], method: str) -> Refusal | None:
        if method not in UNSAFE:
            return None
        if not _equal_in_constant_time(headers.get(CSRF_HEADER.lower(), ""), self.csrf):
            return Refusal(
                403, "csrf", f"{CSRF_HEADER} is missing or of an earlier start of the server: reload the page"
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (method != "DELETE" or kind or _has_body(headers)):
            return Refusal(415, "not_json", "a body must be JSON, with Content-Type: application/json")
        return None

    def _check_length(self, headers: dict[str, str], method: str) -> Refusal | None:
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,18}", length):
            return Refusal(400, "bad_length", "Content-Length must be a number of bytes")
        if method in SAFE and _has_body(headers):
            return Refusal(400, "unexpected_body", f"a {method} request takes no body")
        return self.too_large() if int(length) > self.body_limit else None

    def too_large(self) -> Refusal:
        """The refusal of a body that exceeds the limit."""
        return Refusal(413, "too_large", f"a request may hold {self.body_limit / 1e6:,.3g} MB; this one holds more")


def _has_body(headers: dict[str, str]) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""


def _check_method(method: str) -> Refusal | None:
    if method in (*SAFE, *UNSAFE):
        return None
    return Refusal(405, "method_not_allowed", f"this server takes no {method[:20]!a} requests")


def _check_fetch(headers: dict[str, str], scope: Scope) -> Refusal | None:
    """Check the origin of a request, from the browser's headers: the server's own page, or a user who opens it.

    A link on another site may open the page itself (a top-level navigation to /). Programs send none of these headers.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin.lower() != f"http://{headers['host'].lower()}":
        return Refusal(403, "cross_origin", "another origin asks; only pages of this server may")
    if site in (None, "same-origin", "none"):
        return None
    opens = scope["path"] == "/" and scope["method"] == "GET"
    if opens and (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document"):
        return None
    return Refusal(403, "cross_site", "another site asks; only pages of this server may")


def _equal_in_constant_time(received: str, expected: str) -> bool:
    return hmac.compare_digest(received.encode("utf-8", "surrogatepass"), expected.encode("utf-8"))


def build_security_headers(more: Iterable[tuple[str, str]] = ()) -> list[tuple[bytes, bytes]]:
    """The headers of every response, and `more`, in the form of ASGI."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (*HEADERS.items(), *more)]
