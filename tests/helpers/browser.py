"""Headless Chromium for tests of the web views; it must log no errors and stay on this machine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clock import PATIENCE
from warm_start import WarmProcess, run_command_line

ROOT = Path(__file__).parents[2]
AXE = ROOT / "webapp/node_modules/axe-core/axe.min.js"
# The headless shell is the same engine without browser windows and takes less CPU time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
ABSENT = "no Chromium on this machine: apt-get install chromium-headless-shell"
# Without these, Chromium starts three more processes for each context: two for the list below the address bar, which a
# headless browser does not show, and one spare. They take as long as the page under test.
NOT_SHOWN = (
    "PreloadTopChromeWebUI",
    "SpareRendererForSitePerProcess",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup",
    "WebUIOmniboxPopup",
)
# The features that Playwright disables. Chromium uses only the last --disable-features, so ours repeats them.
AS_PLAYWRIGHT = (
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "TcpPortRandomizationWin",
    "ThirdPartyStoragePartitioning",
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    f"--disable-features={','.join(NOT_SHOWN + AS_PLAYWRIGHT)}",
    "--disable-sync",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
)
LOOPBACK = {"127.0.0.1", "localhost", "[::1]", "::1"}

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=ABSENT)


@dataclass
class Watched:
    """A page and the log of its unwanted actions.

    Attributes:
        page: the page of Playwright.
        complaints: errors and warnings of the console, uncaught exceptions, crashes.
        outside: requests to anything but loopback.
        failed: responses with a status of 400 or more, which some tests expect.
        pending: requests of its scripts without a complete response.
        bytes: size of all received bodies, by path.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    pending: set[Any] = field(default_factory=set)
    bytes: dict[str, int] = field(default_factory=dict)

    def clean(self, *, expected: str | None = None) -> None:
        """Check that there are no complaints except those that match `expected`, and no requests outside loopback."""
        bad = [said for said in self.complaints if expected is None or not re.search(expected, said)]
        assert not bad, bad
        assert not self.outside, self.outside

    def settle(self) -> None:
        """Wait until the page is idle: no pending request, and no changed element for some frames."""
        until = time.monotonic() + PATIENCE
        while self.page.evaluate(STILL) or self.pending:
            assert time.monotonic() < until, f"the page never came to rest: {[sent.url for sent in self.pending]}"


# Whether an element changes or is busy within 26 frames. These take 416 ms or more, longer than each timer of the page.
STILL = """async () => {
  let changed = document.querySelector('[aria-busy=true]') !== null;
  const observer = new MutationObserver(() => (changed = true));
  observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  for (let frame = 0; frame < 26 && !changed; frame++) await new Promise(requestAnimationFrame);
  observer.disconnect();
  return changed;
}"""


@contextmanager
def opened(browser: Any, **options: Any) -> Iterator[Watched]:
    """Open a watched page in its own context; options as for Playwright's new_context."""
    context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, **options})
    watched = Watched(context.new_page())
    page = watched.page

    def console(message: Any) -> None:
        if message.type in ("error", "warning"):
            watched.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def request(sent: Any) -> None:
        if sent.resource_type in ("fetch", "xhr"):
            watched.pending.add(sent)
        parts = urlsplit(sent.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOOPBACK:
            watched.outside.append(sent.url)

    def response(got: Any) -> None:
        if got.status >= 400:
            watched.failed.append(f"{got.status} {got.url}")

    def finished(sent: Any) -> None:
        watched.pending.discard(sent)
        sizes = sent.sizes()
        path = urlsplit(sent.url).path
        watched.bytes[path] = watched.bytes.get(path, 0) + int(sizes["responseBodySize"])

    page.on("console", console)
    page.on("pageerror", lambda error: watched.complaints.append(f"exception: {error}"))
    page.on("crash", lambda _: watched.complaints.append("the page crashed"))
    page.on("request", request)
    page.on("response", response)
    page.on("requestfinished", finished)
    page.on("requestfailed", lambda sent: watched.pending.discard(sent))
    page.set_default_timeout(1000 * PATIENCE)
    try:
        yield watched
    finally:
        context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for the tests of a file; each test opens its own context.

    Not one for a whole run: Playwright keeps an event loop in this thread, which conflicts with those of other tests.
    """
    if CHROMIUM is None:
        pytest.skip(ABSENT)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


@contextmanager
def served(
    *command: str, seconds: float = PATIENCE, env: dict[str, str] | None = None, warm: bool = True
) -> Iterator[str]:
    """Run `attributor explore|serve ...`, yield the URL that it prints, and end it with Ctrl-C.

    A warm start has imported its libraries with the environment of these tests, so a hub in `env` has no effect there.
    """
    command = (*command, "--no-browser")
    env = {"COLUMNS": "200", **(env or {})}
    process: subprocess.Popen[str] | WarmProcess
    if warm:
        process = WarmProcess(run_command_line, *command, env=env)
    else:
        process = subprocess.Popen(
            [sys.executable, "-m", "attributor.cli", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            cwd=ROOT,
        )
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    said: list[str] = []
    url = None
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"https?://[\w.\[\]:]+(/\S*)?", line):
            url = found.group().rstrip("/.,")
            break
    timer.cancel()
    rest = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
    rest.start()
    try:
        assert url is not None, f"no URL was printed: {''.join(said)}"
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"Ctrl-C did not end it: {''.join(said)}") from None
        finally:
            rest.join(2)
            process.stdout.close()  # otherwise the next test gets a ResourceWarning for it
    assert "Traceback" not in "".join(said), "".join(said)


SERIOUS = """() => axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations
  .filter(({impact}) => impact === 'serious' || impact === 'critical')
  .map(({id, impact, help, nodes}) => ({id, impact, help, targets: nodes.slice(0, 4).map(({target}) => target)})))"""


def axe(page: Any) -> list[str]:
    """Return the serious and critical findings of axe-core for the current page.

    The page returns only these: transferring the complete result of axe takes longer than its run.
    """
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: cd webapp && npm ci")
    if not page.evaluate("() => 'axe' in globalThis"):
        page.evaluate(AXE.read_text("utf-8"))  # bypasses the content security policy, which forbids script elements
    return [f"{v['id']} ({v['impact']}): {v['help']}: {json.dumps(v['targets'])}" for v in page.evaluate(SERIOUS)]


def elements(page: Any) -> int:
    """Return the number of elements of the page."""
    return int(page.evaluate("document.getElementsByTagName('*').length"))


def heap(page: Any) -> int:
    """Return the bytes of JavaScript objects and their arrays of numbers after garbage collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    usage = session.send("Runtime.getHeapUsage")
    session.detach()
    return int(usage["usedSize"] + usage["backingStorageSize"])


def shown(page: Any) -> None:
    """Wait until a case is shown and no other one is loading."""
    page.wait_for_selector(".case-frame[aria-busy=false] .case-chunk")


def shares(page: Any) -> list[float]:
    """Return the printed percentages of the outer list of bars and of the lines below it; "<0.1%" as 0.1."""
    return [float(text.strip("<%")) for text in page.locator(OUTER_SHARES).all_text_contents()]


def add_up(texts: list[str], total: tuple[float, float] = (100, 100)) -> bool:
    """Return whether printed percentages can add up to a total within its bounds, given their rounding."""
    bounds = [share_bounds(text) for text in texts]
    return sum(low for low, _ in bounds) <= total[1] + 1e-6 and total[0] - 1e-6 <= sum(high for _, high in bounds)


def share_bounds(text: str) -> tuple[float, float]:
    """Return the smallest and the largest percentage that are printed as `text`."""
    if text.startswith("<"):
        return 0, float(text.strip("<%"))
    value, step = float(text.rstrip("%")), 0.05 if "." in text else 0.5
    return (0, 0) if value == 0 else (value - step, value + step)


def shares_add_up(page: Any) -> bool:
    """Return whether the outer list of bars adds up to 100%, up to the rounding of printed numbers."""
    return add_up(page.locator(OUTER_SHARES).all_text_contents())


OUTER_SHARES = ".case-bars > .case-list > li > .case-bar .case-share, .case-bars > .case-list > .case-rest .case-share"


def saved(page: Any, item: str) -> tuple[str, Path]:
    """Save with an item of the share menu; return the name and path of the file."""
    page.get_by_role("button", name="Share").click()
    with page.expect_download() as waiting:
        page.get_by_role("menuitem", name=item).click()
    return waiting.value.suggested_filename, waiting.value.path()


def show_by(page: Any, pieces: str) -> None:
    """Choose "Documents", "Sentences" or "Tokens" above a case's bars."""
    page.locator(".case-controls").get_by_role("button", name=pieces, exact=True).click()
