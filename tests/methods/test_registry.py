"""The registry: names, documentation and imports of methods."""

import subprocess
import sys

import pytest
import torch
from families import tiny
from method_readings import HEADS, read

from attributor import FileFormatError, InputError, Weights
from attributor.methods import Straight, describe, parse
from attributor.methods._registry import registry


def test_method_names_equal_the_requested_ones(tmp_path):
    path = tmp_path / "mine.safetensors"
    Weights(HEADS).save(path)
    asked = f"flow, flow:retrieval,flow:{path},straight:retrieval,contextcite:16,gradient-x-input:signed,random:3"
    methods = parse(asked)
    assert [method.name for method in methods] == [name.strip() for name in asked.split(",")]
    assert methods[0].weights == "mean"
    assert methods[4].masks == 16
    assert methods[6].seed == 3
    assert [m.name for m in parse(["flow:mean", "contextcite"])] == ["flow:mean", "contextcite"]
    reading = read(tiny("llama"), [Straight(HEADS)])
    assert torch.equal(parse([f"straight:{path}"])[0](reading), Straight(HEADS)(reading))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("attention", r"unknown method 'attention'; did you mean .*last-attention.* there are: flow, straight"),
        ("max_attention", "did you mean max-attention"),
        ("xyz", "unknown method 'xyz'; there are: flow"),
        ("", "empty"),
        ("flow,,random", "empty"),
        ([], "no method"),
        ("flow:nothing", "unknown weights 'nothing'"),
        ("flow:", "ends in a colon"),
        ("length:3", "length takes nothing after a colon"),
        ("contextcite:many", "masks must be a whole number, got 'many'"),
        ("contextcite:1", "masks >= 2, got 1"),
        ("gradient-x-input:best", "takes norm, signed, absolute, got 'best'"),
        ("flow,flow:mean", r"'flow:mean' is asked for twice \(as 'flow'\)"),
        ("random,random", "'random' is asked for twice"),
        ("contextcite,contextcite:32", "twice"),
    ],
)
def test_unusable_names_are_refused(asked, message):
    with pytest.raises(InputError, match=message):
        parse(asked)


def test_a_file_without_weights_is_refused_at_once(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no weights")
    with pytest.raises(FileFormatError, match="weights file"):
        parse(f"flow:{path}")


def test_the_registry_and_the_classes_agree():
    described = describe()
    assert [name for name, _, _ in described] == list(registry())
    for name, line, source in described:
        (method,) = parse(name)
        assert method.name == name
        assert method.source == source
        assert source == "" or source.startswith("https://")
        assert method.by in ("token", "segment")
        assert isinstance(method.reads, bool)
        assert len(line) < 110
        assert "\n" not in line
        assert type(method).__doc__
        assert type(method)() == method, "its defaults are those of the plain name"


def test_every_method_has_its_line_in_the_documentation():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text("utf-8")
    for name, _, source in describe():
        line = next((line for line in page.splitlines() if line.startswith(f"| `{name}")), "")
        assert line, name
        assert source in line


def test_public_names_exist_and_listing_methods_imports_nothing_heavy():
    import attributor.methods as package

    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
    assert set(dir(package)) == set(package.__all__)
    assert {entry.class_name for entry in registry().values()} <= set(package.__all__)
    for old, new in (("Flow", "FlowMethod"), ("Scored", "MethodScores")):
        assert getattr(package, old) is getattr(package, new), "the first name still works"
    assert package.FlowMethod.through is package.FlowMethod.weights_for
    with pytest.raises(AttributeError, match="no attribute 'flows'"):
        package.flows  # noqa: B018
    code = (
        "import sys; from attributor.methods import describe; describe();"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
