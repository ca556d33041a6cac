"""Score every head of a model by how well it finds the sentences planted in generated prompts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor._heads.calibration.model_digest import weights_digest
from attributor._heads.calibration.prompts import Case
from attributor._heads.calibration.ranking import average_precision, expected_average_precision, planted_share
from attributor._heads.calibration.tokenized_case import TokenizedCase, tokenize_case
from attributor._models import model_facts
from attributor._record import (
    HeadWeights,
    RecordedAttention,
    check_decoder,
    check_ids,
    check_recordable,
    forward,
    record_attention,
)

__all__ = ["QUESTION", "HeadScores", "score_heads"]

QUESTION = 0.5  # the share of the question's rows: on HotPotQA's train rows 2/3 and 4/5 did as well, 1/4 did worse
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class HeadScores:
    """One number per case and head, from attention itself, without composition over layers.

    "ap" is the average precision of the planted sentences when sentences are ranked by a head's attention, summed over
    their tokens. "mass" is the planted sentences' share of its attention to all sentences. Numbers that do not apply to
    a case are NaN.

    Attributes:
        kinds: the kind of each of the C cases.
        ap, mass: (C, L, H) float32, from mixed rows as with `Weights.question` = QUESTION: half the mean of the rows
            that predict the answer and its end, half the mean of the question's rows.
        answer_ap, answer_mass: (C, L, H), from the rows that predict the answer and its end.
        question_ap, question_mass: (C, L, H), from the rows of the question's tokens.
        hop_ap, hop_mass: (C, 2, L, H), from the answer's rows, for each of two planted sentences, in the order in which
            they are needed; the other one is left out. Only for cases with two planted sentences.
        link_ap, link_mass: (C, L, H), from the rows of the later planted sentence to the earlier one, among the
            sentences before it. Only for cases with two planted sentences.
        link_from: (C,) int64, which planted sentence stands later: 1, 2, or 0 if there is only one.
        chance: (C,) float32, the expected ap of a random order.
        model: the name of the model.
        documents: in each prompt.
        tokens: of all prompts together.
        seconds: how long the scoring took.
    """

    kinds: tuple[str, ...]
    ap: Tensor
    mass: Tensor
    answer_ap: Tensor
    answer_mass: Tensor
    question_ap: Tensor
    question_mass: Tensor
    hop_ap: Tensor
    hop_mass: Tensor
    link_ap: Tensor
    link_mass: Tensor
    link_from: Tensor
    chance: Tensor
    model: str
    documents: int
    tokens: int
    seconds: float
    weights_digests: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(L, H) of the model."""
        return int(self.ap.shape[1]), int(self.ap.shape[2])

    def by_kind(self, name: str = "ap") -> dict[str, Tensor]:
        """One field's mean over the cases of each kind, {kind: (..., L, H)}; NaN if it applies to none of them."""
        values = getattr(self, name)
        which = {kind: [case for case, of in enumerate(self.kinds) if of == kind] for kind in dict.fromkeys(self.kinds)}
        return {kind: values[cases].nanmean(0) for kind, cases in which.items()}

    def mean(self, name: str = "ap", kinds: Sequence[str] | None = None) -> Tensor:
        """(..., L, H): the mean over kinds of the mean over their cases, so that every kind counts the same."""
        means = self.by_kind(name)
        if unknown := set(kinds or ()) - set(means):
            raise InputError(f"no cases of kind {', '.join(sorted(unknown))}; there are {', '.join(means)}")
        return torch.stack([values for kind, values in means.items() if kinds is None or kind in kinds]).nanmean(0)


def _tensor_names() -> list[str]:
    return [entry.name for entry in fields(HeadScores) if entry.type is Tensor]


def score_heads(model: Any, tokenizer: Any, cases: Sequence[Case], progress: Progress | None = None) -> HeadScores:
    """Read every case in one forward pass, and score every head by the sentences that it attends to.

    Args:
        model: a transformers decoder-only model of L layers with H heads.
        tokenizer: its tokenizer.
        cases: C >= 1 prompts with their answers.
        progress: called with ("calibrate", done, total), total = C L layers.

    Raises:
        InputError: no cases, or one that is longer than the model's window.
        UnsupportedModelError: attention that cannot be recorded.
    """
    check_decoder(model)
    check_recordable(model)
    if not cases:
        raise InputError("there are no cases to score the heads on")
    began, facts = time.perf_counter(), model_facts(model)
    tokenized_cases = [tokenize_case(tokenizer, case) for case in cases]
    for tokenized in tokenized_cases:
        check_ids(tokenized.ids, facts)
    L, scored = facts.layers, []
    for done, tokenized in enumerate(tokenized_cases):

        def report(_: str, layer: int, __: int, before: int = done * L) -> None:
            if progress is not None:
                progress("calibrate", before + layer, len(tokenized_cases) * L)

        scored.append(_score(tokenized, *_attention(model, tokenized, report)))
    return HeadScores(
        kinds=tuple(case.kind for case in cases),
        **{name: torch.stack([case[name] for case in scored]) for name in _tensor_names()},
        model=facts.name,
        weights_digests=tuple(dict.fromkeys(weights_digest(model, dtype) for dtype in (None, torch.float16))),
        documents=len(cases[0].documents),
        tokens=sum(tokenized.ids.numel() for tokenized in tokenized_cases),
        seconds=time.perf_counter() - began,
    )


def _attention(model: Any, tokenized: TokenizedCase, progress: Progress) -> tuple[Tensor, Tensor | None]:
    """Attention to each sentence: mean rows of answer and question, (2, L, H, S); of the later planted sentence."""
    L, H = model_facts(model).shape
    groups = [tokenized.answer, tokenized.question]
    if len(tokenized.planted) == 2:
        groups.append((tokenized.sentence_of == max(tokenized.planted)).nonzero()[:, 0])
    with record_attention(model, HeadWeights(torch.full((L, H), 1 / H)), progress=progress) as recording:
        forward(model, tokenized.ids[:-1])
    sums = torch.zeros(len(groups), L, H, tokenized.sentences + 1)  # the last column: tokens outside all sentences
    columns = tokenized.sentence_of[:-1].where(tokenized.sentence_of[:-1] >= 0, torch.tensor(tokenized.sentences))
    for layer in range(L):
        for head in range(H):
            sums[:, layer, head].index_add_(1, columns, _rows(recording, layer, head, H, groups))
    return sums[:2, ..., :-1], sums[2, ..., :-1] if len(groups) == 3 else None


def _rows(recording: RecordedAttention, layer: int, head: int, H: int, groups: list[Tensor]) -> Tensor:
    """(groups, N): one head's attention, the mean of the rows of each group."""
    alone = torch.zeros(H)
    alone[head] = 1
    rows = recording.attention(layer, alone, torch.cat(groups))
    return torch.stack([part.mean(0) for part in torch.split(rows, [group.numel() for group in groups])])


def _score(tokenized: TokenizedCase, sums: Tensor, later: Tensor | None) -> dict[str, Tensor]:
    """The entries of one case in `HeadScores`."""
    S, planted = tokenized.sentences, list(tokenized.planted)
    is_planted = _mark(S, planted)
    mixed = torch.cat([((1 - QUESTION) * sums[0] + QUESTION * sums[1])[None], sums])
    ap, mass = average_precision(mixed, is_planted), planted_share(mixed, is_planted)
    nothing = torch.full((2, *ap.shape[1:]), torch.nan)
    scored: dict[str, Tensor] = {}
    for i, rows in enumerate(("", "answer_", "question_")):
        scored |= {f"{rows}ap": ap[i], f"{rows}mass": mass[i]}
    scored |= {"hop_ap": nothing, "hop_mass": nothing, "link_ap": nothing[0], "link_mass": nothing[0]}
    scored |= {"link_from": torch.tensor(0), "chance": torch.tensor(expected_average_precision(S, len(planted)))}
    if later is None:
        return scored
    alone = []
    for hop, other in (planted, planted[::-1]):
        is_other = torch.arange(S) != other
        alone.append((sums[0][..., is_other], _mark(S, [hop])[is_other]))
    last = max(planted)
    before, first = later[..., :last], _mark(last, [min(planted)])
    return scored | {
        "hop_ap": torch.stack([average_precision(*pair) for pair in alone]),
        "hop_mass": torch.stack([planted_share(*pair) for pair in alone]),
        "link_ap": average_precision(before, first),
        "link_mass": planted_share(before, first),
        "link_from": torch.tensor(planted.index(last) + 1),
    }


def _mark(S: int, sentences: list[int]) -> Tensor:
    return torch.isin(torch.arange(S), torch.tensor(sentences))
