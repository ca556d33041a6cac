"""The explorer in the browser: opening files and browsing a run."""

# ruff: noqa: F811, tests use imported fixtures by name

import csv
import io
import json
import re

import numpy as np
import pytest
from browser import browser, needs_browser, opened, served, shares_add_up, show_by, shown  # noqa: F401
from explorer_pages import CASES, addressed, choose, door, empty_door, files, page, rows_read, run_page  # noqa: F401

pytestmark = needs_browser


# -- opening ------------------------------------------------------------------------------------------------------


def test_load_is_disabled_without_a_chosen_file(page):
    assert page.get_by_role("button", name="Load").is_disabled()
    assert "nothing chosen yet" in page.locator(".open-chosen").text_content()


def test_a_chosen_flow_file_is_not_uploaded(page, files):
    sent = []
    page.on("request", lambda request: sent.append((request.method, request.url)))
    page.set_input_files("#open-files", str(files / "runs/ferry.safetensors"))
    assert "ferry.safetensors" in page.locator(".open-chosen").text_content()
    page.get_by_role("button", name="Load").click()
    shown(page)
    assert "The ferry leaves at seven." in page.locator("#case-prompt").text_content()
    assert page.locator("[role=option]").all_text_contents() == [" She", " left", " at", " seven."]
    assert not [one for one in sent if one[0] != "GET" or "/api/flows" in one[1]], sent


def test_a_json_list_of_the_previous_tool_opens(page, files):
    choose(page, files / "list.json")
    rows_read(page, 2)
    page.locator(".run-row").first.click()
    shown(page)
    assert "The ferry leaves at seven." in page.locator("#case-prompt").text_content()
    assert shares_add_up(page)
    assert page.locator("#case-prompt .badge.gold").count() == 1


def test_cases_open_without_their_run(page, files):
    choose(page, files / "runs/first/cases.jsonl")
    rows_read(page)
    assert "There is no run.json" in page.locator(".run-note").text_content()
    assert f"Computed from {CASES} cases" in page.locator(".run-metrics").text_content()


def test_cases_open_with_their_run(page, files):
    choose(page, files / "runs/first/cases.jsonl", files / "runs/first/run.json")
    rows_read(page)
    assert page.locator(".run-note").count() == 0
    assert "0.660 to 0.740" in page.locator(".run-metrics").text_content()


def test_a_run_without_its_cases_names_the_missing_file(page, files):
    choose(page, files / "runs/first/run.json")
    page.wait_for_selector(".run-metrics")
    assert "Only run.json is open" in page.locator(".run-note").text_content()


def test_the_folder_of_a_run_opens(page, files):
    page.set_input_files("#open-folder", str(files / "runs/first"))
    assert "first" in page.locator(".open-chosen").text_content()
    page.wait_for_function("() => document.activeElement.textContent === 'Load'")
    page.keyboard.press("Enter")
    rows_read(page)
    assert "0.660 to 0.740" in page.locator(".run-metrics").text_content()


def test_a_folder_of_runs_is_listed(page, files):
    choose(page, files / "runs", input="#open-folder")
    page.wait_for_selector(".open-list")
    names = page.locator(".open-list b").all_text_contents()
    assert sorted(names) == ["ferry.safetensors", "first", "second"]
    page.get_by_role("link", name="second").click()
    rows_read(page)


def dropped(page, name, content):
    transfer = page.evaluate_handle(
        "([name, bytes]) => { const t = new DataTransfer(); t.items.add(new File([new Uint8Array(bytes)], name));"
        " return t; }",
        [name, list(content)],
    )
    page.dispatch_event(".open-zone", "dragover", {"dataTransfer": transfer})
    assert "open-over" in page.locator(".open-zone").get_attribute("class")
    page.dispatch_event(".open-zone", "drop", {"dataTransfer": transfer})


def test_a_dropped_file_opens(page, files):
    dropped(page, "ferry.safetensors", (files / "runs/ferry.safetensors").read_bytes())
    shown(page)
    assert "The ferry leaves at seven." in page.locator("#case-prompt").text_content()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("picture.png", "picture.png is a picture."),
        ("other.json", "other.json is JSON of some other kind."),
        ("table.csv", "table.csv is a table (CSV)."),
        ("notes.json", "notes.json looks like plain text."),
        ("empty.jsonl", "empty.jsonl is empty."),
        ("cut.safetensors", "cut.safetensors begins like a safetensors file and is damaged or cut off."),
        ("short.safetensors", "short.safetensors begins like a safetensors file and is damaged or cut off."),
    ],
)
def test_unsupported_files_are_refused_with_a_reason(page, files, name, why):
    choose(page, files / name)
    said = page.locator(".open-problem").text_content()
    assert said.startswith(why)
    assert "What can be opened:" in said
    assert page.locator(".open-zone").is_visible()


def test_supported_files_are_listed_beside_refused_ones(page, files):
    choose(page, files / "picture.png", files / "list.json")
    page.wait_for_selector(".open-list")
    assert page.locator(".open-problem").text_content().startswith("picture.png is a picture.")
    page.get_by_role("link", name="list.json").click()
    rows_read(page, 2)


def test_the_only_file_of_the_command_line_opens_at_once(browser, files):
    with served("explore", str(files / "list.json")) as url, opened(browser) as watched:
        watched.page.goto(url)
        rows_read(watched.page, 2)
        assert "#/run/" in watched.page.url
        watched.clean()


def test_a_link_to_a_local_file_of_another_tab_explains_itself(page, files, browser, empty_door):
    choose(page, files / "list.json")
    rows_read(page, 2)
    with opened(browser) as other:
        other.page.goto(page.url)
        assert "was opened in another tab" in other.page.locator("p.error").text_content()
        choose(other.page, files / "list.json")
        rows_read(other.page, 2)
        other.clean()


# -- a run --------------------------------------------------------------------------------------------------------


def column(page, name):
    """Return the texts of a column, for the rows that the page has rendered."""
    names = [text.strip(" ↑↓") for text in page.locator(".run-grid [role=columnheader]").all_text_contents()]
    rows = page.locator(".run-row").all()
    return [row.locator("[role=gridcell]").nth(names.index(name)).text_content() for row in rows]


def counted(page):
    return page.locator(".run-count").text_content()


def test_metrics_have_an_interval_and_a_number_of_cases(run_page):
    row = run_page.locator(".run-metrics tbody tr").first
    assert row.locator("th").text_content().startswith("flow:retrieval")
    assert row.locator("td .run-value").first.text_content().startswith("0.700")
    assert row.locator("td .run-range").first.text_content() == "0.660 to 0.740"
    assert row.locator("td").last.text_content() == str(CASES)


def test_the_table_agrees_with_the_file(run_page, files):
    record = json.loads((files / "runs/first/cases.jsonl").read_text().splitlines()[0])
    assert column(run_page, "Question")[0] == record["question"]
    assert column(run_page, "Expected")[0] == record["expected"]
    assert column(run_page, "Tokens")[0] == str(record["tokens"])
    scores = np.array(record["methods"]["flow:retrieval"]["scores"]["sum"])
    rank = 1 + int((scores > scores[record["gold"][0]]).sum())
    assert column(run_page, "First rank")[0] == str(rank)


def test_a_column_sorts_in_both_directions_and_resets(run_page):
    before = column(run_page, "Question")
    head = run_page.get_by_role("grid").get_by_role("columnheader", name="AP")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    falling = [float(text) for text in column(run_page, "AP")]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 1
    head.get_by_role("button").click()
    rising = [float(text) for text in column(run_page, "AP")]
    assert rising == sorted(rising)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none"
    assert column(run_page, "Question") == before


def test_cases_can_be_searched_and_filtered(run_page):
    run_page.get_by_role("searchbox").fill("question 12?")
    assert counted(run_page) == f"1 of {CASES} cases"
    assert column(run_page, "Question") == ["Question 12?"]
    run_page.get_by_role("button", name="Show all").click()
    run_page.get_by_role("button", name="bridge 20").click()
    assert counted(run_page) == f"20 of {CASES} cases"
    run_page.get_by_role("button", name="missed", exact=True).click()
    assert {*column(run_page, "hit@1")} == {"miss"}
    run_page.get_by_role("searchbox").fill("no such words")
    assert "No case matches" in run_page.locator(".run-none").text_content()
    run_page.get_by_role("button", name="Show all").click()
    assert counted(run_page) == f"{CASES} cases"


def test_the_chosen_method_changes_the_table(run_page):
    before = column(run_page, "AP")
    run_page.locator(".run-filters").get_by_label("Method").select_option("position")
    addressed(run_page, "method=position")
    assert column(run_page, "AP") != before
    assert "position" in run_page.locator(".run-chosen").text_content()
    run_page.get_by_role("button", name="flow:retrieval", exact=True).click()
    assert column(run_page, "AP") == before


def test_the_exported_table_is_the_shown_one(run_page):
    run_page.get_by_role("button", name="bridge 20").click()
    with run_page.expect_download() as waiting:
        run_page.get_by_role("button", name="Export CSV").click()
    assert waiting.value.suggested_filename == "first.csv"
    rows = list(csv.DictReader(io.StringIO(waiting.value.path().read_text("utf-8"), newline="")))
    assert len(rows) == 20
    assert {row["kind"] for row in rows} == {"bridge"}
    assert rows[0]["question"] == column(run_page, "Question")[0]


def test_two_runs_can_be_compared(run_page):
    run_page.get_by_text("Compare with another run").click()
    run_page.get_by_label("The other run").select_option(label="second")
    run_page.wait_for_selector(".run-finding")
    said = run_page.locator(".run-finding").text_content()
    assert "The other run minus this one:" in said
    # The runs have other gold in most cases: only cases with the same gold are compared.
    n = int(re.search(r"over (\d+) cases?", said)[1])
    better, same, worse = (int(text) for text in run_page.locator(".run-finding b").all_text_contents()[1:])
    assert 0 < n < CASES
    assert better + same + worse == n
    assert "have other gold in that run" in run_page.locator(".run-fold[open]").text_content()
    found = [float(text.replace("−", "-")) for text in column(run_page, "Difference")[:n]]
    assert found == sorted(found, reverse=True)
    run_page.get_by_role("button", name="End the comparison").click()
    assert run_page.get_by_role("columnheader", name="Difference").count() == 0


def test_local_files_of_another_run_can_be_compared(run_page, files):
    run_page.get_by_text("Compare with another run").click()
    # The run compared with itself, from local files: the same in every case.
    run_page.set_input_files(".run-fold input[type=file]", str(files / "runs/first/cases.jsonl"))
    run_page.wait_for_selector(".run-finding")
    said = run_page.locator(".run-finding").text_content()
    assert f"better in 0, the same in {CASES}, worse in 0" in said


def test_a_click_opens_a_case_and_back_leaves_it(run_page):
    run_page.get_by_role("button", name="bridge 20").click()
    third = column(run_page, "Question")[2]
    run_page.locator(".run-row").nth(2).click()
    shown(run_page)
    assert run_page.locator(".case-header h1").text_content() == third
    assert "3 of 20" in run_page.locator(".run-crumbs").text_content()
    run_page.go_back()
    rows_read(run_page, 20)
    assert counted(run_page) == f"20 of {CASES} cases"
    assert run_page.locator(".run-active a").text_content() == third


def test_a_case_opens_by_keyboard(run_page):
    run_page.get_by_role("grid").focus()
    run_page.keyboard.press("ArrowDown")
    run_page.keyboard.press("ArrowDown")
    wanted = column(run_page, "Question")[2]
    run_page.keyboard.press("Enter")
    shown(run_page)
    assert run_page.locator(".case-header h1").text_content() == wanted


def test_next_and_previous_follow_the_order_of_the_table(run_page):
    run_page.get_by_role("columnheader", name="Question").get_by_role("button").click()
    run_page.get_by_role("columnheader", name="Question").get_by_role("button").click()
    order = column(run_page, "Question")
    assert order[:2] == [f"Question {CASES - 1}?", f"Question {CASES - 2}?"]
    run_page.locator(".run-row").first.click()
    title = run_page.locator(".case-header h1")
    for wanted, key in ((order[0], None), (order[1], "j"), (order[2], "j"), (order[1], "k")):
        if key:
            run_page.keyboard.press(key)
        run_page.wait_for_function(
            "text => document.querySelector('.case-header h1')?.textContent === text", arg=wanted
        )
        assert title.text_content() == wanted
    run_page.get_by_role("button", name="Next").click()
    run_page.wait_for_function("text => document.querySelector('.case-header h1')?.textContent === text", arg=order[2])
    run_page.get_by_role("link", name="← Cases of").click()
    rows_read(run_page)
    assert column(run_page, "Question") == order


def test_view_settings_are_kept_for_the_next_case(run_page):
    run_page.locator(".run-row").first.click()
    shown(run_page)
    show_by(run_page, "Documents")
    run_page.get_by_label("Scale").select_option("log")
    run_page.locator(".case-pick").first.click()
    run_page.keyboard.press("j")
    run_page.wait_for_function("() => document.querySelector('.case-header h1')?.textContent === 'Question 1?'")
    shown(run_page)
    assert (
        run_page.locator(".case-controls").get_by_role("button", name="Documents").get_attribute("aria-pressed")
        == "true"
    )
    assert run_page.get_by_label("Scale").input_value() == "log"
    assert run_page.locator(".case-pick[aria-pressed=true]").count() == 0
