"""Locate the sentences, documents and tokens of a text as character spans; split and normalise texts to compare them.

Imports no torch, so that `attributor explore` starts without it.
"""

from attributor._text.message_content import join_content
from attributor._text.normalise import normalise_answer
from attributor._text.offsets import answer_offsets, control_tokens, token_offsets
from attributor._text.segment_sums import sum_tokens, token_runs
from attributor._text.segments import (
    Segment,
    SegmentLike,
    assign_tokens,
    find_documents,
    find_segment,
    find_segments,
    is_segment_list,
    split_sentences,
)
from attributor._text.words import has_unspaced_words, split_words

__all__ = [
    "Segment",
    "SegmentLike",
    "answer_offsets",
    "assign_tokens",
    "control_tokens",
    "find_documents",
    "find_segment",
    "find_segments",
    "has_unspaced_words",
    "is_segment_list",
    "join_content",
    "normalise_answer",
    "split_sentences",
    "split_words",
    "sum_tokens",
    "token_offsets",
    "token_runs",
]
