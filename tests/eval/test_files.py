"""Files of data sets: lists and lines, damaged, limited, empty, missing, or of another data set."""

import json
import re
from pathlib import Path

import pytest
from eval_schemas import HUB, ROWS, changed, write
from hostile_files import bad_paths

from attributor._errors import InputError
from attributor.eval.data import Problem, data_sets, load_questions


@pytest.fixture
def written(tmp_path):
    """Write a file into `tmp_path`."""
    return lambda content, name="rows.jsonl": write(tmp_path / name, content)


@pytest.mark.parametrize("name", ROWS)
def test_lists_lines_and_lists_under_data_are_read_the_same(written, name):
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
    want = load_questions(name, files[0]).questions
    assert [question.id for question in want] == ["r0", "r1", "r2"]
    for file in files[1:]:
        assert load_questions(name, str(file)).questions == want, file.name


def test_a_long_list_is_read_in_pieces(written, monkeypatch):
    rows = [changed(HUB, id=str(i), question="é🙂 " * i + "?") for i in range(40)]
    content = json.dumps(rows, ensure_ascii=False, indent=1).replace("},\n", "}  ,\n")
    path = written("\n  " + content, "a.json")
    want = load_questions("hotpotqa", written(rows)).questions
    for chunk in (1, 7, 64, 5000):
        monkeypatch.setattr("attributor.eval.data._local_file.CHUNK", chunk)
        assert load_questions("hotpotqa", path).questions == want
    assert load_questions("hotpotqa", path, limit=2).questions == want[:2]


@pytest.mark.parametrize(("end", "row"), [("", 3), (', {"id": ', 3), (", nonsense]", 3), ("} ]", 2)])
def test_a_broken_list_yields_the_examples_before_the_break(written, end, row):
    rows = json.dumps([changed(HUB, id="a"), changed(HUB, id="b")])[:-1]
    loaded = load_questions("hotpotqa", written(rows + (end or ","), "a.json"))
    assert [question.id for question in loaded.questions] == ["a", "b"][: row - 1]
    (problem,) = loaded.problems
    assert problem.number == row
    assert "the rest of the list cannot be read" in problem.reason


def test_invalid_utf8_in_a_list_spoils_only_its_example(written):
    rows = json.dumps([HUB, changed(HUB, id="b", question="KAPUTT"), changed(HUB, id="c")]).encode()
    loaded = load_questions("hotpotqa", written(rows.replace(b"KAPUTT", b"K\xff"), "a.json"))
    assert [question.id for question in loaded.questions] == ["a1", "c"]
    assert loaded.problems == (Problem(2, "b", "question", "holds a character that is no valid UTF-8, at 1"),)


def test_a_limit_counts_examples_and_reads_no_further(written):
    rows = [changed(HUB, id=str(i)) for i in range(5)]
    rows[1]["answer"] = None
    loaded = load_questions("hotpotqa", written(rows), limit=3)
    assert ([question.id for question in loaded.questions], len(loaded.problems)) == (["0", "2"], 1)
    broken = json.dumps(rows[:1])[:-1] + ", broken"
    assert load_questions("hotpotqa", written(broken, "a.json"), limit=1).problems == ()


def test_a_limit_reads_only_the_start_of_a_list(written, monkeypatch):
    path = written([changed(HUB, id=str(i)) for i in range(1000)], "a.json")
    read, opened = [], Path.open

    def counting(self, *args, **kwargs):
        file = opened(self, *args, **kwargs)
        original = file.read
        file.read = lambda size: read.append(size) or original(size)
        return file

    monkeypatch.setattr("attributor.eval.data._local_file.CHUNK", 3000)
    monkeypatch.setattr(Path, "open", counting)
    assert len(load_questions("hotpotqa", path, limit=5).questions) == 5
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
    "utf-16 without a mark": ('[{"id": 1}]'.encode("utf-16-le"), "looks like UTF-16"),
    "utf-32": ("[]".encode("utf-32-be"), "looks like UTF-16 or UTF-32"),
    "old Mac lines": (b'{"id": "a"}\r{"id": "b"}\r', "line 1: its lines end with CR alone, as on old Macs; convert"),
}


@pytest.mark.parametrize(("content", "what"), EMPTY.values(), ids=EMPTY)
def test_files_without_examples_are_refused_with_a_reason(written, content, what):
    with pytest.raises(InputError, match=re.escape(what)):
        load_questions("hotpotqa", written(content, "rows.json"))


def test_other_line_ends_are_read_or_refused(written):
    rows = [changed(HUB, id=str(i)) for i in range(3)]
    want = load_questions("hotpotqa", written(rows)).questions
    windows = "\ufeff" + "".join(json.dumps(row) + "\r\n" for row in rows)
    assert load_questions("hotpotqa", written(windows)).questions == want
    with pytest.raises(InputError, match=r"rows\.jsonl, line 1: its lines end with CR alone, as on old Macs; convert"):
        load_questions("hotpotqa", written("\r".join(json.dumps(row) for row in rows)))
    list_of_a_mac = json.dumps(rows, indent=1).replace("\n", "\r")
    assert load_questions("hotpotqa", written(list_of_a_mac, "a.json")).questions == want
    one_broken = written(json.dumps(rows[0]) + '\n{"a": "x\ry"}\n')
    assert [problem.number for problem in load_questions("hotpotqa", one_broken).problems] == [2]


def test_paths_that_are_not_files_are_refused(tmp_path):
    for problem, path in bad_paths(tmp_path).items():
        with pytest.raises(InputError) as raised:
            load_questions("hotpotqa", "~nobody-of-this-name/x" if path is None else path)
        assert len(str(raised.value)) < 1_000, problem
    with pytest.raises(InputError, match=r"fifo is not a regular file; name a \.json file"):
        load_questions("hotpotqa", tmp_path / "fifo")


def test_missing_files_and_folders_are_refused(tmp_path, written):
    with pytest.raises(InputError, match=r"there is no file .*nope\.json"):
        load_questions("hotpotqa", tmp_path / "nope.json")
    written([HUB], "here.json")
    with pytest.raises(InputError, match=r"is a folder; .* in it: here\.json"):
        load_questions("hotpotqa", tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*here\.json"):
        load_questions("hotpotqa", tmp_path / "here.json" / "inside.json")
    with pytest.raises(InputError, match="must be a file name"):
        load_questions("hotpotqa", 3)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("held", ROWS)
def test_the_file_of_another_data_set_is_recognised(written, name, held):
    path = written([ROWS[held]])
    if name == held:
        assert load_questions(name, path).problems == ()
    else:
        with pytest.raises(InputError, match=rf"^rows\.jsonl looks like \w+: use {held} instead of {name}$"):
            load_questions(name, path)


def test_a_file_of_unknown_schema_names_its_fields_and_the_required_ones(written):
    with pytest.raises(InputError) as caught:
        load_questions("hotpotqa", written([{"prompt": "a", "completion": "b"}, {}]))
    assert str(caught.value) == (
        "no row of rows.jsonl can be used, 2 tried; row 1: context: is missing; a row of hotpotqa needs id (or _id), "
        "question, answer, context, supporting_facts; the first has prompt, completion"
    )
    with pytest.raises(InputError, match=r"no row of rows\.jsonl can be used, 1 tried; row 1: is broken JSON"):
        load_questions("hotpotqa", written("{"))


@pytest.mark.parametrize("name", ["squad", "HotpotQA", "", None, ["hotpotqa"]], ids=repr)
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(InputError, match="there are hotpotqa, 2wiki, musique, removal, sample"):
        load_questions(name)
    assert tuple(data_sets()) == ("hotpotqa", "2wiki", "musique", "removal", "sample")


def test_a_generated_data_set_cannot_be_read():
    with pytest.raises(InputError, match="the rows of 'removal' are generated, not read"):
        load_questions("removal")


@pytest.mark.parametrize("limit", [0, -1, 2.0, "3", True], ids=repr)
def test_limits_must_be_whole_numbers(limit):
    with pytest.raises(InputError, match="limit must be a whole number >= 1"):
        load_questions("sample", limit=limit)


@pytest.mark.parametrize("name", ["2wiki", "musique"])
def test_data_sets_without_a_public_name_need_a_file(name):
    with pytest.raises(
        InputError, match=rf"{name} has no public name here: name its \.json or \.jsonl file \(from http"
    ):
        load_questions(name)
