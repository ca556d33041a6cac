"""Reads the prompt of the command line: documents and a question, chat messages, or one text."""

import json
import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attributor._errors import InputError

if TYPE_CHECKING:
    from attributor._ask import PromptSource
    from attributor._documents import Document

__all__ = ["UsageError", "read_example", "read_prompt_input"]

STDIN = Path("-")


class UsageError(Exception):
    """Conflicting options: exit status 2."""


def read_prompt_input(
    *,
    documents: Sequence[Path] = (),
    question: str | None = None,
    instruction: str | None = None,
    messages: Path | None = None,
    prompt_file: Path | None = None,
    chat: bool | None = None,
    system: str | None = None,
    answer: str | None = None,
    max_new_tokens: int | None = None,
) -> "PromptSource":
    """Check that the options do not conflict, and read their files.

    Raises:
        UsageError: no source of a prompt, more than one, or an option that conflicts with it.
        InputError: a file that cannot be read, is empty, or has another content than the option expects.
    """
    names = [
        name
        for name, value in (("--document", documents), ("--messages", messages), ("--prompt-file", prompt_file))
        if value
    ]
    if not names:
        raise UsageError(
            "no prompt: give --document FILE (repeated) with --question, --messages FILE, or --prompt-file FILE"
        )
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} are different sources of the prompt; give one of them")
    if documents and question is None:
        raise UsageError("--document needs --question")
    for name, value, partner in (("--question", question, "--document"), ("--instruction", instruction, "--document")):
        if value is not None and not documents:
            raise UsageError(f"{name} goes with {partner}, not with {names[0]}; write it into the prompt instead")
    if chat is not None and not prompt_file:
        raise UsageError(f"--chat and --raw go with --prompt-file, not with {names[0]}")
    if chat is False and system is not None:
        raise UsageError("--system needs a chat; with --raw write it into the prompt file")
    _check_answer(answer, max_new_tokens)
    if [*documents, messages, prompt_file].count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")

    from attributor._ask import PromptSource  # imported here, so that `--help` does not import numpy

    if documents:
        read, notes = _read_documents(documents)
        return PromptSource(read, question, instruction, system=system, answer=answer, notes=notes)
    if messages:
        try:
            source = PromptSource.of_chat(_read_messages(messages), system=system, answer=answer)
        except InputError as error:
            raise InputError(f"{messages}: {error}") from None
        if source.answer is not answer and (answer is not None or max_new_tokens is not None):
            raise UsageError(
                "the last message is the assistant's answer; --answer and --max-new-tokens do not go with it"
            )
        return source
    assert prompt_file is not None
    return PromptSource(text=_read_text(prompt_file), chat=chat, system=system, answer=answer)


def _check_answer(answer: str | None, max_new_tokens: int | None) -> None:
    if answer is not None and max_new_tokens is not None:
        raise UsageError("--answer is taken as given, so --max-new-tokens does not go with it")


def read_example(
    question: str | None = None, answer: str | None = None, max_new_tokens: int | None = None
) -> "PromptSource":
    """The documents that come with attributor, notes on an invented island, with their question or the given one.

    Raises:
        UsageError: conflicting options.
    """
    from attributor._ask import PromptSource
    from attributor._documents import make_document

    _check_answer(answer, max_new_tokens)
    folder = resources.files("attributor") / "examples"
    files = sorted((entry for entry in folder.iterdir() if entry.name[0].isdigit()), key=lambda entry: entry.name)
    documents = tuple(make_document(entry.read_text("utf-8"), Path(entry.name)) for entry in files)
    if question is None:
        question = (folder / "question.txt").read_text("utf-8").strip()
    return PromptSource(documents, question, answer=answer)


def _read_documents(paths: Sequence[Path]) -> "tuple[tuple[Document, ...], tuple[str, ...]]":
    from attributor._documents import read_files  # imported here, so that `--help` does not import numpy

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs each fault of a file that it can still read
    return read_files(paths, stdin=True)


def _read_text(path: Path) -> str:
    from attributor._documents import read_text

    return read_text(path, stdin=True).replace("\r\n", "\n").replace("\r", "\n")  # CR alone: old Macs


class _NotJsonError(Exception):
    pass


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python accepts and JSON does not have."""
    raise _NotJsonError(name)


def _read_messages(path: Path) -> list[dict[str, Any]]:
    from attributor._text import join_content

    try:
        messages = json.loads(_read_text(path), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except _NotJsonError as error:
        raise InputError(f"{path} is not JSON: {error} is no number there") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply to be chat messages") from None
    if isinstance(messages, dict):
        messages = messages.get("messages")
    shape = '[{"role": "user", "content": "..."}, ...], or an object with such a list as "messages"'
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{path} must hold {shape}")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InputError(f"{path}: message {number} has no role; the file must hold {shape}")
        try:
            content = join_content(message.get("content"), number)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if content is not None:
            message["content"] = content
    return messages
