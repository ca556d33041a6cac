"""Has a model at an OpenAI-compatible endpoint judge whether a written answer agrees with the expected one."""

import os
import re
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from attributor._errors import InputError

__all__ = ["KEYS", "Verifier"]

KEYS = ("ATTRIBUTOR_VERIFIER_KEY", "OPENAI_API_KEY")
TIMEOUT = 30.0  # seconds a request
TRIES = 3
PAUSE = 1.0  # seconds before the second try, twice as long before the third
AGAIN = (408, 409, 429, 500, 502, 503, 504)
PROMPT = """Question: {question}
Right answer: {expected}{aliases}
Answer to judge: {generated}

Does the answer to judge give the right answer to the question? Different wording and additional words are fine, a \
different fact is not. Reply with one word: yes or no."""


class Verifier:
    """A connection to one endpoint; a failing endpoint raises no error in `ask`.

    The key is read from the environment and is used only in the request's header.
    """

    def __init__(self, url: str, model: str | None) -> None:
        """Open the connection; `url` is the part before /chat/completions, such as http://localhost:8000/v1.

        Raises:
            InputError: the URL is invalid or holds a secret, no model is named, or httpx is not installed.
        """
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            parts, host = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not host:
            raise InputError("the verifier must be a base URL such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise InputError(
                "the verifier's URL must hold no user, password or query: settings are written into the run's folder. "
                f"Put the key into the environment ({' or '.join(KEYS)})"
            )
        if not model:
            raise InputError("the verifier needs the name of its model (--verifier-model)")
        try:
            import httpx
        except ImportError:
            raise InputError("the verifier needs the package httpx; pip install 'attributor[eval]'") from None
        self._httpx = httpx
        self._model = model
        self._url = url.rstrip("/") + "/chat/completions"
        self._key = next((key.strip() for name in KEYS if (key := os.environ.get(name))), "")
        if not self._key.isascii() or any(c.isspace() for c in self._key):
            raise InputError(f"the verifier's key ({' or '.join(KEYS)}) holds characters that no header can carry")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(timeout=TIMEOUT, headers=headers, trust_env=True)
        self._failed = 0  # failed requests in a row

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._client.close()

    def ask(
        self, question: str, expected: str, generated: str, aliases: Sequence[str] = ()
    ) -> tuple[bool | None, str | None]:
        """Return whether `generated` agrees with `expected`; or None and the reason why that is unknown."""
        also = f" (or: {'; '.join(aliases)})" if aliases else ""
        text = PROMPT.format(question=question, expected=expected, aliases=also, generated=generated)
        body = {"model": self._model, "temperature": 0, "messages": [{"role": "user", "content": text}]}
        reason = ""
        for attempt in range(TRIES if self._failed < TRIES else 1):  # no retries after TRIES failed requests
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                response = self._client.post(self._url, json=body)
            except self._httpx.HTTPError as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                self._failed = 0
                return self._verdict(response)
            reason = f"HTTP {response.status_code}: {response.text[:200]}"
            if response.status_code not in AGAIN:
                break
        self._failed += 1
        return None, self._without_key(reason)

    def _verdict(self, response: Any) -> tuple[bool | None, str | None]:
        try:
            reply = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            reply = None
        if not isinstance(reply, str):
            return None, self._without_key(f"not a chat completion: {response.text[:200]}")
        reply = re.sub(r"<think>.*?</think>", "", reply, flags=re.DOTALL)
        words = [word for word in re.findall(r"[a-z]+", reply.lower()) if word in ("yes", "no")]
        if not words:
            return None, self._without_key(f"neither yes nor no: {reply[:200]}")
        return words[0] == "yes", None

    def _without_key(self, text: str) -> str:
        """Remove the key from a server's answer, since some servers repeat a key that they refuse."""
        text = text.replace(self._key, "***") if self._key else text
        return re.sub(r"sk-[\w-]{8,}", "***", text)
