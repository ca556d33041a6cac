"""A small flow with text and documents, made by hand, for tests of the result."""

import re

import torch

from attributor._result.flow import Flow

HARBOUR = "The harbour was built in 1931. Dr. Hart ran it."
FERRY = "The ferry crosses twice a day. It stays in when the wind is strong."
TEXT = f"<|user|>\nHarbour:\n{HARBOUR}\n\nFerry:\n{FERRY}\n\nHow often does the ferry cross?<|end|>\n"
ANSWER = "Twice a day."


def spans(text: str) -> torch.Tensor:
    """Return character spans that cover the text; each word with the space before it is a token."""
    return torch.tensor([m.span() for m in re.finditer(r"<\|\w+\|>|\s?\w+|\s|[^\w\s]", text)])


def example(text: str = TEXT, answer: str = ANSWER, documents=(HARBOUR, FERRY), seed: int = 0, **changes) -> Flow:
    """Return a flow with random scores; each row plus missing mass and the share on the answer sums to 1."""
    offsets, answer_offsets = spans(text), spans(answer)
    k, o = len(offsets), len(answer_offsets)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(o, k, generator=generator, dtype=torch.float64) ** 4
    stays = torch.linspace(0, 0.25, o, dtype=torch.float64)
    scores = scores / scores.sum(1, keepdim=True) * (1 - stays - 0.01)[:, None]
    fields = {
        "scores": scores.float(),
        "ids": torch.arange(k + o),
        "missing_mass": torch.full((o,), 0.01),
        "text": text,
        "offsets": offsets,
        "answer": answer,
        "answer_offsets": answer_offsets,
        "meta": {"model": "tiny", "normalize": "true"},
    }
    flow = Flow(**(fields | changes))
    return flow.with_documents(documents) if documents else flow
