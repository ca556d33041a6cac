"""The shipped sample has its documented properties; rows of real data sets are tested if they are present."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from eval_schemas import HUB

from attributor._errors import InputError
from attributor.eval import data
from attributor.eval.data import load_questions

SHARED = Path(__file__).parents[3] / "shared" / "data"
SAMPLE = Path(data.__file__).parent / "sample.jsonl"
# the sample


@pytest.fixture(scope="module")
def sample():
    return [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]


def gold_of(row):
    """Return the two gold titles in the order in which the question needs them."""
    return list(dict.fromkeys(row["supporting_facts"]["title"]))


def text_of(row, title):
    return "".join(row["context"]["sentences"][row["context"]["title"].index(title)])


def test_the_sample_loads_without_a_problem(sample):
    loaded = load_questions("sample")
    assert (loaded.name, loaded.source, loaded.problems, loaded.notes) == ("sample", "sample", (), ())
    assert [question.id for question in loaded.questions] == [row["id"] for row in sample]
    assert load_questions("sample", limit=5).questions == loaded.questions[:5]
    assert load_questions("hotpotqa", SAMPLE).questions == loaded.questions
    with pytest.raises(InputError, match=r"takes no source; for mine\.json, name the data set"):
        load_questions("sample", "mine.json")


def test_the_sample_has_the_documented_size_and_kinds(sample):
    kinds = Counter(row["type"] for row in sample)
    assert sum(kinds.values()) >= 24
    assert kinds == {"bridge": 24, "comparison": 8}
    assert Counter(row["answer"] for row in sample if row["answer"] in ("yes", "no")) == {"yes": 2, "no": 2}
    assert {row["level"] for row in sample} == {"easy", "medium", "hard"}
    assert len({row["id"] for row in sample}) == len({row["question"] for row in sample}) == len(sample)
    for row in sample:
        assert set(row) == set(HUB)
        titles = row["context"]["title"]
        assert len(titles) == len(set(titles)) == len(row["context"]["sentences"]) == 10
        assert len(gold_of(row)) == 2
        for sentences in row["context"]["sentences"]:
            assert 3 <= len(sentences) <= 5
            assert [sentence[:1] == " " for sentence in sentences] == [False] + [True] * (len(sentences) - 1)
            assert all(re.fullmatch(r" ?\S.*\S[.]", sentence) and "  " not in sentence for sentence in sentences)


def test_a_paragraph_of_the_sample_is_the_same_in_every_row(sample):
    pool: dict[str, list[str]] = {}
    for row in sample:
        for title, sentences in zip(row["context"]["title"], row["context"]["sentences"], strict=True):
            assert pool.setdefault(title, sentences) == sentences
            assert title.removeprefix("The ").lower() in "".join(sentences).lower()
    assert len(pool) >= 60
    assert len({sentence for sentences in pool.values() for sentence in sentences}) == sum(map(len, pool.values()))


def test_answers_of_the_sample_are_in_gold_paragraphs_only(sample):
    for row in sample:
        answer = row["answer"]
        if answer in ("yes", "no"):
            assert row["type"] == "comparison"
            continue
        # "as a lighthouse keeper" answers "how"; "a lighthouse keeper" elsewhere would also reveal the answer
        core = answer.removeprefix("as a ").lower()
        holding = [title for title in row["context"]["title"] if core in f"{title} {text_of(row, title)}".lower()]
        assert answer.lower() in "".join(text_of(row, title) for title in gold_of(row)).lower(), row["id"]
        assert set(holding) <= set(gold_of(row)), row["id"]


def test_bridge_questions_of_the_sample_need_both_paragraphs(sample):
    for row in sample:
        first, second = gold_of(row)
        question = row["question"].lower()
        if row["type"] == "comparison":
            assert first.lower() in question
            assert second.lower() in question
            continue
        assert row["answer"].removeprefix("as a ").lower() not in f"{first} {text_of(row, first)}".lower(), row["id"]
        assert row["answer"].lower() in text_of(row, second).lower(), row["id"]
        assert second.lower() not in question, row["id"]
        assert first.lower() in question, row["id"]
        assert row["answer"].lower() not in question, row["id"]


def test_the_supporting_sentence_contains_the_answer(sample):
    for row in sample:
        facts = zip(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"], strict=True)
        gold = [row["context"]["sentences"][row["context"]["title"].index(title)][number] for title, number in facts]
        if row["type"] == "bridge":
            assert row["answer"].lower() in gold[-1].lower(), row["id"]


def test_gold_paragraphs_of_the_sample_occur_at_every_place(sample):
    places = Counter(row["context"]["title"].index(title) for row in sample for title in gold_of(row))
    assert set(places) == set(range(10))
    assert max(places.values()) <= 2 * min(places.values())
    swapped = [
        row["context"]["title"].index(gold_of(row)[0]) > row["context"]["title"].index(gold_of(row)[1])
        for row in sample
    ]
    assert 0.25 < sum(swapped) / len(swapped) < 0.75


# real rows


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("hotpotqa", "hotpotqa_validation_165.jsonl", 165),
        ("hotpotqa", "hotpotqa_train_316.jsonl", 316),
        ("2wiki", "2wikimultihopqa_train_200.jsonl", 200),
        ("musique", "musique_train_100.jsonl", 100),
    ],
)
def test_all_real_rows_are_used(name, file, rows):
    if not (SHARED / file).exists():
        pytest.skip("the development rows of the public data sets are not here")
    loaded = load_questions(name, SHARED / file)
    assert (len(loaded.questions), loaded.problems, loaded.notes) == (rows, (), ())
    raw = {row["id"]: row for row in map(json.loads, (SHARED / file).read_text("utf-8").splitlines())}
    for question in loaded.questions:
        row = raw[question.id]
        assert question.gold
        assert all(question.documents[d].pieces[p].strip() for d, p in question.gold)
        if name == "musique":
            assert len(question.gold) == sum(paragraph["is_supporting"] for paragraph in row["paragraphs"])
            assert re.fullmatch(r"[234]hop\d?", question.kind)
        else:
            facts = set(zip(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"], strict=True))
            assert {(question.documents[d].title, p) for d, p in question.gold} == facts
            bodies = ["".join(document.pieces) for document in question.documents]
            if name == "hotpotqa":
                assert bodies == ["".join(sentences) for sentences in row["context"]["sentences"]]
            else:
                assert bodies == [" ".join(sentences) for sentences in row["context"]["sentences"]]
