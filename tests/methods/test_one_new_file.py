"""A method or a data set is one new file: the command line offers and runs it without any other change."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from eval_examples import write_examples
from tiny_chat import save

import attributor.methods

# a temporary folder extends the packages before the command line is imported
MAIN = """
import sys
import attributor.eval.data
import attributor.methods
from attributor.methods._registry import registry

folder = {folder!r}
attributor.methods.__path__.append(folder + "/methods")
attributor.eval.data.__path__.append(folder + "/data")
registry.cache_clear()
from attributor.cli.commands import app

app(sys.argv[1:], standalone_mode=False)
print(sorted({{"torch", "transformers", "numpy", "datasets"}} & set(sys.modules)), file=sys.stderr)
"""

DATA_SET = '''"""Passages of which some are marked."""

from attributor.eval.data._fields import Example, FieldError, build_documents, check_list, read_id, read_text
from attributor.eval.data._question import Question

NAME = "passages"
TITLE = "Marked passages"
SUMMARY = "Marked passages: evidence by passage."
DESCRIPTION = "Marked passages: DATA is a .jsonl file."
COMMANDS = ("attributor eval passages dev.jsonl  all of its rows",)
HOME = "https://example.org/passages"
FIELDS = ("id", "question", "answer", "passages")


def question(example: Example) -> tuple[Question, list[FieldError]]:
    """An example {id, question, answer, passages: [{text, marked}, ...]}."""
    notes: list[FieldError] = []
    passages = check_list("passages", example.get("passages"))
    documents, places = build_documents("passages", [("", (entry["text"],)) for entry in passages], notes)
    gold = frozenset((place, 0) for place, entry in zip(places, passages) if place is not None and entry["marked"])
    name, text, answer = read_id(example, "id"), read_text(example, "question"), read_text(example, "answer")
    return Question(name, text, answer, documents, gold), notes


def recognises(example: Example) -> bool:
    """Whether an example has passages."""
    return "passages" in example
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A temporary folder with one new method, one new data set, its rows and a model."""
    folder = tmp_path_factory.mktemp("new")
    (folder / "methods").mkdir()
    (folder / "data").mkdir()
    method = (Path(attributor.methods.__file__).parent / "last_attention.py").read_text("utf-8")
    for old, new in (
        ('"last-attention"', '"first-attention"'),
        ("attention of the last layer", "attention of the first layer"),
        ("LastAttention", "FirstAttention"),
        ("[-1]", "[0]"),
        ("ORDER = 50\n", ""),
    ):
        assert old in method
        method = method.replace(old, new)
    (folder / "methods" / "first_attention.py").write_text(method, "utf-8")
    (folder / "data" / "passages.py").write_text(DATA_SET, "utf-8")
    passages = [{"text": "Ada keeps the light.", "marked": True}, {"text": "It stands on the cliff.", "marked": False}]
    rows = [{"id": str(i), "question": "Who keeps the light?", "answer": "Ada", "passages": passages} for i in range(2)]
    write_examples(folder / "rows.jsonl", rows)
    save(folder / "model")
    return folder


def run(folder, *args):
    environment = os.environ | {"COLUMNS": "140", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", MAIN.format(folder=str(folder)), "eval", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)


def test_help_lists_new_files_last_without_heavy_imports(folder):
    listed = run(folder, "--help")
    assert "Marked passages: evidence by passage." in listed.stdout
    assert listed.stdout.index("MuSiQue") < listed.stdout.index("Marked passages")
    shown = run(folder, "passages", "--help")
    assert "Marked passages: DATA is a .jsonl file." in shown.stdout
    assert "attributor eval passages dev.jsonl  all of its rows" in shown.stdout.replace("jsonl all", "jsonl  all")
    assert "attention of the first layer" in shown.stdout
    assert shown.stdout.index("random:SEED") < shown.stdout.index("first-attention")
    assert "--split" not in shown.stdout
    assert [ran.stderr.splitlines()[-1] for ran in (listed, shown)] == ["[]", "[]"]


def test_a_run_uses_the_new_files(folder):
    methods = "first-attention,last-attention,length"
    ran = run(folder, "passages", folder / "rows.jsonl", "--model", folder / "model", "--out", folder / "run",
              "--method", methods, "--max-new-tokens", "3", "--dtype", "float32", "--json")  # fmt: skip
    state = json.loads(ran.stdout)
    assert state["counts"] == {"rows": 2, "done": 2, "skipped": 0, "failed": 0}
    assert list(state["metrics"]["methods"]) == methods.split(",")
