"""The prompts for finding retrieval heads, and the ranking of a head's attention."""

import dataclasses
import hashlib
import itertools
import json
import re
import string

import pytest
import torch

from attributor import InputError
from attributor._heads.calibration.prompts import KINDS, STANDARD, make_cases
from attributor._heads.calibration.ranking import average_precision, expected_average_precision, planted_share
from attributor._heads.calibration.words import CODE, KINDS_OF_THING, MOTTO, NAMES, VALUES

pytestmark = pytest.mark.usefixtures("own_cache")


# ---- prompts


def mentions(sentence, name):
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sentence, re.IGNORECASE) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("documents", [10, 2])
def test_the_answer_is_only_in_the_planted_sentence(kind, documents):
    for case in make_cases(60, seed=5, kinds=[kind], documents=documents):
        assert len(case.documents) == documents
        assert len({title for title, _ in case.documents}) == documents
        (document, _), *more = case.planted
        assert len(more) == (kind in ("two_hop", "comparison"))
        asked = case.documents[document][0]
        assert mentions(case.question, asked)
        if kind == "comparison":
            other = case.documents[more[0][0]]
            assert mentions(case.question, other[0])
            years = [re.search(r"\d{4}", case.documents[d][1][s]).group() for d, s in case.planted]
            assert case.answer == asked
            assert years[0] < years[1]
            continue
        last = case.planted[-1]
        for d, (_, sentences) in enumerate(case.documents):
            for s, sentence in enumerate(sentences):
                assert mentions(sentence, case.answer) == ((d, s) == last), (case.answer, sentence)
        assert not mentions(case.question, case.answer)


def test_the_second_hop_is_reached_through_the_first_only():
    orders = set()
    for case in make_cases(60, seed=6, kinds=["two_hop"]):
        (first, a), (second, _) = case.planted
        start, end = case.documents[first], case.documents[second]
        assert mentions(start[1][a], end[0])
        assert not mentions(case.question, end[0])
        assert not mentions(start[1][a], case.answer)
        assert not any(mentions(sentence, start[0]) for sentence in end[1])
        others = [s for d, (_, sentences) in enumerate(case.documents) if d not in (first, second) for s in sentences]
        assert not any(mentions(sentence, end[0]) for sentence in others)
        orders.add(first < second)
    assert orders == {True, False}


STOP = """a an the of in on at is are was were has have had do does did it its for to by with from and or what which who
whom whose where when how one there all into under"""


def words(templates):
    text = re.sub(r"\{\w\}", " ", " ".join(templates))
    found = {word.strip(string.punctuation).lower() for word in text.split()} - {*STOP.split(), ""}
    return {word.removesuffix("s") for word in found}  # "plays" counts as "play"


@pytest.mark.parametrize("thing", KINDS_OF_THING)
def test_paraphrased_questions_share_no_characteristic_word_with_the_sentences(thing):
    for fact in KINDS_OF_THING[thing].facts:
        assert fact.reworded_questions
        assert not words(fact.statements) & words(fact.reworded_questions), fact
        assert words(fact.statements) & words(fact.questions), fact


def test_values_are_not_words_of_templates_names_or_other_lists():
    facts = [fact for thing in KINDS_OF_THING.values() for fact in thing.facts] + [CODE, MOTTO]
    templates = [
        t
        for fact in facts
        for t in (*fact.statements, *fact.questions, *fact.reworded_questions, fact.bridge, fact.comparison)
    ]
    templates += [filler for thing in KINDS_OF_THING.values() for filler in thing.fillers]
    names = [" ".join(lists) for lists in NAMES.values()]
    for what, values in VALUES.items():
        listed = values.split(", ")
        assert len(set(listed)) == len(listed) >= 12
        rest = templates + names + [other for name, other in VALUES.items() if name != what]
        for value in listed:
            assert not any(mentions(text, value) for text in rest), value
            assert what not in ("job", "animal", "sign") or value[0] not in "aeiou", "they follow an a"


def test_a_seed_gives_the_same_prompts_everywhere():
    cases = make_cases(20, seed=7, kinds=KINDS)
    text = json.dumps([dataclasses.asdict(case) for case in cases], sort_keys=True)
    found = hashlib.sha256(text.encode()).hexdigest()
    assert found == "471206279d2e8d14c12217f0395513d38c3a10565d9659d27ad9c83d446d1de2", (
        "other prompts choose other heads: raise RULE in model_digest.py"
    )
    assert make_cases(3, seed=7, kinds=KINDS) == cases[:3]
    assert make_cases(20, seed=8, kinds=KINDS) != cases
    assert [case.kind for case in make_cases(5)] == [*STANDARD, STANDARD[0]]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"count": 0}, "count must be .* from 1"),
        ({"count": 2.5}, "count must be"),
        ({"count": 1, "documents": 1}, "documents must be a whole number from 2 to 10, got 1"),
        ({"count": 1, "kinds": ["facts"]}, "kinds must be some of fact, two_hop, .* got facts"),
        ({"count": 1, "kinds": []}, "got none"),
    ],
)
def test_invalid_options_of_prompts_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        make_cases(**options)


# ---- ranking


def test_average_precision_counts_a_tie_half():
    planted = torch.tensor([True, False, False, False])
    for scores, expected in (
        ([4.0, 3, 2, 1], 1), ([1.0, 2, 3, 4], 1 / 4), ([2.0, 2, 1, 0], 1 / 1.5), ([0.0, 0, 0, 0], 1 / 2.5),
    ):  # fmt: skip
        assert average_precision(torch.tensor(scores), planted).item() == pytest.approx(expected)
    two = torch.tensor([True, True, False, False])
    assert average_precision(torch.tensor([5.0, 1, 3, 2]), two).item() == pytest.approx((1 + 2 / 4) / 2)
    assert average_precision(torch.tensor([3.0, 3, 2, 1]), two).item() == 1


def by_sorting(scores, wanted):
    """Return (L, H) average precision by its definition: the mean precision at the ranks of the wanted entries."""
    found = []
    for row in scores.flatten(0, 1).tolist():
        order = sorted(range(len(row)), key=lambda i: -row[i])
        hits = [index in wanted for index in order]
        found.append(sum(sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits) if hit) / len(wanted))
    return torch.tensor(found).view(scores.shape[:2])


def test_average_precision_of_many_heads_is_that_of_each():
    scores = torch.rand(3, 4, 30, generator=torch.Generator().manual_seed(0))
    planted = torch.zeros(30, dtype=torch.bool)
    planted[[3, 17, 20]] = True
    torch.testing.assert_close(average_precision(scores, planted), by_sorting(scores, [3, 17, 20]))


@pytest.mark.parametrize(("S", "m"), [(1, 1), (5, 1), (6, 2), (5, 5), (6, 4)])
def test_chance_is_the_mean_over_all_orders(S, m):
    planted = torch.arange(S) < m
    orders = torch.tensor(list(itertools.permutations(range(S))), dtype=torch.float32)
    assert expected_average_precision(S, m) == pytest.approx(average_precision(orders, planted).mean().item(), abs=1e-5)


def test_planted_share_is_the_part_of_the_planted_sentences():
    planted = torch.tensor([True, False, False])
    assert planted_share(torch.tensor([[1.0, 2, 1], [0, 0, 0]]), planted).tolist() == [0.25, 0]
