"""Fixtures: a folder with a run and a flow, and a server for it with its own front end."""

import pytest
from web_cases import flow_file, run_folder
from web_server import running

__all__ = ["folder", "served"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("served")
    run_folder(made / "run", 3)
    flow_file(made / "answer.safetensors", tokens=40, rows=3, sentences=6, documents=2)
    return made


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory):
    static = tmp_path_factory.mktemp("static")
    (static / "index.html").write_text("<!doctype html>")
    (static / "app.js").write_text("export {};")
    (static / ".hidden").write_text("secret")
    with pytest.MonkeyPatch.context() as patched, running(folder) as server:
        patched.setenv("ATTRIBUTOR_WEB_STATIC", str(static))
        yield server
