"""The explorer as a person uses it: files are opened, a run is looked through, a case is read and taken along."""

import csv
import io
import json
import re

import numpy as np
import pytest
from browser import browser, needs_browser, opened, saved, served, shares, show_by, shown  # noqa: F401
from safetensors.numpy import load_file
from web_cases import FERRY, ancestor_list, run_folder, word_flow

pytestmark = needs_browser

CASES = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with two runs and a flow, and beside it what else a person may choose."""
    root = tmp_path_factory.mktemp("explore")
    folder = root / "runs"
    folder.mkdir()
    run_folder(folder / "first", CASES, seed=1)
    run_folder(folder / "second", CASES, seed=2)
    word_flow(folder / "ferry.safetensors", FERRY)
    ancestor_list(root / "list.json")
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
    (root / "other.json").write_text('{"colour": "blue", "sizes": [1, 2, 3]}')
    (root / "table.csv").write_text("a,b\n1,2\n")
    (root / "empty.jsonl").write_text("")
    (root / "notes.json").write_text("just some words")
    whole = (folder / "ferry.safetensors").read_bytes()
    (root / "cut.safetensors").write_bytes(whole[:200])
    (root / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def empty_door():
    with served("explore") as url:
        yield url


@pytest.fixture(scope="module")
def door(files):
    with served("explore", str(files / "runs")) as url:
        yield url


@pytest.fixture
def page(browser, empty_door):  # noqa: F811
    with opened(browser) as watched:
        watched.page.goto(empty_door)
        watched.page.wait_for_selector(".open-zone")
        yield watched.page
        watched.clean()


def choose(page, *paths, input="#open-files"):
    page.set_input_files(input, [str(path) for path in paths])
    page.get_by_role("button", name="Load").click()


@pytest.fixture
def run_page(browser, door):  # noqa: F811
    """The first of two runs, opened from the list of what the folder holds."""
    with opened(browser) as watched:
        watched.page.goto(door)
        watched.page.get_by_role("link", name="first").click()
        rows_read(watched.page)
        yield watched.page
        watched.clean()


def rows_read(page, cases=CASES):
    page.wait_for_selector(f".run-grid[aria-rowcount='{cases + 1}'] .run-row")


@pytest.fixture
def flow_page(browser, door):  # noqa: F811
    """A flow of four answer tokens, on the server."""
    with opened(browser, permissions=["clipboard-read", "clipboard-write"]) as watched:
        watched.page.goto(door)
        watched.page.get_by_role("link", name="ferry").click()
        shown(watched.page)
        yield watched.page
        watched.clean()


@pytest.fixture(scope="module")
def flow(files):
    return load_file(files / "runs/ferry.safetensors")


def heading(page):
    return page.locator("#case-selection").text_content()


def addressed(page, text):
    """The address says what is shown a moment after it is shown."""
    page.wait_for_function("text => location.hash.includes(text)", arg=text)


def marked(page, name):
    """The texts under a highlight."""
    return page.evaluate(
        "name => [...CSS.highlights.get(name)].map(r => r.startContainer.nodeValue.slice(r.startOffset, r.endOffset))",
        name,
    )


def wait_for_heading(page, text):
    page.wait_for_function("text => document.querySelector('#case-selection').textContent.includes(text)", arg=text)


# -- opening ------------------------------------------------------------------------------------------------------


def test_nothing_is_chosen_so_nothing_can_be_loaded(page):
    assert page.get_by_role("button", name="Load").is_disabled()
    assert "nothing chosen yet" in page.locator(".open-chosen").text_content()


def test_a_flow_file_is_chosen_and_loaded_without_being_uploaded(page, files):
    sent = []
    page.on("request", lambda request: sent.append((request.method, request.url)))
    page.set_input_files("#open-files", str(files / "runs/ferry.safetensors"))
    assert "ferry.safetensors" in page.locator(".open-chosen").text_content()
    page.get_by_role("button", name="Load").click()
    shown(page)
    assert "The ferry leaves at seven." in page.locator("#case-prompt").text_content()
    assert page.locator("[role=option]").all_text_contents() == [" She", " left", " at", " seven."]
    assert not [one for one in sent if one[0] != "GET" or "/api/flows" in one[1]], sent


def test_the_list_of_the_tool_before_this_one(page, files):
    choose(page, files / "list.json")
    rows_read(page, 2)
    page.locator(".run-row").first.click()
    shown(page)
    assert "The ferry leaves at seven." in page.locator("#case-prompt").text_content()
    assert sum(shares(page)) == pytest.approx(100, abs=0.01)
    assert page.locator("#case-prompt .badge.gold").count() == 1


def test_cases_without_their_run(page, files):
    choose(page, files / "runs/first/cases.jsonl")
    rows_read(page)
    assert "There is no run.json" in page.locator(".run-note").text_content()
    assert f"Computed from {CASES} cases" in page.locator(".run-metrics").text_content()


def test_cases_with_their_run(page, files):
    choose(page, files / "runs/first/cases.jsonl", files / "runs/first/run.json")
    rows_read(page)
    assert page.locator(".run-note").count() == 0
    assert "0.660 to 0.740" in page.locator(".run-metrics").text_content()


def test_a_run_without_its_cases_says_what_is_missing(page, files):
    choose(page, files / "runs/first/run.json")
    page.wait_for_selector(".run-metrics")
    assert "Only run.json is open" in page.locator(".run-note").text_content()


def test_a_runs_folder(page, files):
    page.set_input_files("#open-folder", str(files / "runs/first"))
    assert "first" in page.locator(".open-chosen").text_content()
    page.keyboard.press("Enter")  # the focus is on Load by now
    rows_read(page)
    assert "0.660 to 0.740" in page.locator(".run-metrics").text_content()


def test_a_folder_of_runs_becomes_a_list_of_what_is_in_it(page, files):
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


def test_a_file_is_dropped(page, files):
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
def test_what_cannot_be_opened_gets_a_sentence(page, files, name, why):
    choose(page, files / name)
    said = page.locator(".open-problem").text_content()
    assert said.startswith(why)
    assert "What can be opened:" in said
    assert page.locator(".open-zone").is_visible()


def test_what_can_be_opened_is_offered_beside_what_cannot(page, files):
    choose(page, files / "picture.png", files / "list.json")
    page.wait_for_selector(".open-list")
    assert page.locator(".open-problem").text_content().startswith("picture.png is a picture.")
    page.get_by_role("link", name="list.json").click()
    rows_read(page, 2)


def test_what_the_command_line_names_is_shown_at_once(browser, files):  # noqa: F811
    with served("explore", str(files / "list.json")) as url, opened(browser) as watched:
        watched.page.goto(url)
        rows_read(watched.page, 2)
        assert "#/run/" in watched.page.url
        watched.clean()


def test_a_link_to_a_file_of_another_tab_says_so(page, files, browser, empty_door):  # noqa: F811
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
    """The texts of a column of the rows that are in the page."""
    names = [text.strip(" ↑↓") for text in page.locator(".run-grid [role=columnheader]").all_text_contents()]
    rows = page.locator(".run-row").all()
    return [row.locator("[role=gridcell]").nth(names.index(name)).text_content() for row in rows]


def counted(page):
    return page.locator(".run-count").text_content()


def test_metrics_come_with_their_interval_and_how_many_cases(run_page):
    row = run_page.locator(".run-metrics tbody tr").first
    assert row.locator("th").text_content().startswith("flow:retrieval")
    assert row.locator("td .run-value").first.text_content().startswith("0.700")
    assert row.locator("td .run-range").first.text_content() == "0.660 to 0.740"
    assert row.locator("td").last.text_content() == str(CASES)


def test_the_table_holds_what_the_file_holds(run_page, files):
    record = json.loads((files / "runs/first/cases.jsonl").read_text().splitlines()[0])
    assert column(run_page, "Question")[0] == record["question"]
    assert column(run_page, "Expected")[0] == record["expected"]
    assert column(run_page, "Tokens")[0] == str(record["tokens"])
    scores = np.array(record["methods"]["flow:retrieval"]["scores"]["sum"])
    rank = 1 + int((scores > scores[record["gold"][0]]).sum())
    assert column(run_page, "First rank")[0] == str(rank)


def test_a_column_sorts_both_ways_and_back(run_page):
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


def test_cases_are_searched_and_filtered(run_page):
    run_page.get_by_role("searchbox").fill("question 12?")
    assert counted(run_page) == f"1 of {CASES} cases"
    assert column(run_page, "Question") == ["Question 12?"]
    run_page.get_by_role("button", name="Show all").click()
    run_page.get_by_role("button", name="bridge 20").click()
    assert counted(run_page) == f"20 of {CASES} cases"
    run_page.get_by_role("button", name="missed", exact=True).click()
    assert {*column(run_page, "hit@1")} == {"miss"}
    run_page.get_by_role("searchbox").fill("no such words")
    assert "No case is like that" in run_page.locator(".run-none").text_content()
    run_page.get_by_role("button", name="Show all").click()
    assert counted(run_page) == f"{CASES} cases"


def test_another_method_is_chosen(run_page):
    before = column(run_page, "AP")
    run_page.locator(".run-filters").get_by_label("Method").select_option("position")
    addressed(run_page, "method=position")
    assert column(run_page, "AP") != before
    assert "position" in run_page.locator(".run-chosen").text_content()
    run_page.get_by_role("button", name="flow:retrieval", exact=True).click()
    assert column(run_page, "AP") == before


def test_the_table_is_taken_along_as_it_is_shown(run_page):
    run_page.get_by_role("button", name="bridge 20").click()
    with run_page.expect_download() as waiting:
        run_page.get_by_role("button", name="Export CSV").click()
    assert waiting.value.suggested_filename == "first.csv"
    rows = list(csv.DictReader(io.StringIO(waiting.value.path().read_text("utf-8"), newline="")))
    assert len(rows) == 20
    assert {row["kind"] for row in rows} == {"bridge"}
    assert rows[0]["question"] == column(run_page, "Question")[0]


def test_two_runs_are_compared(run_page):
    run_page.get_by_text("Compare with another run").click()
    run_page.get_by_label("The other run").select_option(label="second")
    run_page.wait_for_selector(".run-finding")
    said = run_page.locator(".run-finding").text_content()
    assert "The other run minus this one:" in said
    # The two have other evidence marked in most cases: only those with the same one are compared.
    n = int(re.search(r"over (\d+) cases?", said)[1])
    better, same, worse = (int(text) for text in run_page.locator(".run-finding b").all_text_contents()[1:])
    assert 0 < n < CASES
    assert better + same + worse == n
    assert "have other evidence marked there" in run_page.locator(".run-fold[open]").text_content()
    found = [float(text.replace("−", "-")) for text in column(run_page, "Difference")[:n]]
    assert found == sorted(found, reverse=True)
    run_page.get_by_role("button", name="End the comparison").click()
    assert run_page.get_by_role("columnheader", name="Difference").count() == 0


def test_another_runs_files_are_opened_for_comparing(run_page, files):
    run_page.get_by_text("Compare with another run").click()
    # The run with itself, from the browser's own files: the same in every case.
    run_page.set_input_files(".run-fold input[type=file]", str(files / "runs/first/cases.jsonl"))
    run_page.wait_for_selector(".run-finding")
    said = run_page.locator(".run-finding").text_content()
    assert f"better in 0, the same in {CASES}, worse in 0" in said


def test_a_case_is_opened_by_a_click_and_left_by_the_back_button(run_page):
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


def test_a_case_is_opened_from_the_keyboard(run_page):
    run_page.get_by_role("grid").focus()
    run_page.keyboard.press("ArrowDown")
    run_page.keyboard.press("ArrowDown")
    wanted = column(run_page, "Question")[2]
    run_page.keyboard.press("Enter")
    shown(run_page)
    assert run_page.locator(".case-header h1").text_content() == wanted


def test_next_and_previous_go_in_the_tables_order(run_page):
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


def test_how_a_case_is_shown_goes_along_to_the_next(run_page):
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


# -- a case of a run ----------------------------------------------------------------------------------------------


@pytest.fixture
def case_page(run_page):
    run_page.locator(".run-row").nth(1).click()
    shown(run_page)
    return run_page


def test_gold_is_marked_by_words_and_lines_not_by_colour_alone(case_page, files):
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
    assert f"{100 * scores[gold] / scores.sum():.1f}%" in found.locator("div").last.text_content()


def test_the_methods_of_a_case(case_page):
    case_page.get_by_label("Method").select_option("position/segment")
    case_page.wait_for_function("() => document.querySelector('.case-header').textContent.includes('methodposition')")
    first = case_page.locator(".case-pick").first
    assert "crates of salt" in first.text_content()
    assert sum(shares(case_page)) == pytest.approx(100, abs=0.01)
    addressed(case_page, "method=position")


# -- a flow, token by token ---------------------------------------------------------------------------------------


def units_of(flow):
    text = flow["text"].tobytes().decode()
    return [text[a:b] for a, b in flow["offsets"]]


def sentence_sums(flow, rows):
    """(s) shares of the sentences in the mean of rows."""
    mean = flow["scores"][rows].astype(np.float64).mean(0)
    return [
        sum(mean[u] for u, (a, b) in enumerate(flow["offsets"]) if u and start <= (a + b) / 2 < stop)
        for start, stop in flow["sentences"]
    ]


def test_bars_are_the_files_numbers(flow_page, flow):
    text = flow["text"].tobytes().decode()
    for row in (0, len(flow["scores"]) - 1):  # the last one, too
        flow_page.locator(f"[data-row='{row}']").hover()
        wait_for_heading(flow_page, f"answer token {row + 1}")
        sums = sentence_sums(flow, [row])
        best = int(np.argmax(sums))
        start, stop = flow["sentences"][best]
        first = flow_page.locator(".case-pick").first
        assert first.locator(".case-name").text_content() == text[start:stop]
        assert float(first.locator(".case-share").text_content().rstrip("%")) == pytest.approx(
            100 * sums[best], abs=0.11
        )


def test_pointing_previews_and_leaving_shows_the_whole_answer_again(flow_page):
    assert heading(flow_page) == "Sources of the whole answer (4 tokens)"
    flow_page.locator("[data-row='2']").hover()
    wait_for_heading(flow_page, "answer token 3: at")
    flow_page.mouse.move(5, 5)
    wait_for_heading(flow_page, "the whole answer")
    assert "rows=" not in flow_page.url


def test_a_click_keeps_a_token_until_escape(flow_page):
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


def test_several_tokens_are_kept_by_dragging_shift_and_arrows(flow_page):
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
def test_bars_add_up_to_all_of_it(flow_page, by):
    show_by(flow_page, by)
    for row in (None, 0, 3):
        if row is not None:
            flow_page.locator(f"[data-row='{row}']").click()
            flow_page.mouse.move(5, 5)
            wait_for_heading(flow_page, f"answer token {row + 1}")
        assert sum(shares(flow_page)) == pytest.approx(100, abs=0.001)
    rest = flow_page.locator(".case-bars > .case-list > .case-rest").all_text_contents()
    for name in (
        "Template and question",
        "First token (attention sink)20.0%",
        "Earlier answer tokens",
        "Not followed1.0%",
    ):
        assert any(line.startswith(name) for line in rest) or (by == "Tokens" and name.startswith("Template")), rest
    flow_page.get_by_label("Hide first token").check()
    assert sum(shares(flow_page)) == pytest.approx(100, abs=0.001)
    assert "First token" not in flow_page.locator(".case-bars > .case-list").text_content()
    assert "leave out the first token, which holds 20.0%" in flow_page.locator(".case-of").text_content()


def test_a_document_opens_into_sentences_and_those_into_tokens(flow_page):
    show_by(flow_page, "Documents")
    bar = flow_page.locator(".case-bars > .case-list > li").first
    outer = float(bar.locator(".case-share").first.text_content().rstrip("%"))
    bar.locator(".case-open").first.click()
    inside = bar.locator(".case-inside").first
    sentences = inside.locator("> .case-list > li > .case-bar .case-share, > .case-list > .case-rest .case-share")
    assert sum(float(text.rstrip("%")) for text in sentences.all_text_contents()) == pytest.approx(outer, abs=0.11)
    assert inside.locator("> .case-list > li > .case-bar").count() in (2, 3)
    inside.locator("button.case-open").first.click()
    assert inside.locator(".case-inside .case-name.token").count() > 2


def test_an_input_lights_up_the_answer_tokens_that_took_from_it(flow_page, flow):
    show_by(flow_page, "Tokens")
    flow_page.locator(".case-pick").first.click()
    flow_page.wait_for_selector("[role=option][data-heat='heat-12']")
    name = flow_page.locator(".case-pick .case-name").first.text_content()
    addressed(flow_page, "in=t")
    unit = int(re.search(r"[?&]in=t(\d+)", flow_page.url)[1]) - 1
    assert units_of(flow)[unit].strip() == name
    strongest = flow_page.locator("[role=option][data-heat='heat-12']").first.get_attribute("data-row")
    assert int(strongest) == int(np.argmax(flow["scores"][:, unit]))
    assert "Coloured by what each word took from" in flow_page.locator(".case-hint").text_content()
    assert [text.strip() for text in marked(flow_page, "mark-selected")] == [name]


def test_a_click_on_the_prompt_selects_the_sentence_under_it(flow_page):
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
    """How much text each of the twelve colours covers."""
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
    assert heat(flow_page) == own  # what is kept is what is shown
    flow_page.locator("[data-row='1']").hover()
    wait_for_heading(flow_page, "answer token 2")
    assert heat(flow_page)[11] == 0  # its largest is smaller than that of what is kept
    addressed(flow_page, "colour=selection")


def test_the_link_shows_the_same_picture_in_another_browser(flow_page, browser):  # noqa: F811
    show_by(flow_page, "Tokens")
    flow_page.get_by_label("Scale").select_option("log")
    flow_page.get_by_label("Colours against").select_option("global")
    flow_page.get_by_label("Hide first token").check()
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


def test_links_that_say_nonsense_show_the_flow_all_the_same(flow_page):
    base = flow_page.url.split("?")[0]
    for query in (
        "rows=0-99999999&in=s999999&k=-4&by=nothing&scale=x",
        "rows=9-2&in=t0&method=none&colour=",
        "%E0%A4%A&rows=%",
    ):
        flow_page.goto(f"{base}?{query}")
        flow_page.reload()
        shown(flow_page)
        assert sum(shares(flow_page)) == pytest.approx(100, abs=0.001)


# -- taken along --------------------------------------------------------------------------------------------------


def test_the_table_of_sources(flow_page, flow):
    flow_page.locator("[data-row='3']").click()
    flow_page.mouse.move(5, 5)
    wait_for_heading(flow_page, "answer token 4")
    name, path = saved(flow_page, "Table (CSV)")
    assert name.endswith(".csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-5)
    sums = sorted(sentence_sums(flow, [3]), reverse=True)
    assert [float(row["share"]) for row in rows if row["rank"]] == pytest.approx(sums, abs=1e-5)
    assert {row["what"] for row in rows if not row["rank"]} == {
        "outside",
        "first token",
        "earlier answer tokens",
        "not followed",
    }


def test_everything_shown_as_json(flow_page):
    _, path = saved(flow_page, "Everything shown")
    found = json.loads(path.read_text("utf-8"))
    assert found["by"] == "sentence"
    assert found["answer"] == found["asked"] == " She left at seven."
    assert sum(line["share"] for line in found["lines"]) == pytest.approx(1, abs=1e-5)
    first = flow_page.locator(".case-pick").first
    assert found["lines"][0]["text"] == first.locator(".case-name").text_content()


def test_pictures(flow_page, browser):  # noqa: F811
    _, svg = saved(flow_page, "Picture (SVG)")
    text = svg.read_text("utf-8")
    assert "She left at seven." in text
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


def opens_alone(browser, path, tmp_path, look):  # noqa: F811
    """Open a saved page from disk with the network off."""
    copy = tmp_path / "page.html"
    copy.write_bytes(path.read_bytes())
    with opened(browser, offline=True) as alone:
        alone.page.goto(copy.as_uri())
        shown(alone.page)
        look(alone.page)
        alone.clean()


def test_the_page_in_one_file_of_a_flow_that_the_server_has(flow_page, browser, tmp_path, flow):  # noqa: F811
    name, path = saved(flow_page, "One-file page")
    assert name.endswith(".html")
    wanted = shares(flow_page)

    def look(page):
        assert shares(page) == pytest.approx(wanted, abs=0.11)
        page.locator("[data-row='3']").hover()
        wait_for_heading(page, "answer token 4")
        assert sum(shares(page)) == pytest.approx(100, abs=0.001)
        best = 100 * max(sentence_sums(flow, [3]))
        assert shares(page)[0] == pytest.approx(best, abs=0.2)
        page.get_by_role("button", name="Share").click()
        assert page.get_by_role("menuitem").count() == 6

    opens_alone(browser, path, tmp_path, look)


def test_the_page_in_one_file_of_a_local_flow_and_of_a_case(page, files, browser, tmp_path, flow):  # noqa: F811
    choose(page, files / "runs/ferry.safetensors")
    shown(page)
    _, path = saved(page, "One-file page")

    def words(alone):
        alone.locator("[data-row='2']").hover()
        wait_for_heading(alone, "answer token 3")
        assert shares(alone)[0] == pytest.approx(100 * max(sentence_sums(flow, [2])), abs=0.2)

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
        assert shares(alone) == pytest.approx(before, abs=0.11)
        assert alone.locator("#case-prompt .badge.gold").count() == 1

    opens_alone(browser, path, tmp_path, case)
