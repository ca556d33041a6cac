"""The scores of heads on the prompts, and the choice of heads."""

import json

import pytest
import tiny_chat
import torch
from calibration_fixtures import made_up_scores

from attributor import InputError
from attributor._flow.eager import eager_attentions
from attributor._heads.calibration import calibrate
from attributor._heads.calibration.choose import choose_heads, rank_heads
from attributor._heads.calibration.head_scores import score_heads
from attributor._heads.calibration.prompts import KINDS, make_cases
from attributor._heads.calibration.tokenized_case import tokenize_case
from attributor._prompt.build import build_prompt

pytestmark = pytest.mark.usefixtures("own_cache")


def by_sorting(scores, wanted):
    """Return (L, H) average precision by its definition: the mean precision at the ranks of the wanted entries."""
    found = []
    for row in scores.flatten(0, 1).tolist():
        order = sorted(range(len(row)), key=lambda i: -row[i])
        hits = [index in wanted for index in order]
        found.append(sum(sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits) if hit) / len(wanted))
    return torch.tensor(found).view(scores.shape[:2])


# ---- scores


def brute_force(model, tokenizer, case):
    """Return {name: (L, H)} from attention matrices, with sentences found by searching the text."""
    documents = [(title, " ".join(sentences)) for title, sentences in case.documents]
    prompt = build_prompt(tokenizer, documents, case.question)
    answer = tokenizer(case.answer, add_special_tokens=False)["input_ids"]
    k, ids = len(prompt.ids), torch.cat([prompt.ids, torch.tensor(answer)])  # with its end token, which is never read
    attention = eager_attentions(model, ids)
    spans, at = [], 0
    for title, sentences in case.documents:
        at = prompt.text.index(f"{title}:\n", at) + len(title) + 1
        for sentence in sentences:
            at = prompt.text.index(sentence, at)
            spans.append((at, at + len(sentence)))
            at += len(sentence)
    middle = prompt.offsets.double().mean(1)
    tokens = [((middle > a) & (middle < b)).nonzero()[:, 0] for a, b in spans]

    def of(rows):
        return torch.stack([attention[:, :, rows][..., found].sum((-1, -2)) for found in tokens], -1)

    numbers = {
        place: i for i, place in enumerate((d, s) for d, (_, ss) in enumerate(case.documents) for s in range(len(ss)))
    }
    planted = [numbers[place] for place in case.planted]
    at = prompt.text.rindex(case.question)
    asked = ((middle > at) & (middle < at + len(case.question))).nonzero()[:, 0]
    answered, question = of(torch.arange(k - 1, len(ids))), of(asked)

    def mass(scores, wanted):
        return scores[..., wanted].sum(-1) / scores.sum(-1)

    both = 0.5 * answered / (len(ids) - k + 1) + 0.5 * question / len(asked)
    found = {}
    for name, scores in (("", both), ("answer_", answered), ("question_", question)):
        found |= {f"{name}ap": by_sorting(scores, planted), f"{name}mass": mass(scores, planted)}
    if len(planted) == 2:
        first, last = min(planted), max(planted)
        link = of(tokens[last])[..., :last]
        found |= {"link_ap": by_sorting(link, [first]), "link_mass": mass(link, [first])}
        hops = []
        for hop, other in (planted, planted[::-1]):
            kept = [i for i in range(len(spans)) if i != other]
            hops.append((answered[..., kept], [kept.index(hop)]))
        found |= {
            "hop_ap": torch.stack([by_sorting(*h) for h in hops]),
            "hop_mass": torch.stack([mass(*h) for h in hops]),
        }
    return found


ROWS = ("", "answer", "question", "hop", "link")


def test_scores_equal_those_of_attention_matrices(tokenizer):
    model = tiny_chat.model(len(tokenizer), 2048)
    cases = make_cases(6, seed=1, kinds=KINDS, documents=4)
    scores = score_heads(model, tokenizer, cases)
    assert scores.kinds == (*KINDS, "fact")
    assert scores.shape == (2, 4)
    for number, case in enumerate(cases):
        expected = brute_force(model, tokenizer, case)
        assert ("link_ap" in expected) == (case.kind in ("two_hop", "comparison"))
        for name in [f"{rows}_{of}".strip("_") for rows in ROWS for of in ("ap", "mass")]:
            got = getattr(scores, name)[number]
            if name in expected:
                torch.testing.assert_close(got, expected[name].float(), rtol=1e-4, atol=1e-5)
            else:
                assert got.isnan().all()
        later = case.planted.index(max(case.planted)) + 1 if len(case.planted) == 2 else 0
        assert scores.link_from[number] == later


def test_scores_by_kind_and_their_mean(model, tokenizer):
    scores = score_heads(model, tokenizer, make_cases(3, kinds=("fact", "two_hop"), documents=2))
    by = scores.by_kind("ap")
    torch.testing.assert_close(by["fact"], (scores.ap[0] + scores.ap[2]) / 2)
    torch.testing.assert_close(scores.mean(), (by["fact"] + by["two_hop"]) / 2)
    torch.testing.assert_close(scores.mean("link_ap"), scores.link_ap[1])  # the kind fact has none
    torch.testing.assert_close(scores.mean("mass", ["two_hop"]), scores.mass[1])
    assert scores.mean("hop_ap").shape == (2, 2, 4)
    with pytest.raises(InputError, match="no cases of kind copy; there are fact, two_hop"):
        scores.mean("ap", ["copy"])


def test_progress_goes_up_to_the_end_and_the_model_is_as_before(model, tokenizer):
    events, before = [], model.config._attn_implementation
    score_heads(model, tokenizer, make_cases(2, documents=2), lambda *what: events.append(what))
    assert events == [("calibrate", done, 4) for done in (1, 2, 3, 4)]
    assert model.config._attn_implementation == before
    with pytest.raises(InputError, match="no cases"):
        score_heads(model, tokenizer, [])


def test_a_tokenizer_without_a_template_is_accepted(model):
    plain = tiny_chat.tokenizer(None)
    case = make_cases(1, documents=2)[0]
    tokenized = tokenize_case(plain, case)
    assert plain.decode(tokenized.ids).endswith(f"\nAnswer: {case.answer}<|end|>")
    assert plain.decode(tokenized.ids[tokenized.answer + 1]) == f" {case.answer}<|end|>"
    assert plain.decode(tokenized.ids[tokenized.question]).strip() == case.question
    sentence = case.documents[case.planted[0][0]][1][case.planted[0][1]]
    assert plain.decode(tokenized.ids[tokenized.sentence_of == tokenized.planted[0]]).strip() == sentence
    assert calibrate(model, plain, count=1).heads.any()


# ---- the choice


def test_the_best_heads_get_equal_weights():
    ap = torch.tensor([[[0.1, 0.9, 0.3], [0.8, 0.2, 0.9]]])
    weights = choose_heads(made_up_scores(ap), heads=3)
    assert weights.heads.tolist() == [[0, 1 / 16, 0], [1 / 16, 0, 1 / 16]]
    assert json.loads(weights.meta["heads"]) == [[0, 1, 0.9], [1, 2, 0.9], [1, 0, 0.8]]  # ties: the earlier head first
    assert (weights.name, weights.source, weights.meta["chance"]) == ("retrieval", "m", "0.1000")
    assert "3 retrieval heads" in weights.note
    assert weights.question == 0.5
    usual = choose_heads(made_up_scores(torch.rand(1, 3, 4)))
    assert sorted(usual.heads.flatten().tolist()) == [0] * 8 + [1 / 16] * 4
    assert choose_heads(made_up_scores(ap[..., :1])).heads.count_nonzero() == 2  # a model with fewer than four heads
    assert [head[:2] for head in rank_heads(made_up_scores(ap))[:2]] == [(0, 1), (1, 2)]


def test_every_kind_has_the_same_weight():
    ap = torch.tensor([[[1.0, 0.4]], [[1.0, 0.4]], [[0.0, 0.8]]])
    assert rank_heads(made_up_scores(ap, ("fact", "fact", "copy")))[0][:2] == (0, 1)


@pytest.mark.parametrize(("heads", "match"), [(0, "from 1 to 6"), (7, "from 1 to 6, .* got 7"), (True, "got True")])
def test_invalid_numbers_of_heads_are_refused(heads, match):
    with pytest.raises(InputError, match=match):
        choose_heads(made_up_scores(torch.rand(1, 2, 3)), heads=heads)
