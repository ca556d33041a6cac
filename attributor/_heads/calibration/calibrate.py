"""calibrate() finds the retrieval heads of a model on generated prompts."""

from collections.abc import Sequence
from typing import Any

from attributor._checks import check_callable, shorten_value
from attributor._errors import InputError
from attributor._heads.calibration.choose import choose_heads
from attributor._heads.calibration.head_scores import HeadScores, Progress, score_heads
from attributor._heads.calibration.prompts import MOST, STANDARD, Case, make_cases
from attributor._heads.calibration.tokenized_case import tokenize_case
from attributor._heads.weights import Weights
from attributor._models import window_of
from attributor._record import check_decoder, check_recordable

__all__ = ["COUNT", "SEED", "calibrate", "measure_heads"]

COUNT, SEED = 24, 0
SIZES = (MOST, 6, 4, 2)  # documents a prompt, for windows that are too short for ten


def calibrate(
    model: Any, tokenizer: Any, *, count: int = COUNT, seed: int = SEED, progress: Progress | None = None
) -> Weights:
    """Find the heads of a model that look facts up in a prompt: what ``weights="retrieval"`` does once for a model.

    The model reads `count` generated prompts of about ten documents, in each of which we know the sentences that the
    answer comes from, because we planted them: a fact, two facts that lead to each other, a code to copy, a fact asked
    for in other words. A head's score is the average precision of the planted sentences under the attention that it
    pays to each sentence, half from the rows of the answer and half from those of the question; the four best heads get
    1/16 each. No data set and no labels.

        weights = attributor.calibrate(model, tokenizer)
        weights.save("heads.safetensors")

    Args:
        model: a transformers decoder-only model.
        tokenizer: its tokenizer.
        count: how many prompts; one forward pass each.
        seed: other prompts.
        progress: called with ("calibrate", done, total), total = count x layers.

    Raises:
        InputError: a model whose window is too short for any prompt, or a count below 1.
        UnsupportedModelError: attention that cannot be recorded.
    """
    return choose_heads(measure_heads(model, tokenizer, count=count, seed=seed, progress=progress), seed=seed)


def measure_heads(
    model: Any,
    tokenizer: Any,
    *,
    count: int = COUNT,
    seed: int = SEED,
    kinds: Sequence[str] = STANDARD,
    progress: Progress | None = None,
) -> HeadScores:
    """The scores of all heads on `count` cases, of as many documents as the model has room for."""
    check_decoder(model)
    check_recordable(model)
    check_callable("progress", progress)
    if not callable(tokenizer) or not hasattr(tokenizer, "decode"):
        raise InputError(f"tokenizer must be the model's tokenizer, got {shorten_value(tokenizer)}")
    cases = _make_fitting_cases(model, tokenizer, count, seed, kinds)
    return score_heads(model, tokenizer, cases, progress)


def _make_fitting_cases(model: Any, tokenizer: Any, count: int, seed: int, kinds: Sequence[str]) -> list[Case]:
    limit = window_of(model)
    longest = 0
    for documents in SIZES:
        cases = make_cases(count, seed, kinds=kinds, documents=documents)
        longest = max(tokenize_case(tokenizer, case).ids.numel() for case in cases)
        if limit is None or longest <= limit:
            return cases
    raise InputError(
        f"the model's window of {limit} tokens is too short for prompts that show which heads retrieve (the shortest "
        f"that there are need {longest}); use weights='mean' or your own (L, H) tensor"
    )
