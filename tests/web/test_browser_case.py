"""A case in the browser: its numbers, selection with the pointer, and its link."""

# ruff: noqa: F811, tests use imported fixtures by name

import json
import re

import numpy as np
import pytest
from browser import add_up, browser, needs_browser, opened, share_bounds, shares, shares_add_up, show_by, shown  # noqa: F401
from explorer_pages import (  # noqa: F401
    addressed,
    door,
    files,
    flow,
    flow_page,
    heading,
    marked,
    run_page,
    sentence_shares,
    sums_over,
    units_of,
    wait_for_heading,
)

import attributor
from attributor._cite import Origin, origin_sentence, show_share

pytestmark = needs_browser


# -- a case of a run ----------------------------------------------------------------------------------------------


@pytest.fixture
def case_page(run_page):
    run_page.locator(".run-row").nth(1).click()
    shown(run_page)
    return run_page


def test_gold_is_marked_by_text_and_lines_besides_colour(case_page, files):
    record = json.loads((files / "runs/first/cases.jsonl").read_text().splitlines()[1])
    assert case_page.locator("#case-prompt h3 .badge.gold").all_text_contents() == ["gold"]
    start, stop, _ = record["segments"][record["gold"][0]]
    assert marked(case_page, "mark-gold") == [record["text"][start:stop]]
    lines = "getComputedStyle(document.querySelector('.case-chunk'), '::highlight(mark-gold)').textDecorationLine"
    assert case_page.evaluate(lines) == "underline"
    gold = case_page.locator(".case-pick", has=case_page.locator(".badge.gold"))
    assert gold.locator(".case-name").text_content() == record["text"][start:stop]


def test_precision_and_recall_follow_k(case_page, files):
    record = json.loads((files / "runs/first/cases.jsonl").read_text().splitlines()[1])
    scores = np.array(record["methods"]["flow:retrieval"]["scores"]["sum"])
    gold = record["gold"][0]
    rank = 1 + int((scores > scores[gold]).sum())
    found = case_page.locator(".case-found")
    for k in (1, 5, 40):
        found.get_by_role("spinbutton").fill(str(k))
        hits = int(rank <= k)
        assert f"{hits} of {k}" in found.text_content()
        assert f"{hits} of 1" in found.text_content()
    addressed(case_page, "k=40")
    assert show_share(scores[gold] / scores.sum()) in found.locator("div").last.text_content()


def test_each_method_of_a_case_can_be_shown(case_page):
    case_page.get_by_label("Method").select_option("position/segment")
    case_page.wait_for_function("() => document.querySelector('.case-header').textContent.includes('methodposition')")
    first = case_page.locator(".case-pick").first
    assert "crates of salt" in first.text_content()
    assert shares_add_up(case_page)
    addressed(case_page, "method=position")


# -- a flow, token by token ---------------------------------------------------------------------------------------


def test_bars_show_the_numbers_of_the_file(flow_page, flow):
    text = flow["text"].tobytes().decode()
    for row in (0, len(flow["scores"]) - 1):  # the first and the last one
        flow_page.locator(f"[data-row='{row}']").hover()
        wait_for_heading(flow_page, f"answer token {row + 1}")
        expected = sentence_shares(flow, [row])
        best = int(np.argmax(expected))
        start, stop = flow["sentences"][best]
        first = flow_page.locator(".case-pick").first
        assert first.locator(".case-name").text_content() == text[start:stop]
        assert first.locator(".case-share").text_content() == show_share(expected[best])


def test_hovering_previews_a_token_until_the_pointer_leaves(flow_page):
    assert heading(flow_page) == "Sources of the whole answer (4 tokens)"
    flow_page.locator("[data-row='2']").hover()
    wait_for_heading(flow_page, "answer token 3: at")
    flow_page.mouse.move(5, 5)
    wait_for_heading(flow_page, "the whole answer")
    assert "rows=" not in flow_page.url


def test_a_click_selects_a_token_until_escape(flow_page):
    token = flow_page.locator("[data-row='1']")
    token.click()
    flow_page.mouse.move(5, 5)
    wait_for_heading(flow_page, "kept")
    assert heading(flow_page) == "Sources of answer token 2: leftkept"
    assert token.get_attribute("aria-selected") == "true"
    addressed(flow_page, "rows=2")
    flow_page.keyboard.press("Escape")
    wait_for_heading(flow_page, "the whole answer")
    assert token.get_attribute("aria-selected") == "false"


def test_dragging_and_shift_with_arrows_select_several_tokens(flow_page):
    rows = [flow_page.locator(f"[data-row='{row}']") for row in range(4)]
    rows[0].hover()
    flow_page.mouse.down()
    rows[1].hover()
    rows[2].hover()
    flow_page.mouse.up()
    wait_for_heading(flow_page, "answer tokens 1 to 3")
    addressed(flow_page, "rows=1-3")
    flow_page.keyboard.press("Escape")
    rows[1].click()
    rows[3].click(modifiers=["Shift"])
    wait_for_heading(flow_page, "answer tokens 2 to 4")
    flow_page.keyboard.press("Escape")
    rows[2].focus()
    flow_page.keyboard.press("Shift+ArrowRight")
    wait_for_heading(flow_page, "answer tokens 3 to 4")
    assert [row.get_attribute("aria-selected") for row in rows] == ["false", "false", "true", "true"]


@pytest.mark.parametrize("by", ["Documents", "Sentences", "Tokens"])
def test_bars_add_up_to_the_share_of_the_documents(flow_page, files, by):
    flow = attributor.load(files / "runs/ferry.safetensors")
    show_by(flow_page, by)
    for row in (None, 0, 3):
        if row is not None:
            flow_page.locator(f"[data-row='{row}']").click()
            flow_page.mouse.move(5, 5)
            wait_for_heading(flow_page, f"answer token {row + 1}")
        assert shares_add_up(flow_page)
        rows = list(range(4)) if row is None else [row]
        assert flow_page.locator(".case-origin").text_content() == expected_origin(flow, rows)
    assert "First token" not in flow_page.locator(".case-bars").text_content()  # a token of the template
    assert flow_page.get_by_label("Hide first token").count() == 0


def expected_origin(flow, rows):
    """Return the expected line below the bars for some rows."""
    documents = float(flow.by("document").scores[rows].double().sum(1).mean())
    answer, missing = (float(values[rows].double().mean()) for values in (flow.on_answer, flow.missing_mass))
    return origin_sentence(Origin(documents, 1 - documents - answer - missing, answer, missing))


def test_shares_are_those_of_the_citations(flow_page, files):
    cited = attributor.load(files / "runs/ferry.safetensors").cite()
    printed = dict(
        zip(
            flow_page.locator(".case-bars .case-name").all_text_contents(),
            flow_page.locator(".case-bars .case-pick .case-share").all_text_contents(),
            strict=True,
        )
    )
    assert cited.citations
    for citation in cited.citations:
        assert printed[citation.quote] == show_share(citation.share)
    headings = flow_page.locator("#case-prompt h3 b").all_text_contents()
    assert headings == [show_share(document.share) for document in cited.documents]
    assert flow_page.locator(".case-origin").text_content() == origin_sentence(cited.origin)


def test_a_document_opens_into_sentences_and_those_into_tokens(flow_page):
    show_by(flow_page, "Documents")
    bar = flow_page.locator(".case-bars > .case-list > li").first
    outer = share_bounds(bar.locator(".case-share").first.text_content())
    bar.locator(".case-open").first.click()
    inside = bar.locator(".case-inside").first
    sentences = inside.locator("> .case-list > li > .case-bar .case-share, > .case-list > .case-rest .case-share")
    assert add_up(sentences.all_text_contents(), outer)
    assert inside.locator("> .case-list > li > .case-bar").count() in (2, 3)
    inside.locator("button.case-open").first.click()
    assert inside.locator(".case-inside .case-name.token").count() > 2


def test_selecting_a_source_highlights_its_answer_tokens(flow_page, flow):
    show_by(flow_page, "Tokens")
    flow_page.locator(".case-pick").first.click()
    flow_page.wait_for_selector("[role=option][data-heat='heat-12']")
    name = flow_page.locator(".case-pick .case-name").first.text_content()
    addressed(flow_page, "in=t")
    unit = int(re.search(r"[?&]in=t(\d+)", flow_page.url)[1]) - 1
    assert units_of(flow)[unit].strip() == name
    strongest = flow_page.locator("[role=option][data-heat='heat-12']").first.get_attribute("data-row")
    taken = [flow["scores"][row, unit] / sum(sums_over(flow, [row], flow["documents"])) for row in range(4)]
    assert int(strongest) == int(np.argmax(taken))
    assert "Coloured by what each word took from" in flow_page.locator(".case-hint").text_content()
    assert [text.strip() for text in marked(flow_page, "mark-selected")] == [name]


def test_a_click_on_the_prompt_selects_its_sentence(flow_page):
    box = flow_page.evaluate(
        "() => { const chunk = [...document.querySelectorAll('.case-chunk')].find(c => c.textContent.includes('1880'));"
        " const range = document.createRange(); const at = chunk.textContent.indexOf('1880');"
        " range.setStart(chunk.firstChild, at); range.setEnd(chunk.firstChild, at + 4);"
        " const b = range.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }"
    )
    flow_page.mouse.move(*box)
    flow_page.wait_for_selector(".case-tip:not([hidden])")
    assert "in Mill" in flow_page.locator(".case-tip").text_content()
    flow_page.mouse.click(*box)
    flow_page.wait_for_selector(".case-pick[aria-pressed=true]")
    assert "built in 1880" in flow_page.locator(".case-pick[aria-pressed=true] .case-name").text_content()
    addressed(flow_page, "in=s4")
    flow_page.mouse.click(*box)
    flow_page.wait_for_selector(".case-pick[aria-pressed=true]", state="detached")


def heat(page):
    """Return the number of characters in each of the twelve colours."""
    return [sum(map(len, marked(page, f"heat-{level + 1}"))) for level in range(12)]


def test_the_controls_change_the_colours(flow_page):
    linear = heat(flow_page)
    assert linear[11] > 0
    for scale in ("sqrt", "log", "rank"):
        flow_page.get_by_label("Scale").select_option(scale)
        assert heat(flow_page) != linear, scale
        addressed(flow_page, f"scale={scale}")
    flow_page.get_by_label("Scale").select_option("linear")
    assert heat(flow_page) == linear
    flow_page.wait_for_function("() => !location.hash.includes('scale=')")
    flow_page.locator("[data-row='2']").click()
    flow_page.mouse.move(5, 5)
    wait_for_heading(flow_page, "answer token 3")
    own = heat(flow_page)
    flow_page.get_by_label("Colours against").select_option("global")
    assert heat(flow_page) != own
    flow_page.get_by_label("Colours against").select_option("selection")
    assert heat(flow_page) == own  # the selection is also what is shown
    flow_page.locator("[data-row='1']").hover()
    wait_for_heading(flow_page, "answer token 2")
    assert heat(flow_page)[11] == 0  # its largest score is smaller than that of the selection
    addressed(flow_page, "colour=selection")


def test_the_link_shows_the_same_view_in_another_browser(flow_page, browser):
    show_by(flow_page, "Tokens")
    flow_page.get_by_label("Scale").select_option("log")
    flow_page.get_by_label("Colours against").select_option("global")
    flow_page.locator("[data-row='1']").click()
    flow_page.locator("[data-row='2']").click(modifiers=["Shift"])
    flow_page.mouse.move(5, 5)
    wait_for_heading(flow_page, "answer tokens 2 to 3")
    flow_page.locator(".case-pick").nth(2).click()
    flow_page.wait_for_selector("[role=option][data-heat]")
    flow_page.get_by_role("button", name="Share").click()
    flow_page.get_by_role("menuitem", name="Copy the link").click()
    flow_page.wait_for_selector("text=Link copied")
    link = flow_page.evaluate("navigator.clipboard.readText()")
    assert link == flow_page.url
    with opened(browser) as other:
        other.page.goto(link)
        shown(other.page)
        wait_for_heading(other.page, "answer tokens 2 to 3")
        other.page.wait_for_selector("[role=option][data-heat]")
        for picture in (heading, shares, heat):
            assert picture(other.page) == picture(flow_page), picture.__name__
        controls = (
            "() => [...document.querySelectorAll('.case-controls :is(select, input)')].map(e => e.value + e.checked)"
        )
        assert other.page.evaluate(controls) == flow_page.evaluate(controls)
        lit = "() => [...document.querySelectorAll('[role=option]')].map(e => e.dataset.heat ?? '')"
        assert other.page.evaluate(lit) == flow_page.evaluate(lit)
        assert other.page.url == link
        other.clean()


def test_invalid_links_still_show_the_flow(flow_page):
    base = flow_page.url.split("?")[0]
    for query in (
        "rows=0-99999999&in=s999999&k=-4&by=nothing&scale=x",
        "rows=9-2&in=t0&method=none&colour=",
        "%E0%A4%A&rows=%",
    ):
        flow_page.goto(f"{base}?{query}")
        flow_page.reload()
        shown(flow_page)
        assert shares_add_up(flow_page)
