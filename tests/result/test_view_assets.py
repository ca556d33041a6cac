"""The built front end is found in its folder; a missing one is an error."""

import re
import subprocess
import sys

import pytest

from attributor._errors import AttributorError, InputError
from attributor._result.view import assets


def test_the_environment_variable_selects_another_folder(tmp_path, monkeypatch):
    (tmp_path / "app.js").write_text("// é", encoding="utf-8")
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    assert assets.static_folder() == tmp_path
    assert assets.static_text("app.js") == "// é"
    with pytest.raises(AttributorError, match=r"has no app\.css: install attributor anew"):
        assets.static_text("app.css")
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path / "app.js"))
    with pytest.raises(InputError, match="must name a folder with a built front end"):
        assets.static_folder()


def test_the_default_is_the_installed_front_end(tmp_path, monkeypatch):
    monkeypatch.setenv(assets.VARIABLE, "")
    monkeypatch.setattr(assets, "__file__", str(tmp_path / "attributor" / "_result" / "view" / "assets.py"))
    built = tmp_path / "attributor" / "web" / "static"
    with pytest.raises(AttributorError, match=re.escape(f"no front end ({built} is missing)")):
        assets.static_folder()
    built.mkdir(parents=True)
    assert assets.static_folder() == built


def test_the_view_modules_do_not_import_torch():
    code = (
        "import importlib, pkgutil, sys, attributor._result.view as v\n"
        "[importlib.import_module(f'attributor._result.view.{m.name}') for m in pkgutil.iter_modules(v.__path__)]\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
