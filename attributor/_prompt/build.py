"""Build a prompt from documents and a question, from chat messages, or from text: token ids with character spans.

The chat template renders the text once, and the tokenizer encodes that text once. Documents are located by counting
characters, never by a search for tokens. Document text cannot become control tokens: ``<|im_end|>`` in a document is
encoded as those ten characters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attributor._checks import shorten_value
from attributor._documents import Document, PlacedDocument, PromptText, parse_documents
from attributor._errors import InputError
from attributor._prompt.chat_template import escape_json, locate_contents, render_chat, render_messages
from attributor._prompt.clean import clean
from attributor._prompt.sequence import TokenSequence, span_tokens
from attributor._prompt.tokenize import encode
from attributor._text import answer_offsets, control_tokens, join_content

__all__ = [
    "INSTRUCTION",
    "Prompt",
    "build_prompt",
    "encode_answer",
    "parse_prompts",
    "prompt_from_messages",
    "prompt_from_text",
]

INSTRUCTION = (
    "Do not explain your reasoning. Simply provide the answer or say 'n/a' if the question cannot be answered."
)
TOOL_ROLES = ("tool", "function", "ipython", "observation")  # roles of messages that hold a tool's result
NO_TEMPLATE = "the tokenizer has no chat template: the prompt is plain text that ends in 'Answer:'"
Span = tuple[int, int]


@dataclass(frozen=True)
class Prompt:
    """The text and tokens that the model reads, and the spans of their parts.

    Attributes:
        text: the rendered text, template included.
        ids: (k,) int64, the tokens of `text`.
        offsets: (k, 2) int64, the characters of `text` that each token covers; (x, x) for a token without characters.
        documents: the documents' spans in `text`, title line included, in order, with their own text; may be empty.
        note: what the user should know about how the prompt was built, or None.
        quoted: spans of `text` from the user, in which control tokens are plain text; the rest is from the template.
        special: whether the tokenizer put its own start token before the text.
        question: (start, stop) characters of the question in `text`, if the prompt has one.
    """

    text: str
    ids: Tensor
    offsets: Tensor
    documents: tuple[PlacedDocument, ...] = ()
    note: str | None = None
    quoted: tuple[Span, ...] = ()
    special: bool = False
    question: Span | None = None

    @property
    def question_tokens(self) -> Tensor | None:
        """(Q,) int64, the tokens of the question; None if its place is unknown."""
        if self.question is None:
            return None
        tokens = span_tokens(self.offsets, *self.question)
        return tokens if tokens.numel() else None

    def sequence(self, ids: Tensor, tokenizer: Any = None) -> TokenSequence:
        """A sequence of the ids (k + a,) of this prompt and an answer, with the prompt's own text and spans.

        Args:
            ids: the ids that a model read and wrote.
            tokenizer: for the answer's text; None: no text.

        Raises:
            InputError: ids that do not begin with those of the prompt.
        """
        k = len(self.ids)
        same = ids.numel() >= k and torch.equal(ids[:k].cpu(), self.ids)
        if not same:
            shorter = min(ids.numel(), k)
            different = (ids[:shorter].cpu() != self.ids[:shorter]).nonzero()
            place = int(different[0]) if different.numel() else shorter
            raise InputError(
                f"the ids do not begin with the {k} tokens of prompt=: they differ at token {place}; pass the prompt "
                "whose ids the model was given"
            )
        if tokenizer is None:
            return TokenSequence(ids, k, self.text, self.offsets, documents=self.documents)
        return self.with_answer(ids[k:], tokenizer)

    def with_given_answer(self, answer: str, tokenizer: Any) -> TokenSequence:
        """The prompt followed by an answer given as text; control tokens at the answer's end are dropped.

        Raises:
            InputError: an empty answer.
        """
        ids = encode_answer(tokenizer, answer)
        control = control_tokens(tokenizer)
        count = ids.numel()
        while count > 1 and int(ids[count - 1]) in control:
            count -= 1
        if int(ids[count - 1]) in control or not getattr(tokenizer, "is_fast", False):
            return self.with_answer(ids[:count], tokenizer)
        encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
        offsets = torch.tensor(encoded["offset_mapping"][:count], dtype=torch.int64).reshape(-1, 2)
        text = answer if count == ids.numel() else answer[: int(offsets[-1, 1])]
        ids = torch.cat([self.ids, ids[:count]])
        return TokenSequence(ids, len(self.ids), self.text, self.offsets, text, offsets, self.documents)

    def with_answer(self, answer: Tensor, tokenizer: Any) -> TokenSequence:
        """The prompt followed by an answer's ids (a,); the answer's text and spans are decoded from them."""
        text, offsets = answer_offsets(tokenizer, answer)
        ids = torch.cat([self.ids, answer])
        return TokenSequence(ids, len(self.ids), self.text, self.offsets, text, offsets, self.documents)


def build_prompt(
    tokenizer: Any,
    documents: Any,
    question: str,
    system: str | None = None,
    *,
    instruction: str = INSTRUCTION,
) -> Prompt:
    """One user turn: the documents, each under its ``title:`` line, then the question and the instruction.

    Args:
        tokenizer: a Hugging Face tokenizer; without a chat template the same text is used plain, ending in ``Answer:``.
        documents: as for `attributor.ask`; white space around their texts is stripped.
        question: the question about the documents.
        system: the system turn's text; None leaves it to the template.
        instruction: the line after the question that says how to answer; "" for none.

    Raises:
        InputError: an empty document or question; a template that refuses the messages or hides their text; text that
            the tokenizer can only encode as control tokens.
    """
    content, placed, question_span = _lay_out(documents, question, instruction)
    if not getattr(tokenizer, "chat_template", None):
        return _make_plain_prompt(tokenizer, content, placed, question_span, system)
    messages = _make_messages(content, system)
    text = render_messages(tokenizer, messages)
    contents = locate_contents(tokenizer, messages, text)
    start, stop = contents[-1]
    if text[start:stop] != content:
        raise InputError(
            "the model's chat template rewrites the text of the user's turn, so its documents cannot be located"
        )
    prompt = _make_prompt(tokenizer, text, contents, [document.shift(start) for document in placed])
    return replace(prompt, question=(start + question_span[0], start + question_span[1]))


def _lay_out(
    documents: Any, question: str, instruction: str = INSTRUCTION
) -> tuple[str, list[PlacedDocument], tuple[int, int]]:
    """The user's turn of `build_prompt`, and the spans of the documents and the question in it.

    Raises:
        InputError: an empty document or question.
    """
    question = clean("the question", question)
    content = ""
    placed: list[PlacedDocument] = []
    for number, document in enumerate(parse_documents(documents), 1):
        title = clean(f"the title of document {number}", " ".join(document.title.split()), empty=True).removesuffix(":")
        shown = PromptText.of(document)
        clean(f"document {number}{f' ({title})' if title else ''}", shown.text)
        title_line = f"{title}:\n" if title else ""
        placed.append(
            PlacedDocument(
                start=len(content),
                stop=len(content) + len(title_line) + len(shown.text),
                text=title_line + shown.text,
                label=title or f"document {number}",
                source=document,
                body=len(content) + len(title_line),
                boundaries=shown.boundaries,
            )
        )
        content += f"{title_line}{shown.text}\n\n"
    question_span = (len(content), len(content) + len(question))
    content += f"{question}\n{clean('the instruction', instruction, empty=True)}".rstrip()
    return content, placed, question_span


def prompt_from_messages(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> Prompt:
    """The prompt of a chat, up to and including the header of the assistant's next turn.

    If messages hold results of tools (roles "tool", "function", "ipython", "observation"), each result is a document,
    labelled by the tool's name, and the user's last message is the question. Otherwise each message with text is a
    document, labelled by its role.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        messages: ``{"role": ..., "content": text}`` each. The content may also be a list of text parts, or None with
            tool calls. If the template cuts a message (earlier thinking, say), the document is the rest. The name of a
            tool is the result's ``name``, or that of the earlier call with its ``tool_call_id``.

    Raises:
        InputError: no messages, messages without role or text, parts that are not text, no chat template, or a template
            that refuses them.
    """
    checked: list[dict[str, Any]] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InputError(f'message {number} must be {{"role": ..., "content": text}}, got {str(message)[:80]}')
        content = join_content(message.get("content"), number)
        clean(f"message {number}", content, empty=True)
        checked.append(dict(message) if content is None else {**message, "content": content})
    if not any((message.get("content") or "").strip() for message in checked):
        raise InputError("the messages hold no text; give at least one user message")
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "this model's tokenizer has no chat template; give the whole prompt as text instead of messages"
        )
    checked, text = render_chat(tokenizer, checked)
    contents = locate_contents(tokenizer, checked, text)
    results = _label_results(checked)
    labels = results or _label_messages(checked)
    documents = [
        _place_message(message, text, span, labels[i])
        for i, (message, span) in enumerate(zip(checked, contents, strict=True))
        if i in labels and span[0] < span[1]
    ]
    prompt = _make_prompt(tokenizer, text, contents, documents)
    questions = [span for message, span in zip(checked, contents, strict=True) if message["role"] == "user"]
    if not results or not questions or questions[-1] == (0, 0):
        return prompt
    return replace(prompt, question=questions[-1])


def prompt_from_text(tokenizer: Any, text: str, *, chat: bool | None = None, system: str | None = None) -> Prompt:
    """A prompt that is one text, whose paragraphs (blocks between blank lines) count as its documents.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: the prompt.
        chat: True makes it the user's turn of a chat, False uses it unchanged; None: True if there is a template.
        system: the system turn's text, only with a chat template.

    Raises:
        InputError: an empty text, ``chat=True`` without a template, and as :func:`build_prompt`.
    """
    clean("the prompt", text)
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not has_template:
        raise InputError("this model's tokenizer has no chat template; use the text as it stands (--raw)")
    if chat is False or not has_template:
        if system is not None:
            raise InputError("a system text needs a chat template; write it into the prompt instead")
        return _make_prompt(tokenizer, text, [], _place_paragraphs(text), add_special_tokens=True)
    messages = _make_messages(text, system)
    rendered = render_messages(tokenizer, messages)
    contents = locate_contents(tokenizer, messages, rendered)
    start, stop = contents[-1]
    blocks = [document.shift(start) for document in _place_paragraphs(rendered[start:stop])]
    return _make_prompt(tokenizer, rendered, contents, blocks)


def parse_prompts(prompt: Any, count: int, **others: Any) -> list[Prompt] | None:
    """The prompts of `count` rows, from one prompt for all or a list with one each; None for None.

    Args:
        prompt: what the user passed as ``prompt=``.
        count: of rows.
        others: the arguments that a prompt replaces, by name.

    Raises:
        InputError: not prompts, too few or too many, or one of `others` is given as well.
    """
    if prompt is None:
        return None
    beside = [name for name, value in others.items() if value is not None]
    if beside:
        raise InputError(f"prompt= brings its own {beside[0]}; leave {beside[0]}= out")
    prompts = list(prompt) if isinstance(prompt, list | tuple) else [prompt] * count
    for one in prompts:
        if not isinstance(one, Prompt):
            raise InputError(f"prompt must be what build_prompt returned, got {shorten_value(one)}")
    if len(prompts) != count:
        raise InputError(f"{len(prompts)} prompts were given for {count} sequences; give one each, or one for all")
    return prompts


def encode_answer(tokenizer: Any, answer: str) -> Tensor:
    """(a,) int64: the tokens of an answer that directly follows the prompt.

    Raises:
        InputError: an empty answer.
    """
    clean("the answer", answer)
    return torch.tensor(tokenizer(answer, add_special_tokens=False)["input_ids"], dtype=torch.int64)


def _label_results(messages: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """The messages that hold a tool's result, each with a unique label."""
    tools: dict[str, Any] = {}
    names: dict[int, str] = {}
    for i, message in enumerate(messages):
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list | tuple) else ():
            if isinstance(call, Mapping) and isinstance(call.get("id"), str):
                function = call.get("function")
                tools[call["id"]] = (function if isinstance(function, Mapping) else call).get("name")
        if message["role"] in TOOL_ROLES and (message.get("content") or "").strip():
            name = message.get("name") or tools.get(str(message.get("tool_call_id")))
            names[i] = name if isinstance(name, str) else f"tool {len(names) + 1}"
    return _number_names(names)


def _label_messages(messages: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """All messages, each labelled by its role."""
    return _number_names({i: message["role"] for i, message in enumerate(messages)})


def _number_names(names: Mapping[int, str]) -> dict[int, str]:
    """Make names unique by a number: user, user 2."""
    counts: dict[str, int] = {}
    labels = {}
    for key, name in names.items():
        counts[name] = counts.get(name, 0) + 1
        labels[key] = name if counts[name] == 1 else f"{name} {counts[name]}"
    return labels


def _place_message(message: Mapping[str, Any], text: str, span: Span, label: str) -> PlacedDocument:
    """Make a document of a message; the template may have escaped its content as JSON or cut its beginning."""
    content, (start, stop) = message["content"], span
    shown = text[start:stop]
    if shown != content and shown == escape_json(content):
        boundaries = np.repeat(np.arange(len(content)), [len(escape_json(character)) for character in content])
        boundaries = np.append(boundaries, len(content))
    else:
        first = (len(content) if content.endswith(shown) else len(content.rstrip())) - len(shown)
        boundaries = np.arange(first, first + len(shown) + 1)
    metadata = {key: value for key, value in message.items() if key != "content"}
    source = Document(content, label, metadata)
    return PlacedDocument(start, stop, shown, label, source=source, body=start, boundaries=boundaries)


def _place_paragraphs(text: str) -> list[PlacedDocument]:
    """The blocks between blank lines; the first line is the label if it ends in a colon."""
    blocks: list[PlacedDocument] = []
    position, start, stop = 0, -1, 0
    for line in [*text.splitlines(keepends=True), "\n"]:
        if line.strip():
            start = position if start < 0 else start
            stop = position + len(line.rstrip())
        elif start >= 0:
            title, _, body = text[start:stop].partition("\n")
            label = title.rstrip()[:-1] if body and title.rstrip().endswith(":") else None
            placed = PlacedDocument.of_span(text, start, stop, label=label)
            source = Document(text[start:stop], label or "", body_start=placed.body - start)  # the title is part of it
            blocks.append(replace(placed, source=source, boundaries=placed.boundaries + source.body_start))
            start = -1
        position += len(line)
    return blocks


def _make_plain_prompt(
    tokenizer: Any, content: str, placed: list[PlacedDocument], question_span: Span, system: str | None
) -> Prompt:
    head = f"{clean('the system text', system)}\n\n" if system is not None else ""
    text = f"{head}{content}\nAnswer:"
    moved = [document.shift(len(head)) for document in placed]
    inside = (0, len(head) + len(content))
    prompt = _make_prompt(tokenizer, text, [inside], moved, add_special_tokens=True, note=NO_TEMPLATE)
    return replace(prompt, question=(question_span[0] + len(head), question_span[1] + len(head)))


def _make_messages(content: str, system: str | None) -> list[dict[str, str]]:
    """The user's turn, after the system's if there is one."""
    user = {"role": "user", "content": content}
    if system is None:
        return [user]
    clean("the system text", system, empty=True)
    return [{"role": "system", "content": system}, user]


def _make_prompt(
    tokenizer: Any,
    text: str,
    contents: Sequence[Span],
    documents: Sequence[PlacedDocument],
    *,
    add_special_tokens: bool = False,
    note: str | None = None,
) -> Prompt:
    """Tokenise `text`; inside `contents` control tokens are plain text."""
    ids, offsets = encode(tokenizer, text, contents, add_special_tokens=add_special_tokens)
    spans = tuple(replace(document, document=index, index=index) for index, document in enumerate(documents))
    return Prompt(text, ids, offsets, spans, note, tuple(contents), add_special_tokens)
