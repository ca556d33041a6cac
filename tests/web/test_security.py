"""Each security rule of the web views, tested on a real socket because no client library sends such requests."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import contextlib
import time

import httpx
import pytest
from fastapi import FastAPI
from web_folder import folder, served  # noqa: F401
from web_server import code, running

from attributor.web.http.guard import Guard
from attributor.web.http.security import CSRF_HEADER, HEADERS, Access, is_loopback

LIMIT = 20_000


def echo(access):
    """Return an app behind the guard that accepts bodies."""
    app = FastAPI()

    @app.post("/api/echo")
    def length(body: dict) -> dict:
        return {"keys": len(body)}

    @app.delete("/api/echo")
    def gone() -> dict:
        return {}

    @app.get("/api/leaky")
    def leaky() -> dict:
        return {}

    return Guard(app, access)


@pytest.fixture(scope="module")
def echoing():
    with running(app=echo, limit=LIMIT) as server:
        yield server


def post(server, body=b"{}", *headers, path="/api/echo", method="POST", csrf=True, kind="application/json"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: localhost:{server.port}", "Connection: close"]
    lines += [f"{CSRF_HEADER}: {server.access.csrf}"] * csrf + [f"Content-Type: {kind}"] * (kind is not None)
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return server.raw("\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body)


# Host and port


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"])
def test_own_host_names_with_the_own_port_are_served(served, name):
    assert served.head("GET", "/api/session", f"Host: {name}:{served.port}", host=False)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "localhost.evil.example:{port}",
        "evil.example.localhost:{port}",
        "127.0.0.1.nip.io:{port}",
        "localhost",
        "localhost:80",
        "localhost:1{port}",
        "127.0.0.2:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "0.0.0.0:{port}",
        "192.168.1.7:{port}",
        "localhost:0{port}",
    ],
)
def test_other_host_names_and_ports_are_refused(served, host):
    for path in ("/", "/static/app.js", "/api/session", "/api/sources", "/none"):
        found = served.head("GET", path, f"Host: {host.format(port=served.port)}", host=False)
        if host == "localhost:0{port}" and len(str(served.port)) < 5:
            continue  # the same number
        assert code(found) in [(421, "wrong_host"), (400, "bad_host")]


@pytest.mark.parametrize(
    "host",
    ["", "localhost:{port}, evil.example", "user@localhost:{port}", "localhost:{port}/x", "localhost:{port}:{port}",
     "localhost:", "local host:{port}", ".", "-:{port}", "[::1:{port}", "loc\xe4lhost:{port}"],
)  # fmt: skip
def test_a_malformed_host_is_refused(served, host):
    assert code(served.head("GET", "/", f"Host: {host.format(port=served.port)}", host=False))[0] in (400, 421)


def test_a_missing_or_doubled_host_is_refused(served):
    own = f"Host: localhost:{served.port}"
    assert code(served.head(host=False))[0] == 400
    assert code(served.raw("GET /api/session HTTP/1.0\r\n\r\n")) == (400, "bad_host")
    assert code(served.head("GET", "/api/session", own))[0] == 400
    assert code(served.raw(f"GET /api/session HTTP/1.0\r\n{own}\r\nHost: evil.example\r\n\r\n"))[0] == 400


def test_an_absolute_target_does_not_replace_the_host(served):
    evil = f"http://evil.example:{served.port}/api/session"
    assert code(served.head("GET", evil)) == (404, "not_found")
    assert code(served.head("GET", evil, f"Host: evil.example:{served.port}", host=False)) == (421, "wrong_host")
    for header in ("X-Forwarded-Host", "Forwarded", "X-Forwarded-For", "X-Real-IP", "X-Original-URL"):
        found = served.head("GET", "/", f"{header}: localhost", f"Host: evil.example:{served.port}", host=False)
        assert code(found)[0] == 421


# origin of a request


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "https://localhost:{port}", "http://localhost:1", "http://localhost",
               "http://127.0.0.1:{port}", "http://localhost:{port}.evil.example", "file://", ""]
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused(served, origin, method):
    found = served.head(method, "/api/session", f"Origin: {origin.format(port=served.port)}")
    assert code(found) == (403, "cross_origin")


def test_the_own_origin_is_served(served, echoing):
    assert served.head("GET", "/api/session", f"Origin: http://localhost:{served.port}")[0] == 200
    assert post(echoing, b"{}", f"Origin: http://localhost:{echoing.port}", "Sec-Fetch-Site: same-origin")[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense", ""])
def test_requests_of_other_sites_are_refused(served, echoing, site):
    for path in ("/api/session", "/api/sources", "/static/app.js", "/"):
        assert code(served.head("GET", path, f"Sec-Fetch-Site: {site}")) == (403, "cross_site")
    navigation = [f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
    assert code(served.head("GET", "/api/session", *navigation)) == (403, "cross_site")
    assert code(post(echoing, b"{}", *navigation)) == (403, "cross_site")


def test_other_sites_may_link_to_the_page_but_not_frame_it(served):
    opened = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"]
    assert served.head("GET", "/", *opened, "Sec-Fetch-Dest: document")[0] != 403
    for kind in ("iframe", "embed", "object", "frame", "script", "image"):
        assert code(served.head("GET", "/", *opened, f"Sec-Fetch-Dest: {kind}")) == (403, "cross_site")


def test_a_typed_address_and_the_own_page_are_served(served):
    for site in ("none", "same-origin"):
        assert served.head("GET", "/api/session", f"Sec-Fetch-Site: {site}")[0] == 200


# requests that change something


def test_an_unsafe_request_needs_the_csrf_token(echoing):
    assert post(echoing)[0] == 200
    assert post(echoing, b"", method="DELETE", kind=None)[0] == 200
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        assert code(post(echoing, method=method, csrf=False)) == (403, "csrf")
        for token in ("", "x", echoing.access.csrf[:-1], echoing.access.csrf + "x", "\xff"):
            assert code(post(echoing, b"{}", f"{CSRF_HEADER}: {token}", method=method, csrf=False)) == (403, "csrf")
    twice = [f"{CSRF_HEADER}: {echoing.access.csrf}"]
    assert code(post(echoing, b"{}", *twice)) == (400, "doubled_header")


def test_the_token_is_compared_in_constant_time(monkeypatch):
    seen = []
    monkeypatch.setattr("attributor.web.http.security.hmac.compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    access = Access("localhost", 3000)
    scope = {
        "method": "DELETE", "path": "/api/runs/x", "server": ("127.0.0.1", 3000), "query_string": b"",
        "headers": [(b"host", b"localhost:3000"), (b"x-attributor-token", b"guess")],
    }  # fmt: skip
    assert access.check(scope).code == "csrf"
    assert seen == [(b"guess", access.csrf.encode())]


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp",
     "text/json", "", None],
)  # fmt: skip
def test_a_body_must_be_json(echoing, kind):
    assert code(post(echoing, kind=kind)) == (415, "not_json")


def test_json_with_a_charset_is_accepted(echoing):
    assert post(echoing, kind="Application/JSON; charset=utf-8")[0] == 200


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "get", "X"])
def test_preflights_are_refused_and_no_response_allows_cors(served, method):
    ask = ["Origin: http://evil.example", "Access-Control-Request-Method: POST"]
    for path in ("/", "/api/session", "/api/runs"):
        for found in (served.head(method, path), served.head(method, path, *ask)):
            assert code(found) == (405, "method_not_allowed")
            assert not [name for name in found[1] if name.startswith("access-control")]


def test_cors_headers_of_a_route_are_removed():
    def made(access):
        async def app(scope, receive, send):
            headers = [(b"access-control-allow-origin", b"*"), (b"Content-Security-Policy", b"default-src *")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"{}"})

        async def alive(scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                return await send({"type": "lifespan.shutdown.complete"})
            return await app(scope, receive, send)

        return Guard(alive, access)

    with running(app=made) as server:
        answer = server.client.get("/api/x")
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers.get_list("content-security-policy") == [HEADERS["Content-Security-Policy"]]


# sizes


@pytest.mark.parametrize("size", [LIMIT + 1, 5 * LIMIT])
def test_an_oversized_body_is_refused(echoing, size):
    assert code(post(echoing, b"x" * size)) == (413, "too_large")
    assert post(echoing, b'{"a": "' + b"x" * (LIMIT - 20) + b'"}')[0] == 200


def test_an_oversized_chunked_body_is_refused(echoing):
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    assert code(post(echoing, chunk * 40 + b"0\r\n\r\n", "Transfer-Encoding: chunked")) == (413, "too_large")
    small = b'7\r\n{"a":1}\r\n0\r\n\r\n'
    assert post(echoing, small, "Transfer-Encoding: chunked")[0] == 200


def test_an_endless_body_is_refused_while_it_is_sent(echoing):
    sent = 0

    def endless():
        nonlocal sent
        while sent < 400 * LIMIT:
            sent += 4096
            yield b"x" * 4096

    headers = {**echoing.csrf, "Content-Type": "application/json"}
    with contextlib.suppress(httpx.WriteError):  # the server closed the connection during sending
        assert echoing.client.post("/api/echo", content=endless(), headers=headers).status_code == 413
    assert sent < 200 * LIMIT  # bytes in transit fit into the buffers of the sockets


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "99999999999999999999999", "1, 2", "+5", "five", "5 5"])
def test_a_content_length_that_is_not_a_number_is_refused(echoing, length):
    assert code(post(echoing, b"{}", f"Content-Length: {length}"))[0] in (400, 413)


def test_a_false_content_length_admits_no_larger_body(echoing):
    huge = f"Content-Length: {LIMIT * 1000}"
    began = time.monotonic()
    assert code(post(echoing, b"{}", huge)) == (413, "too_large")
    assert time.monotonic() - began < 6
    found = post(echoing, b"{}" + b"x" * 50, "Content-Length: 2")  # the rest is read as another, malformed request
    assert found[0] == 200
    assert code(post(echoing, b"{}", "Content-Length: 2", "Content-Length: 3"))[0] == 400
    both = post(echoing, b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 2")
    assert both[0] in (200, 400)  # one request by its chunks, or none


def test_a_get_request_with_a_body_is_refused(served):
    assert code(served.head("GET", "/api/session", "Content-Length: 5")) == (400, "unexpected_body")
    assert code(served.head("GET", "/api/session", "Transfer-Encoding: chunked")) == (400, "unexpected_body")


def test_too_many_or_too_long_headers_are_refused(served):
    assert code(served.head("GET", "/", *[f"X-{i}: 1" for i in range(70)])) == (431, "too_many_headers")
    assert code(served.head("GET", "/", "X-Long: " + "x" * 40_000)) == (431, "too_many_headers")
    assert code(served.head("GET", "/api/session?" + "x" * 20_000)) == (414, "too_long")
    assert code(served.head("GET", "/" + "x" * 40_000))[0] in (400, 414)


def test_json_that_is_nested_too_deeply_is_refused(echoing):
    deep = b'{"a":' * 3000 + b"1" + b"}" * 3000
    assert post(echoing, deep[: LIMIT - 1])[0] in (400, 422)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"nul", b'"x"'])
def test_a_body_that_is_not_a_json_object_is_refused(echoing, body):
    assert 400 <= post(echoing, body)[0] < 500


def test_malformed_http_gets_the_security_headers(served):
    for data in ("hello\r\n\r\n", "GET / HTTP/x\r\n\r\n", "\x16\x03\x01\x02\x00", "GET /\x01 HTTP/1.1\r\n\r\n\r\n"):
        found = served.raw(data + "\r\n\r\n")
        assert code(found) == (400, "bad_request")
        assert found[1]["content-security-policy"] == HEADERS["Content-Security-Policy"]


def test_a_websocket_is_refused(served):
    ask = ["Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    for path in ("/", "/api/session"):
        assert served.head("GET", path, *ask, "Sec-Fetch-Mode: websocket")[0] != 101
        cross = served.head("GET", path, *ask, "Origin: http://evil.example")
        assert code(cross) == (403, "cross_origin")


# headers of every response


def test_the_security_headers_are_on_every_response(served, echoing):
    answers = [
        served.head("GET", "/"),
        served.head("GET", "/api/session"),
        served.head("GET", "/api/none"),
        served.head("GET", "/none"),
        served.head("GET", "/static/none.js"),
        served.head("OPTIONS", "/"),
        served.head("HEAD", "/api/session"),
        served.head("GET", "/", "Origin: null"),
        served.head("GET", "/", "Host: x", host=False),
        served.raw("nonsense\r\n\r\n"),
        post(echoing),
        post(echoing, csrf=False),
        post(echoing, b"x" * LIMIT * 2),
        post(echoing, b"{"),
    ]
    assert len({status for status, _, _ in answers}) > 6
    for status, headers, _ in answers:
        assert {name: headers.get(name.lower()) for name in HEADERS} == HEADERS, status
        assert not [name for name in headers if name.startswith("access-control")]
        assert "server" not in headers
    assert served.head("GET", "/api/session")[1]["cache-control"] == "no-store"


def test_the_content_security_policy_allows_only_own_sources():
    policy = dict(part.strip().partition(" ")[::2] for part in HEADERS["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
        "img-src": "'self' data: blob:", "font-src": "'none'", "base-uri": "'none'", "form-action": "'none'",
        "frame-ancestors": "'none'",
    }  # fmt: skip


# addresses other than loopback


def test_only_loopback_needs_no_token():
    for host in ("localhost", "LocalHost", "127.0.0.1", "127.3.2.1", "::1", "[::1]"):
        assert is_loopback(host)
        assert Access.at(host, 3000).token is None
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org", "localhost.evil.example", "", "127.0.0.1.nip.io"):
        assert not is_loopback(host)
        assert len(Access.at(host, 3000).token) >= 32


def test_other_addresses_need_a_token_for_every_route(folder):
    with running(folder, host="0.0.0.0") as server:
        token = server.access.token
        url = server.access.url()
        assert url == f"http://127.0.0.1:{server.port}/?token={token}"  # the guard refuses 0.0.0.0 as Host
        assert httpx.get(url, trust_env=False).status_code == 200
        for path in (
            "/",
            "/static/app.js",
            "/api/session",
            "/api/sources",
            "/none",
            "/?token=x",
            "/api/session?token=",
        ):
            assert code(server.head("GET", path)) == (401, "token_missing")
        wrong = [f"Cookie: attributor_{server.port}=x", "Authorization: Bearer x", "Authorization: Basic " + token]
        for header in wrong:
            assert code(server.head("GET", "/api/session", header)) == (401, "token_missing")
        assert code(server.head("GET", f"/api/session?token={token}")) == (401, "token_missing")
        assert server.head("GET", "/api/session", f"Authorization: Bearer {token}")[0] == 200
        entered = server.head("GET", f"/?token={token}")
        assert (entered[0], entered[1]["refresh"]) == (200, "0;url=/")
        assert token.encode() not in entered[2]
        cookie, *flags = entered[1]["set-cookie"].split("; ")
        assert sorted(flags) == ["HttpOnly", "Path=/", "SameSite=Strict"]
        assert server.head("GET", "/api/session", f"Cookie: a=b; {cookie}")[0] == 200
        assert code(server.head("POST", "/api/session", f"Cookie: {cookie}")) == (403, "csrf")  # needs the token


def test_other_addresses_also_check_host_and_site(folder):
    with running(folder, host="0.0.0.0") as server:
        token = server.access.token
        enter = f"/?token={token}"
        assert code(server.head("GET", enter, f"Host: evil.example:{server.port}", host=False)) == (421, "wrong_host")
        assert code(server.head("GET", enter, f"Host: 127.0.0.2:{server.port}", host=False)) == (421, "wrong_host")
        assert server.head("GET", enter, f"Host: 127.0.0.1:{server.port}", host=False)[0] == 200
        found = server.head("GET", enter, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: iframe")
        assert code(found) == (403, "cross_site")


def test_on_all_addresses_the_host_must_match_the_connection():
    access = Access.at("0.0.0.0", 3000)
    login = (b"authorization", f"Bearer {access.token}".encode())

    def asked(host, server):
        headers = [(b"host", host.encode()), login]
        scope = {"method": "GET", "path": "/", "query_string": b"", "server": (server, 3000), "headers": headers}
        refused = access.check(scope)
        return None if refused is None else refused.status

    assert asked("192.168.1.7:3000", "192.168.1.7") is None
    assert asked("192.168.1.8:3000", "192.168.1.7") == 421
    assert asked("192.168.1.7:3001", "192.168.1.7") == 421
    assert asked("[fe80::1]:3000", "fe80::1") is None
    assert asked("evil.example:3000", "192.168.1.7") == 421
