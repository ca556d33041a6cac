"""Constants and classes are read from the source of Python files without running them."""

import pytest

from attributor._literals import index_by_name, lazy_imports, read_package
from attributor.methods._registry import Entry

METHOD = 'raise SystemExit("this file ran")\nNAME = "mine"\nSUMMARY = "one" " line"\n\n\nclass Mine:\n    pass\n'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write the files of a new package and read them."""
    (tmp_path / "folder_of_methods").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def read(**files):
        for name, content in files.items():
            (tmp_path / "folder_of_methods" / f"{name}.py").write_text(content, "utf-8")
        return read_package("folder_of_methods")

    return read


def test_files_are_read_without_running_them(package):
    (file,) = package(mine=METHOD + "SIZE: int = 3\nCOMPUTED = SIZE + 1\n_hidden = {'a': (1, 2)}\n", _private=METHOD)
    assert file.module == "mine"
    assert file.constants == {"NAME": "mine", "SUMMARY": "one line", "SIZE": 3, "_hidden": {"a": (1, 2)}}
    assert file.classes == ("Mine",)
    entry = Entry.of(file)
    assert (entry.name, entry.summary, entry.source, entry.argument) == ("mine", "one line", "", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('NAME = "mine"\n', ""), r"mine\.py must set NAME to a literal str at its top level.*; it has none"),
        (('"one" " line"', "str(3)"), r"must set SUMMARY to a literal str.*; it has none"),
        (('"one" " line"', "3"), r"must set SUMMARY to a literal str.*; it has 3"),
        (("class Mine", "class _Mine"), r"must hold one public class, the method; it has \[\]"),
        (("class Mine", "class Other:\n    pass\n\n\nclass Mine"), r"one public class.*\['Other', 'Mine'\]"),
    ],
)
def test_a_file_with_missing_declarations_is_named(package, change, message):
    (file,) = package(mine=METHOD.replace(*change))
    with pytest.raises(ImportError, match=message):
        Entry.of(file)


def test_names_are_in_the_declared_order_and_unique(package):
    files = package(
        a=METHOD.replace('"mine"', '"z"'),
        b=METHOD.replace('"mine"', '"y"'),
        c=METHOD.replace('"mine"', '"x"') + "ORDER = 7\n",
        d=METHOD.replace('"mine"', '"w"') + "ORDER = 30\n",
    )
    entries = [Entry.of(file) for file in files]
    assert list(index_by_name(entries)) == ["x", "w", "y", "z"]
    with pytest.raises(ImportError, match="the name 'z' is taken twice"):
        index_by_name([*entries, Entry.of(files[0])])


def test_imports_for_type_checkers_are_found(tmp_path):
    path = tmp_path / "names.py"
    path.write_text(
        "from json import loads\nif TYPE_CHECKING:\n    from a.b import C as C\n    from a import d, e as f\n"
    )
    assert lazy_imports(str(path)) == {"C": "a.b", "d": "a", "f": "a"}
