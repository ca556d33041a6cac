"""`CitedAnswer` as printed text, with marks, and as JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from cited_answers import cited_answers, make_answer, make_citation
from hypothesis import given, settings

from attributor._cite import (
    CitedAnswer,
    Claim,
    DocumentShare,
    Origin,
    add_needed,
    origin_sentence,
    show_needed,
    show_share,
    split_documents,
)
from attributor._documents import Document, place_documents

NOTES = Document("Lava is black.\nAsh is grey.", "Field notes", {"id": 7})
LAVA, ASH = make_citation(NOTES, "Lava is black.", 1, share=0.876), make_citation(NOTES, "Ash is grey.", 2, share=0.04)


def test_marks_follow_each_claim():
    answer = make_answer("Black. Grey. Who knows.", [("Black.", [LAVA, ASH]), ("Grey.", [ASH]), ("Who knows.", [])])
    assert answer.marked_text() == "Black. [1][2] Grey. [2] Who knows."


def test_claims_in_any_order_are_marked_in_the_order_of_the_text():
    answer = make_answer("Black. Grey. End", [("Grey.", [ASH]), ("Black.", [LAVA])])
    assert answer.marked_text() == "Black. [1] Grey. [2] End"


def test_overlapping_claims_are_each_marked_at_their_end():
    answer = make_answer("Black and grey.", [("Black and grey.", [ASH]), ("Black", [LAVA]), ("grey.", [LAVA])])
    assert answer.marked_text() == "Black [1] and grey. [2] [1]"


@pytest.mark.parametrize(
    ("claim", "marked"),
    [
        ("Black. ", "Black. [1] Grey.\n"),
        ("Grey.\n", "Black. Grey. [1]\n"),
        (" Grey", "Black. Grey [1].\n"),
        (" ", "Black. [1] Grey.\n"),
    ],
)
def test_marks_precede_the_white_space_at_the_end_of_a_claim(claim, marked):
    assert make_answer("Black. Grey.\n", [(claim, [LAVA])]).marked_text() == marked


@given(cited_answers())
@settings(max_examples=200, deadline=None)
def test_without_its_marks_the_marked_text_is_the_answer(drawn):
    answer, _ = drawn
    marked = answer.marked_text()
    assert re.sub(r" (\[\d+\])+", "", marked) == answer.text
    marks = sorted(int(number) for number in re.findall(r"\[(\d+)\]", marked))
    assert marks == sorted(citation.number for claim in answer.claims for citation in claim.citations)


def test_printed_answer_ends_with_its_sources():
    answer = make_answer("\n Black. Grey. \n", [("Black.", [LAVA]), ("Grey.", [ASH])])
    assert str(answer).splitlines() == [
        "Black. [1] Grey. [2]",
        "",
        '[1] Field notes, 88%: "Lava is black."',
        '[2] Field notes, 4.0%: "Ash is grey."',
    ]


def test_printed_answer_without_citations_is_the_text():
    assert str(make_answer("Who knows.\n", [("Who knows.", [])])) == "Who knows."


def test_a_source_without_title_has_the_number_of_its_document_and_its_page():
    document = Document("First page.\fSecond\r\n\tpage.")
    answer = make_answer(
        "Yes.",
        [
            (
                "Yes.",
                [make_citation(document, quote, i, index=2) for i, quote in enumerate(document.text.split("\f"), 1)],
            )
        ],
    )
    assert str(answer).splitlines()[2:] == [
        '[1] document 3, page 1, 50%: "First page."',
        '[2] document 3, page 2, 50%: "Second page."',
    ]


@pytest.mark.parametrize(("length", "shown"), [(300, "a" * 300), (301, "a" * 299 + "…")])
def test_a_long_quote_is_cut(length, shown):
    document = Document("a" * length)
    answer = make_answer("Yes.", [("Yes.", [make_citation(document, document.text)])])
    assert str(answer).endswith(f': "{shown}"')


TABLE = Path(__file__).parents[2] / "webapp/tests/model/shares.json"  # the tests of the browser's rule read it too


@pytest.mark.parametrize(("share", "text"), json.loads(TABLE.read_text("utf-8")))
def test_show_share_formats_percent(share, text):
    assert show_share(share) == text


def test_origin_sentence_names_the_parts():
    sentence = origin_sentence(Origin(0.25, 0.6, 0.149, 0.0005))
    assert "25% of the whole flow came from the documents, 60% from question" in sentence
    assert "15% from the answer's own words" in sentence


def full_answer(metadata):
    """Return an answer with every optional part."""
    document = Document("One. Two.\fThree.", "Numbers", metadata)
    citation = make_citation(document, "Three.", 1, share=0.75)
    share = DocumentShare(0, "Numbers", 1.0, metadata)
    claims = (Claim(0, 4, "Yes.", (citation,)), Claim(5, 8, "No.", ()))
    return CitedAnswer("Yes. No.", claims, (citation,), (share,), Origin(0.5, 0.25, 0.125, 0.125))


def test_json_has_the_documented_keys():
    metadata = {"id": 7}
    answer = full_answer(metadata)
    citation = {
        "number": 1,
        "document": 0,
        "start": 10,
        "stop": 16,
        "quote": "Three.",
        "share": 0.75,
        "title": "Numbers",
        "page": 2,
        "metadata": metadata,
        "says": None,
    }
    assert json.loads(json.dumps(answer.to_json())) == {
        "version": 1,
        "answer": "Yes. No.",
        "claims": [
            {"start": 0, "stop": 4, "text": "Yes.", "citations": [citation]},
            {"start": 5, "stop": 8, "text": "No.", "citations": []},
        ],
        "citations": [citation],
        "documents": [{"document": 0, "title": "Numbers", "share": 1.0, "metadata": metadata}],
        "origin": {"documents": 0.5, "prompt": 0.25, "answer": 0.125, "missing": 0.125},
    }


def test_json_of_an_unknown_origin_is_null():
    assert make_answer("Yes.", []).to_json()["origin"] is None


@pytest.mark.parametrize("metadata", [{"object": object()}, MappingProxyType({"pages": (1, 2)})])
def test_json_contains_the_metadata_object(metadata):
    result = full_answer(metadata).to_json()
    assert result["citations"][0]["metadata"] is metadata
    assert result["claims"][0]["citations"][0]["metadata"] is metadata
    assert result["documents"][0]["metadata"] is metadata


# ---- needed


@pytest.mark.parametrize(
    ("needed", "text"),
    [
        (2.13, "needed +2.1 nats"),
        (-31.96, "needed -32.0 nats"),
        (0.96, "needed +1.0 nats"),
        (0.12, "needed +0.12 nats"),
        (-0.004, "needed 0 nats"),
        (0.0, "needed 0 nats"),
    ],
)
def test_show_needed_has_sign_and_unit(needed, text):
    assert show_needed(needed) == text


def test_needed_is_shown_only_if_it_is_known():
    known = make_answer("Black. Grey.", [("Black.", [replace(LAVA, needed=2.125)]), ("Grey.", [ASH])])
    assert str(known).splitlines()[2:] == [
        '[1] Field notes, 88%, needed +2.1 nats: "Lava is black."',
        '[2] Field notes, 4.0%: "Ash is grey."',
    ]
    report = known.to_json()
    assert json.loads(json.dumps(report)) == report
    assert [citation.get("needed", "no key") for citation in report["citations"]] == [2.125, "no key"]
    assert [claim["citations"][0].get("needed", "no key") for claim in report["claims"]] == [2.125, "no key"]
    extras = [annotation["extras"] for annotation in known.to("langchain")[0]["annotations"]]
    assert [extra.get("needed", "no key") for extra in extras] == [2.125, "no key"]
    unknown = make_answer("Black. Grey.", [("Black.", [LAVA]), ("Grey.", [ASH])])
    for shape in ("anthropic", "openai", "cohere"):
        assert known.to(shape) == unknown.to(shape)
    assert "needed" not in str(unknown) + json.dumps(unknown.to_json()) + json.dumps(unknown.to("langchain"))


def test_needed_is_set_on_citations_of_the_same_sentence():
    other = Document("Snow falls. Lava is black.", "Weather")
    text = f"{NOTES.text}\n\n{other.text}"
    documents = place_documents(text, [NOTES, other])
    sentences = split_documents(text, documents)
    assert [sentence.text for sentence in sentences] == [
        "Lava is black.",
        "Ash is grey.",
        "Snow falls.",
        "Lava is black.",
    ]
    lava = make_citation(other, "Lava is black.", 1, index=1)
    cited = make_answer("Black. Grey.", [("Black.", [lava]), ("Grey.", [ASH, lava])])
    of_answer, of_first = np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0, 7.0, 8.0])
    filled = add_needed(cited, documents, sentences, of_answer, [of_first, None])
    assert [citation.needed for citation in filled.citations] == [4.0, 2.0]
    assert [[citation.needed for citation in claim.citations] for claim in filled.claims] == [[8.0], [None, None]]
    unfilled = [replace(citation, needed=None) for citation in filled.citations]
    assert unfilled == list(cited.citations)
    assert add_needed(cited, documents, sentences, None, [None, None]) == cited
