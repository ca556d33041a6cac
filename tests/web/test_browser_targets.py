"""Limits of the views for the largest inputs: counts and bytes without slack, times with slack for a busy machine.

F1 is a flow of 100,000 prompt tokens and 512 answer tokens, 4,000 sentences, 200 documents; F3 a run of 5,000 cases.
If ATTRIBUTOR_TARGETS names a file, the measured values are written there as JSON.
"""

import gzip
import json
import os
import statistics
import time
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from browser import axe, browser, elements, heap, needs_browser, opened, saved, served, shares_add_up, show_by, shown  # noqa: F401
from clock import PATIENCE, fastest
from web_cases import flow_file, run_folder

from attributor._result.view.assets import static_folder

pytestmark = needs_browser

SLACK = 3  # a time may be this many times its target: shared machines showed noise of 2 to 4 times
CASES = 5_000

# Sets `seen.painted` when a case is on the screen, `seen.table` when a table is, `seen.read` when all of its cases
# are, each in ms since the navigation began.
WATCH = f"""
globalThis.seen = {{}};
const look = {{painted: '.case-chunk', table: '.run-row', read: '[aria-rowcount="{CASES + 1}"]'}};
const watch = () => {{
  for (const [name, selector] of Object.entries(look)) {{
    if (seen[name] !== undefined || !document.querySelector(selector)) continue;
    seen[name] = 0;
    requestAnimationFrame(() => setTimeout(() => (seen[name] = performance.now())));
  }}
}};
const changes = {{childList: true, subtree: true, attributes: true, attributeFilter: ['aria-rowcount']}};
new MutationObserver(watch).observe(document, changes);
"""

# Resolves to the ms from an event to the first frame after the text of `selector` changed.
FOLLOW = """
([event, selector]) => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`${event} did not change ${selector}`)), 60_000);
  addEventListener(event, ({timeStamp}) => {
    const before = document.querySelector(selector).textContent;
    new MutationObserver((_, observer) => {
      if (document.querySelector(selector)?.textContent === before) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - timeStamp)));
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
  }, {capture: true, once: true});
})
"""

FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"  # until all is drawn


@pytest.fixture(scope="module")
def measured():
    """Rows of (what, target, measured, unit); written to the file that ATTRIBUTOR_TARGETS names."""
    table = []
    yield table
    for what, target, value, unit in table:
        print(f"{what}: {value:g} {unit} (target {target:g})")
    if path := os.environ.get("ATTRIBUTOR_TARGETS"):
        rows = [{"what": w, "target": t, "measured": v, "unit": u} for w, t, v, u in table]
        Path(path).write_text(json.dumps(rows, indent=1) + "\n")


@pytest.fixture(scope="module")
def keep(measured):
    """Store a figure other than a time and compare it with its limit."""

    def note(what, value, target, unit):
        measured.append((what, target, round(value, 2), unit))
        assert value <= target, f"{what}: {value:g} {unit}, at most {target:g}"

    return note


@pytest.fixture(scope="module")
def keep_time(measured):
    """Repeat a measurement in milliseconds until it is within `SLACK` times its target, and store it."""

    def note(what, measure, target, tries=5):
        value = fastest(measure, SLACK * target, tries)
        measured.append((what, target, round(value, 2), "ms"))
        assert value <= SLACK * target, f"{what}: {value:g} ms, at most {target:g}"

    return note


def p95(values):
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


@pytest.fixture(scope="module")
def f1(tmp_path_factory):
    path = tmp_path_factory.mktemp("f1") / "f1.safetensors"
    yield flow_file(path, tokens=100_000, rows=512, sentences=4000, documents=200)
    path.unlink()  # 205 MB, which pytest would keep for three test runs


@pytest.fixture(scope="module")
def door(f1):
    with served("explore", str(f1)) as url:
        yield url


@pytest.fixture
def page(browser, door):  # noqa: F811
    with opened(browser) as watched:
        watched.page.add_init_script(WATCH)
        watched.page.goto(door)
        shown(watched.page)
        watched.page.wait_for_function("() => seen.painted > 0")
        yield watched.page
        watched.clean()


def moment(page, name):
    page.wait_for_function("name => seen[name] > 0", arg=name)
    return page.evaluate("name => seen[name]", name)


def following(page, event, selector, act):
    """Return the milliseconds from an input event until the changed text of `selector` is on the screen."""
    page.evaluate(f"args => {{ globalThis.followed = ({FOLLOW})(args); }}", [event, selector])
    act()
    return page.evaluate("() => followed")


# -- F1 -----------------------------------------------------------------------------------------------------------


def test_a_case_of_100_000_tokens_is_painted_in_time(browser, door, keep, keep_time):  # noqa: F811
    received = {}

    def painted():
        times = []
        for _ in range(3):
            with opened(browser) as watched:
                watched.page.add_init_script(WATCH)
                watched.page.goto(door)
                times.append(moment(watched.page, "painted"))
                received.update({path: n for path, n in watched.bytes.items() if not path.startswith("/static/")})
                watched.clean()
        return statistics.median(times)

    keep_time("F1: case painted", painted, 1500)
    assert any(path.endswith("/view") for path in received), received
    keep("F1: bytes before it, without code", sum(received.values()) / 1e6, 1.5, "MB")


def test_the_page_stays_within_its_size_limits(page, keep):
    keep("F1: elements", elements(page), 5000, "elements")
    keep("F1: JavaScript heap", heap(page) / 1e6, 150, "MB")
    # Also after scrolling through it and opening its bars.
    for share in (0.2, 0.4, 0.6, 0.8, 1):
        page.locator("#case-prompt").evaluate("(pane, at) => { pane.scrollTop = at * pane.scrollHeight; }", share)
        page.evaluate(FRAMES)
    show_by(page, "Documents")
    for index in range(3):
        page.locator("button.case-open[aria-expanded=false]").nth(index).click()
    for row in range(60):
        page.locator(f"[data-row='{row}']").dispatch_event("pointerover", {"bubbles": True})
        page.evaluate(FRAMES)
    keep("F1: elements after use", elements(page), 5000, "elements")
    keep("F1: JavaScript heap after use", heap(page) / 1e6, 150, "MB")


def test_hovering_the_answer_updates_in_time(page, keep_time):
    recolours = []

    def over(row):
        # The last box: for a token that begins a line, the space before it may end the line above.
        where = "e => { const b = [...e.getClientRects()].at(-1); return [b.x + b.width / 2, b.y + b.height / 2]; }"
        at = page.locator(f"[data-row='{row}']").evaluate(where)
        taken = following(page, "pointerover", "#case-selection", lambda: page.mouse.move(*at))
        recolours.append(page.evaluate("() => performance.getEntriesByName('attributor:recolour').at(-1).duration"))
        return taken

    def again():
        recolours.clear()
        return p95([over(row) for row in rows])

    def recolour():
        again()
        return p95(recolours)

    fresh = (list(range(first, first + 60, 3)) for first in (2, 3, 4))  # no row occurs twice
    rows = []

    def first():
        rows[:] = next(fresh)
        return p95([over(row) for row in rows])

    keep_time("F1: pointing at a token, row not cached, p95", first, 150, tries=3)
    keep_time("F1: pointing at a token, row cached, p95", again, 60)
    keep_time("F1: script that recolours the visible text, p95", recolour, 8)


def test_the_map_jumps_in_time(page, keep_time):
    box = page.locator(".case-map").bounding_box()
    jump = """([x, y]) => new Promise((resolve) => {
      const map = document.querySelector('.case-map'), pane = document.querySelector('#case-prompt');
      const start = performance.now();
      pane.addEventListener('scroll', () => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(
        () => resolve(performance.now() - start)))), {once: true});
      const there = {bubbles: true, clientX: x, clientY: y, pointerId: 1, button: 0};
      map.dispatchEvent(new PointerEvent('pointerdown', there));
    })"""
    page.evaluate("Element.prototype.setPointerCapture = () => undefined")  # there is no real pointer to capture

    def jumps():
        times = []
        for share in (0.9, 0.1, 0.5, 0.7, 0.3, 0.95, 0.05, 0.6):
            times.append(page.evaluate(jump, [box["x"] + 5, box["y"] + share * box["height"]]))
            seen = page.evaluate(
                "() => { const box = document.querySelector('#case-prompt').getBoundingClientRect();"
                " return document.elementFromPoint(box.x + 60, box.y + box.height / 2).closest('section').ariaLabel; }"
            )
            assert abs(int(seen.removeprefix("Document ")) - share * 200) < 8, (share, seen)
        return p95(times)

    keep_time("F1: jump on the map, p95", jumps, 120)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_largest_case_is_accessible(browser, door, scheme):  # noqa: F811
    with opened(browser, color_scheme=scheme) as watched:
        watched.page.goto(door)
        shown(watched.page)
        assert axe(watched.page) == []
        watched.clean()


def test_the_exported_page_opens_within_its_limits(page, browser, tmp_path, keep):  # noqa: F811
    name, path = saved(page, "One-file page")
    assert name.endswith(".html")
    keep("F1: page in one file", path.stat().st_size / 1e6, 6, "MB")
    copy = tmp_path / "page.html"
    copy.write_bytes(path.read_bytes())
    with opened(browser, offline=True) as alone:
        alone.page.goto(copy.as_uri())
        shown(alone.page)
        alone.page.locator("[data-row='3']").hover()
        alone.page.wait_for_selector("#case-selection:has-text('answer token')")
        assert shares_add_up(alone.page)
        assert elements(alone.page) <= 5000
        alone.clean()


def test_the_server_answers_hover_requests_in_time(door, keep_time):
    with httpx.Client(base_url=door, timeout=PATIENCE) as client:
        [source] = client.get("/api/sources").json()["sources"]
        base = f"/api/flows/{source['files']['flow']}"
        client.get(f"{base}/view").raise_for_status()

        def times(paths):
            milliseconds = []
            for path in paths:
                start = time.perf_counter()
                answer = client.get(base + path)
                milliseconds.append(1000 * (time.perf_counter() - start))
                assert answer.status_code == 200, answer.text
            return p95(milliseconds[1:])  # the first request may fill the cache

        def rows():
            return times(f"/rows?start={i}&stop={i + 1}" for i in range(0, 510, 10))

        def sums():
            return times(f"/sums?by=sentence&start={i}&stop={512 - i // 2}" for i in range(0, 300, 10))

        keep_time("F1: server, a row, p95", rows, 10)
        keep_time("F1: server, sums of sentences over any range, p95", sums, 60)


# -- code ---------------------------------------------------------------------------------------------------------


def test_the_initial_code_is_small(browser, door, keep):  # noqa: F811
    static = static_folder()

    def packed(*names):
        return sum(len(gzip.compress((static / name).read_bytes(), 9)) for name in names) / 1e3

    keep("JavaScript and CSS of the first page, gzip", packed("app.js", "app.css"), 60, "kB")
    # The code of the explorer pages loads after it.
    with opened(browser) as watched:
        watched.page.goto(f"{door}/#/")
        watched.page.wait_for_selector("main")
        shown(watched.page)
        names = [urlsplit(path).path.removeprefix("/static/") for path in watched.bytes if path.startswith("/static/")]
    assert not any("live" in name.lower() for name in names), names


# -- F3 -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def f3(tmp_path_factory):
    path = run_folder(tmp_path_factory.mktemp("f3") / "run", CASES)
    yield path
    (path / "cases.jsonl").unlink()


@pytest.fixture(scope="module")
def run_door(f3):
    with served("explore", str(f3)) as url:
        yield url


def test_a_run_of_5_000_cases_opens_in_time(browser, run_door, keep, keep_time):  # noqa: F811
    def until(name):
        times = []
        for _ in range(2):
            with opened(browser) as watched:
                watched.page.add_init_script(WATCH)
                watched.page.goto(run_door)
                times.append(moment(watched.page, name))
                watched.clean()
        return statistics.median(times)

    keep_time("F3: open to table", partial(until, "table"), 1500)
    keep_time("F3: all cases read", partial(until, "read"), 5000)
    with opened(browser) as watched:
        page = watched.page
        page.add_init_script(WATCH)
        page.goto(run_door)
        moment(page, "read")
        assert elements(page) <= 5000
        page.get_by_role("searchbox").fill("bridge")  # no question contains it, so all cases are searched
        page.get_by_role("button", name="Show all").click()
        page.locator(".run-row").first.click()
        shown(page)
        cases = count()

        def steps():
            times = [following(page, "keydown", ".case-header h1", lambda: page.keyboard.press("j")) for _ in range(15)]
            assert page.locator(".case-header h1").text_content() == f"Question {15 * (next(cases) + 1)}?"
            return p95(times)

        keep_time("F3: next case, p95", steps, 200)
        keep("F3: JavaScript heap", heap(page) / 1e6, 150, "MB")
        watched.clean()
