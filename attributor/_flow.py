"""flow() and record(): a model and its tokens in, a Flow out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attributor import _inputs, _memory
from attributor._errors import UnsupportedModelError
from attributor._head_weights import HeadWeights
from attributor._materialised import materialised_flow
from attributor._outcome import complete, describe, draft
from attributor._park import Park
from attributor._record import attached, check_decoder, check_recordable, text_config
from attributor._recorder import Recorder
from attributor._recording import Recording, check, swept
from attributor._resolve import resolve
from attributor._result import Flow
from attributor._start import question_tokens, start_rows

__all__ = ["Recording", "flow", "forward", "record"]

Progress = Callable[[str, int, int], None]


def flow(
    model: Any,
    ids: Any,
    *,
    prompt_length: int | Sequence[int] | None = None,
    attention_mask: Any = None,
    weights: Any = "mean",
    normalize: bool = True,
    tokenizer: Any = None,
    documents: Sequence[Any] | None = None,
    question: Any = None,
    impl: str | None = None,
    keep: str = "auto",
    progress: Progress | None = None,
) -> "Flow | Any":
    """Follow the model's attention from an answer back to its prompt: one forward pass and one sweep.

        X_l = (X_(l-1) + sum_h w[l, h] P[l, h] X_(l-1)) / (1 + sum_h w[l, h]),  X_0 = I

    with P the attention weights; the answer x prompt slice of X_L is returned (attention rollout, Abnar and Zuidema
    2020, computed from the right for the asked rows alone). Answer token t is predicted at position t - 1, so its
    scores are row t - 1. Time is one plain forward and about one more Q K^T a chosen head; memory is O(o n).

    Args:
        model: a transformers decoder-only model, on any devices. It comes back as it was, also after an error.
        ids: (n,), (1, n) or (B, n) integer tensor or list: the prompt and its answer; or the prompt alone, for what
            feeds the next token.
        prompt_length: tokens of the prompt, padding not counted; one for all rows or one a row; None: all of `ids`.
        attention_mask: (B, n), 1 where `ids` is a token and 0 where it is padding, on either side.
        weights: "mean" (1/H each, the definition), "output_norm", "retrieval" (the heads that look facts up; found once
            for a model that none are shipped for), a `Weights`, an (L, H) tensor or a file.
        normalize: False multiplies the scores by prod(1 + sum w), 2^L for the mean.
        tokenizer: adds texts and character offsets to the result; finding retrieval heads needs it, or loads it.
        documents: the prompt's documents, as strings that occur in it or (start, stop) characters; needs `tokenizer`.
        question: the question in the prompt, for weights that take a share from it (`Weights.question`; "retrieval"
            does): text that occurs once or its (start, stop) characters, both with `tokenizer`, or a tensor of token
            positions; a list of one a sequence for a batch. Without it every row begins at its answer token alone.
        impl: an implementation of flow_step; "reference" also takes models that cannot be recorded, through their
            eager attention matrices.
        keep: where queries and keys of a model on a GPU wait for the sweep: "device"; "host", main memory, from which
            they come back while the layer above is computed; "auto" moves layers there as far as the rest of the
            recording would not fit.
        progress: called with (stage, done, total), stages "prompt" and "sweep", once a layer; before them
            "calibrate", where retrieval heads have to be found.

    Returns:
        A Flow for (n,) and (1, n), a list of B flows for (B, n).

    Raises:
        InputError: ids, lengths or options that cannot be used.
        UnsupportedModelError: attention that cannot be recorded, naming the layers.
        NumericsError: NaN or infinity in the model.
        DeviceMemoryError: memory ran out; the message says what was needed. The model can be used as before.
    """
    Park(keep)  # an unknown name is told now
    check_decoder(model)
    recordable = _recordable(model, impl)
    sequences, single = _inputs.sequences(ids, attention_mask)
    lengths = _inputs.prompt_lengths(prompt_length, sequences)
    for sequence in sequences:
        _inputs.check_ids(sequence, model.get_input_embeddings().num_embeddings, text_config(model))
    _inputs.check_tokenizer(tokenizer, documents)
    resolved = resolve(weights, model, tokenizer, progress=progress)
    drafts = [draft(sequence, k, tokenizer, documents) for sequence, k in zip(sequences, lengths, strict=True)]
    follow = _follow if recordable else _follow_materialised
    asked = question_tokens(question, drafts, resolved)
    options = {"normalize": normalize, "impl": impl, "keep": keep, "progress": progress}
    flows = [
        _within_memory(follow, model, drafted, resolved, question=tokens, **options)
        for drafted, tokens in zip(drafts, asked, strict=True)
    ]
    return flows[0] if single else flows


@contextmanager
def record(
    model: Any,
    *,
    weights: Any = "mean",
    tokenizer: Any = None,
    keep: str = "auto",
    progress: Progress | None = None,
) -> Iterator[Recording]:
    """Record a model while it generates, for the flow without a second forward pass::

        with attributor.record(model) as recording:
            out = model.generate(ids, max_new_tokens=64)
        flow = recording.flow(out, tokenizer=tokenizer)

    Dynamic and static caches, batches padded on either side, and several turns on one cache are recorded; a call that
    starts at position 0 begins a new sequence. The model runs in eval mode inside and is as before afterwards.

    Args:
        model: a transformers decoder-only model.
        weights: as in `flow`; heads with weight 0 are not recorded.
        tokenizer: only for "retrieval" on a model whose heads have to be found; None loads it from where the model was
            loaded from.
        keep: as in `flow`, for what is read at once: the prompt, or chunks of 512 tokens and more. Written tokens stay.
        progress: called with ("prompt", layers done, layers) while the model reads.

    Raises:
        UnsupportedModelError: attention that cannot be recorded.
        RecordingError: the model is being recorded already.
    """
    check_decoder(model)
    check_recordable(model)
    resolved = resolve(weights, model, tokenizer, progress=progress)
    recorder = _recorder(resolved, progress, keep)
    with attached(model, recorder):
        yield Recording(model, resolved, recorder)


def _recordable(model: Any, impl: str | None) -> bool:
    """Whether the model can be recorded; where it cannot, only the reference goes on, with eager attention matrices."""
    try:
        check_recordable(model)
    except UnsupportedModelError:
        if impl != "reference":
            raise
        return False
    return True


def _recorder(weights: HeadWeights, progress: Progress | None, keep: str) -> Recorder:
    return Recorder(weights.heads, values=weights.value_norms, progress=progress, keep=keep)


def _within_memory(
    follow: Callable[..., Flow], model: Any, drafted: Flow, weights: HeadWeights, **options: Any
) -> Flow:
    """One sequence's flow, or what would fit."""
    try:
        return follow(model, drafted, weights, **options)
    except (RuntimeError, MemoryError) as error:
        if not _memory.is_full(error):
            raise
    # out here, where the error's traceback no longer holds what was recorded
    raise _memory.too_small(model, weights.heads, _read(drafted).numel(), options["keep"])


def _read(drafted: Flow) -> Tensor:
    """(N,) what the model has to read: nothing is predicted from the last token of an answer."""
    return drafted.ids[:-1] if drafted.prompt_length < drafted.ids.numel() else drafted.ids


def _follow(
    model: Any,
    drafted: Flow,
    weights: HeadWeights,
    *,
    question: Tensor | None,
    normalize: bool,
    impl: str | None,
    keep: str,
    progress: Progress | None,
) -> Flow:
    """One forward pass and one sweep."""
    gpus = _memory.devices(model)
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    began = time.perf_counter()
    ids, recorder = _read(drafted), _recorder(weights, progress, keep)
    with attached(model, recorder):
        forward(model, ids)
    check(model, recorder)
    found = swept(
        model,
        recorder,
        weights,
        drafted,
        row=0,
        start=0,
        stop=ids.numel(),
        question=question,
        normalize=normalize,
        impl=impl,
        progress=progress,
        release=True,
        seconds={"seconds_forward": f"{time.perf_counter() - began:.3f}"},
    )
    if gpus:
        found = replace(found, meta={**found.meta, "peak_bytes": str(_memory.peak(gpus))})
    return found


def _follow_materialised(
    model: Any,
    drafted: Flow,
    weights: HeadWeights,
    *,
    question: Tensor | None,
    normalize: bool,
    impl: str | None,
    keep: str,
    progress: Progress | None,
) -> Flow:
    """Through attention matrices, for a model that cannot be recorded."""
    ids = _read(drafted)
    positions = torch.arange(drafted.prompt_length - 1, ids.numel())
    start = start_rows(positions, ids.numel(), question, weights.question)
    rows = materialised_flow(model, ids, weights, start, normalize=normalize)
    meta = describe(model, weights, "reference (eager attentions)", normalize, question)
    return complete(drafted, rows, weights, normalize, meta, exact_sums=None)


@torch.no_grad()
def forward(model: Any, ids: Tensor) -> None:
    """Read the ids (N,), computing one row of logits: enough to see that they are numbers."""
    options = {"logits_to_keep": 1} if _inputs.accepts(model.forward, "logits_to_keep") else {}
    model(input_ids=ids[None].to(_inputs.device_of(model)), use_cache=False, **options)
