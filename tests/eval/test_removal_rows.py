"""Generated rows depend only on kind, seed and number, and each kind matches its description."""

import re
import subprocess
import sys
from itertools import product

import pytest
from content_words import content_words

from attributor._errors import InputError
from attributor._heads.calibration import words as calibration_words
from attributor.eval.data import data_sets, generate_questions, lengthen
from attributor.eval.data._generated_rows import MAKERS
from attributor.eval.data._invented_words import FIRST_NAMES, KNOWN_FACTS, NAME_PARTS, RELATIONS
from attributor.eval.data._paraphrases import FORMS, HABITS, ROLES

KINDS = data_sets()["removal"].kinds
ROWS = 36  # more than the number of fact types and of known facts


def rows_of(kind, seed=0, rows=ROWS):
    return generate_questions("removal", rows=rows, seed=seed, kinds=[kind]).questions


def text_of(document):
    return f"{document.title}\n{''.join(document.pieces)}"


def value_of(question):
    (value,) = question.aliases
    assert value in question.answer
    return value


def evidence_of(question):
    return [question.documents[d] for d, _ in sorted(question.gold)]


def states(document, answer):
    return re.search(rf"\b{re.escape(answer)}\b", text_of(document)) is not None


def test_every_kind_is_generated_in_turn():
    assert tuple(MAKERS) == KINDS
    questions = generate_questions("removal", rows=2).questions
    assert [question.kind for question in questions] == [*KINDS, *KINDS]
    assert [question.row for question in questions] == [0] * len(KINDS) + [1] * len(KINDS)
    assert len({question.id for question in generate_questions("removal", rows=ROWS).questions}) == ROWS * len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_follows_from_kind_seed_and_number(kind):
    mine = rows_of(kind)
    assert mine == rows_of(kind)
    assert mine[:5] == rows_of(kind, rows=5)
    together = generate_questions("removal", rows=5).questions
    assert [question for question in together if question.kind == kind] == list(mine[:5])
    again = rows_of(kind, seed=1)
    assert not {question.id for question in mine} & {question.id for question in again}
    assert not {question.documents for question in mine} & {question.documents for question in again}


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_a_copy_of_another(kind):
    bodies = [text_of(question.documents[d]) for question in rows_of(kind) for d in question.planted]
    if kind in ("memory", "paraphrase"):  # facts recur, in other documents
        assert len({question.documents for question in rows_of(kind)}) == ROWS
    else:
        assert len(set(bodies)) == len(bodies)
    if kind != "memory":
        assert len({(question.text, question.answer, question.documents) for question in rows_of(kind)}) == ROWS


@pytest.mark.parametrize("kind", KINDS)
def test_more_distractors_leave_the_other_documents_in_their_order(kind):
    question = rows_of(kind, rows=1)[0]
    fewest = len(question.documents)
    longer = lengthen("removal", question, 200)
    assert len(longer.documents) == fewest + 198
    assert [document for document in longer.documents if document in question.documents] == list(question.documents)
    assert [longer.documents[d] for d in longer.planted] == [question.documents[d] for d in question.planted]
    assert evidence_of(longer) == evidence_of(question)
    assert lengthen("removal", longer, 2) == lengthen("removal", longer, 0) == question
    titles = [document.title for document in longer.documents]
    assert len(titles) - len(set(titles)) <= (1 if kind == "memory" else 0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "paraphrase"])
def test_only_the_evidence_states_the_answer(kind):
    for question in rows_of(kind):
        question = lengthen("removal", question, 30)
        gold = {d for d, _ in question.gold}
        assert gold <= set(question.planted)
        for d, document in enumerate(question.documents):
            assert states(document, value_of(question)) == (d in gold), (question.text, question.answer, document)


def test_a_single_row_has_one_planted_document():
    for question in rows_of("single"):
        assert len(question.planted) == 1
        assert {d for d, _ in question.gold} == set(question.planted)


@pytest.mark.parametrize("kind", ["duplicate", "memory"])
def test_a_fact_is_stated_twice_in_different_words(kind):
    for question in rows_of(kind):
        first, second = evidence_of(question)
        assert first.title != second.title
        bodies = [set(re.findall(r"[^.]+\.", "".join(document.pieces))) for document in (first, second)]
        stating = [[sentence for sentence in body if value_of(question) in sentence] for body in bodies]
        assert len(stating[0]) == len(stating[1]) == 1
        assert stating[0][0].strip() != stating[1][0].strip()


def test_a_distractor_has_the_words_of_the_question_and_not_its_answer():
    for question in rows_of("distractor"):
        (evidence,) = evidence_of(question)
        (lure,) = [question.documents[d] for d in question.planted if question.documents[d] is not evidence]
        body = "".join(lure.pieces)
        assert content_words(question.text) <= content_words(body)
        assert not states(lure, value_of(question))


def test_a_conflict_row_states_two_values_of_one_fact():
    for question in rows_of("conflict"):
        (evidence,) = evidence_of(question)
        (other,) = [question.documents[d] for d in question.planted if question.documents[d] is not evidence]
        assert states(evidence, value_of(question))
        assert not states(other, value_of(question))
        template = next(relation for relation in RELATIONS if _matches(relation.question, question.text))
        assert any(_matches(statement, sentence) for statement in template.statements for sentence in _sentences(other))


def _matches(template, text):
    pattern = re.escape(template).replace(r"\{n\}", ".+").replace(r"\{v\}", ".+")
    return re.fullmatch(pattern, text) is not None


def _sentences(document):
    return re.split(r"(?<=\.) ", "".join(document.pieces))


def test_evidence_in_other_words_shares_no_content_word():
    for seed in range(3):
        questions = rows_of("paraphrase", seed)
        assert [question.level for question in questions[:4]] == [*FORMS, FORMS[0]]
        for question in questions:
            evidence = evidence_of(question)
            if question.level == "code names":
                key, message = sorted(evidence, key=lambda document: document.title)
                assert value_of(question) in text_of(key)
                evidence = [message]
            (document,) = evidence
            shared = content_words(text_of(document)) & content_words(f"{question.text} {question.answer}")
            assert not shared, (question.text, question.answer, document)


def test_no_combination_of_a_paraphrase_shares_a_content_word():
    for (role, known_as), habit, language in product(ROLES.items(), HABITS, range(4)):
        for answer, *words in habit.values:
            text = f"{known_as[language]} {habit.sentences[language].format(n='{n}', v=words[language])}"
            asked_and_answered = f"{habit.question} {habit.answer}".format(r=role, v=answer)
            shared = content_words(text) & content_words(asked_and_answered) - {"n"}
            assert not shared, (role, habit.question, answer, text)


def test_code_names_are_defined_in_the_prompt():
    for question in rows_of("paraphrase")[1::3]:
        key, message = sorted(evidence_of(question), key=lambda document: document.title)
        names = re.findall(r"(\w+) stands for", "".join(key.pieces))
        assert len(names) == 2
        assert all(name in text_of(message) for name in names)


def test_only_written_rows_have_a_generated_answer():
    for question in generate_questions("removal", rows=3).questions:
        assert question.written == (question.kind == "written")
    for question in rows_of("written"):
        assert len(question.planted) == 3


def test_rows_share_no_name_and_no_sentence_with_the_calibration():
    parts = {part for _, *both in calibration_words.NAMES.values() for text in both for part in text.split()}
    assert not parts & {*FIRST_NAMES.split(), *NAME_PARTS[0].split()}
    statements = {
        statement
        for thing in calibration_words.KINDS_OF_THING.values()
        for fact in thing.facts
        for statement in (*fact.statements, *fact.questions, *fact.reworded_questions)
    }
    assert not statements & {text for relation in RELATIONS for text in (*relation.statements, relation.question)}


def test_every_template_has_its_placeholders():
    for relation in RELATIONS:
        stating = (*relation.statements, relation.answer)
        assert all(text.count("{n}") == 1 == text.count("{v}") for text in stating), relation.question
        assert relation.question.count("{n}") == relation.lure.count("{n}") == 1
    for fact in KNOWN_FACTS:
        assert all(fact.value in statement for statement in (*fact.statements, fact.answer)), fact.question


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows must be a whole number >= 1, got 0"),
        ({"kinds": ["single", "double"]}, "kinds must be some of single, duplicate"),
        ({"kinds": ["single", "single"]}, "each once, got single, single"),
        ({"kinds": []}, "got none"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        generate_questions("removal", **options)


def test_a_data_set_that_is_read_generates_nothing():
    with pytest.raises(InputError, match="'musique' generates no rows; removal does"):
        generate_questions("musique")


def test_rows_are_generated_without_torch():
    code = (
        "import sys; from attributor.eval.data import generate_questions, lengthen; "
        "questions = generate_questions('removal').questions; lengthen('removal', questions[0], 9); "
        "print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "set()\n"
