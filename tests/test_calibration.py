"""Finding retrieval heads: the prompts, the scores, the choice, and the cache."""

import dataclasses
import hashlib
import itertools
import json
import logging
import os
import re
import string
import threading
import time

import pytest
import tiny_chat
import torch
from filelock import FileLock
from typer.testing import CliRunner

import attributor
from attributor import FileFormatError, InputError, OutputError, UnsupportedModelError, Weights, flow, record
from attributor._calibration import cache, calibrate
from attributor._calibration.choose import choose, ranked
from attributor._calibration.identity import identity
from attributor._calibration.layout import lay_out
from attributor._calibration.prompts import KINDS, STANDARD, make_cases
from attributor._calibration.ranking import average_precision, chance, share
from attributor._calibration.run import measure
from attributor._calibration.scores import HeadScores, head_scores
from attributor._calibration.words import CODE, KINDS_OF_THING, MOTTO, NAMES, VALUES
from attributor._cli.commands import app
from attributor._default_model import DEFAULT_MODEL, converted
from attributor._materialised import eager_attentions
from attributor._prompt import build_prompt

KNOWN = {(17, 4), (18, 6), (17, 3), (23, 8), (23, 7), (23, 2), (21, 8), (18, 7)}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_found", {})


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture
def model(tokenizer):
    return tiny_chat.model(len(tokenizer), 1024)


# ---- prompts


def mentions(sentence, name):
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sentence, re.IGNORECASE) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("documents", [10, 2])
def test_the_answer_is_planted_where_it_is_said_to_be_and_nowhere_else(kind, documents):
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
    return {word.removesuffix("s") for word in found}  # "plays" is "play"


@pytest.mark.parametrize("thing", KINDS_OF_THING)
def test_reworded_questions_share_no_telling_word_with_the_sentences(thing):
    for fact in KINDS_OF_THING[thing].facts:
        assert fact.reworded
        assert not words(fact.said) & words(fact.reworded), fact
        assert words(fact.said) & words(fact.asked), fact


def test_a_value_is_no_word_of_a_template_of_a_name_or_of_another_list():
    facts = [fact for thing in KINDS_OF_THING.values() for fact in thing.facts] + [CODE, MOTTO]
    templates = [t for fact in facts for t in (*fact.said, *fact.asked, *fact.reworded, fact.bridge, fact.sooner)]
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
        "other prompts choose other heads: raise RULE in identity.py"
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
def test_bad_orders_for_prompts(options, match):
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
    """(L, H): average precision by its definition, the mean of the precisions at the ranks of what is wanted."""
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
    assert chance(S, m) == pytest.approx(average_precision(orders, planted).mean().item(), abs=1e-5)


def test_share():
    planted = torch.tensor([True, False, False])
    assert share(torch.tensor([[1.0, 2, 1], [0, 0, 0]]), planted).tolist() == [0.25, 0]


# ---- scores


def brute_force(model, tokenizer, case):
    """{name: (L, H)} from attention matrices, with sentences found by searching the text."""
    documents = [(title, " ".join(sentences)) for title, sentences in case.documents]
    prompt = build_prompt(tokenizer, documents, case.question)
    answer = tokenizer(case.answer, add_special_tokens=False)["input_ids"]
    k, ids = len(prompt.ids), torch.cat([prompt.ids, torch.tensor(answer)])  # and its end, which is never read
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


def test_scores_are_those_of_attention_matrices(tokenizer):
    model = tiny_chat.model(len(tokenizer), 2048)
    cases = make_cases(6, seed=1, kinds=KINDS, documents=4)
    scores = head_scores(model, tokenizer, cases)
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
    scores = head_scores(model, tokenizer, make_cases(3, kinds=("fact", "two_hop"), documents=2))
    by = scores.by_kind("ap")
    torch.testing.assert_close(by["fact"], (scores.ap[0] + scores.ap[2]) / 2)
    torch.testing.assert_close(scores.mean(), (by["fact"] + by["two_hop"]) / 2)
    torch.testing.assert_close(scores.mean("link_ap"), scores.link_ap[1])  # fact has none
    torch.testing.assert_close(scores.mean("mass", ["two_hop"]), scores.mass[1])
    assert scores.mean("hop_ap").shape == (2, 2, 4)
    with pytest.raises(InputError, match="no cases of kind copy; there are fact, two_hop"):
        scores.mean("ap", ["copy"])


def test_scores_are_saved_and_loaded(model, tokenizer, tmp_path):
    scores = head_scores(model, tokenizer, make_cases(2, documents=2))
    path = tmp_path / "scores.safetensors"
    scores.save(path)
    loaded = HeadScores.load(path)
    assert (loaded.kinds, loaded.meta) == (scores.kinds, scores.meta)
    for entry in dataclasses.fields(HeadScores):
        if isinstance(value := getattr(scores, entry.name), torch.Tensor):
            torch.testing.assert_close(getattr(loaded, entry.name), value, rtol=0, atol=0, equal_nan=True)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileFormatError, match="not a readable"):
        HeadScores.load(path)
    Weights(torch.ones(1, 1)).save(path)
    with pytest.raises(FileFormatError, match="no head scores"):
        HeadScores.load(path)
    with pytest.raises(FileNotFoundError):
        HeadScores.load(tmp_path / "absent")
    with pytest.raises(OutputError, match="cannot write"):
        scores.save(tmp_path / "no" / "scores")


def test_progress_goes_up_to_the_end_and_the_model_is_as_before(model, tokenizer):
    told, before = [], model.config._attn_implementation
    head_scores(model, tokenizer, make_cases(2, documents=2), lambda *what: told.append(what))
    assert told == [("calibrate", done, 4) for done in (1, 2, 3, 4)]
    assert model.config._attn_implementation == before
    with pytest.raises(InputError, match="no cases"):
        head_scores(model, tokenizer, [])


def test_a_tokenizer_without_a_template(model):
    plain = tiny_chat.tokenizer(None)
    case = make_cases(1, documents=2)[0]
    layout = lay_out(plain, case)
    assert plain.decode(layout.ids).endswith(f"\nAnswer: {case.answer}<|end|>")
    assert plain.decode(layout.ids[layout.answer + 1]) == f" {case.answer}<|end|>"
    assert plain.decode(layout.ids[layout.question]).strip() == case.question
    sentence = case.documents[case.planted[0][0]][1][case.planted[0][1]]
    assert plain.decode(layout.ids[layout.sentence_of == layout.planted[0]]).strip() == sentence
    assert calibrate(model, plain, count=1).heads.any()


# ---- the choice


def made_up(ap, kinds=("fact",)):
    C, L, H = ap.shape
    blank = torch.full((C, L, H), torch.nan)
    hops = torch.full((C, 2, L, H), torch.nan)
    return HeadScores(
        kinds=kinds, ap=ap, mass=1 - ap,
        answer_ap=blank, answer_mass=blank, question_ap=blank, question_mass=blank,
        hop_ap=hops, hop_mass=hops, link_ap=blank, link_mass=blank,
        link_from=torch.zeros(C, dtype=torch.int64), chance=torch.full((C,), 0.1), meta={"model": "m"},
    )  # fmt: skip


def test_the_best_heads_get_equal_weights():
    ap = torch.tensor([[[0.1, 0.9, 0.3], [0.8, 0.2, 0.9]]])
    weights = choose(made_up(ap), heads=3, total=1.5)
    assert weights.heads.tolist() == [[0, 0.5, 0], [0.5, 0, 0.5]]
    assert json.loads(weights.meta["heads"]) == [[0, 1, 0.9], [1, 2, 0.9], [1, 0, 0.8]]  # the earlier of equals first
    assert (weights.name, weights.meta["model"], weights.meta["chance"]) == ("retrieval", "m", "0.1000")
    assert "3 retrieval heads" in weights.note
    assert choose(made_up(ap), heads=1, total=1, by="mass").heads.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert weights.question == 0.5
    usual = choose(made_up(torch.rand(1, 3, 4)))
    assert sorted(usual.heads.flatten().tolist()) == [0] * 6 + [1 / 16] * 6
    assert choose(made_up(ap[..., :2])).heads.count_nonzero() == 4  # a model with fewer than six
    assert [head[:2] for head in ranked(made_up(ap))[:2]] == [(0, 1), (1, 2)]


def test_every_kind_counts_the_same():
    ap = torch.tensor([[[1.0, 0.4]], [[1.0, 0.4]], [[0.0, 0.8]]])
    assert ranked(made_up(ap, ("fact", "fact", "copy")))[0][:2] == (0, 1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"heads": 0}, "from 1 to 6"), ({"heads": 7}, "from 1 to 6, .* got 7"), ({"heads": True}, "got True"),
        ({"total": 0}, "total"), ({"by": "sum"}, "'ap' or 'mass'"),
    ],
)  # fmt: skip
def test_bad_choices(options, match):
    with pytest.raises(InputError, match=match):
        choose(made_up(torch.rand(1, 2, 3)), **options)


# ---- calibrate() and the cache


def test_calibrate_is_deterministic_and_its_file_is_weights(model, tokenizer, tmp_path):
    first, second = (calibrate(model, tokenizer, count=2) for _ in range(2))
    assert torch.equal(first.heads, second.heads)
    assert first.meta == second.meta
    assert first.meta["documents"] == "4"  # ten would be more than the model's 1,024 positions
    first.save(tmp_path / "w.safetensors")
    assert torch.equal(Weights.of(tmp_path / "w.safetensors").heads, first.heads)


def test_the_share_of_the_question_goes_with_the_heads(model, tokenizer, quick):
    ids = torch.randint(3, len(tokenizer), (40,), generator=torch.Generator().manual_seed(0))
    asked, options = torch.tensor([7, 8, 12]), {"prompt_length": 30, "tokenizer": tokenizer}
    got = flow(model, ids, weights="retrieval", question=asked, **options)
    assert got.meta["question"] == "0.5"
    same = Weights(cache.cached_weights(model).heads, question=0.5)
    torch.testing.assert_close(got.scores, flow(model, ids, weights=same, question=asked, **options).scores)
    apart = flow(model, ids, weights="retrieval", **options).scores
    assert (got.scores - apart).abs().max() > 1e-3
    with record(model, weights="retrieval") as recording, torch.no_grad():
        model(ids[None])
    again = recording.flow(ids, prompt_length=30, question=asked)
    torch.testing.assert_close(again.scores, got.scores, rtol=0, atol=2e-6)


def test_the_public_name_is_the_one_that_is_tested():
    assert attributor.calibrate is calibrate


def test_a_window_that_is_too_short_for_any_prompt(tokenizer):
    with pytest.raises(InputError, match=r"window of 128 tokens is too short .* need \d+\).* weights='mean'"):
        calibrate(tiny_chat.model(len(tokenizer), 128), tokenizer, count=1)


@pytest.fixture
def quick(monkeypatch):
    """Calibration on one prompt; counts how often it happens."""
    calls = []

    def one(model, tokenizer, progress=None):
        calls.append(model)
        return calibrate(model, tokenizer, count=1, progress=progress)

    monkeypatch.setattr(cache, "calibrate", one)
    return calls


def test_heads_are_found_once(model, tokenizer, quick, monkeypatch, caplog):
    first = cache.cached_weights(model, tokenizer)
    assert "finding the heads of LlamaForCausalLM" in caplog.text
    assert str(cache.cache_path(model)) in caplog.text
    assert cache.cached_weights(model) is first  # of this process, without a tokenizer
    monkeypatch.setattr(cache, "_found", {})
    again = cache.cached_weights(model)  # of the file, as another process would
    assert torch.equal(again.heads, first.heads)
    assert again.meta == first.meta
    assert len(quick) == 1
    assert [path.name for path in cache.cache_path(model).parent.glob("*.safetensors")] == [
        cache.cache_path(model).name
    ]


def test_identity(tokenizer):
    def fresh():
        return tiny_chat.model(len(tokenizer))

    plain = identity(fresh())
    assert plain == identity(fresh()) == identity(fresh().to(torch.bfloat16)) == identity(fresh().half())
    trained = fresh()
    with torch.no_grad():
        trained.model.layers[1].self_attn.k_proj.weight.add_(0.05 * torch.randn(16, 32))
    turned = fresh()
    turned.config.rope_parameters["rope_theta"] = 5e5
    named, revised = fresh(), fresh()
    named.config._name_or_path = named.name_or_path = "someone/model"
    revised.config._commit_hash = "abc"
    elsewhere = fresh().to("meta")
    assert len({plain, *(identity(other) for other in (trained, turned, named, revised, elsewhere))}) == 6
    with record(trained, weights="mean"):  # while it is recorded its configuration names another attention
        assert identity(trained) != plain
        recorded = identity(trained)
    assert recorded == identity(trained)


def test_training_on_in_the_same_folder_is_noticed(tokenizer, tmp_path):
    made = tiny_chat.model(len(tokenizer))
    found = []
    for change in (0.0, 1e-2):
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(1 - change).add_(change * parameter.std() * torch.randn_like(parameter))
        made.save_pretrained(tmp_path)
        loaded, again = (type(made).from_pretrained(tmp_path, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
        assert identity(loaded) == identity(again)
        found.append(identity(loaded))
    assert found[0] != found[1]


def test_another_process_is_waited_for(model, tokenizer, quick, caplog):
    weights = calibrate(model, tokenizer, count=1)
    path = cache.cache_path(model)
    path.parent.mkdir(parents=True)
    found = []
    with FileLock(path.with_suffix(".lock")):
        asking = threading.Thread(target=lambda: found.append(cache.cached_weights(model, tokenizer)))
        asking.start()
        limit = time.monotonic() + 20
        while "waiting for another process" not in caplog.text and time.monotonic() < limit:
            time.sleep(0.01)
        cache.keep(weights, path)
    asking.join(20)
    assert torch.equal(found[0].heads, weights.heads)
    assert not quick


def test_a_cache_folder_that_cannot_be_written_to(model, tokenizer, quick, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "file"))
    first = cache.cached_weights(model, tokenizer)
    assert "cannot be kept in" in caplog.text
    assert "set ATTRIBUTOR_CACHE" in caplog.text
    assert cache.cached_weights(model, tokenizer) is first
    assert len(quick) == 1


def test_a_disk_that_is_full(model, tokenizer, quick, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert cache.cached_weights(model, tokenizer).heads.any()
    assert "not kept: cannot write weights to" in caplog.text
    assert "No space left" in caplog.text
    assert [path.suffix for path in cache.cache_path(model).parent.iterdir()] == [".lock"]  # nothing half-written


def test_a_damaged_file_is_replaced(model, tokenizer, quick, monkeypatch, caplog):
    first = cache.cached_weights(model, tokenizer)
    path = cache.cache_path(model)
    path.write_bytes(path.read_bytes()[:40])
    monkeypatch.setattr(cache, "_found", {})
    assert torch.equal(cache.cached_weights(model, tokenizer).heads, first.heads)
    assert "the heads are found anew" in caplog.text
    assert torch.equal(Weights.load(path).heads, first.heads)
    assert len(quick) == 2


def test_a_model_without_a_head_that_retrieves_is_told(model, tokenizer, monkeypatch, caplog):
    poor = choose(made_up(torch.full((1, 2, 4), 0.11)))
    monkeypatch.setattr(cache, "calibrate", lambda *_, **__: poor)
    cache.cached_weights(model, tokenizer)
    assert "average precision 0.11 at best, 0.10 by chance" in caplog.text
    assert all(record.levelno == logging.WARNING and record.name == "attributor" for record in caplog.records)


def test_flow_and_record_find_the_heads_of_any_model(model, tokenizer, quick):
    ids = torch.randint(3, len(tokenizer), (40,), generator=torch.Generator().manual_seed(0))
    told = []
    options = {"prompt_length": 30, "weights": "retrieval"}
    got = flow(model, ids, tokenizer=tokenizer, progress=lambda *what: told.append(what[0]), **options)
    assert list(dict.fromkeys(told)) == ["calibrate", "prompt", "sweep"]
    assert got.meta["weights"] == "retrieval"
    found = cache.cached_weights(model)
    torch.testing.assert_close(got.scores, flow(model, ids, prompt_length=30, weights=found.heads).scores)
    sharp = flow(model, ids, prompt_length=30, weights=Weights("retrieval", power=2.0))
    same = flow(model, ids, prompt_length=30, weights=Weights(found.heads, power=2.0))
    torch.testing.assert_close(sharp.scores, same.scores)
    with record(model, weights="retrieval") as recording, torch.no_grad():
        model(ids[None])
    torch.testing.assert_close(recording.flow(ids, prompt_length=30).scores, got.scores, rtol=0, atol=2e-6)
    torch.testing.assert_close(recording.flow(ids, **options).scores, got.scores, rtol=0, atol=2e-6)
    assert len(quick) == 1


def test_the_tokenizer_is_loaded_from_where_the_model_was(tokenizer, quick, tmp_path):
    folder = tiny_chat.save(tmp_path / "saved")
    loaded, _ = attributor.load_model(folder, progress=False)
    with record(loaded, weights="retrieval"):
        pass
    assert quick == [loaded]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    loaded.config.rope_parameters["rope_theta"] = 5e5  # another model now
    with pytest.raises(InputError, match=r"no retrieval heads are known for .*saved yet.* pass tokenizer=.*calibrate"):
        flow(loaded, [3, 4, 5], weights="retrieval")


def test_a_model_from_nowhere_needs_a_tokenizer(model, quick):
    with pytest.raises(InputError, match=r"for this model yet, .*not loaded from anywhere.*: pass tokenizer="):
        flow(model, [3, 4, 5], weights="retrieval")
    assert not cache.cache_path(model).parent.exists()


def test_shipped_heads_come_first(model, tokenizer, quick):
    model.config.attributor_source = DEFAULT_MODEL
    with pytest.raises(InputError, match=r"weights are for \(30, 9\) layers x heads, the model has \(2, 4\)"):
        flow(model, [3, 4, 5], weights="retrieval", tokenizer=tokenizer)
    assert not quick


def test_a_model_that_cannot_be_recorded(model, tokenizer, monkeypatch):
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    with pytest.raises(UnsupportedModelError, match="retrieval heads can only be found in models that can be recorded"):
        flow(model, [3, 4, 5], weights="retrieval", tokenizer=tokenizer, impl="reference")


# ---- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("model"))


def run(*options):
    return CliRunner().invoke(app, ["calibrate", *map(str, options)], env={"COLUMNS": "120", "NO_COLOR": "1"})


def test_the_command_prints_and_saves(folder, tmp_path):
    out = tmp_path / "new" / "heads.safetensors"
    told = run("-m", folder, "--count", 4, "--heads", 3, "--out", out)
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[1].split() == ["layer", "head", "AP", "mass", *STANDARD]
    weights = Weights.load(out)
    assert [tuple(map(int, line.split()[:2])) for line in lines[2:5]] == [
        tuple(head[:2]) for head in json.loads(weights.meta["heads"])
    ]
    assert (weights.heads.sum(), weights.question) == (3 / 16, 0.5)
    assert f"Wrote {out}" in told.stdout
    before = out.read_bytes()
    refused = run("-m", folder, "--count", 1, "--out", out)
    assert refused.exit_code == 1
    assert "is there already; say --overwrite" in refused.stderr
    assert out.read_bytes() == before
    found = json.loads(run("-m", folder, "--count", 1, "--out", out, "--overwrite", "--seed", 3, "--json").stdout)
    assert (found["prompts"], found["seed"], found["file"]) == (1, 3, str(out))
    assert [head["weight"] for head in found["heads"]] == [1 / 16] * 6
    assert set(found["heads"][0]["ap"]) == {"mean", "fact"}
    assert out.read_bytes() != before


def test_without_out_the_heads_go_where_retrieval_finds_them(folder, quick):
    told = run("-m", folder, "--count", 1, "--heads", 2)
    assert told.exit_code == 0, told.output
    loaded, _ = attributor.load_model(folder, progress=False)
    assert f"Wrote {cache.cache_path(loaded)}" in told.stdout
    assert cache.cached_weights(loaded).heads.count_nonzero() == 2
    assert not quick


@pytest.mark.parametrize(
    ("options", "match", "code"),
    [
        (["--heads", 9], "from 1 to 8", 1), (["--count", 0], "Invalid value for '--count'", 2),
        (["--out", "."], "is a folder", 1), (["--out", "/dev/null/x"], "cannot make the folder", 1),
        (["--model", "/no/such/folder"], "no folder here", 1),
    ],
)  # fmt: skip
def test_what_the_command_refuses(folder, options, match, code):
    told = run(*(() if "--model" in options else ("-m", folder)), *options)
    assert told.exit_code == code
    assert match in " ".join(told.stderr.replace("│", " ").split())


def test_ctrl_c_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("attributor._calibration.scores._attention", interrupted)
    told = run("-m", folder, "--out", tmp_path / "heads.safetensors")
    assert told.exit_code == 130
    assert not told.stdout
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_bar_appears_after_its_delay_only(capsys, monkeypatch):
    from attributor._calibration.bar import Bar

    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    for delay, seen in ((60.0, False), (0.0, True)):
        with Bar("Reading", delay=delay, shown=True) as bar:
            bar("calibrate", 1, 2)
            bar("calibrate", 2, 2)
        assert ("Reading" in capsys.readouterr().err) == seen
    with Bar("Reading") as bar:  # stderr is no terminal here
        bar("calibrate", 1, 2)
    assert not capsys.readouterr().err


# ---- the default model


@pytest.mark.skipif(converted() is None, reason="the converted default model is not in the cache folder")
def test_a_few_prompts_find_the_known_heads_of_the_default_model(monkeypatch):
    monkeypatch.delenv("ATTRIBUTOR_CACHE")
    model, tokenizer = attributor.load_model(dtype="float32", progress=False)
    scores = measure(model, tokenizer, count=4)
    tokens = int(scores.meta["tokens"]) / 4
    assert 300 < tokens < 1000
    top = {(layer, head) for layer, head, _ in ranked(scores)[:16]}
    assert len(top & KNOWN) >= 5
    assert ranked(scores)[0][2] > 4 * scores.chance.mean()
