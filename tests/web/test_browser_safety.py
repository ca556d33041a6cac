"""Hostile files and servers: no text runs as code, hidden characters are shown, failures have a message."""

import json
import re

import pytest
from browser import browser, elements, needs_browser, opened, saved, served, shares, shares_add_up, show_by, shown  # noqa: F401
from web_cases import FERRY, case_list, flow_file, run_folder, word_flow

import attributor
from attributor._cite import Origin, origin_sentence, show_share

pytestmark = needs_browser

MARKUP = (
    "<img src=x onerror=ran(1)><script>ran(2)</script><svg onload=ran(3)><a href='javascript:ran(4)'>a</a>&lt;b&gt;"
)
HIDDEN = "\u202eevil\u202c\x00\x1b[31m\u200b\u2066\ufeff"
HOSTILE = f"{MARKUP}{HIDDEN} https://example.org/x.png </script><!-- ]]> {{{{x}}}} ${{y}} $& \\u003c"
ALONE = "half \ud83d of a pair"
# As in attributor._result.view.escape: these characters never reach the page unescaped.
RAW = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
RUN = "globalThis.ran = (n) => { (globalThis.runs ??= []).push(n); }"
REFUSED = r"Failed to load resource: (the server responded with a status of \d+|net::ERR)"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("safety")
    word_flow(
        root / "hostile.safetensors",
        {f"Label {HOSTILE}": [f"First {HOSTILE}.", "Second."], "__proto__": ["Third one here."]},
        answer=f" yes {HOSTILE} no",
        question=f"Why {HOSTILE}?",
        meta={f"key {HOSTILE}": f"value {HOSTILE} {ALONE}", "__proto__": "x", "model": HOSTILE},
    )
    word_flow(root / "plain.safetensors", FERRY, sentences=False)
    flow_file(root / "long.safetensors", tokens=200_000, rows=4, sentences=8000, documents=50)
    hostile_run(root / "run")
    hostile_list(case_list(root / "list.json"))
    return root


def hostile_run(folder):
    run_folder(folder, 3)
    text = f"{HOSTILE} {ALONE}"
    records = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    first = records[0]
    before = len(first["text"])
    first["text"] += f"\n{text}"
    first["segments"].append([before + 1, before + 1 + len(text), 3])
    first["documents"] = [[start, stop, f"{label} {text}"] for start, stop, label in first["documents"]]
    for method in first["methods"].values():
        for scores in method["scores"].values():
            scores.append(max(scores) * 2)
    first["methods"]["__proto__"] = first["methods"]["position"]
    first["methods"][text] = first["methods"]["position"]
    for key in ("id", "question", "expected", "answer", "generated", "kind", "level"):
        records[0][key] = f"{key} {HOSTILE if key == 'id' else text}"
    (folder / "cases.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    run = json.loads((folder / "run.json").read_text())
    run["config"] |= {"model": text, "dataset": text, text: text, "__proto__": text}
    run["data"]["name"] = text
    run["metrics"]["strata"][text] = 2
    run["metrics"]["methods"][text] = run["metrics"]["methods"]["position"]
    run["metrics"]["methods"]["__proto__"] = run["metrics"]["methods"]["position"]
    (folder / "run.json").write_text(json.dumps(run))


def hostile_list(path):
    records = json.loads(path.read_text())
    text = f"{HOSTILE} {ALONE}"
    case = records[0]["case"]
    case["documents"].append(text)
    case["expected_output"] = text
    records[0] |= {
        "generated_output": text,
        "attributed_documents": [text, case["documents"][0]],
        "attributed_document_scores": [0.9, 0.1],
    }
    path.write_text(json.dumps(records))


@pytest.fixture(scope="module")
def empty_door():
    with served("explore") as url:
        yield url


@pytest.fixture(scope="module")
def door(files):
    with served("explore", str(files)) as url:
        yield url


@pytest.fixture
def watched(browser):  # noqa: F811
    with opened(browser) as one:
        one.page.add_init_script(RUN)
        yield one


def choose(page, url, *files):
    """Choose files, given by path or as {name, mimeType, buffer}."""
    page.goto(url)
    page.set_input_files("#open-files", list(files))
    page.get_by_role("button", name="Load").click()


def harmless(page):
    """Check that no text ran or became an element, and that characters which hide or reverse text are spelled out."""
    assert page.evaluate("() => globalThis.runs ?? []") == []
    assert page.locator("img, iframe, object, embed, svg[onload], a[href^='javascript'], main script").count() == 0
    found = page.evaluate(
        """(raw) => {
          const hidden = new RegExp(raw, 'u'), bad = [];
          const look = (text, where) => hidden.test(text) && bad.push(where + ': ' + JSON.stringify(text));
          look(document.title, 'title');
          for (const element of document.body.querySelectorAll('*')) {
            for (const child of element.childNodes) if (child.nodeType === 3) look(child.data, element.className);
            for (const name of ['title', 'aria-label', 'alt']) look(element.getAttribute(name) ?? '', name);
          }
          return bad;
        }""",
        RAW,
    )
    assert found == []


def test_a_hostile_flow_of_the_server_does_nothing(watched, door):
    page = watched.page
    page.goto(door)
    page.get_by_role("link", name="hostile.safetensors").click()
    shown(page)
    harmless(page)
    text = page.locator("#case-prompt").text_content()
    assert "<img src=x onerror=ran(1)>" in text
    assert "⟦U+202E⟧evil⟦U+202C⟧⟦U+0000⟧⟦U+001B⟧[31m" in text
    for by in ("Documents", "Tokens"):
        show_by(page, by)
        harmless(page)
    page.locator("[data-row='1']").click()
    page.locator(".case-pick").first.click()
    page.locator(".case-chunk").nth(1).hover()
    page.wait_for_selector("[role=option][data-heat]")
    harmless(page)
    watched.clean()


def test_a_hostile_local_flow_does_nothing(watched, empty_door, files):
    page = watched.page
    name = "<img src=x onerror=ran(5)>\u202e.safetensors"
    data = (files / "hostile.safetensors").read_bytes()
    choose(
        page,
        empty_door,
        {"name": name, "mimeType": "", "buffer": data},
        {"name": "b.png", "mimeType": "", "buffer": b"x"},
    )
    page.wait_for_selector(".open-list")
    harmless(page)
    page.locator(".open-list a").click()
    shown(page)
    harmless(page)
    page.get_by_role("button", name="Share").click()
    harmless(page)
    watched.clean()


def test_a_hostile_file_name_does_nothing(watched, empty_door):
    page = watched.page
    choose(page, empty_door, {"name": f"{MARKUP.replace('/', '')}\u202e.json", "mimeType": "", "buffer": b"{}"})
    page.wait_for_selector(".open-problem")
    harmless(page)
    watched.clean()


def test_a_hostile_page_from_disk_does_nothing(watched, door, tmp_path, browser):  # noqa: F811
    page = watched.page
    page.goto(door)
    page.get_by_role("link", name="hostile.safetensors").click()
    shown(page)
    name, path = saved(page, "One-file page")
    assert re.fullmatch(r"[\w.-]+\.html", name)
    copy = tmp_path / "page.html"
    copy.write_bytes(path.read_bytes())
    with opened(browser, offline=True) as alone:
        alone.page.add_init_script(RUN)
        alone.page.goto(copy.as_uri())
        shown(alone.page)
        assert "<img src=x onerror=ran(1)>" in alone.page.locator("#case-prompt").text_content()
        assert alone.page.evaluate("() => globalThis.runs ?? []") == []
        assert alone.page.locator("img, iframe, object, embed, svg[onload], main script").count() == 0
        alone.clean()
    _, svg = saved(page, "Picture (SVG)")
    with opened(browser, offline=True) as alone:
        alone.page.add_init_script(RUN)
        copy = tmp_path / "picture.svg"
        copy.write_bytes(svg.read_bytes())
        alone.page.goto(copy.as_uri())
        assert alone.page.evaluate("() => document.querySelectorAll('image, script, a, foreignObject').length") == 0
        assert alone.page.evaluate("() => globalThis.runs ?? []") == []
        alone.clean()
    watched.clean()


def test_a_hostile_run_does_nothing(watched, door):
    page = watched.page
    page.goto(door)
    page.get_by_role("link", name="run", exact=False).locator("visible=true").filter(has_text="Evaluation run").click()
    page.wait_for_selector(".run-grid[aria-rowcount='4'] .run-row")
    for fold in page.locator(".run-fold summary").all():
        fold.click()
    harmless(page)
    assert "<img src=x onerror=ran(1)>" in page.locator(".run-row").first.text_content()
    page.locator(".run-row").first.click()
    shown(page)
    harmless(page)
    text = page.locator("#case-prompt").text_content()
    assert "⟦U+202E⟧evil" in text
    methods = page.get_by_label("Method").locator("option").all_text_contents()
    assert "__proto__" in methods
    page.get_by_label("Method").select_option(label="__proto__")
    page.wait_for_function("() => document.querySelector('.case-header').textContent.includes('method__proto__')")
    harmless(page)
    # Also the address of a case with a hostile id.
    page.reload()
    shown(page)
    harmless(page)
    watched.clean()


def test_a_hostile_json_list_does_nothing(watched, door):
    page = watched.page
    page.goto(door)
    page.get_by_role("link", name="list.json").click()
    page.wait_for_selector(".run-grid[aria-rowcount='3'] .run-row")
    harmless(page)
    page.locator(".run-row").first.click()
    shown(page)
    harmless(page)
    assert "<img src=x onerror=ran(1)>" in page.locator("#case-prompt").text_content()
    watched.clean()


@pytest.mark.parametrize("where", ["server", "browser"])
def test_a_flow_of_200_000_tokens_is_shown(watched, door, empty_door, files, where):
    page = watched.page
    if where == "server":
        page.goto(door)
        page.get_by_role("link", name="long.safetensors").click()
    else:
        choose(page, empty_door, str(files / "long.safetensors"))
    shown(page)
    assert "200,000 prompt tokens" in page.locator(".case-meta").first.text_content()
    show_by(page, "Tokens")
    for scale in ("rank", "log", "linear"):
        page.get_by_label("Scale").select_option(scale)
    # The last row is shown and is the last row of the file.
    rows = page.locator("[role=option]")
    assert rows.all_text_contents()[-1].strip() == "word3"
    show_by(page, "Documents")
    rows.last.click()
    page.mouse.move(5, 5)
    page.wait_for_selector("#case-selection:has-text('answer token 4')")
    flow = attributor.load(files / "long.safetensors")
    of_documents = flow.by("document").scores[3].double()
    expected = sorted((of_documents / of_documents.sum()).tolist(), reverse=True)
    printed = page.locator(".case-pick > .case-share").all_text_contents()
    assert printed == [show_share(share) for share in expected[: len(printed)]]
    documents, answer = float(of_documents.sum()), float(flow.on_answer[3])
    origin = Origin(documents, 1 - documents - answer, answer, 0.0)
    assert page.locator(".case-origin").text_content() == origin_sentence(origin)
    assert shares_add_up(page)
    watched.clean()


def test_without_the_highlight_api_nearby_text_is_coloured(watched, door):
    page = watched.page
    page.add_init_script("delete globalThis.Highlight; delete CSS.highlights;")
    page.goto(door)
    page.get_by_role("link", name="long.safetensors").click()
    shown(page)
    assert page.evaluate("'highlights' in CSS") is False
    coloured = ".case-chunk span[class*='heat-']"
    page.get_by_label("Scale").select_option("rank")  # every token has a colour
    page.wait_for_selector(coloured, state="attached")
    colours = page.locator(coloured).evaluate_all("all => all.map(e => getComputedStyle(e).backgroundColor)")
    assert all(colour != "rgba(0, 0, 0, 0)" for colour in colours)
    before = page.locator("#case-prompt").text_content()
    assert elements(page) < 8_000  # four rows, 50 documents and the text nearby
    page.locator("#case-prompt").evaluate("pane => { pane.scrollTop = pane.scrollHeight / 2; }")
    watched.settle()
    assert elements(page) < 8_000  # distant text is plain again
    assert page.locator("#case-prompt").text_content() == before
    page.locator(".case-pick").first.click()
    page.wait_for_selector(".mark-selected")
    line = page.locator(".mark-selected").first.evaluate("e => getComputedStyle(e).boxShadow")
    assert line != "none"
    watched.clean()


def test_a_browser_without_sentence_splitting_shows_the_flow(watched, empty_door, files):
    page = watched.page
    page.add_init_script("delete Intl.Segmenter;")
    choose(page, empty_door, str(files / "plain.safetensors"))
    shown(page)
    assert shares_add_up(page)
    assert page.locator(".case-controls").get_by_role("button", name="Documents").is_visible()
    watched.clean()


# -- a server that fails ------------------------------------------------------------------------------------------


ANSWERS = {
    "500 in words": {"status": 500, "json": {"error": {"code": "internal", "message": "It broke on the server."}}},
    "500 without": {"status": 500, "body": "<h1>Internal Server Error</h1>", "content_type": "text/html"},
    "not JSON": {"status": 200, "body": "<!doctype html><p>hello", "content_type": "text/html"},
    "nothing": {"status": 200, "body": ""},
}


@pytest.mark.parametrize("path", ["/api/session", "/api/sources"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_malformed_first_response_can_be_retried(watched, door, path, answer):
    page = watched.page
    page.route(f"**{path}", lambda route: route.fulfill(**ANSWERS[answer]))
    page.goto(door)
    said = page.locator("main [role=alert]").first
    said.wait_for()
    assert re.search(r"\w+.*[.?]", said.text_content())
    assert "undefined" not in said.text_content()
    assert "not foreseen" not in said.text_content()
    if answer == "500 in words":
        assert "It broke on the server." in said.text_content()
    page.unroute(f"**{path}")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".open-list")
    watched.clean(expected=REFUSED)


@pytest.mark.parametrize("answer", ["500 in words", "not JSON", "nothing"])
def test_a_malformed_view_shows_an_error(watched, door, answer):
    page = watched.page
    page.route("**/view", lambda route: route.fulfill(**ANSWERS[answer]))
    page.goto(door)
    page.get_by_role("link", name="plain.safetensors").click()
    said = page.locator("main .error, main [role=alert]").filter(has_text=re.compile(r"\w"))
    said.first.wait_for()
    assert "undefined" not in said.first.text_content()
    page.unroute("**/view")
    page.get_by_role("button", name="Try again").click()
    shown(page)
    watched.clean(expected=REFUSED)


@pytest.mark.parametrize("answer", ["500 in words", "500 without", "not JSON", "nothing"])
def test_a_malformed_row_shows_an_error(watched, door, answer):
    page = watched.page
    page.goto(door)
    page.get_by_role("link", name="plain.safetensors").click()
    shown(page)
    page.route("**/rows?*", lambda route: route.fulfill(**ANSWERS[answer]))
    page.locator("[data-row='1']").hover()
    page.wait_for_selector(".case-error")
    assert shares_add_up(page)  # the earlier bars remain
    page.unroute("**/rows?*")
    page.locator("[data-row='2']").hover()
    page.wait_for_selector("#case-selection:has-text('answer token 3')")
    assert page.locator(".case-error").count() == 0
    page.locator("[data-row='1']").hover()
    page.wait_for_selector("#case-selection:has-text('answer token 2')")
    watched.clean(expected=REFUSED)


def test_a_file_changed_during_reading_shows_an_error(watched, files, tmp_path):
    run = run_folder(tmp_path / "run", 600)  # more cases than the page keeps in memory
    with served("explore", str(run)) as url:
        page = watched.page
        page.goto(url)
        page.wait_for_selector(".run-grid[aria-rowcount='601'] .run-row")
        (run / "cases.jsonl").write_text("{}\n")
        page.get_by_role("grid").focus()
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        page.wait_for_selector(".run-wrong")
        assert "again" in page.locator(".run-wrong").text_content()
        watched.clean(expected=REFUSED)


def test_an_unreachable_server_shows_an_error(watched, files):
    page = watched.page
    with served("explore", str(files / "plain.safetensors")) as url:
        page.goto(url)
        shown(page)
    page.locator("[data-row='1']").hover()
    page.wait_for_selector(".case-error")
    assert "does not answer; is `attributor explore` still running?" in page.locator(".case-error").text_content()
    assert shares_add_up(page)
    watched.clean(expected=REFUSED)
