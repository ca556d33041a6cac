"""The heat view in a terminal: text, tints, omissions and escaped characters."""

import io
import re
from dataclasses import replace

import pytest
import torch
from example_flow import FERRY, HARBOUR, TEXT, example
from rich.console import Console

from attributor._result.flow import Flow
from attributor._text.segments import Segment
from attributor.cli.heat_panels import INK, SCALE, Look
from attributor.cli.heat_view import create_heat_view
from attributor.cli.info import collect_info, print_info
from attributor.cli.progress import StageProgress
from attributor.cli.terminal_text import escape

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def printed(flow, *, width=100, color=None, encoding="utf-8", **options) -> str:
    """Return the exact text written to the terminal."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    settings = {"force_terminal": True, "color_system": color} if color else {"color_system": None}
    console = Console(file=file, width=width, highlight=False, legacy_windows=False, _environ={}, **settings)
    console.print(create_heat_view(console, flow, **options))
    file.flush()
    return raw.getvalue().decode(encoding)


def flow_on(text: str, shares: dict[tuple[int, int], float], documents=()) -> Flow:
    """Return a flow with one token per character; the share of each span is spread evenly."""
    k = len(text)
    scores = torch.zeros(1, k)
    for (start, stop), share in shares.items():
        scores[0, start:stop] += share / (stop - start)
    offsets = torch.stack([torch.arange(k), torch.arange(1, k + 1)], 1)
    return Flow(
        scores=scores, ids=torch.arange(k), missing_mass=1 - scores.sum(1), text=text, offsets=offsets,
        documents=documents, meta={"model": "tiny"},
    )  # fmt: skip


def shares_listed(out: str) -> list[float]:
    listed = ESCAPE.sub("", out).rpartition("Where the answer came from")[2]
    return [float(found) for found in re.findall(r"^ *([\d.]+)%", listed, re.MULTILINE)]


def test_needed_is_printed_after_cited_sentences_only():
    citations = example().cite().citations
    known = [replace(citation, needed=-1.234) for citation in citations]
    assert known
    out = " ".join(printed(example(), citations=known).split())
    assert out.count("needed -1.2 nats") == len(known)
    for by in ("token", "document"):
        assert "needed" not in printed(example(), citations=known, by=by)
    assert "needed" not in printed(example(), citations=citations)


def test_says_is_printed_after_cited_sentences_only():
    known = [replace(citation, says=0.256, needed=2.0) for citation in example().cite().citations]
    out = " ".join(printed(example(), citations=known).split())
    assert out.count("says 0.26 needed +2.0 nats") == len(known) > 0
    for by in ("token", "document"):
        assert "says" not in printed(example(), citations=known, by=by)
    assert "says" not in printed(example(), citations=[replace(citation, says=None) for citation in known])


def test_the_cost_of_a_stage_is_printed_with_and_without_a_bar(capsys):
    for shown in (False, True):
        with StageProgress(shown) as progress:
            progress.announce("effects of 2 claims: 2 backward passes over 1,234 tokens")
        assert capsys.readouterr() == ("", "effects of 2 claims: 2 backward passes over 1,234 tokens\n")


@pytest.mark.parametrize("by", ["token", "sentence", "document"])
@pytest.mark.parametrize("top", [0, 2])
def test_listed_shares_add_up_to_100_percent(by, top):
    out = printed(example(), by=by, top=top)
    listed = shares_listed(out)
    rounding = sum(0.5 if share >= 10 else 0.05 for share in listed)  # whole percent; tenths below ten
    assert sum(listed) == pytest.approx(100, abs=rounding)


def test_documents_are_listed_with_titles_and_shares():
    start, stop = TEXT.index(HARBOUR), TEXT.index(HARBOUR) + len(HARBOUR)
    second = TEXT.index("Dr. Hart")
    title = TEXT.index("Harbour:")
    documents = [Segment(title, stop, TEXT[title:stop], "Harbour")]
    flow = flow_on(TEXT, {(second, stop): 0.5, (start, second - 1): 0.02, (0, 3): 0.3}, documents)
    out = printed(flow)
    assert "Harbour  100%" in out, "shares are of what came from the documents"
    assert "Dr. Hart ran it. [96%]" in out, "without colour the share stands behind the sentence"
    assert "1931. [" not in out, "a small share is left plain"
    assert "Harbour:\nThe" not in out, "the title is shown once"
    rows = [row.split() for row in out.rpartition("came from")[2].split("\n") if row.strip()]
    assert [row[0] for row in rows] == ["96%", "3.8%"], "of 0.52: 0.50 and 0.02, and no row of zeros"
    assert "1 other" not in out


def test_tints_set_a_readable_text_colour():
    def luminance(colour):
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ink = luminance([int(INK[i : i + 2], 16) for i in (1, 3, 5)])
    assert all((luminance(colour) + 0.05) / (ink + 0.05) > 6 for colour in SCALE)
    look = Look(colour=True, ascii=False)
    for strength in (0.1, 0.4, 0.99, 1.0, 1.5):
        assert look.tint(strength).color.name == INK
    assert not look.tint(0.05)


def test_colour_tints_and_no_colour_has_no_escape_sequences():
    coloured = printed(example(), color="truecolor")
    assert "48;2;255;112;77" in coloured, "the strongest tint"
    assert "\x1b" not in printed(example())
    assert ESCAPE.sub("", coloured).count("\x1b") == 0


def test_an_ascii_terminal_gets_ascii():
    out = printed(example(), encoding="ascii")
    assert "##" in out
    assert out.isascii()


NASTY = "A\x1b[2J\x1b]0;owned\x07 \x9b31m [bold red]b[/] \u202egpj.exe\u2066 \U000e0041 c\rd \x7f."


@pytest.mark.parametrize("color", [None, "truecolor"])
@pytest.mark.parametrize("by", ["token", "sentence", "document"])
def test_control_sequences_of_documents_are_escaped(color, by):
    text = f"{NASTY}\n\nQ?"
    title = "T\x1b[2J\u202e[red]"
    flow = flow_on(text, {(0, len(NASTY)): 0.9}, [Segment(0, len(NASTY), NASTY, title)])
    out = ESCAPE.sub("", printed(flow, color=color, by=by))
    assert not set(out) & set("\x1b\x07\x9b\r\x7f\u202e\u2066\U000e0041")
    assert by == "token" or "[bold red]b[/]" in out, "no markup"
    assert "␛" in out


def test_escape_keeps_positions_and_harmless_text():
    assert len(escape(NASTY)) == len(NASTY)
    kind = "Tab\tline\nCafé 你好 שלום 👩\u200d👩\u200d👧 [x]"
    assert escape(kind) == kind
    "".join(escape(chr(code)) for code in range(0x110000)).encode("utf-8")  # fails on a lone surrogate


def test_a_long_prompt_shows_only_the_used_text():
    sentence = "Nothing of interest stands in this sentence at all. "
    needle = "The key lies under the third stone."
    documents, text = [], ""
    for number in range(40):
        body = sentence * 30 + (needle + " " if number == 17 else "") + sentence * 30
        documents.append(Segment(len(text), len(text) + len(body), body, f"Book {number}"))
        text += body + "\n\n"
    at = text.index(needle)
    out = printed(flow_on(text, {(at, at + len(needle)): 0.8, (0, 10): 0.01}, documents), top=3)
    assert needle in " ".join(out.replace("│", " ").split())
    assert "Book 17" in out
    assert "39 more documents are not shown: 1.2% in all." in out
    assert len(out) < 4000
    assert "…" in out


def test_a_sentence_without_end_is_cut():
    text = "word " * 20_000
    out = printed(flow_on(text, {(0, len(text)): 0.9}, [Segment(0, len(text), text, "Endless")]))
    assert len(out) < 20_000


def test_a_flow_without_shares_or_documents_is_printed():
    out = printed(flow_on(TEXT, {}))
    assert "Where the answer came from" in out
    assert "%" not in re.sub(r"\b0%", "", out)
    assert FERRY[:20] in " ".join(printed(example(documents=())).replace("│", " ").split())


def test_small_shares_are_grouped_and_never_shown_as_zero():
    start, stop = TEXT.index(HARBOUR), TEXT.index(HARBOUR) + len(HARBOUR)
    ferry = TEXT.index(FERRY)
    documents = [Segment(start, stop, HARBOUR), Segment(ferry, ferry + len(FERRY), FERRY)]
    out = printed(flow_on(TEXT, {(start, start + 5): 0.5, (ferry, ferry + 4): 0.0002}, documents), top=0)
    assert "0.0%" not in out
    assert "3 other sentences" in out
    rows = [row.split() for row in out.rpartition("came from")[2].split("\n") if row.strip()]
    assert [row[0] for row in rows] == ["100%", "<0.1%"]
    assert Look.of(Console()).share(0.0005) == "<0.1%"
    assert [Look.of(Console()).share(share) for share in (0, 0.0123, 0.5, 1)] == ["0%", "1.2%", "50%", "100%"]


@pytest.mark.parametrize("how", ["mean", "max", "top2"])
def test_other_aggregations_list_scores_without_a_rest(how):
    out = printed(example(), how=how)
    assert "template" not in out


@pytest.mark.parametrize("width", [30, 60, 300])
def test_the_view_fits_any_width(width):
    out = printed(example(), width=width)
    assert max(len(line) for line in out.splitlines()) <= min(width, 110)


def test_progress_without_a_terminal_is_silent_and_keeps_time(capsys):
    stages = StageProgress()
    with stages:
        stages.begin("load")
        stages("prompt", 1, 2)
        stages("answer", 1, 9)
        stages("prompt", 2, 2)
        stages("sweep", 2, 2)
    assert list(stages.seconds) == ["load", "prompt", "answer", "sweep"], "layers of later tokens belong to the answer"
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_goes_to_stderr_and_goes_away(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with StageProgress(shown=True) as stages:
        stages("prompt", 1, 2)
        stages("sweep", 1, 2)
    out, err = capsys.readouterr()
    assert not out
    assert "Reading the prompt" in err
    assert "Following the attention" in err


def test_info_says_why_something_is_missing():
    raw = io.StringIO()
    found = collect_info()
    found["versions"]["triton"] = None
    print_info(Console(file=raw, width=200, color_system=None), found)
    for entry in found["implementations"]:
        assert entry["reason"] in raw.getvalue()
    assert re.search(r"missing +.*triton", raw.getvalue())
