"""Find the methods in this folder, and list them by the names that users type.

A method is one public file. It has constants at its top level. They must be literals, because they are read without
running the file, so that `--help` starts without torch:

    NAME      what users type: "contextcite"
    SUMMARY   what it is, one line for lists
    SOURCE    the paper or page that it comes from; optional, a plain baseline has none
    ARGUMENT  the field that the text after a colon sets ("contextcite:64"); optional. The text is read as
              the type of the field's default: int, float or str
    ORDER     its place in lists, smallest first; optional, files without it come last
    LIBRARY   the optional package that it imports, by its import name: "bm25s"; optional

and one public class, the method; see `Method`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from attributor._errors import InputError
from attributor._literals import LAST, SourceFile, index_by_name, read_package

if TYPE_CHECKING:
    from attributor.methods._method import Method

__all__ = ["check_libraries", "describe", "parse", "registry"]

PACKAGE = "attributor.methods"
PACKAGES = {"cite_right": "cite-right", "sentence_transformers": "sentence-transformers", "sklearn": "scikit-learn"}
NUMBERS = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Entry:
    """The constants of a method's file.

    Attributes:
        name: what users type, before any colon.
        summary: one line for lists.
        source: the paper or page, or "".
        argument: the field that the text after the colon sets, "" for none.
        order: its place in lists.
        library: the optional package that it imports, "" for none.
        module: the full name of its module.
        class_name: the method's class in that module.
    """

    name: str
    summary: str
    source: str
    argument: str
    order: int
    library: str
    module: str
    class_name: str

    @classmethod
    def of(cls, file: SourceFile) -> Entry:
        """Read the constants of one file.

        Raises:
            ImportError: a constant is missing or of another type, or the file has not exactly one public class.
        """
        if len(file.classes) != 1:
            raise ImportError(f"{file.path} must hold one public class, the method; it has {list(file.classes)}")
        return cls(
            name=file.constant("NAME", str),
            summary=file.constant("SUMMARY", str),
            source=file.constant("SOURCE", str, ""),
            argument=file.constant("ARGUMENT", str, ""),
            order=file.constant("ORDER", int, LAST),
            library=file.constant("LIBRARY", str, ""),
            module=f"{PACKAGE}.{file.module}",
            class_name=file.classes[0],
        )

    def make(self, spec: str, argument: str | None) -> Method:
        """Create the method, with the name that the user wrote.

        Raises:
            InputError: the method has no argument, or not this one.
        """
        method: Any = getattr(import_module(self.module), self.class_name)
        if argument is None:
            return cast("Method", method(name=spec) if self.argument else method())
        if not self.argument:
            raise InputError(f"{self.name} takes nothing after a colon, got {spec!r}")
        kind = type(getattr(method, self.argument))
        try:
            value = kind(argument) if kind in NUMBERS else argument
        except ValueError:
            raise InputError(f"{spec!r}: {self.argument} must be {NUMBERS[kind]}, got {argument!r}") from None
        return cast("Method", method(**{self.argument: value}, name=spec))


@cache
def registry() -> dict[str, Entry]:
    """Return every method by its name, in the order of lists."""
    return index_by_name(Entry.of(file) for file in read_package(PACKAGE))


def parse(specs: str | Sequence[str]) -> list[Method]:
    """Create methods from their names, in the order given: "flow:retrieval,max-attention,contextcite:32".

    Args:
        specs: names with commas between them, or a list of names; what follows a colon is the method's one argument.

    Raises:
        InputError: no name, an unknown name, an unusable argument, or the same method twice.
    """
    entries = registry()
    names = specs.split(",") if isinstance(specs, str) else list(specs)
    methods: list[Method] = []
    for name in (str(name).strip() for name in names):
        head, colon, argument = name.partition(":")
        if not name:
            raise InputError(f"a method's name is empty in {specs!r}; there are: {', '.join(entries)}")
        if head not in entries:
            near = get_close_matches(head.replace("_", "-"), entries, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"unknown method {name!r}; {hint}there are: {', '.join(entries)}")
        if colon and not argument:
            raise InputError(f"{name!r} ends in a colon; write {head!r}, or what should follow")
        method = entries[head].make(name, argument if colon else None)
        for other in methods:
            if other == method:
                raise InputError(f"{name!r} is asked for twice" + f" (as {other.name!r})" * (other.name != name))
        methods.append(method)
    if not methods:
        raise InputError(f"no method was asked for; there are: {', '.join(entries)}")
    return methods


def check_libraries(specs: Sequence[str]) -> None:
    """Check that the packages of methods are installed, without importing them. Call it before a model is loaded.

    Raises:
        InputError: a package is missing.
    """
    entries = registry()
    for spec in specs:
        entry = entries[spec.partition(":")[0]]
        if entry.library and not _is_installed(entry.library):
            raise InputError(
                f"the method {entry.name!r} needs the package {entry.library}, which is not installed; "
                f"pip install {PACKAGES.get(entry.library, entry.library)}, or name other methods"
            )


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    return find_spec(package) is not None


def describe() -> list[tuple[str, str, str]]:
    """Return (name, summary, source or "") of every method, in the order of lists."""
    return [(name, entry.summary, entry.source) for name, entry in registry().items()]
