"""The arrows of the architecture: what may import what, read from the source.

The groups stand from the top down. A module may import from its own group and from the groups that its group names;
nothing points up. A new module is added to a group here, by whoever decided where it belongs.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

import attributor

ROOT = Path(__file__).parents[1]

# group: (its modules, the groups that it may import, the packages that it may import besides torch and numpy)
GROUPS: dict[str, tuple[str, str, str]] = {
    "command line": (
        "cli _cli",
        "web eval methods flow models prompt record result text step core errors",
        "huggingface_hub psutil rich transformers triton typer",
    ),
    # what both doors need: no torch, so that `explore` starts at once (test_web_start.py); a model is for web/live only
    "web": ("web", "eval result text errors", "fastapi h11 pydantic starlette uvicorn"),
    "live": (
        "web.live",
        "web flow models prompt record result text step errors",
        "anyio fastapi huggingface_hub pydantic starlette transformers",
    ),
    "eval": (
        "eval",
        "methods flow models prompt record result text step errors",
        "accelerate datasets httpx matplotlib psutil rich scipy transformers typer",
    ),
    "methods": (
        "methods",
        "flow models prompt record result text step errors",
        "scipy sentence_transformers sklearn transformers",
    ),
    "flow": (
        "_calibration _flow _generate _memory _outcome _recording _resolve _start",
        "models prompt record result text step errors",
        "filelock platformdirs rich safetensors transformers",
    ),
    "record": (
        "_arena _attention _facts _head_weights _history _inputs _layer_step _mask _materialised _park _projection "
        "_record _recorded _recorder _routes _sweep _tape _weights",
        "step kernels errors",
        "transformers safetensors",
    ),
    "step": ("_backend _step", "kernels errors core", "triton"),
    "kernels": ("kernels", "core", "triton"),
    "core": ("_core _cuda", "", ""),
    "models": (
        "_default_model _models",
        "errors",
        "filelock gguf huggingface_hub platformdirs rich safetensors tokenizers transformers",
    ),
    "prompt": ("_encode _prompt", "result text errors", ""),
    "result": (
        "_fields _file _grouped _html _plot _result _view",
        "text errors",
        "matplotlib pandas safetensors",
    ),
    "text": ("_offsets _segments _sequence", "errors", "sentencesplit"),
    "errors": ("_checks _errors _header _io _literals", "", ""),
}
HOME = {module: group for group, (modules, _, _) in GROUPS.items() for module in modules.split()}


def sources() -> list[Path]:
    return sorted(path for top in ("attributor", "kernels", "eval") for path in ROOT.glob(f"{top}/**/*.py"))


def module_of(path: Path) -> str:
    """The first part of a path inside the package: ``_flow``, ``kernels``, ``eval``, ``cli``; and ``web.live``."""
    parts = path.relative_to(ROOT).parts
    if parts[1:3] == ("web", "live"):
        return "web.live"
    return parts[0] if parts[0] in ("kernels", "eval") else parts[1].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """Every module that is imported, anywhere; names taken from the package itself count as its modules."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if node.module == "attributor":
                found |= {f"attributor.{alias.name}" for alias in node.names}
            else:
                found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    module = module_of(path)
    if module == "__init__":
        return  # the front door names everything
    assert module in HOME, f"{module} is in no group of {Path(__file__).name}"
    _, groups, packages = GROUPS[HOME[module]]
    for name in imports(ast.parse(path.read_text("utf-8"))):
        package, _, rest = name.partition(".")
        if package == "attributor":
            target = rest.split(".")[0]
            assert target in HOME, f"{module} imports {name}, which is in no group of {Path(__file__).name}"
            assert HOME[target] in (HOME[module], *groups.split()), f"{module} must not import {name}"
        elif package not in sys.stdlib_module_names:
            assert package in ("torch", "numpy", *packages.split()), f"{module} must not import {package}"


def test_kernels_need_torch_triton_and_their_own_extension_only():
    extensions = {"cpu.py": {"attributor._core"}, "cuda.py": {"attributor._cuda"}}
    for path in ROOT.glob("kernels/**/*.py"):
        for name in imports(ast.parse(path.read_text("utf-8"))) - extensions.get(path.name, set()):
            known = name.split(".")[0] in {"torch", "triton", *sys.stdlib_module_names}
            assert known or name.startswith("attributor.kernels"), f"{path.relative_to(ROOT)} imports {name}"


def test_the_errors_and_the_core_import_nothing_of_ours():
    assert not {name for name in imports(ast.parse((ROOT / "attributor/_errors.py").read_text("utf-8"))) if "." in name}
    outside = re.compile(r"#\s*include\s*[<\"](torch|ATen|c10)\b")
    python = re.compile(r"#\s*include\s*[<\"](Python\.h|pybind11)")
    for path in [p for p in ROOT.glob("csrc/**/*") if p.is_file()]:
        text = path.read_text("utf-8")
        assert not outside.search(text), f"{path.relative_to(ROOT)} knows torch"
        assert path.name == "bindings.cpp" or not python.search(text), f"{path.relative_to(ROOT)} knows Python"


def test_one_file_knows_transformers_attention_interface():
    knowing = {
        path.name for path in sources() if re.search("AttentionInterface|_attn_implementation", path.read_text("utf-8"))
    }
    assert knowing == {"_record.py"}


@pytest.mark.parametrize("path", ["kernels/__init__.py", "tests/__init__.py"])
def test_files_that_must_not_exist(path):
    assert not (ROOT / path).exists(), "see DESIGN: a package on PyPI is called kernels too; pytest imports by path"


def test_files_stay_small():
    code = [p for top in ("attributor", "kernels", "csrc", "eval") for p in ROOT.glob(f"{top}/**/*")]
    endings = {".py", ".pyi", ".cpp", ".h", ".cu", ".cuh"}
    long = {
        str(path.relative_to(ROOT)): lines
        for path in code
        if path.suffix in endings and (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
    assert not long, "two reasons to change means two files"


def test_public_names_are_sorted_and_there():
    assert attributor.__all__ == sorted(attributor.__all__)
    assert len(attributor.__all__) == len(set(attributor.__all__))
    for name in attributor.__all__:
        assert getattr(attributor, name).__doc__, f"attributor.{name} has no docstring"
    assert set(attributor.__all__) <= set(dir(attributor))
    with pytest.raises(AttributeError, match="no attribute 'flows'"):
        attributor.flows  # noqa: B018


def test_the_import_checker_sees_what_it_should():
    tree = ast.parse(
        "import a.b\ndef f():\n    from attributor import _flow, _step\n    from attributor._tape import Tape"
    )
    assert imports(tree) == {"a.b", "attributor._flow", "attributor._step", "attributor._tape"}
    with pytest.raises(AssertionError, match="relative"):
        imports(ast.parse("from . import _flow"))
