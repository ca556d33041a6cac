"""What a prompt is built from, checked before a model is loaded. Imports no torch by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attributor._checks import shorten_value
from attributor._documents import Document, parse_documents
from attributor._errors import InputError

if TYPE_CHECKING:
    from attributor._prompt import Prompt

__all__ = ["PromptSource"]


@dataclass(frozen=True)
class PromptSource:
    """What a user asks about: documents and a question, chat messages, or one text; no model is needed yet.

    Exactly one of `documents`, `messages` and `text` is given.

    Attributes:
        documents: with `question`.
        question: what is asked about them.
        instruction: how to answer, the line after the question; None: the default one.
        messages: of a chat, without the answer.
        text: one prompt.
        chat: whether `text` is the user's turn of a chat; None: where the model has a chat template.
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
        cls, documents: Any, question: str | None, *, system: str | None, instruction: str, answer: str | None
    ) -> "PromptSource":
        """Check what `ask` was given.

        Raises:
            InputError: documents that are none, a question that is missing, empty, or given beside chat messages.
        """
        if _is_chat(documents):
            if question is not None:
                raise InputError("chat messages hold the question; leave question= out, or give documents")
            if answer is not None and _is_answered(documents):
                raise InputError("the last message is the assistant's answer; answer= does not go with it")
            return cls.of_chat(documents, system=system, answer=answer)
        if not isinstance(question, str):
            raise InputError(f"a question about the documents is needed, as a str, got {shorten_value(question)}")
        if not question.strip():
            raise InputError("the question is empty")
        return cls(parse_documents(documents), question, instruction, system=system, answer=answer)

    @classmethod
    def of_chat(cls, messages: Any, *, system: str | None = None, answer: str | None = None) -> "PromptSource":
        """Chat messages, of which the last one is the answer where it is the assistant's and has text.

        Raises:
            InputError: there is no message before the answer.
        """
        messages = list(messages)
        if _is_answered(messages):
            answer = messages.pop()["content"]
            if not messages:
                raise InputError("the only message is the answer; there is no prompt before it")
        return cls(messages=tuple(messages), system=system, answer=answer)

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
    """Whether it is a list of chat messages: dicts that all have a role."""
    return (
        isinstance(documents, list | tuple)
        and len(documents) > 0
        and all(isinstance(message, Mapping) and isinstance(message.get("role"), str) for message in documents)
    )


def _is_answered(messages: Any) -> bool:
    """Whether the last message is the assistant's, with text."""
    content = messages[-1].get("content")
    return messages[-1]["role"] == "assistant" and isinstance(content, str) and bool(content.strip())
