"""The package contents agree with the project's files and documentation."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import attributor

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def constraints():
    """Return the pinned versions by canonical name."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()]
    pins = [Requirement(line) for line in lines if line]
    return {canonicalize_name(pin.name): pin for pin in pins}


def tracked():
    """Return the files under version control; None outside a checkout."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else None


def test_the_version_is_the_same_everywhere():
    assert attributor.__version__ == version("attributor") == PROJECT["project"]["version"]
    assert f"## [{attributor.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_dependency_is_pinned_for_the_tests_within_its_bounds():
    pins = constraints()
    project = PROJECT["project"]
    lines = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name == "attributor":  # the extra that includes the others
            continue
        assert name in pins, f"constraints.txt does not pin {name}"
        (pin,) = pins[name].specifier
        assert pin.operator == "=="
        assert pin.version in requirement.specifier, f"{pins[name]} is outside {requirement}"


def test_every_imported_package_is_declared():
    project = PROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    declared |= {
        "attributor",
        "tokenizers",
        "triton",
    }  # tokenizers comes with transformers, triton with the torch of a GPU
    known_as = {"sklearn": "scikit-learn"}  # import names that differ from the package name
    ours = {"gpu", *(path.stem for top in ("bench", "bench/cpu") for path in ROOT.glob(f"{top}/*.py"))}
    for path in [p for top in ("attributor", "kernels", "eval", "bench") for p in ROOT.glob(f"{top}/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - ours:
                assert canonicalize_name(known_as.get(name, name)) in declared, (
                    f"{path.name} imports {name}, which pyproject.toml lacks"
                )


def test_the_dev_extra_includes_the_other_extras():
    extras = PROJECT["project"]["optional-dependencies"]
    inside = next(Requirement(line) for line in extras["dev"] if line.startswith("attributor["))
    assert inside.extras == set(extras) - {"dev", "similarity"}


def test_the_licence_is_complete_and_named():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert metadata("attributor")["License-Expression"] == "Apache-2.0"


def test_data_files_are_in_the_package():
    package = ROOT / "attributor"
    assert (package / "py.typed").is_file()
    for folder, pattern in [("examples", "*.txt"), ("_heads/shipped", "*.safetensors"), ("web/static", "app.*")]:
        assert list((package / folder).glob(pattern)), f"attributor/{folder} is empty"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("test", "pytest"),
        ("bench", "pytest bench/cpu"),
        ("demo", "attributor demo --weights retrieval --html out/demo.html"),
        ("lint", "ruff format --check"),
    ],
)
def test_make_targets_run_the_documented_commands(target, command):
    said = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert command in said


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_install_names_missing_programs(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()

    def make(*arguments):
        ran = subprocess.run(["make", "install", *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode
        return ran.stdout

    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    assert "no-python not found: apt-get install python3" in make("PYTHON=no-python")
    assert f"Python 3.10 or later is needed, {old} is Python 3.9.2" in make(f"PYTHON={old}")
    old.write_text('#!/bin/sh\ncase "$2" in *venv*) exit 1;; esac\n')
    assert f"{old} cannot make virtual environments: apt-get install python3-venv" in make(f"PYTHON={old}")


def test_no_file_contains_a_machine_path():
    files = tracked()
    if files is None:
        pytest.skip("not a git checkout")
    trace = re.compile(r"/(work|root|home/\w+)/|/opt/(pypi|wheels)|file:///|\.internal\b")
    for path in files:
        if path.suffix in {".safetensors", ".png"} or path == Path(__file__) or not path.is_file():
            continue
        found = trace.search(path.read_text("utf-8"))
        assert not found, f"{path.relative_to(ROOT)} has {found.group()!r}"


def test_pre_commit_uses_only_installed_tools():
    text = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    tools = set(re.findall(r"entry: \.venv/bin/([\w-]+)", text))
    assert tools == {"ruff", "mypy", "clang-format"}
    declared = {Requirement(line).name for line in PROJECT["project"]["optional-dependencies"]["dev"]}
    assert tools <= declared
    assert "http" not in text
