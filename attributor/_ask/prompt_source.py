"""The parts that a prompt is built from, checked before a model is loaded. Imports no torch by itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attributor._checks import shorten_value
from attributor._documents import Document, parse_documents
from attributor._errors import InputError
from attributor._text import join_content

if TYPE_CHECKING:
    from attributor._prompt import Prompt

__all__ = ["PromptSource"]


@dataclass(frozen=True)
class PromptSource:
    """A user's input: documents and a question, chat messages, or one text. It needs no model.

    Exactly one of `documents`, `messages` and `text` is given.

    Attributes:
        documents: with `question`.
        question: about the documents.
        instruction: how to answer, the line after the question; None: the default one.
        messages: of a chat, without the answer.
        text: one prompt.
        chat: whether `text` is the user's turn of a chat; None: yes if the model has a chat template.
        system: the system turn's text.
        answer: the answer to attribute; None: the model writes one.
        notes: what the user should know about the documents.
    """

    documents: tuple[Document, ...] = ()
    question: str | None = None
    instruction: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None
    chat: bool | None = None
    system: str | None = None
    answer: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        documents: Any,
        question: str | None,
        *,
        system: str | None = None,
        instruction: str | None = None,
        answer: str | None = None,
    ) -> "PromptSource":
        """Make a source from the arguments of `ask`, and check it; `instruction` None is the default one.

        Raises:
            InputError: not a list of documents, a question that is missing, empty or given with chat messages, and
                other arguments that conflict.
        """
        if isinstance(documents, Iterator):
            documents = list(documents)
        if isinstance(documents, Mapping) and isinstance(documents.get("messages"), list):
            documents = documents["messages"]
        if _is_chat(documents):
            for name, value in (("question", question), ("instruction", instruction)):
                if value is not None:
                    raise InputError(f"chat messages hold the {name}; leave {name}= out, or give documents")
            if system is not None and documents[0].get("role") == "system":
                raise InputError("the messages begin with a system message; leave system= out")
            if answer is not None and _answer_in(documents) is not None:
                raise InputError("the last message is the assistant's answer; answer= does not go with it")
            source = cls.of_chat(documents, system=system, answer=answer)
        else:
            if not isinstance(question, str):
                raise InputError(f"a question about the documents is needed, as a str, got {shorten_value(question)}")
            source = cls(parse_documents(documents), question, instruction, system=system, answer=answer)
            if not source.documents:
                raise InputError("the list of documents is empty; give at least one")
        source.check()
        return source

    @classmethod
    def of_chat(cls, messages: Any, *, system: str | None = None, answer: str | None = None) -> "PromptSource":
        """A source of chat messages. If the last one is the assistant's and has text, it is the answer.

        Raises:
            InputError: there is no message before the answer.
        """
        messages = list(messages)
        written = _answer_in(messages)
        if written is not None:
            answer = written
            messages.pop()
            if not messages:
                raise InputError("the only message is the answer; there is no prompt before it")
        return cls(messages=tuple(messages), system=system, answer=answer)

    def check(self) -> None:
        """Check every text; this needs no model.

        Raises:
            InputError: an empty question or answer, a lone surrogate, an argument that is not a str.
        """
        from attributor._prompt import clean

        for name, value, empty in (
            ("question", self.question, False),
            ("answer", self.answer, False),
            ("system text", self.system, True),
            ("instruction", self.instruction, True),
        ):
            if value is None:
                continue
            if not isinstance(value, str):
                raise InputError(f"the {name} must be a str, or None, got {shorten_value(value)}")
            clean(f"the {name}", value, empty=empty)
        for number, document in enumerate(self.documents, 1):
            clean(f"document {number}", document.text)
            clean(f"the title of document {number}", document.title, empty=True)
        contents = [_content_of(message, number) for number, message in enumerate(self.messages, 1)]
        if self.messages and not any(contents):
            raise InputError("the messages hold no text; give at least one user message")

    def build(self, tokenizer: Any) -> "Prompt":
        """The prompt for one model's tokenizer.

        Raises:
            InputError: as `build_prompt`, `prompt_from_messages` and `prompt_from_text`.
        """
        from attributor._prompt import INSTRUCTION, build_prompt, prompt_from_messages, prompt_from_text

        if self.messages:
            system = [{"role": "system", "content": self.system}] if self.system is not None else []
            return prompt_from_messages(tokenizer, [*system, *self.messages])
        if self.text is not None:
            return prompt_from_text(tokenizer, self.text, chat=self.chat, system=self.system)
        instruction = INSTRUCTION if self.instruction is None else self.instruction
        return build_prompt(tokenizer, self.documents, self.question or "", self.system, instruction=instruction)


def _is_chat(documents: Any) -> bool:
    """Whether it is a list that begins with a chat message: a dict with a role, and with content or tool calls."""
    first = documents[0] if isinstance(documents, list | tuple) and documents else None
    return (
        isinstance(first, Mapping)
        and isinstance(first.get("role"), str)
        and ("content" in first or "tool_calls" in first)
    )


def _content_of(message: Any, number: int) -> str:
    """The text of a message, "" for none.

    Raises:
        InputError: not a message, or parts that are not text.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InputError(f'message {number} must be {{"role": ..., "content": text}}, got {shorten_value(message)}')
    return (join_content(message.get("content"), number) or "").strip()


def _answer_in(messages: Any) -> str | None:
    """The text of the last message if it is the assistant's and has text, else None."""
    last = messages[-1]
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        return None
    text = join_content(last.get("content"), len(messages))
    return text if text is not None and text.strip() else None
