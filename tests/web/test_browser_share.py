"""Exports of a case: tables, pictures and the one-file page."""

# ruff: noqa: F811, tests use imported fixtures by name

import csv
import io
import json
import re

import pytest
from browser import browser, needs_browser, opened, saved, shares, shares_add_up, shown  # noqa: F401
from explorer_pages import (  # noqa: F401
    choose,
    door,
    empty_door,
    files,
    flow,
    flow_page,
    page,
    rows_read,
    sentence_shares,
    sums_over,
    wait_for_heading,
)

from attributor._cite import show_share

pytestmark = needs_browser


# -- exports ------------------------------------------------------------------------------------------------------


def test_the_exported_table_holds_the_shown_sources(flow_page, flow):
    flow_page.locator("[data-row='3']").click()
    flow_page.mouse.move(5, 5)
    wait_for_heading(flow_page, "answer token 4")
    name, path = saved(flow_page, "Table (CSV)")
    assert name.endswith(".csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
    for of in ("documents", "whole flow"):
        assert sum(float(row["share"]) for row in rows if row["of"] == of) == pytest.approx(1, abs=1e-5)
    expected = sorted(sentence_shares(flow, [3]), reverse=True)
    assert [float(row["share"]) for row in rows if row["rank"]] == pytest.approx(expected, abs=1e-5)
    whole = {row["what"]: float(row["share"]) for row in rows if row["of"] == "whole flow"}
    assert list(whole) == ["documents", "question and template", "answer's own words", "not followed"]
    assert whole["documents"] == pytest.approx(sum(sums_over(flow, [3], flow["documents"])), abs=1e-5)


def test_the_json_export_holds_everything_shown(flow_page):
    _, path = saved(flow_page, "Everything shown")
    found = json.loads(path.read_text("utf-8"))
    assert found["by"] == "sentence"
    assert found["answer"] == found["asked"] == " She left at seven."
    assert sum(line["share"] for line in found["lines"]) == pytest.approx(1, abs=1e-5)
    assert sum(found["origin"].values()) == pytest.approx(1, abs=1e-5)
    assert found["originLine"] == flow_page.locator(".case-origin").text_content()
    first = flow_page.locator(".case-pick").first
    assert found["lines"][0]["text"] == first.locator(".case-name").text_content()


def test_exported_pictures_hold_the_shown_view(flow_page, browser):
    _, svg = saved(flow_page, "Picture (SVG)")
    text = svg.read_text("utf-8")
    assert "She left at seven." in text
    assert "of the whole flow came from the documents" in text
    first = flow_page.locator(".case-pick .case-name").first.text_content()
    assert first in text
    assert "<script" not in text
    assert not re.search(r"(href|src)=", text)
    _, png = saved(flow_page, "Picture (PNG)")
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20], "big") == 1800
    with opened(browser, offline=True) as other:
        other.page.set_content(text)
        assert other.page.locator("svg rect").count() > 3
        other.clean()


def opens_alone(browser, path, tmp_path, look):
    """Open a saved page from disk with the network off."""
    copy = tmp_path / "page.html"
    copy.write_bytes(path.read_bytes())
    with opened(browser, offline=True) as alone:
        alone.page.goto(copy.as_uri())
        shown(alone.page)
        look(alone.page)
        alone.clean()


def test_the_one_file_page_of_a_served_flow_works_offline(flow_page, browser, tmp_path, flow):
    name, path = saved(flow_page, "One-file page")
    assert name.endswith(".html")
    wanted = shares(flow_page)

    def look(page):
        assert shares(page) == wanted
        page.locator("[data-row='3']").hover()
        wait_for_heading(page, "answer token 4")
        assert shares_add_up(page)
        assert page.locator(".case-bars .case-share").first.text_content() == show_share(
            max(sentence_shares(flow, [3]))
        )
        page.get_by_role("button", name="Share").click()
        assert page.get_by_role("menuitem").count() == 6

    opens_alone(browser, path, tmp_path, look)


def test_the_one_file_page_of_a_local_flow_and_a_case_works_offline(page, files, browser, tmp_path, flow):
    choose(page, files / "runs/ferry.safetensors")
    shown(page)
    _, path = saved(page, "One-file page")

    def words(alone):
        alone.locator("[data-row='2']").hover()
        wait_for_heading(alone, "answer token 3")
        assert alone.locator(".case-bars .case-share").first.text_content() == show_share(
            max(sentence_shares(flow, [2]))
        )

    opens_alone(browser, path, tmp_path, words)
    page.goto(page.url.split("#")[0])
    page.wait_for_selector(".open-zone")
    choose(page, files / "list.json")
    rows_read(page, 2)
    page.locator(".run-row").first.click()
    shown(page)
    before = shares(page)
    _, path = saved(page, "One-file page")

    def case(alone):
        assert shares(alone) == before
        assert alone.locator("#case-prompt .badge.gold").count() == 1

    opens_alone(browser, path, tmp_path, case)
