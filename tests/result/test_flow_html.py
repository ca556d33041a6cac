"""The page is safe for any text, small for any flow, and its shares add up."""

import base64
import hashlib
import html
import os
import re

import numpy as np
import pytest
import torch
from browser import browser, needs_browser, opened, shares_add_up  # noqa: F401
from example_flow import ANSWER, FERRY, HARBOUR, TEXT, example
from page_data import data_of
from tiny_front_end import APP_JS, tiny_front_end  # noqa: F401

from attributor._cite import show_share
from attributor._errors import AttributorError
from attributor._result.flow import Flow
from attributor._result.flow_html import build_page
from attributor._result.view import assets
from attributor._result.view.escape import escape_invisible
from attributor._result.view.standalone_page import NOTEBOOK_LIMIT
from attributor._text.segments import Segment

pytestmark = pytest.mark.usefixtures("tiny_front_end")

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> <!-- ]]> &lt; "
    "\u202eevil\u202c \0 \u2028 {{script}} $& \\u003c"
)


def scores_of(data: dict) -> np.ndarray:
    """Return the scores (rows, units) as the script of the page reads them."""
    steps = {"uint16": 65535, "uint8": 255}[str(data["rows"].dtype)]
    return (data["rows"].astype(np.float64) / steps) ** 2 * data["largest"].astype(np.float64)[:, None]


def unroll(runs: np.ndarray) -> np.ndarray:
    return np.repeat(runs[:, 0], runs[:, 1])


def long_flow(k: int, o: int, text: bool = True) -> Flow:
    """Return a flow with a long prompt: equal sentences of nine tokens, in documents of 450."""
    fields = {}
    if text:
        piece = "It was a dark night on the old hill. "
        whole = (piece * (k // 9 + 1))[: k * len(piece) // 9]
        cuts = torch.linspace(0, len(whole), k + 1).long()
        size = 50 * len(piece)
        fields = {
            "text": whole,
            "offsets": torch.stack([cuts[:-1], cuts[1:]], 1),
            "documents": [Segment(a, min(a + size, len(whole)), "") for a in range(0, len(whole), size)],
        }
    scores = torch.rand(o, k, generator=torch.Generator().manual_seed(0))
    return Flow(scores=scores / scores.sum(1, keepdim=True), ids=torch.arange(k + o), **fields)


def test_the_page_holds_the_scores_and_text_of_the_flow():
    flow = example()
    data = data_of(flow.to_html())
    assert "".join(data["units"]) == TEXT
    assert data["answer"] == list(flow.answer_tokens)
    assert scores_of(data) == pytest.approx(flow.scores.numpy(), rel=1e-3, abs=1e-6)
    assert data["total"] == pytest.approx(flow.total().numpy(), rel=1e-5)
    for by, count in (("sentence", data["sentences"]), ("document", len(data["documents"]))):
        group = unroll(data[f"{by}_runs"])
        sums = np.stack([scores_of(data)[:, group == g].sum(1) for g in range(count)], axis=1)
        assert sums == pytest.approx(flow.by(by).scores.numpy(), rel=1e-3)
    assert (data["kind"], data["tokens"], data["normalized"], data["sink"]) == ("token", flow.prompt_length, True, True)
    assert data["title"] == f"attributor: {ANSWER}"
    assert data["meta"] == flow.meta
    assert "token_counts" not in data
    whole = scores_of(data).sum(1) + data["on_answer"] + data["missing"]
    assert whole == pytest.approx(1.0, abs=1e-3)


def test_tokens_that_share_a_character_are_one_unit():
    flow = Flow(
        scores=torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]),
        ids=torch.arange(5),
        text="a時b",
        offsets=torch.tensor([[0, 1], [1, 2], [1, 2], [2, 2], [2, 3]]),
    )
    data = data_of(build_page(flow))
    assert data["units"] == ["a", "時", "b"]
    assert data["token_counts"].tolist() == [1, 3, 1]
    assert scores_of(data) == pytest.approx(np.array([[1.0, 14.0, 16.0]]), rel=1e-4)


def test_a_flow_without_text_shows_ids():
    flow = Flow(scores=torch.rand(2, 3), ids=torch.tensor([7, 8, 9, 50, 60]))
    data = data_of(flow.to_html())
    assert data["units"] == ["7 ", "8 ", "9 "]
    assert data["answer"] == ["50 ", "60 "]
    assert "on_answer" not in data
    assert not data["normalized"]
    assert "with_text" in " ".join(data["notes"])


@pytest.mark.parametrize("where", ["text", "answer", "label", "meta"])
def test_hostile_text_is_shown_as_text(where):
    changes = {"text": TEXT + HOSTILE} if where == "text" else {"answer": HOSTILE} if where == "answer" else {}
    if where == "meta":
        changes["meta"] = {"model": HOSTILE}
    flow = example(documents=[], **changes)
    if where == "label":
        flow = flow.with_documents([Segment(0, 20, "", label=HOSTILE)])
    for text in (flow.to_html(), html.unescape(flow._repr_html_())):
        # only the page's own two scripts, neither ended early, and no tag from the text
        assert re.findall(r"<(?:/?script|img|/?title|/?style)\b[^>]*>", text) == [
            "<title>",
            "</title>",
            "<style>",
            "</style>",
            '<script type="application/octet-stream" id="view">',
            "</script>",
            '<script type="module">',
            "</script>",
        ]
        assert not set(text) & set("\u202e\u202c\u2028\0")
        data = data_of(text)
        body = "".join([*data["units"], *data["answer"], *data["documents"], *data["meta"].values()])
        assert HOSTILE in body
    if where == "answer":
        title = re.search("<title>(.*?)</title>", flow.to_html(), re.DOTALL)[1]
        assert title.startswith("attributor: &lt;/script&gt;&lt;script&gt;alert(1)")
        long = example(documents=[], answer=HOSTILE[70:]).to_html()
        assert "⟦U+202E⟧evil" in re.search("<title>(.*?)</title>", long, re.DOTALL)[1]


def test_invisible_characters_are_escaped():
    assert escape_invisible("a\u202eb\0\u200b\ufeff") == "a⟦U+202E⟧b⟦U+0000⟧⟦U+200B⟧⟦U+FEFF⟧"
    assert escape_invisible("a\r\nb\rc\td") == "a\nb\nc\td"
    assert escape_invisible("👩‍👩‍👧 नमस्ते é") == "👩‍👩‍👧 नमस्ते é"


def test_the_page_loads_nothing_and_runs_only_its_own_code():
    text = example().to_html()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data: blob:",
        "script-src": rules["script-src"],
        "style-src": rules["style-src"],
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for name, tag in (("script-src", 'script type="module"'), ("style-src", "style")):
        code = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert not re.search(r"https?:|//\w+\.|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|url\(", text)
    links = re.findall(r'<[^>]*\s(?:on\w+|style|src|href)="[^"]*"', text)
    assert links == ['<link rel="icon" href="data:,"']


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("app.js", 'const a = "</script>";', r"app\.js holds '</script' at character 11"),
        ("app.js", "const a = '</SCRIPT ';", r"app\.js holds '</SCRIPT'"),
        ("app.js", "const a = '<!-- <script';", r"app\.js holds '<!--'"),
        ("app.js", "const a = '\0';", r"app\.js holds '.x00'"),
        ("app.css", "a::after { content: '</style>'; }", r"app\.css holds '</style'"),
        ("app.css", None, r"has no app\.css: install attributor anew"),
    ],
)
def test_a_front_end_unfit_for_a_page_is_refused(tiny_front_end, name, code, message):  # noqa: F811
    if code is None:
        (tiny_front_end / name).unlink()
    else:
        (tiny_front_end / name).write_text(code)
    with pytest.raises(AttributorError, match=message):
        example().to_html()


def test_a_front_end_with_carriage_returns_keeps_its_hash(tiny_front_end):  # noqa: F811
    (tiny_front_end / "app.js").write_bytes(APP_JS.replace("\n", "\r\n").encode())
    os.utime(tiny_front_end / "app.js", (1, 1))
    assert "\r" not in example().to_html()
    test_the_page_loads_nothing_and_runs_only_its_own_code()


def test_the_page_is_written_to_a_file(tmp_path):
    flow = example()
    text = flow.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text == flow.to_html()


def test_the_notebook_frame_is_sandboxed():
    frame = example()._repr_html_()
    match = re.fullmatch(r"<iframe sandbox='allow-scripts' srcdoc='([^']*)' [^>]*></iframe>", frame)
    assert html.unescape(match[1]) == example().to_html()


@pytest.mark.parametrize(("k", "o", "text"), [(50_000, 256, True), (60_000, 40, False), (300, 20_000, True)])
def test_long_flows_stay_small(k, o, text):
    flow = long_flow(k, o, text)
    written = flow.to_html()
    assert len(written.encode()) <= 6_000_000
    data = data_of(written)
    assert len(data["units"]) <= 20_000
    assert any("long" in note for note in data["notes"])
    if text:
        assert "".join(data["units"]) == flow.text
        group = unroll(data["document_runs"])
        sums = np.stack([scores_of(data)[:, group == g].sum(1) for g in range(len(flow.documents))], axis=1)
        assert sums.mean(0) == pytest.approx(flow.by("document").total().numpy(), rel=0.02)
    else:
        assert scores_of(data).mean(0).sum() == pytest.approx(1.0, rel=0.02)
    assert len(flow._repr_html_().encode()) <= NOTEBOOK_LIMIT


def test_small_size_limits_reduce_rows_and_bits():
    flow = long_flow(2_000, 64)
    by_limit = {limit: data_of(build_page(flow, limit)) for limit in (6_000_000, 300_000, 150_000)}
    assert [(data["kind"], data["rows"].dtype.itemsize) for data in by_limit.values()] == [
        ("token", 2),
        ("token", 1),
        ("piece", 2),
    ]
    assert [data["sink"] for data in by_limit.values()] == [True, True, False]
    for data in by_limit.values():
        counts = data.get("token_counts", np.ones(len(data["units"])))
        assert counts.sum() == data["tokens"] == 2_000
        assert scores_of(data).mean(0) == pytest.approx(data["total"], rel=0.05, abs=1e-4)
    assert {data["sentences"] for data in by_limit.values()} == {len(flow.sentences)}
    tight = data_of(build_page(long_flow(300, 20_000), 700_000))
    assert len(tight["answer"]) < 20_000
    assert tight["rows"].dtype == np.uint8
    assert scores_of(tight).sum(1) == pytest.approx(1.0, rel=0.05)


def test_a_flow_too_large_for_a_notebook_is_shown_as_a_table():
    text = "A long line of words with <b>markup</b>. " * 60_000
    flow = example(text="Start. " + text, documents=[(0, 7)], **one_token_a_mile(text))
    table = flow._repr_html_()
    assert "iframe" not in table
    assert "flow.to_html(" in table
    assert len(table) < 20_000
    assert "<b>" not in table


def one_token_a_mile(text: str) -> dict:
    cuts = torch.linspace(0, len(text), 41).long()
    return {
        "offsets": torch.stack([cuts[:-1], cuts[1:]], 1),
        "scores": torch.rand(4, 40),
        "ids": torch.arange(44),
        "missing_mass": None,
    }


def test_gold_marks_are_in_the_page():
    """A FlowView with the gold sentences and question of an evaluation writes them into its page."""
    from attributor._result.view import FlowView
    from attributor._result.view.standalone_page import render_page as page_of

    flow = example()
    facts = {"question": "How often?", "expected": "Twice", "title": "Case 1"}
    marked = FlowView(flow, gold=(3, 0), gold_documents=(1,), **facts)
    data = data_of(page_of(marked))
    assert (data["gold"].tolist(), data["gold_documents"].tolist()) == ([0, 3], [1])
    assert (data["question"], data["expected"], data["title"]) == ("How often?", "Twice", "Case 1")
    plain = data_of(page_of(FlowView(flow)))
    assert not {"gold", "gold_documents"} & set(plain)
    assert (plain["question"], plain["expected"]) == (None, None)


def test_a_flow_without_answer_shows_the_next_token():
    answered = example()
    ids = answered.ids[: answered.prompt_length]
    flow = Flow(scores=answered.scores[:1], ids=ids, text=answered.text, offsets=answered.offsets)
    data = data_of(flow.to_html())
    assert (data["answered"], data["answer"], data["title"]) == (False, ["(the next token)"], "attributor: a flow")


def test_the_page_notes_negative_scores():
    assert (
        "Negative scores are shown as 0."
        in data_of(build_page(Flow(scores=torch.randn(2, 9), ids=torch.arange(11))))["notes"]
    )
    noise = torch.tensor([[1.0, -1e-9, 0.5]])
    assert (
        "Negative scores are shown as 0." not in data_of(build_page(Flow(scores=noise, ids=torch.arange(4))))["notes"]
    )


@needs_browser
def test_the_page_works_from_disk_without_network(tmp_path, browser):  # noqa: F811
    flow = example(text=TEXT + HOSTILE)
    flow.to_html(tmp_path / "page.html")
    with opened(browser, offline=True) as watched:
        watched.page.goto((tmp_path / "page.html").as_uri())
        watched.page.wait_for_selector("[data-ready=true]")
        assert watched.page.locator("#strip span").all_text_contents() == list(flow.answer_tokens)
        bars = [float(value) for value in watched.page.locator("li").all_text_contents()]
        assert bars == pytest.approx(flow.total().tolist(), abs=1e-4)
        shown = watched.page.locator("#app").inner_text()
        for piece in (HARBOUR, FERRY, "<img src=x onerror=alert(2)>"):
            assert piece in shown
        assert watched.page.locator("#app img, #app script").count() == 0
        color = watched.page.locator("li").first.evaluate("node => getComputedStyle(node).color")
        assert color == "rgb(10, 20, 30)", "the style does not apply"
        watched.clean()


@needs_browser
def test_the_notebook_frame_works_in_its_sandbox(tmp_path, browser):  # noqa: F811
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>n</title>{example()._repr_html_()}", "utf-8")
    with opened(browser, offline=True) as watched:
        watched.page.goto((tmp_path / "notebook.html").as_uri())
        frame = watched.page.frame_locator("iframe")
        frame.locator("[data-ready=true]").wait_for(state="attached")
        assert frame.locator("#strip span").all_text_contents() == list(example().answer_tokens)
        watched.clean()


@pytest.fixture
def real_front_end(tiny_front_end, monkeypatch):  # noqa: F811
    """Use the installed front end, or the one that ATTRIBUTOR_WEB_STATIC named before these tests set it."""
    named = ENVIRONMENT or ""
    monkeypatch.setenv(assets.VARIABLE, named)
    try:
        assets.static_text("app.js")
    except AttributorError as error:
        pytest.skip(f"no built front end: {error}")


ENVIRONMENT = os.environ.get(assets.VARIABLE)


def drawn(page) -> str:
    """Wait for the built front end to render the page and return its text."""
    page.get_by_text("Harbour:").first.wait_for()
    return page.locator("body").inner_text()


@needs_browser
@pytest.mark.usefixtures("real_front_end")
@pytest.mark.parametrize("framed", [False, True], ids=["file", "notebook"])
def test_the_built_front_end_renders_the_page(tmp_path, browser, framed):  # noqa: F811
    flow = example(text=TEXT + HOSTILE)
    text = flow.to_html() if not framed else f"<!doctype html><title>n</title>{flow._repr_html_()}"
    (tmp_path / "page.html").write_text(text, "utf-8")
    with opened(browser, offline=True) as watched:
        watched.page.goto((tmp_path / "page.html").as_uri())
        where = watched.page.frame_locator("iframe") if framed else watched.page
        shown = drawn(where)
        for piece in (HARBOUR, FERRY, "<img src=x onerror=alert(2)>", "⟦U+202E⟧evil"):
            assert piece in shown
        assert where.locator("img").count() == 0
        assert shares_add_up(where)
        for name in (
            "of the whole flow came from the documents",
            "from question and template",
            "the answer's own words",
        ):
            assert name in shown
        assert where.locator(".case-name").first.text_content() == flow.top(1, by="sentence")[0].text
        watched.clean()


@needs_browser
@pytest.mark.usefixtures("real_front_end")
def test_the_page_reacts_to_clicks_and_keys(tmp_path, browser):  # noqa: F811
    flow = example()
    flow.to_html(tmp_path / "page.html")
    with opened(browser, offline=True) as watched:
        page = watched.page
        page.goto((tmp_path / "page.html").as_uri())
        drawn(page)
        title, words = page.locator("#case-selection"), page.locator("[data-row]")
        whole = "Sources of the whole answer (4 tokens)"

        def says(text: str) -> None:
            title.get_by_text(text, exact=False).wait_for()
            assert shares_add_up(page)

        says(whole)
        words.nth(1).hover()
        says("answer token 2")
        exact = flow.by("sentence").scores[1].max().item() / flow.by("document").scores[1].sum().item()
        assert page.locator(".case-share").first.text_content() == show_share(exact)
        page.mouse.move(2, 2)
        says(whole)
        words.nth(2).click()
        says("answer token 3")
        assert [word.get_attribute("aria-selected") for word in words.all()] == ["false", "false", "true", "false"]
        words.nth(2).press("ArrowRight")
        words.nth(3).press("Enter")
        page.mouse.move(2, 2)
        says("answer token 4")
        page.keyboard.press("Escape")
        says(whole)
        for kind, count in (("Documents", 2), ("Sentences", 4), ("Tokens", 10)):
            page.get_by_role("button", name=kind, exact=True).click()
            page.wait_for_function(f"document.querySelectorAll('.case-pick .case-name').length >= {count}")
            assert shares_add_up(page)
        watched.clean()
