"""Texts are split into tokens, sentences and documents with exact character offsets."""

import itertools
import random
import sys
import types
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from attributor._errors import InputError
from attributor._text.segments import (
    Segment,
    assign_tokens,
    find_documents,
    find_segments,
    split_sentences,
    token_offsets,
)

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260K"
MIXED = "Once upon a time — “far” away 😀, żółć naïve 👩‍👩‍👧 नमस्ते 東京.\n\tif x:  return  1\r\n"


@pytest.fixture(scope="module")
def byte_level():
    """A byte-level BPE tokenizer as in GPT-2, Llama 3 and Qwen, so small that most characters are several tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([MIXED] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner)


@pytest.fixture(scope="module")
def sentencepiece():
    """A Llama tokenizer with byte fallback, where decoding drops the first space."""
    if not STORIES.is_dir():
        pytest.skip(f"no model at {STORIES}")
    return AutoTokenizer.from_pretrained(STORIES)


def check_cover(text, offsets, count):
    """Check that offsets are ordered and cover the text without gaps."""
    assert offsets.shape == (count, 2)
    assert offsets.dtype == torch.int64
    reached = 0
    for start, stop in offsets.tolist():
        assert 0 <= start <= reached <= stop <= len(text)
        reached = stop
    assert reached == len(text)


def without_offsets(tokenizer):
    """Return the same tokenizer with only `decode`."""
    calls = []

    def decode(ids, **options):
        calls.append(len(ids))
        return tokenizer.decode(ids, **options)

    return types.SimpleNamespace(decode=decode, calls=calls)


def bytes_of(tokenizer, ids):
    """Return the bytes of each byte-level token, from the definition of that alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    table |= {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)}
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [
        token.encode() if i in special else bytes(table[c] for c in token) for i, token in zip(ids, tokens, strict=True)
    ]


def byte_spans(pieces, text):
    """Return the exact character spans of tokens whose bytes together are valid UTF-8."""
    character = [i for i, c in enumerate(text) for _ in c.encode()]
    spans, at = [], 0
    for piece in pieces:
        spans.append((character[at], character[at + len(piece) - 1] + 1))
        at += len(piece)
    assert at == len(character)
    return spans


@pytest.mark.parametrize("fast", [True, False])
def test_offsets_of_byte_level_tokens_are_exact(byte_level, fast):
    ids = byte_level(f"<|start|>user\n{MIXED}<|end|>\n {MIXED}")["input_ids"]
    tokenizer = byte_level if fast else without_offsets(byte_level)
    text, offsets = token_offsets(tokenizer, torch.tensor(ids))
    assert text == f"<|start|>user\n{MIXED}<|end|>\n {MIXED}"
    assert [tuple(span) for span in offsets.tolist()] == byte_spans(bytes_of(byte_level, ids), text)


def test_offsets_are_exact_for_ids_that_encoding_would_not_give(byte_level):
    ids = [i for piece in ("ab", "c", "時", " a", "b") for i in byte_level(piece)["input_ids"]]
    merged = byte_level("".join(("ab", "c", "時", " a", "b")))["input_ids"]
    ids = [*byte_level.convert_tokens_to_ids(["O", "n", "c", "e"]), *ids]
    assert byte_level(byte_level.decode(ids))["input_ids"] != ids != merged
    text, offsets = token_offsets(byte_level, ids)
    assert text == "Onceabc時 ab"
    assert [tuple(span) for span in offsets.tolist()] == byte_spans(bytes_of(byte_level, ids), text)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_offsets_of_any_ids_cover_the_text(byte_level, data):
    ids = data.draw(st.lists(st.integers(0, len(byte_level) - 1), max_size=40))
    text, offsets = token_offsets(byte_level, torch.tensor(ids, dtype=torch.long))
    if ids:
        check_cover(text, offsets, len(ids))
    pieces = bytes_of(byte_level, ids)
    assert text == b"".join(pieces).decode(errors="replace")
    for piece, (start, stop) in zip(pieces, offsets.tolist(), strict=True):
        if piece.isascii() and start < stop:  # tokens of complete characters keep them, also next to incomplete ones
            assert piece.decode() in text[start:stop]


def test_offsets_of_an_incomplete_character(byte_level):
    ids = byte_level("a時b")["input_ids"]
    assert len(ids) == 5
    text, offsets = token_offsets(byte_level, [*ids[:2], ids[4]])  # one byte of three
    assert text == "a�b"
    assert offsets.tolist() == [[0, 1], [1, 2], [2, 3]]
    text, offsets = token_offsets(byte_level, ids[:3])  # cut inside a character, as max_new_tokens may
    assert text == "a�"
    assert offsets.tolist() == [[0, 1], [1, 2], [1, 2]]


def test_offsets_of_sentencepiece_tokens_cover_the_text(sentencepiece):
    rng = random.Random(0)
    words = ["Once", "upon", "東京", "😀", "é", "ф", "\n", "— ", "a", "  "]
    for _ in range(30):
        ids = sentencepiece("".join(rng.choice(words) + rng.choice(["", " "]) for _ in range(30)))["input_ids"]
        text, offsets = token_offsets(sentencepiece, ids)
        check_cover(text, offsets, len(ids))
        for token, (start, stop) in zip(sentencepiece.convert_ids_to_tokens(ids), offsets.tolist(), strict=True):
            if token.startswith("<0x"):
                assert stop - start == 1
                assert int(token[3:5], 16) in text[start:stop].encode()
            else:
                assert token.replace("▁", " ").strip() == text[start:stop].strip()


def test_offsets_without_a_fast_tokenizer_take_linear_time(byte_level):
    counts = []
    for repeat in (20, 80):
        ids = byte_level(MIXED * repeat)["input_ids"]
        tokenizer = without_offsets(byte_level)
        token_offsets(tokenizer, ids)
        assert sorted(tokenizer.calls)[-2] <= 16  # all calls are short except the one for the whole text
        counts.append(sum(tokenizer.calls) / len(ids))
    assert counts[1] <= 1.1 * counts[0]


def test_offsets_are_exact_if_the_decoder_changes_spaces():
    words = ["Hello", ",", "world", "!"]

    def decode(ids, **_):
        return " ".join(words[i] for i in ids).replace(" ,", ",").replace(" !", "!")

    text, offsets = token_offsets(types.SimpleNamespace(decode=decode), [0, 1, 2, 3])
    assert text == "Hello, world!"
    assert [text[a:b].strip() for a, b in offsets.tolist()] == words
    check_cover(text, offsets, 4)


def test_offsets_of_no_ids_are_empty(byte_level):
    text, offsets = token_offsets(byte_level, torch.tensor([], dtype=torch.long))
    assert text == ""
    assert offsets.shape == (0, 2)


@pytest.mark.parametrize("ids", [torch.zeros(2, 3, dtype=torch.long), torch.zeros(3), torch.tensor([-5])])
def test_invalid_ids_are_refused(byte_level, ids):
    with pytest.raises(InputError, match="ids"):
        token_offsets(byte_level, ids)


def texts_of(segments):
    return [s.text for s in segments]


def test_sentences_are_split_at_their_ends():
    text = 'Dr. Hart left in 1931. "Was it dark?" she asked. It cost $3.50... No!'
    assert texts_of(split_sentences(text)) == [
        "Dr. Hart left in 1931.",
        '"Was it dark?" she asked.',
        "It cost $3.50...",
        "No!",
    ]


def test_sentences_stay_inside_documents_and_paragraphs():
    text = "Question one\n\n  First document without a stop\n \nand a part. Second document. Then more.  \nThe end"
    first = text.index("First")
    second = text.index("Second")
    last = text.index("The end")
    documents = find_documents(text, [(second, last), (first, second)])
    found = split_sentences(text, documents)
    assert texts_of(found) == ["First document without a stop", "and a part.", "Second document.", "Then more."]
    assert [s.document for s in found] == [1, 1, 0, 0]
    assert texts_of(split_sentences(text))[0] == "Question one"


def test_a_wrapped_line_does_not_end_a_sentence():
    wrapped = "This sentence is long enough to have been wrapped by\nan editor at some column."
    text = f"{wrapped} A list:\n- one\n- two\nTitle\nText."
    found = texts_of(split_sentences(text))
    assert found[0] == wrapped
    assert found[-2:] == ["Title", "Text."]


ODD = st.text(
    alphabet=st.one_of(
        st.sampled_from(list("abAB .!?\n\"'()1&ᓴ…\u3000\u200b\x00\r\t\x85\u2028“”。😀é\u0301-*•∯☃ȸ")),
        st.characters(codec="utf-8"),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(text=ODD)
def test_sentence_spans_are_exact_and_lose_nothing(text):
    found = split_sentences(text)
    reached = 0
    for s in found:
        assert s.text == text[s.start : s.stop] == s.text.strip() != ""
        assert not text[reached : s.start].strip()
        assert "\n\n" not in s.text
        reached = s.stop
    assert not text[reached:].strip()


def test_an_error_of_the_splitter_falls_back_to_lines(monkeypatch):
    def fail(_):
        raise IndexError("list index out of range")

    monkeypatch.setitem(
        sys.modules["attributor._text.segments"].__dict__["_SEGMENTERS"],
        "en",
        types.SimpleNamespace(segment_spans=fail),
    )
    assert texts_of(split_sentences("One. Two.\nThree.\n")) == ["One. Two.", "Three."]


def test_a_very_long_paragraph_is_split_in_blocks():
    text = "word " * 30_000 + "end."
    found = split_sentences(text)
    assert 1 < len(found) < 10
    assert "".join(s.text for s in found).replace(" ", "") == text.replace(" ", "")


def test_documents_are_found():
    text = "intro Alpha one. Beta two. outro"
    found = find_documents(text, ["Beta two.", (6, 16), Segment(27, 32, "outro", label="Outro")])
    assert found == (
        Segment(17, 26, "Beta two.", None, 0),
        Segment(6, 16, "Alpha one.", None, 1),
        Segment(27, 32, "outro", "Outro", 2),
    )


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["gamma"], "document 0 is not in the text: 'gamma'"),
        ([""], "document 0 is not in the text"),
        (["a"], "more than once, at characters 5 and 8"),
        ([(0, 5), (4, 8)], "document 0 .* and document 1 .* overlap"),
        ([(8, 9), (0, 9)], "document 1 .* and document 0 .* overlap"),
        ([(3, 3)], "document 0 spans characters 3 to 3"),
        ([(0, 1000)], "the text has"),
        ([(-2, 3)], "spans characters -2 to 3"),
        ([3], r"must be a Segment, a string or \(start, stop\), got 3"),
        ([(1, 2, 3)], "must be a Segment"),
        ([Segment(0, 3, "xyz")], "were made for another text"),
        ("Alpha", "must be a list"),
    ],
)
def test_invalid_documents_are_refused(documents, message):
    with pytest.raises(InputError, match=message):
        find_documents("Alph a, a", documents)


def test_segments_have_the_index_of_their_document():
    text = "one two three four"
    documents = find_documents(text, ["two three"])
    assert [s.document for s in find_segments(text, ["three", "four", "one two"], documents)] == [0, None, None]


def brute_force(offsets, segments):
    out = []
    for start, stop in offsets:
        stop = max(stop, start + 1)
        overlap = [min(stop, s.stop) - max(start, s.start) for s in segments]
        order = sorted(range(len(segments)), key=lambda i: (-overlap[i], segments[i].start))
        out.append(order[0] if order and overlap[order[0]] > 0 else -1)
    return out


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_tokens_belong_to_the_segment_with_the_largest_overlap(data):
    cuts = sorted(data.draw(st.sets(st.integers(0, 60), max_size=12)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    touching = list(itertools.pairwise(cuts))
    chosen = data.draw(st.permutations(data.draw(st.sampled_from([spans, touching]))))
    segments = [Segment(a, b, "") for a, b in chosen]
    starts = data.draw(st.lists(st.integers(0, 60), max_size=20))
    offsets = np.array([(a, a + data.draw(st.integers(0, 15))) for a in starts], dtype=np.int64).reshape(-1, 2)
    assert assign_tokens(offsets, segments).tolist() == brute_force(offsets.tolist(), segments)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("of_text", ["NFC", "NFD", "NFKC", "NFKD"])
def test_a_document_is_found_in_another_unicode_form(form, of_text):
    pieces = ["Le café à Zürich.", "한국어 \N{LATIN SMALL LIGATURE FI}n", "Å e\u0301e"]
    text = unicodedata.normalize(of_text, "\n\n".join(pieces))
    if "K" in form and "K" not in of_text:  # NFKC and NFKD turn the ligature of the text into two letters
        pieces[1] = "한국어"
        text = unicodedata.normalize(of_text, "\n\n".join(pieces))
    documents = find_documents(text, [unicodedata.normalize(form, piece) for piece in pieces])
    assert [d.text for d in documents] == [unicodedata.normalize(of_text, piece) for piece in pieces]
    assert all(text[d.start : d.stop] == d.text for d in documents)


def test_a_document_in_another_unicode_form_must_occur_once():
    text = "é and é"
    with pytest.raises(InputError, match="more than once, at characters 0 and 6"):
        find_documents(text, [unicodedata.normalize("NFD", "é")])
    assert find_documents(text, ["and"])[0].start == 2
