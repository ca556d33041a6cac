"""A tiny model's reading of a prompt of 41 tokens with six segments in two documents, for tests of methods."""

import torch
from families import VOCABULARY

from attributor._prompt.build import Prompt
from attributor._text.segments import Segment
from attributor.methods import Reading, force_answer, union

K, A = 41, 6
HEADS = torch.zeros(4, 4)
HEADS[1, 2], HEADS[3, 0], HEADS[3, 3] = 0.5, 1.5, 0.25


def prompt_of(seed=1, k=K):
    """Return a prompt: token i is "tii ", segments have four tokens from the third on, in two documents."""
    ids = torch.randint(3, VOCABULARY, (k,), generator=torch.Generator().manual_seed(seed))
    text = "".join(f"t{i:02d} " for i in range(k))
    offsets = torch.tensor([(4 * i, 4 * i + 4) for i in range(k)])
    documents = (Segment(8, 72, text[8:72], "x", 0), Segment(76, 140, text[76:140], "y", 1))
    return Prompt(text, ids, offsets, documents)


def segments_of(prompt):
    starts = [*range(12, 60, 16), *range(80, 128, 16)]
    return [Segment(a, a + 15, prompt.text[a : a + 15]) for a in starts]


def reading_of(model, tokenizer, prompt, answer, segments, weights, **more):
    """Read prompt and answer once and record the heads that the weights select; None records no head."""
    answer_pass = force_answer(model, prompt.ids, answer, weights, log_probs=True)
    return Reading(model, tokenizer, prompt, answer_pass, segments, **more)


def read(model, methods, **more):
    prompt = prompt_of()
    answer = torch.randint(3, VOCABULARY, (A,), generator=torch.Generator().manual_seed(2))
    return reading_of(model, None, prompt, answer, segments_of(prompt), union(methods, model), **more)
