"""flow() and record() compute a Flow from a model and its tokens."""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from attributor import _record
from attributor._errors import UnsupportedModelError
from attributor._flow import memory
from attributor._flow.build_flow import FlowTask, build_flow, build_meta
from attributor._flow.eager import eager_flow
from attributor._flow.recording import Recording, sweep_to_flow
from attributor._flow.start_rows import question_tokens
from attributor._flow.sweep import SweepOptions
from attributor._heads import is_derived, resolve
from attributor._models import ModelFacts, model_facts
from attributor._prompt import TokenSequence, parse_prompts
from attributor._record import (
    HeadWeights,
    Offload,
    Recorder,
    Span,
    attach_recorder,
    check_decoder,
    check_recordable,
    forward,
    model_state,
    record_attention,
)
from attributor._result import Flow

__all__ = ["Recording", "flow", "flow_of", "record"]

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
    documents: Any = None,
    question: Any = None,
    prompt: Any = None,
    impl: str | None = None,
    keep: str = "auto",
    progress: Progress | None = None,
) -> "Flow | Any":
    """Follow the model's attention from an answer back to its prompt: one forward pass and one sweep.

    This is the plain definition, the mean of all heads, unless `weights` says otherwise. To find the sources of an
    answer, use ``weights="retrieval"`` and `Flow.cite`, or `attributor.ask`.

        X_l = (X_(l-1) + sum_h w[l, h] P[l, h] X_(l-1)) / (1 + sum_h w[l, h]),  X_0 = I

    with P the attention weights. The answer x prompt slice of X_L is returned. This is attention rollout (Abnar and
    Zuidema 2020), computed from the right, for the requested rows alone. Answer token t is predicted at position t - 1,
    so its scores are row t - 1. Time is one plain forward pass and about one more Q K^T per chosen head; memory is O(o
    n).

    Args:
        model: a transformers decoder-only model, on any devices. Its state is restored, also after an error.
        ids: (n,), (1, n) or (B, n) integer tensor or list: the prompt and its answer; or the prompt alone, to attribute
            the next token.
        prompt_length: tokens of the prompt, padding not counted; one for all rows or one per row; None: all of `ids`.
        attention_mask: (B, n), 1 where `ids` is a token and 0 where it is padding, on either side.
        weights: "mean" (1/H each, the definition), "output_norm", "retrieval" (retrieval heads, found once for a model
            without shipped ones), a `Weights`, an (L, H) tensor or a file.
        normalize: False multiplies the scores by prod(1 + sum w), 2^L for the mean.
        tokenizer: adds texts and character offsets to the result. Finding retrieval heads needs it; None loads the
            model's.
        documents: the prompt's documents, in any form that `attributor.ask` takes, or their (start, stop) characters.
            The text of each must occur in the prompt as often as in the list. For a batch of B > 1 rows the same for
            all rows, or a list of B lists, one per row. Needs `tokenizer`.
        question: the question in the prompt, for weights that start a share of each row on it (`Weights.question`;
            "retrieval" does). It is text that occurs once or its (start, stop) characters, both with `tokenizer`, or a
            tensor of token positions; for a batch, a list with one per sequence. Without it every row begins at its
            answer token alone.
        prompt: what `attributor.build_prompt` returned, or a list with one per sequence; it replaces `prompt_length`,
            `documents` and `question`. The answer's text needs `tokenizer`.
        impl: an implementation of flow_step; "reference" also accepts models that cannot be recorded, and reads their
            eager attention matrices.
        keep: where queries and keys of a model on a GPU are stored until the sweep. "device": on the GPU. "host": in
            main memory; each layer is copied back while the layer above is computed. "auto": on the GPU, but layers
            move to main memory as far as the rest of the recording would not fit.
        progress: called with (stage, done, total), stages "prompt" and "sweep", once per layer; before them
            "calibrate", if retrieval heads have to be found.

    Returns:
        A Flow for (n,) and (1, n), a list of B flows for (B, n).

    Raises:
        InputError: ids, lengths or options that cannot be used.
        UnsupportedModelError: attention that cannot be recorded, naming the layers.
        NumericsError: NaN or infinity in the model.
        DeviceMemoryError: memory ran out; the message says what was needed. The model can be used as before.
    """
    Offload(keep)  # reject an unknown name before anything is computed
    facts, recordable = _check_model(model, impl)
    unpadded, single = _record.parse_sequences(ids, attention_mask)
    prompts = parse_prompts(prompt, len(unpadded), prompt_length=prompt_length, documents=documents, question=question)
    lengths = _record.resolve_prompt_lengths(prompt_length, unpadded)
    for tokens in unpadded:
        _record.check_ids(tokens, facts)
        _record.check_no_media(tokens, facts)
    _record.check_tokenizer(tokenizer, documents)
    if prompts is None:
        sequences = TokenSequence.of_batch(list(zip(unpadded, lengths, strict=True)), tokenizer, documents)
    else:
        sequences = [one.sequence(tokens, tokenizer) for one, tokens in zip(prompts, unpadded, strict=True)]
    resolved = resolve(weights, model, tokenizer, progress=progress)
    questions = question_tokens(question, sequences, resolved, prompts)
    options = SweepOptions(normalize=normalize, impl=impl, progress=progress)
    flows = [
        _follow(model, facts, FlowTask(sequence, resolved, tokens, options), recordable, keep)
        for sequence, tokens in zip(sequences, questions, strict=True)
    ]
    return flows[0] if single else flows


def flow_of(
    model: Any,
    sequence: TokenSequence,
    weights: HeadWeights,
    *,
    question: Any = None,
    options: SweepOptions | None = None,
    keep: str = "auto",
) -> Flow:
    """As `flow`, for one sequence whose text and spans are known already.

    Args:
        model: as in `flow`.
        sequence: prompt and answer, without padding; the flow has its text and documents.
        weights: resolved for this model.
        question: as in `flow`.
        options: of the sweep.
        keep: as in `flow`.

    Raises:
        InputError, UnsupportedModelError, NumericsError, DeviceMemoryError: as `flow`.
    """
    options = options or SweepOptions()
    Offload(keep)
    facts, recordable = _check_model(model, options.impl)
    _record.check_ids(sequence.ids, facts)
    _record.check_no_media(sequence.ids, facts)
    (tokens,) = question_tokens([question], [sequence], weights)
    return _follow(model, facts, FlowTask(sequence, weights, tokens, options), recordable, keep)


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

    Dynamic and static caches, batches padded on either side, and several turns on one cache are recorded. A call that
    starts at position 0 begins a new sequence. The model runs in eval mode inside and is as before afterwards.

    Args:
        model: a transformers decoder-only model.
        weights: as in `flow`; heads with weight 0 are not recorded.
        tokenizer: only for "retrieval" on a model whose heads have to be found; None loads it from where the model was
            loaded from.
        keep: as in `flow`, for what is read at once: the prompt, or chunks of 512 tokens and more. Queries and keys of
            written tokens stay on the device.
        progress: called with ("prompt", layers done, layers) while the model reads.

    Raises:
        UnsupportedModelError: attention that cannot be recorded.
        RecordingError: the model is being recorded already.
    """
    check_decoder(model)
    check_recordable(model)
    resolved = resolve(weights, model, tokenizer, progress=progress)
    derived_in = model_state(model) if is_derived(weights) else None
    recorder = Recorder(resolved, progress=progress, keep=keep)
    with attach_recorder(model, recorder):
        yield Recording(recorder, model_facts(model), weakref.ref(model), derived_in)
    recorder.progress = None  # the recording may outlive the progress display


def _check_model(model: Any, impl: str | None) -> tuple[ModelFacts, bool]:
    """The model's facts, and whether its attention can be recorded; if not, only `impl="reference"` is accepted.

    Raises:
        InputError: not a transformers model.
        UnsupportedModelError: attention that cannot be followed.
    """
    check_decoder(model)
    try:
        check_recordable(model)
    except UnsupportedModelError:
        if impl != "reference":
            raise
        return model_facts(model), False
    return model_facts(model), True


def _follow(model: Any, facts: ModelFacts, task: FlowTask, recordable: bool, keep: str) -> Flow:
    """Compute one sequence's flow; if memory runs out, raise an error that says what would fit."""
    try:
        if recordable:
            return _follow_recorded(model, task, keep)
        return _follow_eager(model, facts, task)
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
    # after the except block, where the error's traceback no longer holds the recording
    raise memory.out_of_memory_error(model, task.weights.heads, task.sequence.read_ids.numel(), keep)


def _follow_recorded(model: Any, task: FlowTask, keep: str) -> Flow:
    """One forward pass and one sweep."""
    gpus = memory.gpus_of(model)
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    began = time.perf_counter()
    ids, progress = task.sequence.read_ids, task.options.progress
    with record_attention(model, task.weights, progress=progress, keep=keep) as recorded:
        forward(model, ids)
    recorded.check()
    recorded.check_read(torch.cat([ids, ids[-1:]]))  # the appended token is not compared
    seconds = {"seconds_forward": f"{time.perf_counter() - began:.3f}"}
    releasing_task = replace(task, options=replace(task.options, release=True))
    result = sweep_to_flow(recorded, releasing_task, Span(0, 0, ids.numel()), seconds)
    if gpus:
        result = replace(result, meta={**result.meta, "peak_bytes": str(memory.peak_memory(gpus))})
    return result


def _follow_eager(model: Any, facts: ModelFacts, task: FlowTask) -> Flow:
    """Through attention matrices, for a model that cannot be recorded."""
    ids, normalize = task.sequence.read_ids, task.options.normalize
    rows = eager_flow(model, ids, task.weights, task.start_rows(), normalize=normalize)
    meta = build_meta(facts, task, "reference (eager attentions)")
    return build_flow(task, rows, meta, exact_sums=None)
