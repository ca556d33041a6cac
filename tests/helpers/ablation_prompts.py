"""A prompt of three documents and six sentences, and the log-probability of an answer to it."""

import torch
from families import tiny
from tiny_chat import tokenizer

from attributor._prompt.build import build_prompt, encode_answer
from attributor._text.segments import find_segments

TOKENIZER = tokenizer()
DOCUMENTS = [
    ("The harbour", ["The harbour was built.", "Boats leave before dawn.", "It has a wall."]),
    ("The light", ["The light stands on the cliff.", "The keeper writes the weather into a book."]),
    ("Food", ["The island has many steps."]),
]

QUESTION = "Who keeps the light?"


def make_prompt(tokens=TOKENIZER, kept=None, titles=True):
    """Build a prompt of the kept sentences by hand."""
    kept = [True] * 6 if kept is None else list(kept)
    documents, at = [], 0
    for title, sentences in DOCUMENTS:
        text = " ".join(s for s, keep in zip(sentences, kept[at:], strict=False) if keep)
        at += len(sentences)
        documents.append((title if titles else "", text))
    return build_prompt(tokens, [d if titles else d[1] for d in documents if d[1]], QUESTION)


def sentences_of(prompt):
    return find_segments(prompt.text, [s for _, sentences in DOCUMENTS for s in sentences], prompt.documents)


def make_model(family):
    """Return a tiny model for the tokenizer's vocabulary. Its windows are shorter than the prompt."""
    windows = {"sliding_window": 60} if family in ("mistral", "gemma2") else {}
    return tiny(family, vocab_size=len(TOKENIZER), max_position_embeddings=1024, n_positions=1024, **windows)


ANSWER = encode_answer(TOKENIZER, "The keeper")


def answer_log_prob(model, ids, **options):
    """Return log p of the answer, one sequence at a time, from all logits."""
    with torch.no_grad():
        logits = model(torch.cat([ids, ANSWER])[None], **options).logits[0].double()
    k = len(ids)
    return float(logits[k - 1 : -1].log_softmax(-1).gather(1, ANSWER[:, None]).sum())
