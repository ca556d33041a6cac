"""`says` is the part of a claim's content words that a cited sentence holds."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cited_answers import make_answer, make_citation

from attributor._cite import ScoredText, cite, list_sources, show_says
from attributor._cite.says import measure_says
from attributor._documents import Document, place_documents

STEPS = "It was finished in 1868 and has 164 steps."
NOTES = Document("Lava is black.\nAsh is grey.", "Field notes")
LAVA, ASH = make_citation(NOTES, "Lava is black.", 1), make_citation(NOTES, "Ash is grey.", 2)


@pytest.mark.parametrize(
    ("claim", "sentence", "says"),
    [
        (STEPS, STEPS, 1),  # copied
        ("It has 164 steps, finished in 1868!", STEPS, 1),  # other order and punctuation
        ("The lighthouse has 164 steps.", STEPS, 2 / 3),  # lighthouse 164 steps
        ("One climbs 164 stairs in the tower.", STEPS, 1 / 5),  # one climbs 164 stairs tower: a paraphrase
        ("Boats leave before dawn.", STEPS, 0),  # unrelated
        ("It is in the.", "It was in the.", None),  # stop words only
        ("…", STEPS, None),
        ("1,868 steps", "There are 1868 steps", 1),  # a number with a comma
        ("steps and steps", "Many steps.", 1 / 2),  # a word counts as often as it occurs
        ("Lava is not black.", "Lava is black.", 2 / 3),  # "not" is a content word
        ("Lava is black.", "Lava is not black.", 1),  # only words count, also in a sentence that denies the claim
        ("5,5 Meter", "55 Meter", 1 / 2),  # a decimal comma stays
        ("3,14", "314", 0),
        ("It is 3.5 km.", "It is 35 km.", 1 / 2),
        ("It has 164 steps [1].", "It has 164 steps.", 1),  # a citation mark of the model is not content
        ("It has 164 steps [1, 2][3].", "It has 164 steps.", 1),
        ("[1]", "It has 1 step.", None),
        ("It has 164 steps.", "It has 164 [1].", 1 / 2),
        ("In the U.S.", "The US flag.", 1),  # not the pronoun "us"
        ("The lighthouse's steps", "Steps of the lighthouse", 1),
        ("Caf\u00e9 Stra\u00dfe", "CAFE\u0301 STRASSE", 1),  # NFC and NFD, case
        ("首都是北京。", "中国的首都是北京。", 1),
        ("首都是东京。", "中国的首都是北京。", 4 / 5),
        ("東京タワーは333メートルです。", "東京タワーの高さは333メートルです。", 1),
        ("หอคอยสูง 164 เมตร", "หอคอยสูง 164 เมตร", None),  # Thai
        ("ຫໍຄອຍ", "ຫໍຄອຍ", None),  # Lao
        ("ប៉ម", "ប៉ម", None),  # Khmer
        ("မျှော်စင်", "မျှော်စင်", None),  # Burmese
        ("Lava", "ลาวา", None),
        ("It costs 5 ฿", "5 ฿", 1 / 2),  # a Thai currency sign is not Thai text
        ("Grau", "", 0),
    ],
)
def test_says_is_the_part_of_the_claims_content_words(claim, sentence, says):
    assert measure_says(claim, [sentence]) == [says if says is None else pytest.approx(says)]


def test_says_has_one_value_for_each_sentence():
    assert measure_says("Lava is black.", ["Black lava.", "Ash.", "Lava"]) == [1, 0, 0.5]
    assert measure_says("Lava is black.", []) == []


def offsets_of(tokens):
    stops = np.cumsum([len(token) for token in tokens])
    return np.stack([stops - [len(token) for token in tokens], stops], axis=1)


def cited_answer(answer, rows, claims=None):
    """Return the citations of an answer; `rows` gives each token's scores for "Lava is black." and "Ash is grey."."""
    tokens = ["Lava is black.", "\n", "Ash is grey.", "\n"]
    text = "".join(tokens)
    scores = np.array([[lava, 0, ash, 0] for lava, ash in rows], dtype=np.float32)
    flow = ScoredText(scores, text, offsets_of(tokens), "".join(answer), offsets_of(answer))
    return cite(flow, place_documents(text, [NOTES]), claims=claims)


def test_says_of_a_claim_and_of_the_whole_answer():
    cited = cited_answer(["Black lava. ", "The ash is white."], [(1, 0), (0.5, 0.5)])
    of_claims = [[(c.number, c.says) for c in claim.citations] for claim in cited.claims]
    assert of_claims == [[(1, 1.0)], [(1, 0.0), (2, 0.5)]]
    # black lava ash white: half of them are in the first sentence, a quarter in the second
    assert [(c.number, c.says) for c in cited.citations] == [(1, 0.5), (2, 0.25)]


def test_thinking_is_not_compared():
    cited = cited_answer(["<think>Ash, lava, gold?</think>", "Black lava."], [(1, 0), (1, 0)])
    assert [c.says for c in cited.citations] == [c.says for c in cited.claims[0].citations] == [1.0]


def test_a_passed_claim_is_compared_without_the_thinking_at_its_start():
    tokens = ["<think>Ash, gold?</think>", "Black lava."]
    text = "".join(tokens)
    cited = cited_answer(tokens, [(1, 0), (1, 0)], claims=[(0, len(text)), (7, 10)])
    # the second claim is "Ash" inside the thinking; it is compared unchanged
    assert [[(c.quote, c.says) for c in claim.citations] for claim in cited.claims] == [
        [("Lava is black.", 1.0)],
        [("Lava is black.", 0.0)],
    ]


def test_unknown_says_is_null_and_not_printed():
    cited = cited_answer(["ลาวา"], [(1, 0)])
    assert [c.says for c in cited.citations] == [c.says for c in cited.claims[0].citations] == [None]
    assert "says" not in str(cited)
    assert [c["says"] for c in json.loads(json.dumps(cited.to_json()))["citations"]] == [None]


def test_printed_sources_show_the_largest_says_of_the_claims_that_cite_them():
    cited = cited_answer(["Lava is black. ", "It is grey ash."], [(1, 0), (0.5, 0.5)])
    assert [[(c.number, c.says) for c in claim.citations] for claim in cited.claims] == [
        [(1, 1.0)],
        [(1, 0.0), (2, 1.0)],
    ]
    assert [(c.number, c.says) for c in list_sources(cited)] == [(1, 1.0), (2, 1.0)]
    assert [line.rpartition(", ")[2] for line in str(cited).splitlines()[2:]] == [
        'says 1.00: "Lava is black."',
        'says 1.00: "Ash is grey."',
    ]
    assert [c["says"] for c in cited.to_json()["citations"]] == [0.5, 0.5]  # for the whole answer


@pytest.mark.parametrize(
    ("says", "text"), [(0, "says 0.00"), (2 / 3, "says 0.67"), (0.996, "says 1.00"), (1, "says 1.00")]
)
def test_says_is_shown_as_a_part_of_one(says, text):
    assert show_says(says) == text


def test_says_is_shown_and_written_where_it_is_known():
    known = [replace(LAVA, says=0.75, needed=2.125), replace(ASH, says=0.0)]
    answer = make_answer("Black. Grey.", [("Black.", [known[0]]), ("Grey.", [known[1]])])
    assert str(answer).splitlines()[2:] == [
        '[1] Field notes, 50%, says 0.75, needed +2.1 nats: "Lava is black."',
        '[2] Field notes, 50%, says 0.00: "Ash is grey."',
    ]
    report = answer.to_json()
    assert json.loads(json.dumps(report)) == report
    assert report["version"] == 1
    assert [c["says"] for c in report["citations"]] == [0.75, 0.0]
    assert [claim["citations"][0]["says"] for claim in report["claims"]] == [0.75, 0.0]
    extras = [annotation["extras"] for annotation in answer.to("langchain")[0]["annotations"]]
    assert [extra["says"] for extra in extras] == [0.75, 0.0]
    unknown = make_answer("Black. Grey.", [("Black.", [LAVA]), ("Grey.", [ASH])])
    assert "says" not in str(unknown) + json.dumps(unknown.to("langchain"))
    for shape in ("anthropic", "openai", "cohere"):
        assert answer.to(shape) == unknown.to(shape)


def test_importing_the_package_does_not_import_the_aligner():
    code = "import sys, attributor, attributor._cite; attributor.Citation; attributor.ask; attributor.Flow;"
    code += "print({'pydantic', 'cite_right', 'bm25s'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
