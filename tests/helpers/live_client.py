"""A live server in this process with an HTTP client, without the guard for browser requests."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from clock import PATIENCE
from fastapi import FastAPI

from attributor.web.http import errors
from attributor.web.live.routes import create_router
from attributor.web.live.service import LiveService, ServerSettings

PROMPT = {
    "documents": [
        {"title": "Harbour", "text": "The harbour of the island was built on the sheltered side."},
        {"title": "Light", "text": "The lighthouse stands on the cliff. The keeper writes the weather into a book."},
    ],
    "question": "Who keeps the light?",
}
CHAT = {"messages": [{"role": "user", "content": "Fishing boats leave before dawn. Who keeps the light?"}]}


class Client(httpx.Client):
    """An HTTP client that also reads the events of jobs."""

    live: LiveService

    def events(self, job: str, **headers: str) -> list[tuple[str, dict]]:
        """Return every event of a job until it ends."""
        return list(self.listen(job, **headers))

    def listen(self, job: str, **headers: str) -> Iterator[tuple[str, dict]]:
        """Yield the events of a job as they arrive."""
        with self.stream("GET", f"/api/jobs/{job}/events", headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            name = ""
            for line in answer.iter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    yield name, json.loads(value)

    def ended(self, answer: httpx.Response) -> tuple[str, dict]:
        """Return the last event of the job that a response started."""
        assert answer.status_code == 202, answer.text
        return self.events(answer.json()["job"])[-1]

    def done(self, answer: httpx.Response) -> dict:
        """Return the result of the job that a response started; the job must not fail."""
        name, data = self.ended(answer)
        assert name == "done", (name, data)
        return data

    def run(self, **fields: object) -> dict:
        """Start a run, wait for its end and return its result; uses all heads by default."""
        return self.done(self.post("/api/runs", json={**PROMPT, "weights": "mean", **fields}))


@contextmanager
def serving(settings: ServerSettings | None = None, live: LiveService | None = None) -> Iterator[Client]:
    """Run a live server on a free loopback port."""
    live = live or LiveService(settings)
    app = FastAPI()
    errors.add_error_handlers(app)
    app.include_router(create_router(live))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            client.live = live
            yield client
    finally:
        live.close()
        server.should_exit = True
        thread.join(10)


def wait_for(condition) -> None:
    """Wait until the condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.01)
