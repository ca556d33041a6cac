"""The page: safe whatever the text says, small whatever the size, and it adds up."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from example_flow import FERRY, HARBOUR, TEXT, example

from attributor._html import NOTEBOOK_LIMIT, page, visible
from attributor._result import Flow
from attributor._segments import Segment

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> <!-- ]]> &lt; "
    "\u202eevil\u202c \0 \u2028 {{script}} $& \\u003c"
)


def data_of(text: str) -> dict:
    """The JSON that a page carries."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def scores_of(data: dict) -> np.ndarray:
    """(rows, units) as the page's script reads them."""
    kind = "<u2" if data["steps"] > 255 else "u1"
    steps = np.frombuffer(base64.b64decode(data["rows"]), dtype=kind).reshape(len(data["answer"]), len(data["units"]))
    return (steps / data["steps"]) ** 2 * np.array(data["largest"])[:, None]


def unroll(runs: list[list[int]]) -> np.ndarray:
    return np.repeat([value for value, _ in runs], [length for _, length in runs])


def long_flow(k: int, o: int, text: bool = True) -> Flow:
    """A long prompt of sentences of nine tokens, in documents of 450, with nothing interesting in it."""
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


def test_the_page_holds_what_the_flow_says():
    flow = example()
    data = data_of(flow.to_html())
    assert "".join(data["units"]) == TEXT
    assert data["answer"] == list(flow.answer_tokens)
    assert scores_of(data) == pytest.approx(flow.scores.numpy(), rel=1e-3, abs=1e-6)
    for by, count in (("sentence", data["sentences"]), ("document", len(data["documents"]))):
        group = unroll(data[by])
        sums = np.stack([scores_of(data)[:, group == g].sum(1) for g in range(count)], axis=1)
        assert sums == pytest.approx(flow.by(by).scores.numpy(), rel=1e-3)
    whole = scores_of(data).sum(1) + data["onAnswer"] + data["missing"]
    assert whole == pytest.approx(1.0, abs=1e-3)


def test_tokens_that_share_a_character_are_one_unit():
    flow = Flow(
        scores=torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]),
        ids=torch.arange(5),
        text="a時b",
        offsets=torch.tensor([[0, 1], [1, 2], [1, 2], [2, 2], [2, 3]]),
    )
    data = data_of(page(flow))
    assert data["units"] == ["a", "時", "b"]
    assert scores_of(data) == pytest.approx(np.array([[1.0, 14.0, 16.0]]), rel=1e-4)


def test_without_text_there_are_ids():
    flow = Flow(scores=torch.rand(2, 3), ids=torch.tensor([7, 8, 9, 50, 60]))
    data = data_of(flow.to_html())
    assert data["units"] == ["7 ", "8 ", "9 "]
    assert data["answer"] == ["50 ", "60 "]
    assert data["onAnswer"] is None
    assert "with_text" in " ".join(data["notes"])


@pytest.mark.parametrize("where", ["text", "answer", "label", "meta"])
def test_hostile_text_stays_text(where):
    changes = {"text": TEXT + HOSTILE} if where == "text" else {"answer": HOSTILE} if where == "answer" else {}
    if where == "meta":
        changes["meta"] = {"model": HOSTILE}
    flow = example(documents=[], **changes)
    if where == "label":
        flow = flow.with_documents([Segment(0, 20, "", label=HOSTILE)])
    for text in (flow.to_html(), html.unescape(flow._repr_html_())):
        # the page's own three scripts and no other, none of them ended early, and no tag that the text brought
        assert re.findall(r"<(?:/?script|img)\b[^>]*>", text) == [
            '<script type="application/json" id="data">',
            "</script>",
            "<script>",
            "</script>",
        ]
        assert not set(text) & set("\u202e\u202c\u2028\0")
        data = data_of(text)
        body = "".join([*data["units"], *data["answer"], *data["documents"], data["meta"]])
        assert "\\u003c" in body
        assert "⟦U+202E⟧" in body
        assert "⟦U+0000⟧" in body
        assert "<img src=x onerror=alert(2)>" in body
        assert "{{script}}" in body


def test_visible():
    assert visible("a\u202eb\0\u200b\ufeff") == "a⟦U+202E⟧b⟦U+0000⟧⟦U+200B⟧⟦U+FEFF⟧"
    assert visible("a\r\nb\rc\td") == "a\nb\nc\td"
    assert visible("👩‍👩‍👧 नमस्ते é") == "👩‍👩‍👧 नमस्ते é"


def test_the_page_may_load_nothing_and_run_only_its_own_code():
    text = example().to_html()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        code = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert not re.search(r"https?:|//\w+\.|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|url\(", text)
    assert not re.search(r'<[^>]*\s(?:on\w+|style|src|href)="', text)


def test_the_page_is_written(tmp_path):
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
        group = unroll(data["document"])
        sums = np.stack([scores_of(data)[:, group == g].sum(1) for g in range(len(flow.documents))], axis=1)
        assert sums.mean(0) == pytest.approx(flow.by("document").total().numpy(), rel=0.02)
    else:
        assert scores_of(data).mean(0).sum() == pytest.approx(1.0, rel=0.02)
    assert len(flow._repr_html_().encode()) <= NOTEBOOK_LIMIT


def test_rows_and_bits_are_given_up_for_size():
    flow = long_flow(2_000, 64)
    by_limit = {limit: data_of(page(flow, limit)) for limit in (6_000_000, 300_000, 150_000)}
    assert [(data["kind"], data["steps"]) for data in by_limit.values()] == [
        ("token", 65535),
        ("token", 255),
        ("piece", 65535),
    ]
    assert {data["sentences"] for data in by_limit.values()} == {len(flow.sentences)}
    tight = data_of(page(long_flow(300, 20_000), 700_000))
    assert len(tight["answer"]) < 20_000
    assert tight["steps"] == 255
    assert scores_of(tight).sum(1) == pytest.approx(1.0, rel=0.05)


def test_what_is_too_large_for_a_notebook_is_a_table():
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


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
    "--dump-dom",
]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.skipif(sys.platform != "linux", reason="the flags were tried on Linux only")
def test_the_page_draws_itself_in_a_browser(tmp_path):
    flow = example(text=TEXT + HOSTILE)
    path = tmp_path / "page.html"
    flow.to_html(path)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    dom = done.stdout
    assert 'data-ready="true"' in dom, "the script did not run to its end"
    drawn = dom[dom.index("<body") : dom.index('id="data"')]
    assert "<img" not in drawn
    assert len(re.findall(r"<script", drawn)) <= 1  # the data's own, cut off above
    text = html.unescape(re.sub(r"<[^>]+>", "", drawn))
    for sentence in (HARBOUR, FERRY, "<img src=x onerror=alert(2)>", "⟦U+202E⟧evil"):
        assert sentence in text
    shares = [float(share) for share in re.findall(r'class="share">([\d.]+)%<', drawn)]
    assert sum(shares) == pytest.approx(100.0, abs=1e-6)
    bars = [html.unescape(re.sub(r"<[^>]+>", "", name)) for name in re.findall(r'class="name">(.*?)</span>', drawn)]
    assert bars[0] == flow.top(1, by="sentence")[0].text
    assert {"Template and question", "Earlier answer tokens", "Missing (not followed)"} <= set(bars)
    best = flow.top(1, by="sentence")[0]
    level = re.search(r'<span class="u h(\d+)"[^>]*>[^<]*' + re.escape(best.text.split()[-1].rstrip(".")), drawn)
    assert level[1] == "10"  # the top sentence has the strongest colour


USE = """
const report = {}, all = (q) => [...document.querySelectorAll(q)], fire = (node, type, props = {}) =>
  node.dispatchEvent(Object.assign(new Event(type, { bubbles: true }), props));
const title = () => document.getElementById("selection").textContent;
const sum = () => Math.round(10 * all(".share").reduce((s, n) => s + parseFloat(n.textContent), 0)) / 10;
const words = all("#strip span"), marked = () => all(".context .on").map((n) => n.textContent).join("");
report.start = title();
fire(words[1], "mouseover"); report.hover = title(); report.hoverSum = sum();
fire(document.getElementById("strip"), "mouseleave"); report.left = title();
fire(words[2], "click"); report.pin = title(); report.selected = words.map((w) => w.getAttribute("aria-selected"));
fire(words[2], "keydown", { key: "ArrowRight" }); report.focus = words.indexOf(document.activeElement);
fire(words[3], "keydown", { key: "Enter" }); report.enter = title();
fire(document, "keydown", { key: "Escape" }); report.escape = title();
for (const kind of ["document", "sentence", "token"]) {
  document.querySelector(`[data-value="${kind}"]`).click();
  report[kind] = [all(".bars .name").length, sum(), all("[aria-pressed='true']").length];
}
document.querySelector("[data-value='sqrt']").click(); report.sqrt = all(".context .h10").length;
document.querySelector("[data-value='sentence']").click();
all(".bars button")[0].click(); report.picked = marked(); report.lit = all("#strip .h10").length;
report.focusKept = document.activeElement === all(".bars button")[0];
report.name = all(".bars .name")[0].textContent;
fire(document, "keydown", { key: "Escape" }); report.unpicked = marked();
document.documentElement.dataset.report = JSON.stringify(report);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.skipif(sys.platform != "linux", reason="the flags were tried on Linux only")
def test_the_page_in_use(tmp_path):
    flow = example()
    text = re.sub(r"<meta http-equiv[^>]*>", "", flow.to_html()).replace("</body>", f"<script>{USE}</script></body>")
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    report = json.loads(html.unescape(re.search(r'data-report="([^"]*)"', done.stdout)[1]))
    whole = "Sources of the whole answer (4 tokens)"
    assert (report["start"], report["left"], report["escape"]) == (whole, whole, whole)
    assert report["hover"] == "Sources of answer token 2:  a"
    assert report["pin"] == "Sources of answer token 3:  day (kept)"
    assert report["selected"] == ["false", "false", "true", "false"]
    assert report["focus"] == 3
    assert report["enter"] == "Sources of answer token 4: . (kept)"
    assert report["hoverSum"] == 100.0
    assert report["document"] == [2 + 3, 100.0, 2]
    assert report["sentence"] == [4 + 3, 100.0, 2]
    assert report["token"] == [10 + 1 + 3, 100.0, 2]
    assert report["sqrt"] >= 1
    assert report["picked"].strip() == report["name"] == flow.top(1, by="sentence")[0].text
    assert report["lit"] == 1
    assert report["focusKept"]
    assert report["unpicked"] == ""
