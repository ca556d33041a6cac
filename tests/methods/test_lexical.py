"""The word-based methods (BM25, the answer's string, the aligner) agree with values computed by hand."""

import sys
from importlib import import_module
from math import log
from types import SimpleNamespace

import pytest
from tiny_chat import tokenizer

from attributor import InputError, build_prompt
from attributor._documents import Document, place_documents
from attributor._text import Segment
from attributor.eval.config import Config, default_methods
from attributor.methods import BM25, AnswerString, CiteRight, parse
from attributor.methods._texts import find_documents_of

needs_cite_right = pytest.mark.skipif(sys.version_info < (3, 11), reason="cite-right needs Python 3.11")
LAVA, ASH, FLOWS = "Lava is black, black!", "The ash is grey.", "Lava flows."


def reading_of_texts(*texts, question="", answer_text="", documents=()):
    """Return a stand-in for a reading: one segment per line, in documents given as (first, last, title)."""
    text = "\n".join(texts)
    starts = [sum(len(t) + 1 for t in texts[:i]) for i in range(len(texts))]
    segments = tuple(Segment(a, a + len(t), t) for a, t in zip(starts, texts, strict=True))
    placed = tuple(
        Segment(segments[first].start, segments[last].stop, "", title, index)
        for index, (first, last, title) in enumerate(documents)
    )
    prompt = SimpleNamespace(text=text, documents=placed)
    return SimpleNamespace(segments=segments, prompt=prompt, question=question, answer_text=answer_text)


def weigh(count, holding, segments=3):
    """Return the weight of a word that `holding` of the segments contain: `count` / (count + the length's part)."""
    return lambda length: log(1 + (segments - holding + 0.5) / (holding + 0.5)) * count / (count + length)


def length_part(words, mean):
    return 1.5 * (0.25 + 0.75 * words / mean)


def test_bm25_equals_its_formula():
    # without stop words: lava black black; ash grey; lava flows. The mean length of a segment is 7/3 words.
    reading = reading_of_texts(LAVA, ASH, FLOWS, question="Is lava BLACK?", answer_text="Black lava.")
    first, third = length_part(3, 7 / 3), length_part(2, 7 / 3)
    lava = weigh(1, holding=2)
    assert BM25()(reading).tolist() == pytest.approx([lava(first) + weigh(2, holding=1)(first), 0, lava(third)])
    assert BM25()(reading)[0] == pytest.approx(log(1.6) / (1 + 1.8214286) + log(8 / 3) * 2 / (2 + 1.8214286))


def test_bm25_reads_words_of_one_character_and_digits():
    reading = reading_of_texts("Vitamin C", "5 apples", "Vitamin K", question="C", answer_text="5")
    scores = BM25()(reading)
    assert scores[0] == pytest.approx(log(1 + 2.5 / 1.5) / (1 + length_part(2, 2)))
    assert bool(scores[1] > 0)
    assert scores[2] == 0


@pytest.mark.parametrize(
    ("texts", "question"),
    [
        ((LAVA, ASH), "Which is it, and where is the"),
        ((LAVA, ASH), "Zebra?"),
        ((LAVA, ASH), "?!"),
        (("...", "—"), "Lava"),
        ((), "Lava"),
    ],
)
def test_bm25_is_0_without_a_shared_word(texts, question):
    assert BM25()(reading_of_texts(*texts, question=question)).tolist() == [0] * len(texts)


def test_bm25_counts_no_words_in_a_text_of_punctuation():
    assert BM25()(reading_of_texts("...", FLOWS, "—", question="?!")).tolist() == [0, 0, 0]
    scores = BM25()(reading_of_texts("...", FLOWS, "—", question="lava")).tolist()
    assert scores == pytest.approx([0, weigh(1, holding=1)(length_part(2, 2 / 3)), 0])  # 2 words in 3 segments


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("Marrowick", "“Marrowick”—town"),
        ("1,000", "1000 boats"),
        ("京", "北京是首都"),
        ("3.5", "3.5 km"),
    ],
)
def test_bm25_finds_other_forms_of_a_word(question, text):
    scores = BM25()(reading_of_texts(text, "5 35 55", question=question)).tolist()
    assert [score > 0 for score in scores] == [True, False]


@pytest.mark.parametrize(("question", "text"), [("55", "5,5 Meter"), ("5", "3.5 km"), ("314", "3,14")])
def test_bm25_keeps_numbers_whole(question, text):
    assert BM25()(reading_of_texts(text, question=question)).tolist() == [0]


def test_the_document_of_a_segment_contains_it():
    spans = [(0, 2), (4, 6), (2, 5), (9, 12), (7, 9), (11, 13)]
    segments = [Segment(a, b, "") for a, b in spans]
    documents = [Segment(4, 8, ""), Segment(0, 3, ""), Segment(9, 12, "")]  # not in the order of the prompt
    assert find_documents_of(segments, documents).tolist() == [1, 0, -1, 2, -1, -1]
    assert find_documents_of(segments, []).tolist() == [-1] * 6
    assert find_documents_of([], documents).tolist() == []


def test_bm25_with_titles_adds_the_title_to_each_segment():
    texts = (LAVA, ASH, FLOWS, "It is heavy.")
    documents = [(0, 1, "Etna"), (2, 2, "Gold")]
    reading = reading_of_texts(*texts, question="Gold?", answer_text="flows", documents=documents)
    assert BM25()(reading).tolist() == pytest.approx([0, 0, BM25()(reading)[2].item(), 0])
    shown = ("Etna lava is black black", "Etna ash grey", "Gold lava flows", "heavy")
    titled = BM25("title")(reading).tolist()
    assert titled == pytest.approx(BM25()(reading_of_texts(*shown, question="Gold flows")).tolist())
    assert [score > 0 for score in titled] == [False, False, True, False]


@pytest.mark.parametrize("documents", [[], [(0, 1, None), (2, 2, None)], [(0, 1, "document 1"), (2, 2, "document 2")]])
def test_bm25_with_titles_equals_bm25_without_titles(documents):
    reading = reading_of_texts(LAVA, ASH, FLOWS, question="document 1 lava?", documents=documents)
    assert BM25("title")(reading).tolist() == BM25()(reading).tolist()
    assert BM25()(reading)[0] > 0


def test_titles_come_from_the_documents_even_if_the_prompt_omits_them():
    text = f"{LAVA}\n\n{ASH}"
    documents = place_documents(text, [Document(LAVA, "Etna"), Document(ASH)])
    segments = tuple(Segment(d.start, d.stop, d.text) for d in documents)
    reading = SimpleNamespace(
        segments=segments, prompt=SimpleNamespace(text=text, documents=documents), question="Etna", answer_text=""
    )
    assert [score > 0 for score in BM25("title")(reading).tolist()] == [True, False]


def test_titles_of_a_built_prompt_are_used():
    prompt = build_prompt(tokenizer(), [("Etna", LAVA), ASH], "Where?")
    spans = [prompt.text.index(text) for text in (LAVA, ASH)]
    segments = tuple(Segment(a, a + len(t), t) for a, t in zip(spans, (LAVA, ASH), strict=True))
    reading = SimpleNamespace(segments=segments, prompt=prompt, question="Etna document 2", answer_text="")
    assert BM25()(reading).tolist() == [0, 0]
    assert [score > 0 for score in BM25("title")(reading).tolist()] == [True, False]


def test_bm25_prints_nothing_and_keeps_its_name(capfd):
    reading = reading_of_texts(LAVA, ASH, question="lava")
    plain, titled = parse("bm25,bm25:title")
    assert [method.name for method in (plain, titled, BM25(), BM25("title"))] == ["bm25", "bm25:title"] * 2
    plain(reading)
    titled(reading)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(InputError, match="bm25 takes segment, title, got 'titles'"):
        parse("bm25:titles")
    with pytest.raises(InputError, match="bm25 compares texts; give the reading its question or answer_text"):
        plain(reading_of_texts(LAVA))


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        ("black", [1, 0, 0]),
        ("The BLACK.", [1, 0, 0]),
        ("lava", [1, 0, 1]),
        ("lav", [0, 0, 0]),  # not a whole word
        ("ava flows", [0, 0, 0]),
        ("lava flows", [0, 0, 1]),
        ("ash is grey", [0, 1, 0]),
        ("black black", [1, 0, 0]),  # punctuation is dropped
        ("a", [0, 0, 0]),  # no word is left
        ("?", [0, 0, 0]),
        ("", [0, 0, 0]),
    ],
)
def test_the_answers_string_is_found_as_whole_words(answer, holds):
    assert AnswerString()(reading_of_texts(LAVA, ASH, FLOWS, answer_text=answer)).tolist() == holds


@pytest.mark.parametrize(
    ("answer", "text", "holds"),
    [
        ("35", "the 3.5 km", 0),
        ("3.5", "the 3.5 km", 1),
        ("5", "the 3.5 km", 0),
        ("1,000", "some 1000 boats", 1),
        ("55", "5,5 Meter", 0),
        ("Marrowick", "the “Marrowick”", 1),
        ("Marrowick", "Marrowick—town", 1),
        ("“Marrowick”", "Marrowick", 1),
        ("O'Hara", "O’Hara", 1),
        ("caf\u00e9", "the cafe\u0301", 1),
        ("北京", "北京是首都", 1),
        ("京是", "北京是首都", 1),
        ("北首", "北京是首都", 0),
        ("US", "the U.S. navy", 1),
    ],
)
def test_the_answers_string_is_found_in_other_forms_of_its_words(answer, text, holds):
    assert AnswerString()(reading_of_texts(text, answer_text=answer)).tolist() == [holds]


def test_answer_string_accepts_no_segments():
    assert AnswerString()(reading_of_texts(answer_text="lava")).tolist() == []


@needs_cite_right
def test_cite_right_aligns_question_and_answer_with_a_planted_sentence():
    texts = ("Boats leave before dawn.", "The lighthouse of Marrowick has 164 steps.", "Bread is baked at night.")
    scores = CiteRight()(reading_of_texts(*texts, question="How many steps?", answer_text="It has 164 steps."))
    assert [score > 0 for score in scores.tolist()] == [False, True, False]
    # 1 of the question's 3 words and 3 of the answer's 4 words match, without a gap; a word in one of three segments
    # has the weight log(4 / 2) + 1, a word in none 1
    rare = log(2) + 1
    question = 1 / 3 + 1 / 3 + 0.5 * rare / (rare + 2)
    answer = 3 / 4 + 3 / 4 + 0.5 * 3 * rare / (3 * rare + 1)
    assert scores[1] == pytest.approx(question + answer)


@needs_cite_right
@pytest.mark.parametrize(
    ("texts", "question", "answer"),
    [(("Boats leave.", "Bread."), "Which lava?", "Grey."), (("...",), "Lava?", "Black."), ((), "Lava?", "Black.")],
)
def test_cite_right_is_0_without_an_alignment(texts, question, answer):
    reading = reading_of_texts(*texts, question=question, answer_text=answer)
    assert CiteRight()(reading).tolist() == [0] * len(texts)


@needs_cite_right
def test_cite_right_scores_more_than_the_librarys_three_segments():
    texts = [f"Stone {number} is black lava." for number in range(300)]
    reading = reading_of_texts(*texts, question="Which stone is lava?", answer_text="black lava")
    assert bool((CiteRight()(reading) > 0).all())


@pytest.mark.parametrize(
    ("library", "method", "command"),
    [
        ("bm25s", BM25(), r"'bm25' needs bm25s; install it with: pip install 'attributor\[eval\]'"),
        (
            "cite_right",
            CiteRight(),
            r"'cite-right' needs cite-right; install it with: pip install 'attributor\[eval\]', "
            r"or pip install 'cite-right<0\.5'",
        ),
    ],
)
def test_a_missing_library_is_named_with_its_command(library, method, command, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(import_module(CiteRight.__module__), "PYTHON", (3, 11))
    for call in (lambda: method.needs(None), lambda: method(reading_of_texts(LAVA, question="lava"))):
        with pytest.raises(InputError, match=command):
            call()


def test_cite_right_on_an_old_python_names_alternatives(monkeypatch):
    monkeypatch.setitem(sys.modules, "cite_right", None)
    monkeypatch.setattr(import_module(CiteRight.__module__), "PYTHON", (3, 10))
    with pytest.raises(InputError, match=r"needs Python 3\.11 or later, and this is 3\.10; bm25 and answer-string"):
        CiteRight().needs(None)


def test_the_default_methods_omit_cite_right_if_it_is_not_installed():
    names = ("flow", "bm25", "bm25:title", "answer-string", "cite-right")
    rest = ("mean-attention", "max-attention", "length", "random")
    assert default_methods(True) == (*names, *rest)
    assert default_methods(False) == (*names[:-1], *rest)
    for aligner in (True, False):
        assert [method.name for method in parse(default_methods(aligner))] == list(default_methods(aligner))
    assert Config().methods == default_methods()
