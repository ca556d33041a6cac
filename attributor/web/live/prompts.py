"""What a request asks, as the prompt that one model reads."""

from typing import Any

from attributor._prompt import Prompt, build_prompt, encode_answer, from_messages
from attributor.web.http import ApiError
from attributor.web.live.runs import titled
from attributor.web.live.schema import CountRequest

__all__ = ["Counter", "check_one_prompt", "count", "prompt_of", "title_of"]


def check_one_prompt(asked: CountRequest) -> None:
    """Refuse a request with two prompts, or with none.

    Raises:
        ApiError: 422, what is missing or too much.
    """
    documents = bool(asked.documents) or asked.question is not None
    if asked.messages and documents:
        raise ApiError(422, "two_prompts", "give either messages, or documents with a question, not both")
    if not asked.messages and asked.question is None:
        raise ApiError(422, "no_prompt", "give messages, or a question, with documents that it is about")


def prompt_of(tokenizer: Any, asked: CountRequest) -> Prompt:
    """The prompt, as `attributor flow` makes it.

    Raises:
        InputError: an empty part, or messages that the model's chat template refuses.
    """
    if asked.messages:
        return from_messages(tokenizer, [message.model_dump() for message in asked.messages])
    documents = [(document.title, document.text) for document in asked.documents]
    return build_prompt(tokenizer, documents, asked.question or "")


class Counter:
    """Counts tokens while somebody types; remembers the last prompt, for who types an answer to a long one."""

    def __init__(self) -> None:
        self._last: tuple[Any, CountRequest, int] | None = None

    def __call__(self, tokenizer: Any, asked: CountRequest) -> tuple[int, int]:
        """As `count`."""
        prompt = asked.model_copy(update={"answer": None})
        last = self._last
        if last is not None and last[0] is tokenizer and last[1] == prompt:
            return last[2], count(tokenizer, CountRequest(answer=asked.answer))[1]
        found = count(tokenizer, asked)
        self._last = (tokenizer, prompt, found[0])
        return found


def count(tokenizer: Any, asked: CountRequest) -> tuple[int, int]:
    """Tokens of the prompt and of the answer, also while parts of both are still empty.

    Raises:
        InputError: as `prompt_of`, but for what is only empty as yet.
    """
    answer = asked.answer if asked.answer and asked.answer.strip() else None
    answered = encode_answer(tokenizer, answer).numel() if answer is not None else 0
    said = [message for message in asked.messages if message.content.strip()]
    if asked.messages:
        return (prompt_of(tokenizer, asked).ids.numel() if said else 0), answered
    documents = [document for document in asked.documents if document.text.strip()]
    question = (asked.question or "").strip()
    if not documents and not question:
        return 0, answered
    # a question that is still to come is counted as one sign, so that documents can be counted before it is there
    complete = asked.model_copy(update={"documents": documents, "question": question or "?"})
    return prompt_of(tokenizer, complete).ids.numel(), answered


def title_of(asked: CountRequest) -> str:
    """What a run is called in a list: its question, else the last thing that the user said."""
    users = [message.content for message in reversed(asked.messages) if message.role == "user"]
    return titled([asked.question or "", *users, *(message.content for message in asked.messages)]) or "untitled"
