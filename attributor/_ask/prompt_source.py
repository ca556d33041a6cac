"""What a prompt is built from, checked before a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attributor._checks import shorten_value
from attributor._documents import Document, parse_documents
from attributor._errors import InputError
from attributor._prompt import INSTRUCTION, Prompt, build_prompt, lay_out, prompt_from_messages

__all__ = ["PromptSource"]


@dataclass(frozen=True)
class PromptSource:
    """Documents and a question, or chat messages; exactly one of `documents` and `messages` is not empty.

    Attributes:
        documents: with `question`.
        question: what is asked about them.
        messages: of a chat, without the answer.
        system: the system turn's text.
        instruction: the line after the question.
        answer: the answer to attribute; None: the model writes one.
    """

    documents: tuple[Document, ...] = ()
    question: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    system: str | None = None
    instruction: str = INSTRUCTION
    answer: str | None = None

    @classmethod
    def of(
        cls, documents: Any, question: str | None, *, system: str | None, instruction: str, answer: str | None
    ) -> "PromptSource":
        """Check what `ask` was given.

        Raises:
            InputError: documents that are none, a question that is missing, or given beside chat messages.
        """
        if _is_chat(documents):
            if question is not None:
                raise InputError("chat messages hold the question; leave question= out, or give documents")
            messages = list(documents)
            last = messages[-1]
            if last["role"] == "assistant" and isinstance(last.get("content"), str) and last["content"].strip():
                if answer is not None:
                    raise InputError("the last message is the assistant's answer; answer= does not go with it")
                answer = messages.pop()["content"]
                if not messages:
                    raise InputError("the only message is the answer; there is no prompt before it")
            return cls(messages=tuple(messages), system=system, answer=answer)
        if not isinstance(question, str):
            raise InputError(f"a question about the documents is needed, as a str, got {shorten_value(question)}")
        parsed = parse_documents(documents)
        lay_out(parsed, question, instruction)  # an empty document is an error now, and not once a model is loaded
        return cls(parsed, question, (), system, instruction, answer)

    def build(self, tokenizer: Any) -> Prompt:
        """The prompt for one model's tokenizer.

        Raises:
            InputError: as `build_prompt` and `prompt_from_messages`.
        """
        if self.messages:
            system = [{"role": "system", "content": self.system}] if self.system is not None else []
            return prompt_from_messages(tokenizer, [*system, *self.messages])
        return build_prompt(tokenizer, self.documents, self.question or "", self.system, instruction=self.instruction)


def _is_chat(documents: Any) -> bool:
    """Whether it is a list of chat messages: dicts that all have a role."""
    return (
        isinstance(documents, list | tuple)
        and len(documents) > 0
        and all(isinstance(message, Mapping) and isinstance(message.get("role"), str) for message in documents)
    )
