"""`cite` gives the shares of sentences and documents, computed by hand for a few tokens."""

from dataclasses import replace

import numpy as np
import pytest

from attributor._cite import CitedAnswer, Origin, ScoredText, cite
from attributor._documents import Document, place_documents
from attributor._errors import InputError
from attributor._text import Segment

# Each entry is a token. Documents: tokens 1 to 3 under a title, tokens 5 and 6.
PROMPT = ["Read: ", "Notes:\n", "Lava is black. ", "Ash is grey.", "\n\n", "Gold is ", "heavy.", " Which?"]
TITLE, LAVA, ASH, GOLD, HEAVY = 1, 2, 3, 5, 6
TEXT = "".join(PROMPT)


def offsets_of(tokens: list[str]) -> np.ndarray:
    stops = np.cumsum([len(token) for token in tokens])
    return np.stack([stops - [len(token) for token in tokens], stops], axis=1)


def span_of(first: int, last: int) -> tuple[int, int]:
    """Return the characters of tokens of the prompt."""
    offsets = offsets_of(PROMPT)
    return int(offsets[first, 0]), int(offsets[last, 1])


DOCUMENTS = place_documents(TEXT, [Segment(*span_of(TITLE, ASH), "", "Notes"), Segment(*span_of(GOLD, HEAVY), "")])


def scored(answer: list[str], rows: list[dict[int, float]], **leftovers: list[float]) -> ScoredText:
    """Return a scored text; `rows` gives the scores of each answer token by prompt token."""
    scores = np.zeros((len(answer), len(PROMPT)), dtype=np.float32)
    for row, values in enumerate(rows):
        scores[row, list(values)] = list(values.values())
    rest = {name: np.array(values, dtype=np.float32) for name, values in leftovers.items()}
    return ScoredText(scores, TEXT, offsets_of(PROMPT), "".join(answer), offsets_of(answer), **rest)


def quotes(cited: CitedAnswer, claim: int) -> list[tuple[str, float]]:
    return [(citation.quote, citation.share) for citation in cited.claims[claim].citations]


def test_shares_are_parts_of_what_the_claim_took_from_the_documents():
    flow = scored(
        ["It is ", "black. ", "And heavy."],
        [{0: 0.5, LAVA: 0.25, ASH: 0.125}, {LAVA: 0.25, ASH: 0.125, GOLD: 0.25}, {HEAVY: 0.75, GOLD: 0.25}],
    )
    cited = cite(flow, DOCUMENTS)
    assert [(claim.start, claim.stop, claim.text) for claim in cited.claims] == [
        (0, 12, "It is black."),
        (13, 23, "And heavy."),
    ]
    assert quotes(cited, 0) == [("Lava is black.", 0.5)], "the others have less than an average sentence"
    assert quotes(cited, 1) == [("Gold is heavy.", 1.0)]
    # shares of the whole answer: 0.5 and 1.25 of 2
    assert [(c.number, c.quote, c.share) for c in cited.citations] == [
        (1, "Lava is black.", pytest.approx(0.25)),
        (2, "Gold is heavy.", 0.625),
    ]
    assert cited.claims[1].citations[0].number == 2
    assert [(d.document, d.title, d.share) for d in cited.documents] == [(0, "Notes", 0.375), (1, None, 0.625)]


def test_a_title_has_a_part_of_the_document_but_is_not_cited():
    cited = cite(scored(["Black."], [{TITLE: 0.5, LAVA: 0.25, HEAVY: 0.25}]), DOCUMENTS)
    assert quotes(cited, 0) == [("Lava is black.", 0.25), ("Gold is heavy.", 0.25)]
    assert [document.share for document in cited.documents] == [0.75, 0.25]
    citation = cited.citations[0]
    assert (citation.start, citation.stop) == (0, 14)  # places in the text after the title line


def test_citations_count_characters_of_the_document_as_given():
    own = Document("\n  Gold is heavy.\r\n\fSilver\r\nshines.  ", "Metals", {"id": 3})
    shown = "Gold is heavy.\n\nSilver\nshines."
    tokens = ["Read: ", "Gold is heavy.", "\n\n", "Silver\nshines.", "?"]
    text = "".join(tokens)
    scores = np.array([[0.0, 0.5, 0.0, 0.5, 0.0]], dtype=np.float32)
    flow = ScoredText(scores, text, offsets_of(tokens), "Shiny.", offsets_of(["Shiny."]))
    assert shown in text
    cited = cite(flow, place_documents(text, [own]))
    gold, silver = cited.claims[0].citations
    assert [(c.quote, c.page, c.share) for c in (gold, silver)] == [
        ("Gold is heavy.", 1, 0.5),
        ("Silver\r\nshines.", 2, 0.5),
    ]
    for citation in (silver, gold):
        assert own.text[citation.start : citation.stop] == citation.quote
        assert citation.metadata is own.metadata
        assert citation.title == "Metals"


def test_top_bounds_the_citations_of_a_claim():
    flow = scored(["Black."], [{LAVA: 0.25, ASH: 0.25, HEAVY: 0.25}])
    assert [len(cite(flow, DOCUMENTS, top=top).claims[0].citations) for top in (1, 2, 3, 9)] == [1, 2, 3, 3]
    assert [citation.quote for citation in cite(flow, DOCUMENTS, top=1).citations] == ["Lava is black."]


@pytest.mark.parametrize("top", [0, -1, True, 1.0, "3", None])
def test_a_wrong_top_is_refused(top):
    with pytest.raises(InputError, match="top must be a number of at least 1, got"):
        cite(scored(["Black."], [{LAVA: 1.0}]), DOCUMENTS, top=top)


@pytest.mark.parametrize(
    ("shares", "cited_sentences"),
    [
        ([0.5, 0.2, 0.1, *[0.02] * 10], [0, 1]),  # the third has less than 0.3 times the first
        ([0.2, 0.12, 0.11, *[0.057] * 10], [0, 1, 2]),
        ([0.09, 0.08, *[0.083] * 10], [0]),  # all are below a tenth; the first is cited anyway
        ([0.3, 0.24, 0.24, 0.22], [0]),  # the others are below the average sentence
        ([0.3, 0.26, 0.25, 0.19], [0, 1, 2]),
        ([0.0, 0.0], []),
    ],
)
def test_small_shares_are_not_cited(shares, cited_sentences):
    sentences = [f"Stone {number} is heavy. " for number in range(len(shares))]
    text = "".join(sentences)
    answer = ScoredText(np.array([shares]), text, offsets_of(sentences), "Heavy.", offsets_of(["Heavy."]))
    cited = cite(answer, place_documents(text, [text]))
    assert [sentences.index(f"{quote} ") for quote, _ in quotes(cited, 0)] == cited_sentences


def test_claims_keep_a_third_of_the_question_share_and_the_whole_answer_keeps_all():
    # the question share of each row is 0.3 on LAVA and 0.15 on HEAVY
    part = np.zeros(len(PROMPT), dtype=np.float32)
    part[[LAVA, HEAVY]] = 0.3, 0.15
    rows = [{LAVA: 0.3, HEAVY: 0.15, ASH: 0.35}, {LAVA: 0.3, HEAVY: 0.45}]
    of_claims = replace(scored(["It is grey. ", "And heavy."], rows), question_scores=part)
    cited = cite(of_claims, DOCUMENTS)
    assert quotes(cited, 0) == [("Ash is grey.", pytest.approx(0.35 / 0.5))], "0.1 of LAVA and 0.05 of HEAVY are left"
    assert quotes(cited, 1) == [("Gold is heavy.", pytest.approx(0.35 / 0.45))]
    assert [citation.share for citation in cited.citations] == pytest.approx([0.35 / 1.55, 0.6 / 1.55])
    whole = replace(scored(["It is grey."], rows[:1]), question_scores=part)
    assert quotes(cite(whole, DOCUMENTS), 0) == [
        ("Ash is grey.", pytest.approx(0.35 / 0.8)),
        ("Lava is black.", pytest.approx(0.3 / 0.8)),
    ]
    (claim,) = cite(whole, DOCUMENTS, claims=[(6, 10)]).claims
    assert [(c.quote, c.share) for c in claim.citations] == [("Ash is grey.", pytest.approx(0.35 / 0.5))]


def test_equal_shares_are_cited_in_the_order_of_the_documents():
    cited = cite(scored(["Black."], [{HEAVY: 0.25, ASH: 0.25, LAVA: 0.25}]), DOCUMENTS, top=2)
    assert [quote for quote, _ in quotes(cited, 0)] == ["Lava is black.", "Ash is grey."]


def test_claims_as_characters_and_as_text():
    flow = scored(["It is ", "black ", "and heavy."], [{LAVA: 1.0}, {ASH: 1.0}, {HEAVY: 1.0}])
    cited = cite(flow, DOCUMENTS, claims=[(12, 22), "black", Segment(0, 5, "It is")])
    assert [(claim.start, claim.stop, claim.text) for claim in cited.claims] == [
        (12, 22, "and heavy."),
        (6, 11, "black"),
        (0, 5, "It is"),
    ]
    assert [quotes(cited, index) for index in range(3)] == [
        [("Gold is heavy.", 1.0)],
        [("Ash is grey.", 1.0)],
        [("Lava is black.", 1.0)],
    ]
    assert [(c.number, c.quote) for c in cited.citations] == [
        (1, "Gold is heavy."),
        (2, "Ash is grey."),
        (3, "Lava is black."),
    ]


def test_overlapping_claims_share_their_rows():
    flow = scored(["It is ", "black."], [{LAVA: 1.0}, {ASH: 1.0}])
    cited = cite(flow, DOCUMENTS, claims=[(0, 12), (6, 12)])
    assert quotes(cited, 0) == [("Lava is black.", 0.5), ("Ash is grey.", 0.5)]
    assert quotes(cited, 1) == [("Ash is grey.", 1.0)]


def test_an_empty_list_of_claims_has_no_citations():
    cited = cite(scored(["Black."], [{LAVA: 1.0}]), DOCUMENTS, claims=[])
    assert (cited.claims, cited.citations) == ((), ())
    assert [document.share for document in cited.documents] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ("Black.", "claims must be a list of"),
        (3, "claims must be a list of"),
        ([(0, 99)], "claim 0 spans characters 0 to 99; the text has 13"),
        ([(2, 2)], "claim 0 spans characters 2 to 2"),
        (["Black. ", "Red"], "claim 1 is not in the text: 'Red'"),
        ([(0, 6), "B"], "claim 1 is in the text more than once"),
        ([None], "claim 0 must be a Segment, a string or"),
    ],
)
def test_wrong_claims_are_refused(claims, message):
    with pytest.raises(InputError, match=message):
        cite(scored(["Black. ", "Black."], [{LAVA: 1.0}, {}]), DOCUMENTS, claims=claims)


def test_a_claim_that_is_a_small_part_of_a_token():
    cited = cite(scored(["Black and grey."], [{ASH: 1.0}]), DOCUMENTS, claims=[(6, 9)])
    assert quotes(cited, 0) == [("Ash is grey.", 1.0)]


def test_a_claim_without_a_token_is_refused():
    flow = scored(["Black.", " Grey."], [{LAVA: 1.0}, {ASH: 1.0}])
    flow = ScoredText(flow.scores, flow.text, flow.offsets, flow.answer, np.array([[0, 6], [12, 12]]))
    with pytest.raises(InputError, match=r"the claim ' Grey.' holds no token of the answer"):
        cite(flow, DOCUMENTS, claims=[(6, 12)])


def test_thinking_is_not_a_claim():
    flow = scored(["<think>", "It may be grey. ", "</think>", "\n\n", "Black."], [{}, {ASH: 1.0}, {}, {}, {LAVA: 1.0}])
    cited = cite(flow, DOCUMENTS)
    assert [claim.text for claim in cited.claims] == ["Black."]
    assert quotes(cited, 0) == [("Lava is black.", 1.0)]
    # but the whole answer includes it
    assert [(citation.quote, citation.share) for citation in cited.citations] == [("Lava is black.", 0.5)]


def test_an_answer_of_thinking_alone_has_no_claims():
    cited = cite(scored(["Grey?", "</think>"], [{ASH: 1.0}, {}]), DOCUMENTS)
    assert cited.claims == ()
    assert cited.text == "Grey?</think>"


def test_an_end_token_without_characters_is_not_part_of_the_answer():
    flow = scored(["Black.", ""], [{LAVA: 1.0}, {ASH: 3.0}])
    cited = cite(flow, DOCUMENTS)
    assert quotes(cited, 0) == [("Lava is black.", 1.0)]
    assert [(citation.quote, citation.share) for citation in cited.citations] == [("Lava is black.", 1.0)]
    assert [document.share for document in cited.documents] == [1.0, 0.0]


def test_white_space_at_the_end_belongs_to_no_claim():
    cited = cite(scored(["Black.", "\n\n"], [{LAVA: 1.0}, {ASH: 1.0}]), DOCUMENTS)
    assert [(claim.text, claim.stop) for claim in cited.claims] == [("Black.", 6)]
    assert quotes(cited, 0) == [("Lava is black.", 1.0)]


def test_an_answer_that_took_nothing_from_the_documents_cites_nothing():
    cited = cite(scored(["Black."], [{0: 1.0}], on_answer=[0.0], missing=[0.0]), DOCUMENTS)
    assert cited.claims[0].citations == ()
    assert cited.citations == ()
    assert [document.share for document in cited.documents] == [0.0, 0.0]
    assert cited.origin == Origin(documents=0.0, prompt=1.0, answer=0.0, missing=0.0)


def test_claims_with_and_without_sources_are_both_listed():
    cited = cite(scored(["Hm. ", "Black."], [{0: 1.0}, {LAVA: 1.0}]), DOCUMENTS)
    assert [len(claim.citations) for claim in cited.claims] == [0, 1]


def test_negative_scores_from_rounding_count_as_zero():
    cited = cite(scored(["Black."], [{LAVA: 0.5, ASH: -1e-9, HEAVY: -1e-9}]), DOCUMENTS)
    assert quotes(cited, 0) == [("Lava is black.", 1.0)]
    assert [document.share for document in cited.documents] == [1.0, 0.0]


def test_no_share_is_above_one():
    values = 10.0 ** np.random.default_rng(0).uniform(-16, 0, (200, 12))  # some sums of rows round above the total
    for row in values:
        flow = scored(["It "] * len(row), [{LAVA: float(value)} for value in row])
        cited = cite(flow, DOCUMENTS)
        assert cited.citations[0].share == pytest.approx(1.0)
        assert max(cited.citations[0].share, cited.claims[0].citations[0].share, cited.documents[0].share) <= 1.0


def test_origin_adds_up_to_one():
    flow = scored(
        ["It is ", "black."],
        [{0: 0.5, LAVA: 0.25, 7: 0.25}, {TITLE: 0.25, HEAVY: 0.25}],
        on_answer=[0.0, 0.25],
        missing=[0.0, 0.25],
    )
    origin = cite(flow, DOCUMENTS).origin
    assert origin == Origin(documents=0.375, prompt=0.375, answer=0.125, missing=0.125)


def test_origin_is_never_negative():
    flow = scored(["Black."], [{LAVA: 1.0}], on_answer=[-1e-7], missing=[-1e-7])
    assert cite(flow, DOCUMENTS).origin == Origin(documents=1.0, prompt=0.0, answer=0.0, missing=0.0)


@pytest.mark.parametrize("leftovers", [{}, {"on_answer": [0.5]}, {"missing": [0.5]}])
def test_origin_needs_rows_that_add_up(leftovers):
    assert cite(scored(["Black."], [{LAVA: 0.5}], **leftovers), DOCUMENTS).origin is None


def test_numbers_are_python_types():
    flow = scored(["Black."], [{LAVA: 0.5, HEAVY: 0.5}], on_answer=[0.0], missing=[0.0])
    cited = cite(flow, DOCUMENTS, claims=[(np.int64(0), np.int64(6))])
    values = [
        getattr(citation, name) for citation in cited.citations for name in ("number", "document", "start", "stop")
    ]
    assert {type(value) for value in [*values, cited.claims[0].start, cited.claims[0].stop]} == {int}
    shares = [entry.share for entry in (*cited.citations, *cited.documents, *cited.claims[0].citations)]
    assert {type(share) for share in [*shares, cited.origin.documents, cited.origin.missing]} == {float}
