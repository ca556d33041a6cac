"""Build prompts as token ids with character spans, from documents and a question, chat messages, or text.

A `Prompt` has the spans of each document and of the question; a `TokenSequence` adds the answer.
"""

from attributor._prompt.build import (
    INSTRUCTION,
    Prompt,
    build_prompt,
    encode_answer,
    parse_prompts,
    prompt_from_messages,
    prompt_from_text,
)
from attributor._prompt.clean import clean
from attributor._prompt.remove_spans import remove_spans
from attributor._prompt.sequence import TokenSequence, span_tokens
from attributor._prompt.tokenize import encode

__all__ = [
    "INSTRUCTION",
    "Prompt",
    "TokenSequence",
    "build_prompt",
    "clean",
    "encode",
    "encode_answer",
    "parse_prompts",
    "prompt_from_messages",
    "prompt_from_text",
    "remove_spans",
    "span_tokens",
]
