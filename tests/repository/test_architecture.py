"""The architecture, checked on the source: allowed imports of each package and rules for its code.

`PACKAGES` lists the packages from the top down. A package imports only packages named in its own line, all of which
stand below it. It imports only names of their `__init__` and uses none of their private attributes. The modules of
one package form no import cycle; imports inside functions count. Functions have few parameters, and variables
have clear names. csrc includes neither torch nor Python, and one file uses transformers' attention interface.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import attributor

ROOT = Path(__file__).parents[2]

BASE = "_checks _draw _errors _literals"  # every package may import these
# package: (packages of this project that it may import, other packages besides the standard library and numpy)
PACKAGES: dict[str, tuple[str, str]] = {
    "eval.hotpot_qa": ("cli", ""),
    "cli": (
        "web web.live web.explore web.http eval.report eval.run eval.metrics eval.data eval.config eval.store methods "
        "_ask _flow _heads _record _step _result _cite _prompt _documents _models _text _io",
        "huggingface_hub psutil rich torch transformers triton typer",
    ),
    "web": ("web.live web.explore web.http _result", "fastapi h11 pydantic starlette uvicorn"),
    "web.live": (
        "web.http _ask _flow _heads _record _step _result _prompt _models _text",
        "anyio fastapi huggingface_hub pydantic starlette torch transformers",
    ),
    "web.explore": ("web.http eval.store _result _io", "fastapi pydantic starlette"),
    "web.http": ("_result _io _text", "fastapi h11 pydantic starlette"),
    "eval.report": ("eval.metrics eval.store _result _io", "matplotlib rich"),
    "eval.run": (
        "eval.metrics eval.data eval.config eval.store methods _ask _flow _record _result _prompt _models _text",
        "accelerate httpx psutil torch transformers",
    ),
    "eval.metrics": ("_text", ""),
    "eval.data": ("_io", "datasets"),
    "eval.store": ("eval.config _io", ""),
    "eval.config": ("_models", ""),
    "methods": (
        "_ask _flow _heads _record _effects _prompt _documents _models _text",
        "bm25s cite_right sentence_transformers sklearn torch transformers",
    ),
    "_ask": ("_flow _effects _heads _record _step _result _cite _prompt _documents _models _text", "torch"),
    "_flow": ("_effects _heads _record _step _result _prompt _models _text kernels.flow_step", "torch transformers"),
    "_effects": ("_record _step _prompt _models _text _io", "safetensors torch transformers"),
    "_heads": ("_record _prompt _models _text _io", "filelock platformdirs rich safetensors torch transformers"),
    "_record": ("_step _models", "torch transformers"),
    "_step": ("kernels.flow_step kernels.removal_step kernels.common _core _cuda", "torch triton"),
    "_result": ("_cite _documents _text _io", "matplotlib pandas safetensors torch"),
    "_cite": ("_documents _text", ""),
    "_prompt": ("_documents _text", "torch"),
    "_documents": ("_text", "pypdf"),
    "_models": ("_io", "filelock gguf huggingface_hub platformdirs rich safetensors tokenizers torch transformers"),
    "_text": ("", "sentencesplit torch"),
    "_io": ("", "safetensors"),
    "kernels.flow_step": ("kernels.common _core _cuda", "torch triton"),
    "kernels.removal_step": ("kernels.common _core", "torch triton"),
    "kernels.common": ("_core", "torch triton"),
    "_core": ("", ""),
    "_cuda": ("", ""),
    "_checks": ("", ""),
    "_literals": ("", ""),
    "_draw": ("", ""),
    "_errors": ("", ""),
}
# these import nothing of BASE
NO_BASE = (
    "kernels.flow_step",
    "kernels.removal_step",
    "kernels.common",
    "_core",
    "_cuda",
    "_literals",
    "_draw",
    "_errors",
)
# names of torch, transformers and others that begin with an underscore and have no public equivalent
PRIVATE_OF_OTHERS = {"_forward_pre_hooks", "_version", "_hf_hook"}


def allowed_imports(package: str) -> tuple[list[str], list[str]]:
    """Return this project's packages and the other packages that a package may import."""
    ours, theirs = PACKAGES[package]
    return [*ours.split(), *(BASE.split() if package not in NO_BASE else [])], ["numpy", *theirs.split()]


def source_files() -> list[Path]:
    return sorted(path for top in ("attributor", "kernels", "eval") for path in ROOT.glob(f"{top}/**/*.py"))


def module_of(path: Path) -> str:
    """Return the module name of a file without the leading `attributor.`; "" for attributor itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "attributor" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str | None:
    """Return the longest name of PACKAGES that is the module or contains it."""
    names = [name for name in PACKAGES if module == name or module.startswith(name + ".")]
    return max(names, key=len, default=None)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def file_of(module: str) -> Path | None:
    """Return the source file of a module of this project; None if it is compiled or does not exist."""
    top = ROOT if module.split(".")[0] in ("eval", "kernels") else ROOT / "attributor"
    base = top.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


class Import(NamedTuple):
    """`from module import name`, or `import module` where the name is ""."""

    module: str
    name: str
    line: int


def imports(tree: ast.AST) -> list[Import]:
    """Return every import of a file, also inside functions, except imports for type checkers."""
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    result = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            result += [Import(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            result += [Import(str(node.module), alias.name, node.lineno) for alias in node.names]
    return result


def ours(entry: Import) -> tuple[str, str] | None:
    """Return (module without `attributor.`, name) of an import from this project; the name is "" for a module."""
    if entry.module.partition(".")[0] != "attributor":
        return None
    module = entry.module.partition(".")[2]
    inner = f"{module}.{entry.name}".strip(".")
    if entry.name and (inner in PACKAGES or file_of(inner) is not None) and entry.name not in exported(module):
        return inner, ""
    return module, entry.name


@cache
def exported(module: str) -> frozenset[str]:
    """Return the names in `__all__`; empty for a compiled module."""
    if module and file_of(module) is None:
        return frozenset()
    return frozenset(getattr(import_module(f"attributor.{module}".rstrip(".")), "__all__", ()))


def test_the_import_table_has_no_cycle():
    names = list(PACKAGES)
    for index, name in enumerate(names):
        for other in allowed_imports(name)[0]:
            assert other in names[index + 1 :] or other == name, (
                f"{name} may import {other}, which does not stand below it"
            )


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_import_table(path):
    module = module_of(path)
    package = package_of(module)
    if package is None:
        assert module in ("", "eval"), f"{module} lies in no package of PACKAGES"
        return
    our_packages, other_packages = allowed_imports(package)
    for entry in imports(tree_of(path)):
        where = f"{path.relative_to(ROOT)}:{entry.line}"
        target = ours(entry)
        if target is None:
            top = entry.module.partition(".")[0]
            assert top in {*other_packages, *sys.stdlib_module_names}, f"{where}: {package} must not import {top}"
            continue
        other = package_of(target[0])
        if other == package:
            continue
        if target[0] == "" and target[1] in ("__version__",):
            continue
        assert other in our_packages, f"{where}: {package} must not import {other or 'attributor itself'}"
        past = target[0] != other and not other.startswith("kernels.")  # these have no __init__
        assert not past, f"{where}: import it from attributor.{other}, not from its module {target[0]}"
        if target[1] and target[0] == other:
            assert target[1] in exported(other), f"{where}: attributor.{other} does not name {target[1]} in its __all__"


def test_no_private_name_is_exported():
    for name in PACKAGES:
        assert not [entry for entry in exported(name) if entry.startswith("_")], name


def names_defined(tree: ast.AST) -> set[str]:
    """Return the functions, classes, variables, fields and attributes of self that the source defines."""
    result = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            result.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            result.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            result.add(node.attr)
    return result


@pytest.mark.parametrize("package", PACKAGES)
def test_no_private_attribute_of_another_package_is_used(package):
    trees = {path: tree_of(path) for path in source_files() if package_of(module_of(path)) == package}
    own = set().union(*(names_defined(tree) for tree in trees.values()), PRIVATE_OF_OTHERS)
    for path, tree in trees.items():
        others = tuple(entry.name or entry.module for entry in imports(tree) if ours(entry) is None)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not re.match(r"_[^_]", node.attr):
                continue
            owner = ast.unparse(node.value).partition(".")[0]
            foreign = owner not in ("self", "cls", *others) and node.attr not in own
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            assert not foreign, f"{where}: {ast.unparse(node)} is private to another package"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_modules_of_a_package_form_no_cycle(package):
    graph: dict[str, set[str]] = {}
    for path in source_files():
        module = module_of(path)
        if package_of(module) == package and path.name not in ("__init__.py", "__main__.py"):
            targets = [target[0] for entry in imports(tree_of(path)) if (target := ours(entry))]
            graph[module] = {other for other in targets if package_of(other) == package}
            around = package in graph[module] and package != module
            assert not around, f"{path.relative_to(ROOT)} imports its own __init__; name the module instead"
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


MAX_PARAMETERS = 9
# functions that may have more: public functions, command lines, kernels and their dispatchers
MAY_BE_LONG = re.compile(
    r"attributor/cli/.*|kernels/(common|flow_step|removal_step)/.*|attributor/_step/(dispatch|removal).py:.*"
    r"|attributor/_flow/api.py:flow|attributor/_flow/recording.py:Recording.flow|attributor/_ask/api.py:ask"
    r"|attributor/_effects/api.py:effects"
)


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function with its qualified name: `Class.method`, `outer.inner`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        yield from functions(child, f"{prefix}{child.name}." if named else prefix)


def test_few_functions_have_many_parameters():
    for path in source_files():
        for name, function in functions(tree_of(path)):
            arguments = function.args
            names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([argument for argument in names if argument not in ("self", "cls")])
            place = f"{path.relative_to(ROOT)}:{name}"
            few = count <= MAX_PARAMETERS or MAY_BE_LONG.fullmatch(place)
            assert few, f"{place} has {count} parameters; put those that travel together into one object"


# variable names that do not describe the value
VAGUE_NAMES = {"found", "said", "given", "kept", "asked", "wanted", "whole", "told"}


def test_vague_variable_names_are_not_used():
    for path in source_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE_NAMES:
                pytest.fail(f"{path.relative_to(ROOT)}:{node.lineno}: {node.id!r} does not say what the value is")


def test_the_kernels_and_the_core_import_nothing_above_them():
    outside = re.compile(r"#\s*include\s*[<\"](torch|ATen|c10)\b")
    python = re.compile(r"#\s*include\s*[<\"](Python\.h|pybind11)")
    for path in [path for path in ROOT.glob("csrc/**/*") if path.is_file()]:
        text = path.read_text("utf-8")
        assert not outside.search(text), f"{path.relative_to(ROOT)} includes torch"
        assert path.name == "bindings.cpp" or not python.search(text), f"{path.relative_to(ROOT)} includes Python"


def test_one_file_uses_transformers_attention_interface():
    pattern = "AttentionInterface|_attn_implementation"
    users = {str(path.relative_to(ROOT)) for path in source_files() if re.search(pattern, path.read_text("utf-8"))}
    assert users == {"attributor/_record/attention_interface.py"}


@pytest.mark.parametrize("path", ["kernels/__init__.py", "tests/__init__.py"])
def test_files_that_must_not_exist(path):
    assert not (ROOT / path).exists(), "a package on PyPI is called kernels too; pytest imports tests by path"


def test_public_names_are_sorted_and_importable():
    assert list(attributor.__all__) == sorted(attributor.__all__)
    assert len(attributor.__all__) == len(set(attributor.__all__))
    for name in attributor.__all__:
        assert getattr(attributor, name).__doc__, f"attributor.{name} has no docstring"
    assert set(attributor.__all__) <= set(dir(attributor))
    with pytest.raises(AttributeError, match="flows"):
        attributor.flows  # noqa: B018


def test_every_package_has_a_docstring():
    for name in PACKAGES:
        path = file_of(name)
        if path is not None and path.name == "__init__.py":
            assert ast.get_docstring(tree_of(path)), f"{name} has no docstring"


def test_the_import_checker_finds_every_form_of_import():
    tree = ast.parse("import a.b\ndef f():\n    from attributor._record import Tape\nif TYPE_CHECKING:\n    import c")
    assert [(entry.module, entry.name) for entry in imports(tree)] == [("a.b", ""), ("attributor._record", "Tape")]
    with pytest.raises(AssertionError, match="relative"):
        imports(ast.parse("from . import flow"))
    assert ours(Import("attributor", "_record", 1)) == ("_record", "")
    assert ours(Import("attributor._record", "tape", 1)) == ("_record.tape", "")
    assert names_defined(ast.parse("self._a = 1\ndef _b(): pass")) == {"_a", "_b"}
