"""Builds the prompt of a request for one model, and counts its tokens."""

from typing import Any

from attributor._prompt import Prompt, build_prompt, encode_answer, prompt_from_messages
from attributor.web.http import ApiError
from attributor.web.live.runs import pick_title
from attributor.web.live.schema import CountRequest

__all__ = ["TokenCounter", "check_one_prompt", "count_tokens", "make_prompt", "make_title"]


def check_one_prompt(request: CountRequest) -> None:
    """Refuse a request with two prompts or without a prompt.

    Raises:
        ApiError: 422, the message says what is missing or must be left out.
    """
    documents = bool(request.documents) or request.question is not None
    if request.messages and documents:
        raise ApiError(422, "two_prompts", "give either messages, or documents with a question, not both")
    if not request.messages and request.question is None:
        raise ApiError(422, "no_prompt", "give messages, or a question, with documents that it is about")


def make_prompt(tokenizer: Any, request: CountRequest) -> Prompt:
    """Build the prompt in the same way as `attributor ask`.

    Raises:
        InputError: an empty part, or messages that the model's chat template refuses.
    """
    if request.messages:
        return prompt_from_messages(tokenizer, [message.model_dump() for message in request.messages])
    documents = [(document.title, document.text) for document in request.documents]
    return build_prompt(tokenizer, documents, request.question or "")


class TokenCounter:
    """Counts tokens while the user types. It keeps the last prompt's count, for an answer typed to a long prompt."""

    def __init__(self) -> None:
        self._last: tuple[Any, CountRequest, int] | None = None

    def __call__(self, tokenizer: Any, request: CountRequest) -> tuple[int, int]:
        """As `count_tokens`."""
        prompt = request.model_copy(update={"answer": None})
        last = self._last
        if last is not None and last[0] is tokenizer and last[1] == prompt:
            return last[2], count_tokens(tokenizer, CountRequest(answer=request.answer))[1]
        counts = count_tokens(tokenizer, request)
        self._last = (tokenizer, prompt, counts[0])
        return counts


def count_tokens(tokenizer: Any, request: CountRequest) -> tuple[int, int]:
    """Count the tokens of the prompt and of the answer; parts of both may still be empty.

    Raises:
        InputError: as `make_prompt`, but not for empty parts.
    """
    answer = request.answer if request.answer and request.answer.strip() else None
    answer_tokens = encode_answer(tokenizer, answer).numel() if answer is not None else 0
    filled = [message for message in request.messages if message.content.strip()]
    if request.messages:
        return (make_prompt(tokenizer, request).ids.numel() if filled else 0), answer_tokens
    documents = [document for document in request.documents if document.text.strip()]
    question = (request.question or "").strip()
    if not documents and not question:
        return 0, answer_tokens
    # a missing question counts as one character, so that documents can be counted before the question is written
    complete = request.model_copy(update={"documents": documents, "question": question or "?"})
    return make_prompt(tokenizer, complete).ids.numel(), answer_tokens


def make_title(request: CountRequest) -> str:
    """The title of a run in a list: its question, or the user's last message."""
    users = [message.content for message in reversed(request.messages) if message.role == "user"]
    everything = [message.content for message in request.messages]
    return pick_title([request.question or "", *users, *everything]) or "untitled"
