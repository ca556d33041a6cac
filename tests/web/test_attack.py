"""A hostile page in the same browser can neither read from a running server nor change it (in a real browser)."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import CHROMIUM, FLAGS, browser, needs_browser, opened  # noqa: F401  # browser is a fixture
from clock import PATIENCE
from fastapi import FastAPI
from web_cases import run_folder
from web_server import running

from attributor.web.app import create_api
from attributor.web.explore.sources import Sources
from attributor.web.http.guard import Guard

pytestmark = needs_browser

PAGE = '<!doctype html><title>ours</title><link rel="icon" href="data:,"><p id="said"></p>'
PAGE += '<script type="module" crossorigin src="/static/app.js"></script>'
SCRIPT = """
const said = document.getElementById("said");
const session = await (await fetch("/api/session")).json();
const headers = {"X-Attributor-Token": session.csrf, "Content-Type": "application/json"};
const answer = await fetch("/api/changed", {method: "POST", headers, body: "{}"});
said.textContent = `${session.door} ${answer.status}`;
"""
# sends a request from a page of another origin; resolves to the status that the page can read
ASK = """
async ([url, method, mode, headers]) => {
    try {
        const answer = await fetch(url, {method, mode, headers, body: method === "POST" ? "{}" : undefined});
        return answer.type === "opaque" ? "opaque" : `${answer.status}`;
    } catch (error) { return "refused"; }
}
"""
LOAD = """
([kind, url]) => new Promise((resolve) => {
    const made = document.createElement(kind);
    made.onload = () => resolve("loaded");
    made.onerror = () => resolve("refused");
    setTimeout(() => resolve("neither"), 1000);
    if (kind === "link") { made.rel = "stylesheet"; made.href = url; } else made.src = url;
    document.body.append(made);
})
"""
FORM = """
([url, type]) => {
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: url, enctype: type, target: "there"});
    const field = document.createElement("input");
    Object.assign(field, {name: '{"a":"', value: '"}'});
    form.append(field);
    const frame = document.createElement("iframe");
    frame.name = "there";
    document.body.append(frame, form);
    return new Promise((resolve) => { frame.onload = () => resolve(); setTimeout(resolve, 500); form.submit(); });
}
"""


@contextmanager
def foreign():
    """Run another web server on this machine and return its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'<!doctype html><link rel="icon" href="data:,"><title>theirs</title>'
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def changed():
    return []


@pytest.fixture
def ours(tmp_path, monkeypatch, changed):
    """Return a function that starts a server on a host, with a route that changes something."""
    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text(PAGE)
    (static / "app.js").write_text(SCRIPT)
    (static / "app.css").write_text("p { color: red }")
    monkeypatch.setenv("ATTRIBUTOR_WEB_STATIC", str(static))
    run_folder(tmp_path / "run", 1)

    def made(access):
        app: FastAPI = create_api("explore", access, sources=Sources(tmp_path / "run"))

        @app.post("/api/changed")
        def change(body: dict) -> dict:
            changed.append(body)
            return {}

        return Guard(app, access)

    return lambda host="localhost": running(app=made, host=host)


def entered(page):
    """Wait until the own page has read and changed something. (The policy blocks the eval of wait_for_function.)"""
    page.locator("#said", has_text="explore 200").wait_for()


@pytest.fixture
def rebound(browser):  # noqa: F811
    """A browser that resolves evil.example to this machine, as after DNS rebinding."""
    found = browser.browser_type.launch(
        executable_path=CHROMIUM, args=[*FLAGS, "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    )
    yield found
    found.close()


def test_the_own_page_may_read_and_change(browser, ours, changed):  # noqa: F811
    for name in ("localhost", "127.0.0.1", "[::1]"):
        with ours() as server, opened(browser) as watched:
            watched.page.goto(f"http://{name}:{server.port}/")
            entered(watched.page)
            watched.clean()
    assert changed == [{}] * 3


def test_another_origin_reads_and_changes_nothing(browser, ours, changed):  # noqa: F811
    with ours() as server, foreign() as port, opened(browser) as watched:
        page = watched.page
        for theirs in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"):  # cross-site and same-site
            page.goto(theirs)
            base = f"http://localhost:{server.port}"
            token = {"X-Attributor-Token": server.access.csrf}
            plain, coded = {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}
            for method, path in (("GET", "/api/session"), ("GET", "/api/sources"), ("POST", "/api/changed")):
                for headers in ({}, plain, coded, {**coded, **token}):
                    assert page.evaluate(ASK, [base + path, method, "cors", headers]) == "refused"
                assert page.evaluate(ASK, [base + path, method, "no-cors", plain]) in ("opaque", "refused")
            for kind, path in (("script", "/static/app.js"), ("img", "/static/app.js"), ("link", "/static/app.css")):
                assert page.evaluate(LOAD, [kind, base + path]) == "refused"
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
                page.evaluate(FORM, [f"{base}/api/changed", kind])
            page.evaluate(LOAD, ["iframe", f"{base}/"])
            watched.settle()
            assert "ours" not in [frame.title() for frame in page.frames if frame != page.main_frame]
    assert changed == []


def test_dns_rebinding_reads_nothing(rebound, ours, changed):
    with ours() as server, foreign() as port, opened(rebound) as watched:
        page = watched.page
        page.goto(f"http://evil.example:{port}/")  # the name resolves to this machine
        assert page.title() == "theirs"
        page.goto(f"http://evil.example:{server.port}/")
        assert page.title() != "ours"
        assert "wrong_host" in page.content()
        for method, path in (("GET", "/api/session"), ("GET", "/static/app.js"), ("POST", "/api/changed")):
            assert page.evaluate(ASK, [path, method, "cors", {"Content-Type": "application/json"}]) == "421"
    assert changed == []


def test_a_link_on_another_site_opens_the_page(browser, ours):  # noqa: F811
    with ours() as server, foreign() as port, opened(browser) as watched:
        watched.page.goto(f"http://127.0.0.1:{port}/")
        watched.page.evaluate("(url) => { location.href = url }", f"http://localhost:{server.port}/")
        entered(watched.page)
        watched.clean()


@pytest.mark.parametrize("linked", [False, True])
def test_the_printed_address_with_token_logs_in(browser, ours, linked):  # noqa: F811
    """Works for a typed address and for a link in a mail; the cookie is SameSite=Strict."""
    with ours("0.0.0.0") as server, foreign() as port, opened(browser) as watched:
        page, url = watched.page, server.access.url().replace("0.0.0.0", "127.0.0.1")
        page.goto(url.partition("?")[0])
        assert "token_missing" in page.content()
        if linked:
            page.goto(f"http://localhost:{port}/")
            page.evaluate("(url) => { location.href = url }", url)
        else:
            page.goto(url)
        entered(page)
        assert page.url == url.partition("?")[0]  # the token is no longer in the address
        assert page.evaluate("document.cookie") == ""  # scripts cannot read it either
        page.reload()
        entered(page)


def test_injected_markup_does_nothing(browser, ours):  # noqa: F811
    """If a text reaches the page as markup, the policy still blocks its scripts and requests."""
    with ours() as server, foreign() as port, opened(browser) as watched:
        watched.page.goto(f"http://localhost:{server.port}/")
        watched.page.evaluate(
            """(url) => {
                globalThis.ran = 0;
                document.body.insertAdjacentHTML("beforeend",
                    `<img src="x" onerror="ran++"><img src="${url}"><svg onload="ran++"></svg>
                     <iframe srcdoc="<script>parent.ran++</script>"></iframe><base href="${url}">
                     <a id="j" href="javascript:ran++">x</a><form action="${url}"><button id="b"></form>
                     <style>body { background: url(${url}) }</style>`);
                document.getElementById("j").click();
                document.getElementById("b").click();
            }""",
            f"http://127.0.0.1:{port}/stolen",
        )
        until = time.monotonic() + PATIENCE
        while not any("Content Security Policy" in said for said in watched.complaints):
            assert time.monotonic() < until, "nothing was refused"
            watched.page.wait_for_timeout(100)
        watched.page.wait_for_timeout(300)  # time for requests that must not happen
        assert watched.page.evaluate("globalThis.ran") == 0
        assert watched.page.evaluate("document.baseURI") == f"http://localhost:{server.port}/"
        assert watched.page.url == f"http://localhost:{server.port}/"
        assert any("Content Security Policy" in said for said in watched.complaints)
