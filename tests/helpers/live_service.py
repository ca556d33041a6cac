"""Fixtures of the live view: a tiny model in a folder, and one server that has loaded it."""

import pytest
import tiny_chat
from live_client import PROMPT, serving

from attributor._models import load
from attributor._prompt.build import build_prompt
from attributor.web.live.service import ServerSettings

__all__ = ["ANSWER", "client", "error", "folder", "info", "model", "prompt_of"]

ANSWER = "The keeper writes the weather."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(scope="module")
def client(folder):
    """One server with a loaded model, for tests that do not change its state."""
    with serving(ServerSettings(model=str(folder))) as made:
        made.done(made.post("/api/model", json={"id": str(folder)}))
        yield made


@pytest.fixture
def model(folder):
    return load.load_model(folder)


def prompt_of(tokenizer):
    documents = [(one["title"], one["text"]) for one in PROMPT["documents"]]
    return build_prompt(tokenizer, documents, PROMPT["question"])


def info(client, run):
    return next(one for one in client.get("/api/runs").json()["runs"] if one["id"] == run)


def error(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()["error"]
