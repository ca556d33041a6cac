"""Rows of data sets are read as questions: each schema, and unusable rows."""

import json
import re

import pytest
from eval_schemas import HUB, MUSIQUE, OFFICIAL, TWO_WIKI, changed, write

from attributor.eval.data import Problem, load_questions
from attributor.eval.data._question import Document


@pytest.fixture
def written(tmp_path):
    """Write a file into `tmp_path`."""
    return lambda content, name="rows.jsonl": write(tmp_path / name, content)


def only(loaded):
    (question,) = loaded.questions
    return question


@pytest.mark.parametrize("row", [HUB, OFFICIAL], ids=["hub", "official"])
def test_both_schemas_of_hotpotqa_give_the_same_question(written, row):
    loaded = load_questions("hotpotqa", written([row]))
    question = only(loaded)
    assert (question.id, question.text, question.answer) == ("a1", "Who keeps the light?", "Ada")
    assert (question.kind, question.level, question.aliases) == ("bridge", "hard", ())
    assert question.documents == (
        Document("The light", ("The light is old.", " Its keeper lives there.", "")),
        Document("Ada", ("Ada keeps the light.", "She is 40.")),
    )
    assert question.gold == {(0, 1), (1, 0)}
    assert (loaded.problems, loaded.notes, loaded.name, loaded.source) == ((), (), "hotpotqa", "rows.jsonl")


def test_sentences_of_2wiki_are_joined_with_a_space(written):
    row = changed(TWO_WIKI, context=[["The light", ["One.", "Two.", "", "Three. ", "Four.", "\nFive."]]])
    row["supporting_facts"] = [["The light", 4]]
    question = only(load_questions("2wiki", written([row])))
    assert question.documents[0].pieces == ("One.", " Two.", "", " Three. ", "Four.", "\nFive.")
    assert question.gold == {(0, 4)}
    assert (question.kind, question.level) == ("compositional", "")


def test_2wiki_is_read_in_the_schema_of_the_hub(written):
    row = changed(TWO_WIKI, context=HUB["context"], supporting_facts=HUB["supporting_facts"])
    assert only(load_questions("2wiki", written([row]))) == only(load_questions("2wiki", written([TWO_WIKI])))


def test_paragraphs_of_musique_with_one_title_are_separate_documents(written):
    question = only(load_questions("musique", written([MUSIQUE])))
    assert question.documents == (
        Document("Same", ("The light is old. Its keeper is Ada.",)),
        Document("Same", ("Ada keeps the light.",)),
    )
    assert question.gold == {(1, 0)}
    assert (question.kind, question.aliases, question.id) == ("3hop1", ("Ada L.",), "3hop1__1_2_3")
    plain = only(load_questions("musique", written([changed(MUSIQUE, id=17, answer_aliases=None, answerable=None)])))
    assert (plain.kind, plain.aliases, plain.id) == ("", (), "17")


def test_supporting_facts_without_a_sentence_are_left_out_and_noted(written):
    facts = [["The light", 1], ["The light", 9], ["The light", -1], ["The light", 2], ["Nobody", 0]]
    loaded = load_questions("hotpotqa", written([OFFICIAL, changed(OFFICIAL, _id="b", supporting_facts=facts)]))
    assert loaded.questions[1].gold == {(0, 1)}
    assert loaded.problems == ()
    assert [str(note) for note in loaded.notes] == [
        "row 2 (id b): supporting_facts: 'The light' has no sentence 9 with text",
        "row 2 (id b): supporting_facts: 'The light' has no sentence -1 with text",
        "row 2 (id b): supporting_facts: 'The light' has no sentence 2 with text",
        "row 2 (id b): supporting_facts: no paragraph has the title 'Nobody'",
    ]
    loaded = load_questions("hotpotqa", written([OFFICIAL, changed(OFFICIAL, _id="b", supporting_facts=facts[1:])]))
    assert loaded.problems == (Problem(2, "b", "supporting_facts", "'The light' has no sentence 9 with text"),)


def test_only_equal_sentences_under_equal_titles_are_all_evidence(written):
    context = [["Ada", ["Ada is 40."]], ["Ada", ["Ada is a town."]], ["Ada", ["Ada is 40."]], ["Ada", ["", "More."]]]
    row = changed(OFFICIAL, context=context, supporting_facts=[["Ada", 0]])
    assert only(load_questions("hotpotqa", written([row]))).gold == {(0, 0), (2, 0)}
    row = changed(OFFICIAL, context=context, supporting_facts=[["Ada", 1]])
    assert only(load_questions("hotpotqa", written([row]))).gold == {(3, 1)}


def test_paragraphs_without_text_are_left_out_and_evidence_keeps_its_place(written):
    context = [["Nothing", []], ["Blank", ["", " \n"]], *OFFICIAL["context"]]
    loaded = load_questions("hotpotqa", written([changed(OFFICIAL, context=context)]))
    assert [document.title for document in only(loaded).documents] == ["The light", "Ada"]
    assert only(loaded).gold == {(0, 1), (1, 0)}
    assert [(note.field, note.reason) for note in loaded.notes] == [
        ("context[0]", "'Nothing' has no text and was left out"),
        ("context[1]", "'Blank' has no text and was left out"),
    ]
    blank = {"title": "Blank", "paragraph_text": " ", "is_supporting": False}
    question = only(load_questions("musique", written([changed(MUSIQUE, paragraphs=[blank, *MUSIQUE["paragraphs"]])])))
    assert (len(question.documents), question.gold) == (2, {(1, 0)})


# unusable rows

BAD = {
    "no id": (OFFICIAL, {"_id": None}, "id", "is missing"),
    "an empty id": (HUB, {"id": " "}, "id", "is empty"),
    "an id that is a list": (HUB, {"id": ["a"]}, "id", "must be text, got list"),
    "no question": (HUB, {"question": None}, "question", "is missing"),
    "a blank answer": (HUB, {"answer": " \n"}, "answer", "is empty"),
    "a number as answer": (HUB, {"answer": 12}, "answer", "must be text, got int"),
    "half a character": (
        HUB,
        {"question": "Who \ud83d?"},
        "question",
        "holds a character that is no valid UTF-8, at 4",
    ),
    "a kind that is a number": (HUB, {"type": 3}, "type", "must be text, got int"),
    "no context": (HUB, {"context": None}, "context", "is missing"),
    "a context of text": (HUB, {"context": "The light"}, "context", "must be a list, got str"),
    "an empty context": (HUB, {"context": []}, "context", "has no paragraph with text"),
    "titles without sentences": (
        HUB,
        {"context": {"title": ["a", "b"], "sentences": [["x"]]}},
        "context",
        "has 2 of title but 1 of sentences",
    ),
    "half a context": (HUB, {"context": {"title": ["a"]}}, "context.sentences", "is missing"),
    "a paragraph of text": (OFFICIAL, {"context": [["a", "One."]]}, "context, sentences of paragraph 1", "got str"),
    "a paragraph alone": (OFFICIAL, {"context": [["a", ["b"]], ["c"]]}, "context[1]", "must be [title, sentences]"),
    "a sentence that is a number": (
        OFFICIAL,
        {"context": [["a", ["One.", 2]]]},
        "context, sentences of paragraph 1",
        "must be text, got int",
    ),
    "a title that is null": (OFFICIAL, {"context": [[None, ["One."]]]}, "context, title 1", "is missing"),
    "no facts": (HUB, {"supporting_facts": None}, "supporting_facts", "is missing"),
    "empty facts": (HUB, {"supporting_facts": []}, "supporting_facts", "is empty"),
    "a fact by name": (OFFICIAL, {"supporting_facts": [["Ada", "0"]]}, "supporting_facts", "whole number, got '0'"),
    "a fact that is true": (OFFICIAL, {"supporting_facts": [["Ada", True]]}, "supporting_facts", "got 'True'"),
    "no paragraphs": (MUSIQUE, {"paragraphs": []}, "paragraphs", "has no paragraph with text"),
    "paragraphs of text": (MUSIQUE, {"paragraphs": ["a"]}, "paragraphs[0]", "must be an object, got str"),
    "no mark": (
        MUSIQUE,
        {"paragraphs": [{"title": "a", "paragraph_text": "b"}]},
        "paragraphs[0].is_supporting",
        "must be true or false, got 'None'",
    ),
    "no supporting paragraph": (MUSIQUE, {"paragraphs": MUSIQUE["paragraphs"][:1]}, "paragraphs", "is_supporting"),
    "unanswerable": (MUSIQUE, {"answerable": False}, "answerable", "no paragraph holds the evidence"),
    "an alias that is a number": (MUSIQUE, {"answer_aliases": [7]}, "answer_aliases", "must be text, got int"),
}


@pytest.mark.parametrize(("row", "fields", "field", "what"), BAD.values(), ids=BAD)
def test_a_bad_field_is_named_and_the_other_examples_are_used(written, row, fields, field, what):
    name = "musique" if row is MUSIQUE else "hotpotqa"
    good = changed(row, **{"_id" if "_id" in row else "id": "good"})
    loaded = load_questions(name, written([good, changed(row, **fields), changed(good, id="last", _id=None)]))
    assert [question.id for question in loaded.questions] == ["good", "last"]
    (problem,) = loaded.problems
    assert (problem.number, problem.field) == (2, field)
    assert what in problem.reason
    assert re.search(r"^row 2( \(id .*\))?: ", str(problem))


def test_broken_lines_are_reported_by_number_and_blank_lines_skipped(written):
    good = json.dumps(HUB).encode()
    last = json.dumps(changed(HUB, id="z")).encode()
    latin = '{"id": "ä"}'.encode("latin-1")
    lines = [b"\xef\xbb\xbf" + good + b"\r", b"", good[:50], b"  \r", b"[1]", latin, b"null", last]
    loaded = load_questions("hotpotqa", written(b"\n".join(lines)))
    assert [question.id for question in loaded.questions] == ["a1", "z"]
    assert [(problem.number, problem.id, problem.field) for problem in loaded.problems] == [
        (3, None, "row"),
        (5, None, "row"),
        (6, None, "row"),
        (7, None, "row"),
    ]
    whats = [problem.reason for problem in loaded.problems]
    assert "broken JSON, " in whats[0]
    assert whats[1:] == ["must be an object, got list", "is not UTF-8, at byte 8 of the line", whats[3]]
    assert "NoneType" in whats[3]
    assert str(loaded.problems[1]) == "row 5: must be an object, got list"


def test_deep_nesting_and_endless_numbers_are_broken_examples(written):
    content = "\n".join([json.dumps(HUB), "[" * 100_000, '{"id": ' + "1" * 5000 + "}"])
    assert [problem.number for problem in load_questions("hotpotqa", written(content)).problems] == [2, 3]


def test_a_repeated_id_is_a_problem_and_the_first_example_stays(written):
    rows = [changed(HUB, answer=None), HUB, changed(HUB, answer="Bea"), changed(HUB, id="b")]
    loaded = load_questions("hotpotqa", written(rows))
    assert [(question.id, question.answer) for question in loaded.questions] == [("a1", "Ada"), ("b", "Ada")]
    assert loaded.problems[1:] == (Problem(3, "a1", "id", "is that of row 2 too"),)
