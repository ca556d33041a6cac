"""Read constants and classes of Python files from their source, without importing them.

A method or a data set is one file that declares itself with literal constants, such as `NAME = "length"`. Reading them
from the source takes a millisecond a file; importing the files would import torch, and `--help` would take seconds.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

__all__ = ["LAST", "SourceFile", "import_on_first_use", "index_by_name", "lazy_imports", "read_package"]

LAST = 1000  # the ORDER of a file that declares none
Value = TypeVar("Value")


class Declared(Protocol):
    """A file that was read, with the name and order by which lists are sorted.

    Attributes:
        name: what users type.
        order: its place in lists, smallest first; equal ones by name.
    """

    @property
    def name(self) -> str: ...
    @property
    def order(self) -> int: ...


Entry = TypeVar("Entry", bound=Declared)


@dataclass(frozen=True)
class SourceFile:
    """The top level of one Python file.

    Attributes:
        path: the file.
        constants: the value of each `NAME = literal`; assignments of anything else are left out.
        classes: the names of its public classes, in order.
    """

    path: Path
    constants: dict[str, Any]
    classes: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module's name within its package."""
        return self.path.stem

    def constant(self, name: str, kind: type[Value], default: Value | None = None) -> Value:
        """The constant of that name, or the default if the file has none.

        Raises:
            ImportError: it is missing without a default, not a literal, or not of this type.
        """
        value = self.constants.get(name, default)
        if not isinstance(value, kind):
            there = f"has {value!r}" if name in self.constants else "has none"
            raise ImportError(
                f"{self.path} must set {name} to a literal {kind.__name__} at its top level, since it is read without "
                f"running the file; it {there}"
            )
        return value


def read_package(package: str) -> list[SourceFile]:
    """The public files of a package's folder: those whose names do not begin with an underscore.

    Raises:
        SyntaxError: a file that is not valid Python.
    """
    folders = import_module(package).__path__
    return [_read(path) for folder in folders for path in sorted(Path(folder).glob("[!_]*.py"))]


def index_by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The entries by name, in the order in which they are listed for users.

    Raises:
        ImportError: two entries of one name.
    """
    ordered: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.order, entry.name)):
        if entry.name in ordered:
            raise ImportError(f"the name {entry.name!r} is taken twice: {ordered[entry.name]} and {entry}")
        ordered[entry.name] = entry
    return ordered


def lazy_imports(path: str) -> dict[str, str]:
    """{name: module} of the imports below `if TYPE_CHECKING:` in a file.

    A package whose `__getattr__` imports its public names on first use lists them once, for type checkers, and takes
    their modules from here.
    """
    homes: dict[str, str] = {}
    for node in ast.parse(Path(path).read_text("utf-8"), path).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                homes |= {alias.asname or alias.name: str(statement.module) for alias in statement.names}
    return homes


def import_on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names are defined in the modules `homes`, {name: module}."""

    def import_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return import_name


def _read(path: Path) -> SourceFile:
    constants: dict[str, Any] = {}
    classes: list[str] = []
    for node in ast.parse(path.read_text("utf-8"), str(path)).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            classes.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue  # not a literal
            constants |= {target.id: value for target in targets if isinstance(target, ast.Name)}
    return SourceFile(path, constants, tuple(classes))
