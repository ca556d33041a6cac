"""Reports: the files read, the tables written, and hostile names shown as text."""

import copy
import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_cases import AGGREGATIONS, METHODS, cases, write_run
from rich.console import Console

from attributor import FileFormatError, InputError, OutputError
from attributor.eval.metrics.summary import summarize
from attributor.eval.report import build_report, print_report, read_run, write_report
from attributor.eval.report.build import main_value
from attributor.eval.report.files import COLUMNS, escape_formula, to_csv, to_markdown
from attributor.eval.report.labels import place, spread
from attributor.eval.report.page import build_page
from attributor.eval.report.runs import shorten_method_name, shorten_path
from attributor.eval.report.tables import build_tables

CONFIG = {"model": "org/model", "dataset": "hotpotqa", "split": "validation", "source": "/somewhere/rows.jsonl"}
HOSTILE = "=flow|<script>alert(1)</script>[x](y)`$a$b\u202e\x1b[31m"
FEW = 200  # resamples


@pytest.fixture(scope="module")
def records():
    return cases(24, only={"contextcite:32": 10}, faithful=True)


@pytest.fixture(scope="module")
def folder(records, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "first", records, CONFIG)


@pytest.fixture(scope="module")
def report(folder):
    return build_report([read_run(folder)], resamples=FEW)


def printed(report, width=120):
    console = Console(file=io.StringIO(), width=width)
    print_report(console, report)
    return console.file.getvalue()


def rows_of(report):
    return list(csv.DictReader(io.StringIO(to_csv(report))))


def test_a_run_is_read_without_its_text(folder, records):
    run = read_run(folder)
    assert (run.name, run.finished, run.notes) == ("first", True, [])
    assert len(run.cases) == len(records)
    assert "SECRET" not in json.dumps(run.cases)
    assert run.settings["source"] == "rows.jsonl"
    assert summarize(run.cases, resamples=FEW) == summarize(records, resamples=FEW)


def test_a_run_that_was_killed_can_be_read(records, tmp_path):
    folder = write_run(tmp_path / "killed", records[:5])
    with (folder / "cases.jsonl").open("a") as file:
        file.write('{"id": "row-6", "sta')
    run = read_run(folder)
    assert len(run.cases) == 5
    assert not run.finished
    assert any("no run.json" in note for note in run.notes)
    assert any("last line of cases.jsonl was not finished" in note for note in run.notes)
    assert "Note: there is no run.json" in printed(build_report([run], resamples=FEW))


def test_a_run_that_has_not_ended_is_noted(records, tmp_path):
    run = read_run(write_run(tmp_path / "on", records[:3], CONFIG, finished=False))
    assert run.notes == ["the run has not ended"]


def test_parts_are_merged_and_repeated_cases_count_once(records, tmp_path):
    failed = {"id": records[0]["id"], "status": "failed", "reason": "SECRET"}
    folder = write_run(tmp_path / "parts", [failed, records[1]], CONFIG)
    (folder / "cases.1.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (records[0], records[2])))
    run = read_run(folder)
    assert [case["status"] for case in run.cases] == ["done"] * 3
    assert "parts" in run.notes[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken\n", "line 2: not JSON"),
        ("[1]\n", "line 2: not the record"),
        ('{"status": "done"}\n', "an id is due"),
        ('{"id": "a", "status": "maybe"}\n', "status must be"),
        ('{"id": "a", "status": "done", "methods": [1]}\n', "methods must"),
        ('{"id": "a", "status": "done", "methods": {"flow": {"scores": 3}}}\n', "methods must"),
        ('{"id": "a", "status": "done", "segments": 4}\n', "segments must"),
        ('{"id": "a", "status": "done", "gold": ["x"]}\n', "gold must"),
        ('{"id": "a", "status": "done", "faithfulness": {"drops": 1}}\n', "faithfulness must"),
        (b"\xff\xfe\n", "line 2: not JSON"),
        ('{"id":' * 100_000 + "\n", "line 2: not JSON (maximum recursion depth"),
        ('{"id": "a"}\r{"id": "b"}\r\n', "line 2: its lines end with CR alone, as on old Macs; convert them"),
    ],
)
def test_a_damaged_record_is_named(line, said, records, tmp_path):
    folder = write_run(tmp_path / "damaged", records[:1], CONFIG)
    with (folder / "cases.jsonl").open("ab") as file:
        file.write(line if isinstance(line, bytes) else line.encode())
        file.write(json.dumps(records[1]).encode() + b"\n")
    with pytest.raises(FileFormatError, match=re.escape(said)):
        read_run(folder)


def test_a_run_whose_lines_end_with_cr_alone_is_named(records, tmp_path):
    folder = write_run(tmp_path / "mac", records[:3], CONFIG)
    cases = folder / "cases.jsonl"
    cases.write_bytes(cases.read_bytes().replace(b"\n", b"\r"))
    with pytest.raises(FileFormatError, match=r"cases\.jsonl, line 1: its lines end with CR alone"):
        read_run(folder)


def test_settings_nested_too_deeply_are_ignored(records, tmp_path):
    folder = write_run(tmp_path / "deep", records[:1], CONFIG)
    (folder / "run.json").write_text('{"a":' * 100_000)
    assert "run.json is not readable, so the settings are not known (maximum recursion" in read_run(folder).notes[0]


def test_settings_with_a_byte_order_mark_are_read(records, tmp_path):
    folder = write_run(tmp_path / "mark", records[:1], CONFIG)
    file = folder / "run.json"
    file.write_text("\ufeff" + file.read_text("utf-8"), "utf-8")
    assert not read_run(folder).notes


@pytest.mark.parametrize("path", ["x\0", "x" * 300, "~nobody-of-this-name", ""])
def test_impossible_paths_are_refused(path):
    with pytest.raises((InputError, FileFormatError)):
        read_run(path)


def test_foreign_folders_are_refused(folder, records, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is a file.*give its folder"):
        read_run(folder / "cases.jsonl")
    with pytest.raises(FileFormatError, match=r"no cases\.jsonl"):
        read_run(tmp_path)
    foreign = write_run(tmp_path / "foreign", records[:1], CONFIG)
    for text, said in (('{"format": "other"}', "does not describe"), ('{"version": 99}', "version 99")):
        (foreign / "run.json").write_text(text)
        with pytest.raises(FileFormatError, match=said):
            read_run(foreign)
    (foreign / "run.json").write_text("{")
    assert "not readable" in read_run(foreign).notes[0]


def test_nothing_to_report_is_an_error(folder):
    with pytest.raises(InputError, match="nothing to report"):
        build_report([])
    with pytest.raises(InputError, match=r"baseline 'flaw'; the methods are contextcite:32, flow"):
        build_report([read_run(folder)], baseline="flaw", resamples=FEW)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("flow:/data/someone/heads.safetensors", "flow:heads.safetensors"),
        ("/a/b/", "b"),
        ("~/rows.jsonl", "rows.jsonl"),
        (r"flow:C:\x\heads", "flow:heads"),
        ("org/model", "org/model"),
        ("flow:retrieval", "flow:retrieval"),
        ("https://host/v1", "https://host/v1"),
        ("/", "/"),
    ],
)
def test_paths_are_cut_to_their_last_part(text, wanted):
    assert shorten_path(text) == wanted


@pytest.mark.parametrize(
    "name", ["flow:eval/weights/heads.safetensors", "flow:heads.safetensors", r"flow:C:\x\heads.safetensors"]
)
def test_a_method_is_named_by_its_file(name):
    assert shorten_method_name(name) == "flow:heads"


def test_two_files_with_one_name_are_two_methods(records, tmp_path):
    record = copy.deepcopy(records[0])
    for name in ("flow:/a/w", "flow:/b/w"):
        record["methods"][name] = record["methods"]["flow"]
    run = read_run(write_run(tmp_path / "two", [record]))
    assert {"flow:/a/w", "flow:/b/w"} < set(run.cases[0]["methods"])


def test_the_terminal_shows_the_best_first(report):
    text = printed(report)
    places = [re.search(rf"^ *{re.escape(name)} ", text, re.MULTILINE).start() for name in report.parts[0].order]
    assert places == sorted(places)
    assert f"{main_value(report.parts[0].summary, 'flow:retrieval'):.3f}" in text
    for words in ("24 done, 0 skipped, 0 failed", "Paired differences", "Faithfulness", "32 masks, seed 7", "Costs"):
        assert words in text
    assert "SECRET" not in text
    for line in printed(report, width=80).splitlines():
        assert len(line) <= 80


def test_strata_are_columns_of_their_table_unless_they_are_all_rows(tmp_path):
    records = cases(12)
    for i, record in enumerate(records):
        record["level"], record["kind"] = ("easy" if i < 5 else "hard"), "bridge"
    report = build_report([read_run(write_run(tmp_path / "run", records))], resamples=FEW)
    (table,) = (table for table in build_tables(report.parts[0]) if table.title.startswith("By question"))
    right = sum(record["em"] for record in records)
    assert table.header == [
        *("Method", "all (12)", "level:easy (5)", "level:hard (7)"),
        *(f"answer:right ({right})", f"answer:wrong ({12 - right})"),
    ]
    shown = {row[0].text: float(row[2].text) for row in table.rows}
    for name, value in shown.items():
        assert value == pytest.approx(main_value(report.parts[0].summary, name, stratum="level:easy"), abs=6e-4)
    assert "level:easy (5)" in to_markdown(report)
    assert {row["stratum"] for row in rows_of(report)} >= {"level:easy", "level:hard", "kind:bridge"}


def test_all_methods_are_compared_with_the_baseline(folder):
    report = build_report([read_run(folder)], baseline="random", resamples=FEW)
    part = report.parts[0]
    assert set(part.against.values()) == {"random"}
    assert "random" not in part.against
    one, other = (part.difference(*pair, "ap") for pair in (("flow", "random"), ("random", "flow")))
    assert one["value"] == -other["value"]
    assert (one["low"], one["high"]) == (-other["high"], -other["low"])
    assert one["n"] == 24


def test_every_number_of_the_summary_is_in_the_csv(report):
    rows = rows_of(report)
    assert tuple(rows[0]) == COLUMNS
    part = report.parts[0]
    keys = [tuple(row[name] for name in COLUMNS[:7]) for row in rows]
    assert len(set(keys)) == len(keys)
    found = dict(zip(keys, rows, strict=True))
    for name, method in part.summary["methods"].items():
        for unit in ("sentence", "document"):
            for how in METHODS[name][4]:
                wanted = method[unit][how]["all"]["auroc"]
                row = found["first", name, "", unit, how, "all", "auroc"]
                assert [float(row[key]) for key in ("value", "low", "high", "n")] == pytest.approx(
                    list(wanted.values())
                )
    assert ("first", "flow", "", "sentence", "sum", "kind:comparison", "ap") in found
    assert float(found["first", "flow", "", "sentence", "sum", "all", "lds"]["n"]) == 24
    assert float(found["first", "contextcite:32", "", "", "", "all", "passes"]["value"]) == 32
    assert len([row for row in rows if row["other"]]) == len(part.summary["differences"])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1"])
def test_no_csv_cell_is_a_formula(text):
    assert escape_formula(text).startswith("'")
    assert escape_formula(-0.5) == -0.5
    assert escape_formula("flow") == "flow"
    assert escape_formula("") == ""
    assert escape_formula(None) == ""


class Page(HTMLParser):
    """Collect the tags, text and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.found, self.policy = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [(tag, *attr) for attr in attrs]
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"]

    def handle_data(self, data):
        self.text.append(data)


def test_hostile_names_stay_text(records, tmp_path):
    renamed = copy.deepcopy(records[:8])
    for record in renamed:
        record["methods"] = {HOSTILE: record["methods"]["flow"], "flow": record["methods"]["flow"]}
        record["faithfulness"], record["kind"] = None, "<b>|kind"
    run = read_run(write_run(tmp_path / "a<b>|=run", renamed, {"model": "<img src=x>"}))
    report = build_report([run], resamples=FEW)
    files, _ = write_report(report, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    parsed = Page(text)
    assert not {"script", "img", "b>", "iframe", "link"} & set(parsed.tags)
    assert "alert(1)" in "".join(parsed.text)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for file in files:
        if file.suffix == ".svg":
            assert "<script" not in file.read_text("utf-8")
    markdown = to_markdown(report)
    assert "<script" not in markdown
    assert "<img" not in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in tables if "alert" in line}
    assert widths <= {len(re.findall(r"(?<!\\)\|", line)) for line in tables if "---" in line}
    assert all(row["method"][0] in "'f" for row in rows_of(report))
    terminal = printed(report)
    assert "\x1b[31m" not in terminal
    assert "\u202e" not in terminal


def test_the_page_loads_no_resources_and_satisfies_its_policy(report, tmp_path):
    write_report(report, tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    parsed = Page(text)
    assert "default-src 'none'" in parsed.policy
    assert "unsafe" not in parsed.policy
    assert parsed.tags.count("style") == 1
    assert parsed.tags.count("svg") == 4
    assert not [found for found in parsed.found if found[1] == "style"], "the policy would ignore style attributes"
    ids = [value for _, name, value in parsed.found if name == "id"]
    assert len(set(ids)) == len(ids)
    targets = {value[1:] for _, name, value in parsed.found if name.endswith("href")}
    assert targets <= set(ids)
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\((?!#)", text)
    assert "SECRET" not in text
    drawn = "".join(parsed.text)
    assert "flow:retrieval" in drawn
    assert "var(--s0)" in text
    for word in ("Finding the evidence", "Faithfulness", "Costs", "Aggregation of tokens", "By question"):
        assert word in drawn


def test_the_files_are_complete_and_reproducible(report, tmp_path):
    files, notes = write_report(report, tmp_path / "one")
    assert notes == []
    names = {file.name for file in files}
    plots = {"average-precision", "precision-recall", "first-gold", "cost"}
    assert names == {"report.md", "report.csv", "report.html"} | {f"{p}.{e}" for p in plots for e in ("svg", "png")}
    again, _ = write_report(report, tmp_path / "two")
    for a, b in zip(files, again, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
        assert b"SECRET" not in a.read_bytes()
    markdown = (tmp_path / "one" / "report.md").read_text("utf-8")
    assert set(re.findall(r"\]\(([\w-]+)\.svg\)", markdown)) == plots
    ap = main_value(report.parts[0].summary, "flow:retrieval")
    assert f"| flow:retrieval | **{ap:.3f}**" in markdown
    assert "<text" in (tmp_path / "one" / "cost.svg").read_text("utf-8")


def test_a_place_that_cannot_be_written_is_an_error(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_report(report, tmp_path / "file" / "out")


def test_without_matplotlib_the_report_has_numbers_only(report, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    files, notes = write_report(report, tmp_path)
    assert {file.suffix for file in files} == {".md", ".csv", ".html"}
    assert "matplotlib" in notes[0]


@pytest.fixture(scope="module")
def two(records, folder, tmp_path_factory):
    """Two runs: in the second, flow:retrieval is better by a known amount on the common rows."""
    changed = copy.deepcopy(records[:20])
    for record in changed:
        del record["methods"]["gradient-x-input"]
        for row in record["methods"]["flow:retrieval"]["scores"].values():
            for i in record["gold"]:
                row[i] += 100
    changed[0]["gold"] = [g for g in range(12) if g not in changed[0]["gold"]][:2]
    other = write_run(tmp_path_factory.mktemp("more") / "first", changed, CONFIG)
    return build_report([read_run(folder), read_run(other)], resamples=FEW)


def test_runs_are_compared_on_the_rows_that_both_have(two, records):
    assert [part.name for part in two.parts] == ["first", "first (2)"]
    found = {c["method"]: c for c in two.across if c["metric"] == "ap"}
    assert set(found) == set(METHODS) - {"gradient-x-input"}
    gained = found["flow:retrieval"]
    assert gained["n"] == 19  # one row has other gold
    ap = two.parts[0].arrays.main("ap")[1:20, list(METHODS).index("flow:retrieval")]
    assert gained["value"] == pytest.approx(1 - ap.mean(), abs=1e-6)
    assert gained["low"] > 0
    assert found["max-attention"]["value"] == 0
    assert "1 rows of first (2)" in two.notes[0]
    text = printed(two)
    assert "The same methods in every run" in text
    assert "n = 19" in text
    rows = [row for row in rows_of(two) if row["other"].startswith("run:")]
    assert {row["run"] for row in rows} == {"first (2)"}
    assert json.loads(json.dumps(two.to_json(), allow_nan=False))["across"] == two.across


def test_a_page_of_two_runs_has_the_plots_of_both(two, tmp_path):
    files, _ = write_report(two, tmp_path)
    assert {"runs.svg", "run-1-cost.svg", "run-2-cost.svg"} <= {file.name for file in files}
    parsed = Page((tmp_path / "report.html").read_text("utf-8"))
    assert parsed.tags.count("svg") == 9
    ids = [value for _, name, value in parsed.found if name == "id"]
    assert len(set(ids)) == len(ids)


def test_runs_without_a_common_row_have_a_note(folder, records, tmp_path):
    other = copy.deepcopy(records[:2])
    for record in other:
        record["id"] = f"other {record['id']}"
    report = build_report([read_run(folder), read_run(write_run(tmp_path / "o", other))], resamples=FEW)
    assert report.across == []
    assert "no row in common" in report.notes[0]


@pytest.mark.parametrize(
    "some",
    [
        [{"id": "a", "status": "failed", "reason": "SECRET"}, {"id": "b", "status": "skipped", "reason": "long"}],
        [],
        cases(1, methods={"random": METHODS["random"]}),
        [record | {"gold": []} for record in cases(3)],
        [record | {"seconds_plain": None, "kind": "", "em": None} for record in cases(3)],
    ],
    ids=["none done", "empty", "one row, one method", "no gold", "nothing timed"],
)
def test_small_and_unusual_runs_have_a_report(some, tmp_path):
    folder = write_run(tmp_path / "odd", some)
    report = build_report([read_run(folder)], resamples=FEW)
    printed(report)
    write_report(report, tmp_path / "out")
    json.dumps(report.to_json(), allow_nan=False)
    assert "SECRET" not in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert build_page(report, {}).endswith("</html>\n")


def test_many_methods_fit_into_the_plots(tmp_path):
    methods = {f"flow:a-long-name-of-a-file-{i}-of-fifteen": (i / 9, True, 0.1, 0, AGGREGATIONS) for i in range(15)}
    report = build_report([read_run(write_run(tmp_path / "many", cases(6, methods=methods)))], resamples=FEW)
    write_report(report, tmp_path)
    for name in ("average-precision", "precision-recall", "first-gold", "cost"):
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / f"{name}.svg").read_text("utf-8"))
        shown = [text for text in texts if text.startswith("flow:")]
        assert len(shown) == 15, name
        assert max(map(len, shown)) <= 21
        assert all(text.startswith("flow:a-long-…") and text.endswith("-fifteen") for text in shown)


@pytest.mark.parametrize("seed", range(5))
def test_spread_labels_keep_their_distance(seed):
    wanted = np.random.default_rng(seed).random(9) ** 3
    got = np.array(spread(wanted.tolist(), 0.08, 0, 1))
    assert (np.argsort(got) == np.argsort(wanted)).all()
    assert np.diff(np.sort(got)).min() >= 0.08 - 1e-9
    assert got.min() >= -1e-9
    assert got.max() <= 1 + 1e-9
    assert spread([0.1, 0.9], 0.08, 0, 1) == [0.1, 0.9]
    assert spread([0.5] * 3, 0.8, 0, 1) == [0, 0.5, 1]
    assert spread([], 0.1, 0, 1) == []


def test_placed_labels_do_not_cover_each_other():
    anchors = np.array([[50.0, 50], [52, 55], [51, 47], [55, 52], [150, 50]])
    sizes = np.tile([40.0, 10], (5, 1))
    corners = place(anchors, sizes, [], (0, 0, 200, 120))
    for i in range(5):
        assert (corners[i] >= 0).all()
        assert (corners[i] + sizes[i] <= (200, 120)).all()
        for j in range(i):
            apart = np.abs(corners[i] - corners[j])
            assert apart[0] >= 40 - 1e-9 or apart[1] >= 10 - 1e-9
