"""A model hub on loopback with the routes that its client uses: one model, one gated model, and nothing else."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

SHA = "1234567890abcdef1234567890abcdef12345678"
NAME, GATED = "org/tiny", "org/gated"


class Hub:
    """The served model and the log of requests.

    Attributes:
        folder: the files of `org/tiny`.
        slow: seconds that the download of the weights takes.
        weights: size of the weights in the model's description; 0 for the true size.
        asked: requested paths, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.slow, self.weights = folder, 0.0, 0
        self.asked: list[str] = []

    def info(self) -> dict:
        parameters = self.weights // 4
        sizes = {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())}
        return {
            "id": NAME,
            "sha": SHA,
            "siblings": [{"rfilename": name, "size": size} for name, size in sizes.items()],
            **({"safetensors": {"parameters": {"F32": parameters}, "total": parameters}} if parameters else {}),
        }


@contextmanager
def hub_server(folder: Path):
    """Yield the hub and its address."""
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            if path == "/":
                return self.say(200, b"", body)
            parts = path.removeprefix("/api/models").strip("/").split("/")
            name, rest = "/".join(parts[:2]), parts[2:]
            if name == GATED:
                return self.say(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
            if name != NAME:
                return self.say(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
            if len(rest) > 1 and rest[1] not in ("main", SHA):
                return self.say(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
            if path.startswith("/api/"):
                return self.say(200, json.dumps(hub.info()).encode(), body)
            file = hub.folder / rest[-1]
            if not file.is_file():
                return self.say(404, b"{}", body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": SHA})
            data = file.read_bytes()
            headers = {"X-Repo-Commit": SHA, "ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
            self.say(200, data, body, headers, hub.slow if file.suffix == ".safetensors" else 0)
            return None

        def say(self, status, data, body, headers=None, slow=0.0):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if not body:
                return
            step = len(data) if slow == 0 else max(1, len(data) // 40)
            try:
                for at in range(0, len(data), max(step, 1)):
                    self.wfile.write(data[at : at + step])
                    time.sleep(slow / 40)
            except OSError:
                pass  # the client disconnected

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
