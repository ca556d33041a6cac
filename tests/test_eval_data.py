"""Data sets as questions: each schema, files that are broken in every way, the public name, and the shipped sample."""

import copy
import json
import re
import sys
import types
from collections import Counter
from pathlib import Path

import pytest

from attributor._errors import InputError
from attributor.eval import data
from attributor.eval.data import NAMES, Problem, load
from attributor.eval.question import Document

SHARED = Path(__file__).parents[2] / "shared" / "data"
SAMPLE = Path(data.__file__).parent / "sample.jsonl"

HUB = {
    "id": "a1",
    "question": " Who keeps the light? ",
    "answer": "Ada",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": {"title": ["The light", "Ada"], "sent_id": [1, 0]},
    "context": {
        "title": ["The light", "Ada"],
        "sentences": [["The light is old.", " Its keeper lives there.", ""], ["Ada keeps the light.", "She is 40."]],
    },
}
OFFICIAL = {
    "_id": "a1",
    "question": "Who keeps the light?",
    "answer": "Ada",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["The light", 1], ["Ada", 0]],
    "context": [list(pair) for pair in zip(HUB["context"]["title"], HUB["context"]["sentences"], strict=True)],
}
TWO_WIKI = {
    **{key: value for key, value in OFFICIAL.items() if key != "level"},
    "type": "compositional",
    "evidences": [["The light", "keeper", "Ada"]],
}
MUSIQUE = {
    "id": "3hop1__1_2_3",
    "question": "Who keeps the light?",
    "answer": "Ada",
    "answer_aliases": ["Ada L."],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Same", "paragraph_text": "The light is old. Its keeper is Ada.", "is_supporting": False},
        {"idx": 1, "title": "Same", "paragraph_text": "Ada keeps the light.", "is_supporting": True},
    ],
}
ROWS = {"hotpotqa": HUB, "2wiki": TWO_WIKI, "musique": MUSIQUE}


def changed(row, **fields):
    """The row with other fields; those that are None are left out."""
    new = {**copy.deepcopy(row), **fields}
    return {key: value for key, value in new.items() if value is not None}


@pytest.fixture
def written(tmp_path):
    """Writes a file: text or bytes as they are, rows as JSON lines (.jsonl) or as a list (.json)."""

    def write(content, name="rows.jsonl"):
        path = tmp_path / name
        if isinstance(content, list):
            lines = "".join(json.dumps(row) + "\n" for row in content)
            content = lines if name.endswith("l") else json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def only(loaded):
    (question,) = loaded.questions
    return question


# what a row becomes


@pytest.mark.parametrize("row", [HUB, OFFICIAL], ids=["hub", "official"])
def test_both_schemas_of_hotpotqa_give_the_same_question(written, row):
    loaded = load("hotpotqa", written([row]))
    question = only(loaded)
    assert (question.id, question.text, question.answer) == ("a1", "Who keeps the light?", "Ada")
    assert (question.kind, question.level, question.aliases) == ("bridge", "hard", ())
    assert question.documents == (
        Document("The light", ("The light is old.", " Its keeper lives there.", "")),
        Document("Ada", ("Ada keeps the light.", "She is 40.")),
    )
    assert question.gold == {(0, 1), (1, 0)}
    assert (loaded.problems, loaded.notes, loaded.name, loaded.source) == ((), (), "hotpotqa", "rows.jsonl")


def test_sentences_of_2wiki_get_the_space_that_is_missing_between_them(written):
    row = changed(TWO_WIKI, context=[["The light", ["One.", "Two.", "", "Three. ", "Four.", "\nFive."]]])
    row["supporting_facts"] = [["The light", 4]]
    question = only(load("2wiki", written([row])))
    assert question.documents[0].pieces == ("One.", " Two.", "", " Three. ", "Four.", "\nFive.")
    assert question.gold == {(0, 4)}
    assert (question.kind, question.level) == ("compositional", "")


def test_2wiki_in_the_shape_of_the_hub(written):
    row = changed(TWO_WIKI, context=HUB["context"], supporting_facts=HUB["supporting_facts"])
    assert only(load("2wiki", written([row]))) == only(load("2wiki", written([TWO_WIKI])))


def test_paragraphs_of_musique_are_pieces_also_under_one_title(written):
    question = only(load("musique", written([MUSIQUE])))
    assert question.documents == (
        Document("Same", ("The light is old. Its keeper is Ada.",)),
        Document("Same", ("Ada keeps the light.",)),
    )
    assert question.gold == {(1, 0)}
    assert (question.kind, question.aliases, question.id) == ("3hop1", ("Ada L.",), "3hop1__1_2_3")
    plain = only(load("musique", written([changed(MUSIQUE, id=17, answer_aliases=None, answerable=None)])))
    assert (plain.kind, plain.aliases, plain.id) == ("", (), "17")


def test_facts_that_lead_nowhere_are_left_out_and_noted(written):
    facts = [["The light", 1], ["The light", 9], ["The light", -1], ["The light", 2], ["Nobody", 0]]
    loaded = load("hotpotqa", written([OFFICIAL, changed(OFFICIAL, _id="b", supporting_facts=facts)]))
    assert loaded.questions[1].gold == {(0, 1)}
    assert loaded.problems == ()
    assert [str(note) for note in loaded.notes] == [
        "row 2 (id b): supporting_facts: 'The light' has no sentence 9 with text",
        "row 2 (id b): supporting_facts: 'The light' has no sentence -1 with text",
        "row 2 (id b): supporting_facts: 'The light' has no sentence 2 with text",
        "row 2 (id b): supporting_facts: no paragraph has the title 'Nobody'",
    ]
    loaded = load("hotpotqa", written([OFFICIAL, changed(OFFICIAL, _id="b", supporting_facts=facts[1:])]))
    assert loaded.problems == (Problem(2, "b", "supporting_facts", "'The light' has no sentence 9 with text"),)


def test_of_equal_titles_the_copies_are_evidence_and_another_paragraph_is_not(written):
    context = [["Ada", ["Ada is 40."]], ["Ada", ["Ada is a town."]], ["Ada", ["Ada is 40."]], ["Ada", ["", "More."]]]
    row = changed(OFFICIAL, context=context, supporting_facts=[["Ada", 0]])
    assert only(load("hotpotqa", written([row]))).gold == {(0, 0), (2, 0)}
    row = changed(OFFICIAL, context=context, supporting_facts=[["Ada", 1]])
    assert only(load("hotpotqa", written([row]))).gold == {(3, 1)}


def test_paragraphs_without_text_are_left_out_and_evidence_keeps_its_place(written):
    context = [["Nothing", []], ["Blank", ["", " \n"]], *OFFICIAL["context"]]
    loaded = load("hotpotqa", written([changed(OFFICIAL, context=context)]))
    assert [document.title for document in only(loaded).documents] == ["The light", "Ada"]
    assert only(loaded).gold == {(0, 1), (1, 0)}
    assert [(note.field, note.what) for note in loaded.notes] == [
        ("context[0]", "'Nothing' has no text and was left out"),
        ("context[1]", "'Blank' has no text and was left out"),
    ]
    blank = {"title": "Blank", "paragraph_text": " ", "is_supporting": False}
    question = only(load("musique", written([changed(MUSIQUE, paragraphs=[blank, *MUSIQUE["paragraphs"]])])))
    assert (len(question.documents), question.gold) == (2, {(1, 0)})


# rows that cannot be used

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
def test_a_bad_field_is_named_and_the_other_rows_are_used(written, row, fields, field, what):
    name = "musique" if row is MUSIQUE else "hotpotqa"
    good = changed(row, **{"_id" if "_id" in row else "id": "good"})
    loaded = load(name, written([good, changed(row, **fields), changed(good, id="last", _id=None)]))
    assert [question.id for question in loaded.questions] == ["good", "last"]
    (problem,) = loaded.problems
    assert (problem.row, problem.field) == (2, field)
    assert what in problem.what
    assert re.search(r"^row 2( \(id .*\))?: ", str(problem))


def test_broken_lines_are_named_by_their_number_and_blank_ones_are_none(written):
    good = json.dumps(HUB).encode()
    last = json.dumps(changed(HUB, id="z")).encode()
    latin = '{"id": "ä"}'.encode("latin-1")
    lines = [b"\xef\xbb\xbf" + good + b"\r", b"", good[:50], b"  \r", b"[1]", latin, b"null", last]
    loaded = load("hotpotqa", written(b"\n".join(lines)))
    assert [question.id for question in loaded.questions] == ["a1", "z"]
    assert [(problem.row, problem.id, problem.field) for problem in loaded.problems] == [
        (3, None, "row"),
        (5, None, "row"),
        (6, None, "row"),
        (7, None, "row"),
    ]
    whats = [problem.what for problem in loaded.problems]
    assert "broken JSON, " in whats[0]
    assert whats[1:] == ["must be an object, got list", "is not UTF-8, at byte 8 of the line", whats[3]]
    assert "NoneType" in whats[3]
    assert str(loaded.problems[1]) == "row 5: must be an object, got list"


def test_deep_nesting_and_endless_numbers_are_broken_rows(written):
    content = "\n".join([json.dumps(HUB), "[" * 100_000, '{"id": ' + "1" * 5000 + "}"])
    assert [problem.row for problem in load("hotpotqa", written(content)).problems] == [2, 3]


def test_an_id_that_comes_again_is_a_problem_and_the_first_row_stays(written):
    rows = [changed(HUB, answer=None), HUB, changed(HUB, answer="Bea"), changed(HUB, id="b")]
    loaded = load("hotpotqa", written(rows))
    assert [(question.id, question.answer) for question in loaded.questions] == [("a1", "Ada"), ("b", "Ada")]
    assert loaded.problems[1:] == (Problem(3, "a1", "id", "is that of row 2 too"),)


# files


@pytest.mark.parametrize("name", ROWS)
def test_lists_lines_and_lists_under_data_are_the_same(written, name):
    rows = [changed(ROWS[name], id=f"r{i}", _id=None) for i in range(3)]
    indented = json.dumps({"version": 1, "data": rows}, indent=1)
    files = [
        written(rows),
        written(rows, "a.json"),
        written(json.dumps(rows, indent=2), "b.json"),
        written(json.dumps({"data": rows}), "c.json"),
        written(indented, "d.json"),
        written(b"\xef\xbb\xbf \n" + json.dumps(rows).encode(), "e.JSON"),
        written("".join(json.dumps(row) + "\n" for row in rows), "f.json"),
        written(json.dumps(rows), "g.jsonl"),
    ]
    want = load(name, files[0]).questions
    assert [question.id for question in want] == ["r0", "r1", "r2"]
    for file in files[1:]:
        assert load(name, str(file)).questions == want, file.name


def test_a_long_list_is_read_in_pieces(written, monkeypatch):
    rows = [changed(HUB, id=str(i), question="é🙂 " * i + "?") for i in range(40)]
    content = json.dumps(rows, ensure_ascii=False, indent=1).replace("},\n", "}  ,\n")
    path = written("\n  " + content, "a.json")
    want = load("hotpotqa", written(rows)).questions
    for chunk in (1, 7, 64, 5000):
        monkeypatch.setattr("attributor.eval.data._rows.CHUNK", chunk)
        assert load("hotpotqa", path).questions == want
    assert load("hotpotqa", path, limit=2).questions == want[:2]


@pytest.mark.parametrize(("end", "row"), [("", 3), (', {"id": ', 3), (", nonsense]", 3), ("} ]", 2)])
def test_a_broken_list_gives_the_rows_before_the_break(written, end, row):
    rows = json.dumps([changed(HUB, id="a"), changed(HUB, id="b")])[:-1]
    loaded = load("hotpotqa", written(rows + (end or ","), "a.json"))
    assert [question.id for question in loaded.questions] == ["a", "b"][: row - 1]
    (problem,) = loaded.problems
    assert problem.row == row
    assert "the rest of the list cannot be read" in problem.what


def test_bytes_that_are_not_utf8_spoil_their_row_of_a_list_only(written):
    rows = json.dumps([HUB, changed(HUB, id="b", question="KAPUTT"), changed(HUB, id="c")]).encode()
    loaded = load("hotpotqa", written(rows.replace(b"KAPUTT", b"K\xff"), "a.json"))
    assert [question.id for question in loaded.questions] == ["a1", "c"]
    assert loaded.problems == (Problem(2, "b", "question", "holds a character that is no valid UTF-8, at 1"),)


def test_a_limit_counts_rows_and_reads_no_further(written):
    rows = [changed(HUB, id=str(i)) for i in range(5)]
    rows[1]["answer"] = None
    loaded = load("hotpotqa", written(rows), limit=3)
    assert ([question.id for question in loaded.questions], len(loaded.problems)) == (["0", "2"], 1)
    broken = json.dumps(rows[:1])[:-1] + ", broken"
    assert load("hotpotqa", written(broken, "a.json"), limit=1).problems == ()


def test_a_limit_reads_the_beginning_of_a_list_only(written, monkeypatch):
    path = written([changed(HUB, id=str(i)) for i in range(1000)], "a.json")
    read, opened = [], Path.open

    def counting(self, *args, **kwargs):
        file = opened(self, *args, **kwargs)
        original = file.read
        file.read = lambda size: read.append(size) or original(size)
        return file

    monkeypatch.setattr("attributor.eval.data._rows.CHUNK", 3000)
    monkeypatch.setattr(Path, "open", counting)
    assert len(load("hotpotqa", path, limit=5).questions) == 5
    assert read
    assert sum(read) < 20_000 < path.stat().st_size / 10


EMPTY = {
    "empty": (b"", "is empty"),
    "blank": (b" \n" * 9000, "is empty"),
    "an empty list": (b"[ ]", "holds no rows"),
    "no rows under data": (b'{"data": []}', "holds no rows"),
    "an object without rows": (b'{\n"rows": {},\n "n": 3}', "holds one object with rows, n"),
    "a broken object": (b'{\n"data": [{"id"\n', "is broken JSON"),
    "text": (b"id,question,answer\n1,a,b", "begins with b'id,question,answer"),
    "gzip": (b"\x1f\x8b\x08\x00", "gzip"),
    "zip": (b"PK\x03\x04aaa", "zip archive"),
    "parquet": (b"PAR1aaaa", "Parquet"),
    "utf-16": ("[]".encode("utf-16"), "UTF-16"),
}


@pytest.mark.parametrize(("content", "what"), EMPTY.values(), ids=EMPTY)
def test_files_without_rows_say_what_they_are(written, content, what):
    with pytest.raises(InputError, match=re.escape(what)):
        load("hotpotqa", written(content, "rows.json"))


def test_missing_files_folders_and_other_things_are_told(tmp_path, written):
    with pytest.raises(InputError, match=r"there is no file .*nope\.json"):
        load("hotpotqa", tmp_path / "nope.json")
    written([HUB], "here.json")
    with pytest.raises(InputError, match=r"is a folder; .* in it: here\.json"):
        load("hotpotqa", tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*here\.json"):
        load("hotpotqa", tmp_path / "here.json" / "inside.json")
    with pytest.raises(InputError, match="must be a file name"):
        load("hotpotqa", 3)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("held", ROWS)
def test_the_file_of_another_data_set_is_recognised(written, name, held):
    path = written([ROWS[held]])
    if name == held:
        assert load(name, path).problems == ()
    else:
        with pytest.raises(InputError, match=rf"^rows\.jsonl looks like \w+: use {held} instead of {name}$"):
            load(name, path)


def test_a_file_of_no_known_schema_names_what_it_has_and_what_is_wanted(written):
    with pytest.raises(InputError) as caught:
        load("hotpotqa", written([{"prompt": "a", "completion": "b"}, {}]))
    assert str(caught.value) == (
        "no row of rows.jsonl can be used, 2 tried; row 1: context: is missing; a row of hotpotqa needs id (or _id), "
        "question, answer, context, supporting_facts; the first has prompt, completion"
    )
    with pytest.raises(InputError, match=r"no row of rows\.jsonl can be used, 1 tried; row 1: is broken JSON"):
        load("hotpotqa", written("{"))


@pytest.mark.parametrize("name", ["squad", "HotpotQA", "", None, ["hotpotqa"]], ids=repr)
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(InputError, match="there are hotpotqa, 2wiki, musique, sample"):
        load(name)
    assert NAMES == ("hotpotqa", "2wiki", "musique", "sample")


@pytest.mark.parametrize("limit", [0, -1, 2.0, "3", True], ids=repr)
def test_limits_are_whole_numbers(limit):
    with pytest.raises(InputError, match="limit must be a whole number >= 1"):
        load("sample", limit=limit)


@pytest.mark.parametrize("name", ["2wiki", "musique"])
def test_data_sets_without_a_public_name_want_a_file(name):
    with pytest.raises(
        InputError, match=rf"{name} has no public name here: name its \.json or \.jsonl file \(from http"
    ):
        load(name)


# the public data set


class Hub(types.ModuleType):
    """Stands in for the package datasets: rows, or an error, and what was asked for."""

    def __init__(self, cache, rows):
        super().__init__("datasets")
        self.config = types.SimpleNamespace(HF_DATASETS_CACHE=str(cache))
        self.rows, self.asked, self.given = rows, [], 0

    def load_dataset(self, path, config, *, split, streaming):
        self.asked.append((path, config, split, streaming))
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.give()

    def give(self):
        for row in self.rows:
            if isinstance(row, Exception):
                raise row
            self.given += 1
            yield row


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(tmp_path, [changed(HUB, id=str(i)) for i in range(9)])
    monkeypatch.setitem(sys.modules, "datasets", made)
    return made


def test_the_public_data_set_whole_or_streamed(hub):
    loaded = load("hotpotqa")
    assert (len(loaded.questions), loaded.source) == (9, "hotpotqa/hotpot_qa, distractor, validation")
    assert load("hotpotqa", config="fullwiki", split="train", limit=4).questions == loaded.questions[:4]
    assert hub.given == 9 + 4
    load("hotpotqa", split="train[:5]", limit=1)
    assert hub.asked == [
        ("hotpotqa/hotpot_qa", "distractor", "validation", False),
        ("hotpotqa/hotpot_qa", "fullwiki", "train", True),
        ("hotpotqa/hotpot_qa", "distractor", "train[:5]", False),
    ]


def test_what_the_cache_holds_is_not_streamed(hub, tmp_path):
    (tmp_path / "hotpotqa___hotpot_qa" / "distractor").mkdir(parents=True)
    assert len(load("hotpotqa", limit=2).questions) == 2
    load("hotpotqa", config="fullwiki", limit=2)
    assert [streaming for *_, streaming in hub.asked] == [False, True]


@pytest.mark.parametrize("when", ["asked", "streaming"])
def test_a_hub_that_cannot_be_reached_says_how_to_go_on(hub, when):
    error = ConnectionError("Couldn't reach the Hub\nmore of it")
    hub.rows = error if when == "asked" else [HUB, error]
    with pytest.raises(InputError) as caught:
        load("hotpotqa", limit=3)
    assert str(caught.value) == (
        "hotpotqa/hotpot_qa, distractor, validation cannot be loaded from the hub (Couldn't reach the Hub); "
        "name a local .json or .jsonl file of it instead"
    )


def test_unknown_configurations_and_splits_ask_nobody(hub):
    with pytest.raises(InputError, match=r"unknown configuration 'medium' of .*; there are distractor, fullwiki"):
        load("hotpotqa", config="medium")
    with pytest.raises(
        InputError, match=r"unknown split 'test' of hotpotqa/hotpot_qa, distractor; there are train, val"
    ):
        load("hotpotqa", split="test")
    assert hub.asked == []


def test_a_split_without_answers_is_told(hub):
    hub.rows = [changed(HUB, id=str(i), answer=None, supporting_facts=[]) for i in range(3)]
    with pytest.raises(InputError, match=r"fullwiki, test can be used, 3 tried; row 1 \(id 0\): "):
        load("hotpotqa", config="fullwiki", split="test")


def test_without_the_package_a_file_still_works(monkeypatch, written):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'attributor\[eval\]'; or name a local"):
        load("hotpotqa")
    assert load("hotpotqa", written([HUB])).problems == ()


# the sample


@pytest.fixture(scope="module")
def sample():
    return [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]


def gold_of(row):
    """The two gold titles, in the order in which the question needs them."""
    return list(dict.fromkeys(row["supporting_facts"]["title"]))


def text_of(row, title):
    return "".join(row["context"]["sentences"][row["context"]["title"].index(title)])


def test_the_sample_loads_without_a_problem(sample):
    loaded = load("sample")
    assert (loaded.name, loaded.source, loaded.problems, loaded.notes) == ("sample", "sample", (), ())
    assert [question.id for question in loaded.questions] == [row["id"] for row in sample]
    assert load("sample", limit=5).questions == loaded.questions[:5]
    assert load("hotpotqa", SAMPLE).questions == loaded.questions
    with pytest.raises(InputError, match=r"takes no source; for mine\.json, name the data set"):
        load("sample", "mine.json")


def test_the_sample_is_of_the_size_and_the_kinds_that_are_promised(sample):
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


def test_a_paragraph_of_the_sample_is_the_same_wherever_it_stands(sample):
    pool: dict[str, list[str]] = {}
    for row in sample:
        for title, sentences in zip(row["context"]["title"], row["context"]["sentences"], strict=True):
            assert pool.setdefault(title, sentences) == sentences
            assert title.removeprefix("The ").lower() in "".join(sentences).lower()
    assert len(pool) >= 60
    assert len({sentence for sentences in pool.values() for sentence in sentences}) == sum(map(len, pool.values()))


def test_answers_of_the_sample_stand_in_a_gold_paragraph_and_in_no_other(sample):
    for row in sample:
        answer = row["answer"]
        if answer in ("yes", "no"):
            assert row["type"] == "comparison"
            continue
        # "as a lighthouse keeper" answers "how", and "a lighthouse keeper" elsewhere would give it away as well
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


def test_the_supporting_sentence_holds_the_answer(sample):
    for row in sample:
        facts = zip(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"], strict=True)
        gold = [row["context"]["sentences"][row["context"]["title"].index(title)][number] for title, number in facts]
        if row["type"] == "bridge":
            assert row["answer"].lower() in gold[-1].lower(), row["id"]


def test_gold_paragraphs_of_the_sample_stand_in_every_place(sample):
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
def test_real_rows_are_used_to_the_last(name, file, rows):
    if not (SHARED / file).exists():
        pytest.skip("the development rows of the public data sets are not here")
    loaded = load(name, SHARED / file)
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
