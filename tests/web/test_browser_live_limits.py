"""Limits of the live view: memory, a stopped server, small screens; and the default model."""

import re

import pytest
from browser import axe, browser, needs_browser, opened, served, shares_add_up, shown  # noqa: F401
from live_browser import (  # noqa: F401
    ENV,
    SENTENCE,
    answered,
    arrived,
    cancelled,
    door,
    endless,
    example,
    live,
    loaded,
    long_run,
    paste,
    run_id,
    tiny,
    visit,
)

pytestmark = needs_browser
GONE = "The server at this address does not answer; is `attributor serve` still running?"


def test_evicted_recordings_keep_their_flows(browser, tiny):  # noqa: F811
    command = ("serve", "--model", str(tiny), "--memory-budget", "0.01")
    with served(*command, env=ENV) as url, opened(browser) as watched:
        page = watched.page
        visit(page, url)
        paste(page, "Text of document 1", SENTENCE * 130)
        page.get_by_label("Question").fill("Who keeps the light?")
        page.get_by_label("Heads to follow").select_option("mean")
        page.get_by_label("Maximum answer tokens").fill("8")
        first = answered(page)
        runs = page.locator(".live-run")
        for _ in range(12):  # until the first recording is evicted
            answered(page)
            if "recording dropped" in runs.last.inner_text():
                break
        assert "recording dropped" in runs.last.inner_text()
        assert re.search(r"Runs take [\d.]+ MB of 10 MB of memory", page.locator(".live-side").inner_text())
        now = run_id(page)
        runs.last.click()
        arrived(page, now)
        assert run_id(page) == first
        assert shares_add_up(page)
        assert page.locator(".flow-views canvas").first.is_visible()  # the whole model needs no recording
        for name in ("Heads", "Layer and head", "Routes", "Matrix"):
            page.get_by_role("tab", name=name, exact=True).click()
            assert "run it again to see inside the model" in page.locator(".flow-gone").inner_text()
        assert axe(page) == []
        watched.clean()
        assert not watched.failed


def test_a_run_too_large_to_record_shows_a_note(browser, tmp_path):  # noqa: F811
    deep = str(endless(tmp_path / "deep", layers=10))
    command = ("serve", "--model", deep, "--memory-budget", "0.01")
    with served(*command, env=ENV) as url, opened(browser) as watched:
        page = watched.page
        visit(page, url)
        paste(page, "Text of document 1", SENTENCE * 310)
        page.get_by_label("Question").fill("Who keeps the light?")
        page.get_by_label("Heads to follow").select_option("mean")
        page.get_by_label("Maximum answer tokens").fill("4")
        answered(page)
        notes = page.locator(".live-notes").inner_text()
        assert re.search(r"Recording every head of this run takes [\d.]+ MB, and the budget for all runs is", notes)
        page.get_by_role("tab", name="Heads", exact=True).click()
        page.locator(".flow-gone").wait_for()
        watched.clean()


def test_a_stopped_server_shows_an_error_and_loses_no_input(browser, tiny):  # noqa: F811
    with opened(browser) as watched:
        page = watched.page
        with served("serve", "--model", str(tiny), env=ENV) as url:
            visit(page, url)
            example(page)
            answered(page)
            long_run(page)
        page.get_by_text(re.compile(f"this server was stopped|{re.escape(GONE)}")).first.wait_for()
        page.wait_for_selector(".live-progress", state="detached")
        assert page.get_by_label("Question").input_value() == "How many steps does the lighthouse have?"
        assert page.locator("h1").inner_text() == "How many steps does the lighthouse have?"  # the shown run
        page.get_by_role("button", name="Answer and attribute").click()
        page.locator(".live-compose [role=alert]", has_text=GONE).wait_for()
        assert axe(page) == []
        watched.clean(expected="ERR_CONNECTION_REFUSED|ERR_INCOMPLETE|ERR_EMPTY|Failed to load resource")


@pytest.mark.parametrize("width", [1360, 400])
def test_every_state_is_accessible_and_fits_its_width(browser, door, width):  # noqa: F811
    with opened(browser, viewport={"width": width, "height": 900}, reduced_motion="reduce") as watched:
        page = watched.page
        visit(page, door)
        fits(page)
        page.get_by_role("button", name="Change").click()
        fits(page)
        page.get_by_role("button", name="Keep this model").click()
        page.get_by_role("button", name="Chat").click()
        page.get_by_role("button", name="Add a message").click()
        fits(page)
        page.get_by_role("button", name="Documents").click()
        example(page)
        long_run(page)
        fits(page)
        cancelled(page)
        page.get_by_label("Maximum answer tokens").fill("12")
        answered(page)
        fits(page)
        page.wait_for_function("() => document.activeElement.tagName === 'H1'")
        assert page.locator("h1").bounding_box()["y"] < 900  # also in the layout with the form above it
        page.goto(f"{door}/#/live/nothing")
        page.get_by_role("heading", name="This run is no longer kept").wait_for()
        fits(page)
        watched.clean()


def fits(page):
    """Check that nothing is wider than the window and that axe finds nothing in either theme."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert axe(page) == [], scheme


def test_the_default_model_answers_the_example(browser):  # noqa: F811
    from attributor._models import default_model, load

    name = default_model.DEFAULT_MODEL
    if default_model.converted_folder() is None and not load.is_in_hub_cache(name, None):
        pytest.skip("the default model is not on this machine; `attributor demo` fetches it")
    with served("serve", env={"OMP_NUM_THREADS": "2"}, warm=False) as url, opened(browser) as watched:
        page = watched.page
        page.goto(url)
        page.get_by_label("Hub id").wait_for()
        page.get_by_role("button", name="Load", exact=True).click()  # as on the first page: Load, Example, Answer
        loaded(page)
        assert "30 layers of 9 heads · 135 million parameters" in page.locator(".live-loaded").inner_text()
        page.get_by_role("button", name="Example").click()
        answered(page)
        answer = page.locator(".case-answer").inner_text()
        assert "164" in answer, answer
        best = page.locator(".case-bars .case-list > li").first.inner_text()
        assert "164 steps" in best, best
        assert "retrieval heads" in page.locator(".live-run[aria-current=true]").inner_text()
        assert shares_add_up(page)
        for name in ("Heads", "Layer and head", "Routes", "Matrix", "Whole model"):
            page.get_by_role("tab", name=name, exact=True).click()
            page.wait_for_selector(".flow-views .flow-frame:not(.flow-blank) canvas")
            page.wait_for_function("() => !document.querySelector('.flow-waiting, .flow-failed')")
        watched.clean()
