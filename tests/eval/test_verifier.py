"""The verifier with a server on this machine: requests, replies and errors."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from eval_examples import make_example, write_examples
from eval_runs import read_records
from tiny_chat import model as tiny_model
from tiny_chat import tokenizer as tiny_tokenizer

from attributor import InputError
from attributor.eval.config import Config
from attributor.eval.run import runner, verifier
from attributor.eval.run.verifier import Verifier

KEY = "sk-test-0123456789abcdef"


@contextmanager
def serving(*answers):
    """Run a server that returns the given replies in turn and repeats the last; log the requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers.get("Authorization"), body))
            status, said = answers[min(len(asked), len(answers)) - 1]
            data = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
        server.shutdown()
        thread.join()


def saying(text):
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setattr(verifier, "PAUSE", 0.001)
    for name in (*verifier.KEYS, "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def ask(url):
    with Verifier(url, "judge") as asked:
        return asked.ask("Who built it?", "Finn", "It was Finn.", ("Finn Maro",))


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("yes", True),
        ("No.", False),
        ("**Yes**, both name Finn.", True),
        ("<think>No... but wait, yes? no</think>\nyes", True),
        ("Nobody knows", None),
        ("", None),
        (None, None),
    ],
)
def test_verdicts_are_parsed_from_replies(said, verdict):
    with serving(saying(said)) as (url, asked):
        found, reason = ask(url + "/")
    assert found is verdict
    assert (reason is None) == (verdict is not None)
    path, key, body = asked[0]
    assert path == "/v1/chat/completions"
    assert key is None
    assert (body["model"], body["temperature"]) == ("judge", 0)
    text = body["messages"][0]["content"]
    assert all(part in text for part in ("Who built it?", "Finn (or: Finn Maro)", "It was Finn."))


@pytest.mark.parametrize("name", verifier.KEYS)
def test_the_key_is_read_from_the_environment_and_sent_to_the_endpoint_only(monkeypatch, name):
    monkeypatch.setenv(name, KEY)
    with serving((401, f"wrong key {KEY}, or sk-another-9876543210")) as (url, asked):
        found, reason = ask(url)
    assert asked[0][1] == f"Bearer {KEY}"
    assert len(asked) == 1, "a refused key is not tried again"
    assert found is None
    assert reason == "HTTP 401: wrong key ***, or ***"


def test_temporary_errors_are_retried():
    with serving((503, "busy"), (429, "slow down"), saying("yes")) as (url, asked):
        assert ask(url) == (True, None)
        assert len(asked) == 3
    with serving((500, "down")) as (url, asked), Verifier(url, "judge") as connection:
        for _ in range(4):
            assert connection.ask("q", "e", "g") == (None, "HTTP 500: down")
        assert len(asked) == 3 + 3 + 3 + 1, "an endpoint that is gone is no longer waited for"


@pytest.mark.parametrize("said", ["no JSON", {"choices": []}, {"choices": [{"message": None}]}, [1]])
def test_malformed_replies_give_no_verdict(said):
    with serving((200, said)) as (url, _):
        found, reason = ask(url)
    assert found is None
    assert reason.startswith("not a chat completion")


def test_an_unreachable_endpoint_gives_no_verdict():
    found, reason = ask("http://127.0.0.1:9/v1")
    assert found is None
    assert reason.startswith("ConnectError")


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host/v1", "http://", "http://[", "https:///v1"])
def test_bad_urls_are_refused(url):
    with pytest.raises(InputError, match="must be a base URL"):
        Verifier(url, "judge")


def test_secrets_in_the_url_are_refused_and_not_repeated():
    for url in (f"https://me:{KEY}@host/v1", f"https://host/v1?key={KEY}"):
        with pytest.raises(InputError, match="ATTRIBUTOR_VERIFIER_KEY") as caught:
            Verifier(url, "judge")
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("answer", ["expected", "generated"])
def test_a_run_verifies_every_generated_answer_and_stores_no_key(tmp_path, monkeypatch, answer):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    examples = write_examples(tmp_path / "rows.jsonl", [make_example(i) for i in range(3)])
    tokenizer = tiny_tokenizer()
    with serving(saying("yes"), saying("no"), (400, f"bad {KEY}")) as (url, asked):
        config = Config(
            source=str(examples),
            methods=("length",),
            max_new_tokens=3,
            answer=answer,
            verifier=url,
            verifier_model="judge",
        )
        outcome = runner.run_evaluation(config, tmp_path / "run", model=tiny_model(len(tokenizer)), tokenizer=tokenizer)
    found = read_records(outcome.folder)
    assert outcome.failed == 0, "a verifier that fails is not fatal"
    assert [record["verified"] for record in found] == [True, False, None]
    assert [record["verifier_error"] for record in found] == [None, None, "HTTP 400: bad ***"]
    for record, (_, _, body) in zip(found, asked, strict=True):
        assert f"Answer to judge: {record['generated']}\n" in body["messages"][0]["content"]
    for path in outcome.folder.rglob("*"):
        assert KEY.encode() not in path.read_bytes()
