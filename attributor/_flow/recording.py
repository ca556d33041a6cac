"""`Recording`: compute the flow of the tokens that a recorded model read and wrote."""

import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attributor import _record
from attributor._effects import Effects, EffectsTask, copy_context, decode_prompt, effects_of, locate_segments
from attributor._errors import InputError, RecordingError
from attributor._flow.build_flow import FlowTask, build_flow, build_meta
from attributor._flow.start_rows import question_tokens
from attributor._flow.sweep import SweepOptions, sweep
from attributor._heads import is_derived, resolve_for
from attributor._models import ModelFacts
from attributor._prompt import TokenSequence, parse_prompts
from attributor._record import HeadWeights, RecordedAttention, Recorder, RowSumCheck, Span, model_state
from attributor._result import Flow

__all__ = ["Recording", "sweep_to_flow"]


class Recording(RecordedAttention):
    """What `record` stored. Call `flow` after the model has run. It does not keep the model alive."""

    def __init__(
        self,
        recorder: Recorder,
        facts: ModelFacts,
        model: "weakref.ref[Any] | None" = None,
        derived_in: Hashable = None,
    ) -> None:
        """`model` is needed for weights that are derived from a model; None: it is no longer in memory."""
        super().__init__(recorder, facts, derived_in)
        self._model = model

    def __repr__(self) -> str:
        """How much was recorded."""
        length, layers = self.history.length, len(self.tapes)
        return f"Recording({length} positions, {layers} layers with chosen heads, {self.nbytes / 1e6:.1f} MB)"

    @torch.no_grad()
    def flow(
        self,
        out: Any = None,
        *,
        prompt_length: int | Sequence[int] | None = None,
        weights: Any = None,
        normalize: bool = True,
        tokenizer: Any = None,
        documents: Any = None,
        question: Any = None,
        prompt: Any = None,
        impl: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "Flow | Any":
        """The flow of the recorded tokens, without another forward pass.

        Args:
            out: what ``generate`` returned: (n,), (1, n) or (B, n) ids of prompt and answer, or its output object.
                They are checked against the ids that the model read. None: the result of the last ``generate``, else
                all ids that were read.
            prompt_length: tokens before the answer, padding not counted, one for all rows or one per row. Default: the
                prompt of the last ``generate``; if the model was called once without it, all tokens that were read.
            weights: other weights than those passed to `record`, for heads that were recorded. So one forward pass
                gives the flows of several weights. "output_norm" and "retrieval" need the model in memory.
            normalize: as in `attributor.flow`.
            tokenizer: as in `attributor.flow`.
            documents: as in `attributor.flow`.
            question: as in `attributor.flow`.
            prompt: as in `attributor.flow`.
            impl: as in `attributor.flow`.
            progress: as in `attributor.flow`.

        Returns:
            A Flow for one sequence, a list of flows for a batch of several.

        Raises:
            InputError: arguments that cannot be used.
            RecordingError: nothing was recorded, or the ids are not those that were read (beam search reorders them).
            UnsupportedModelError: attention that was not recorded, naming the layers.
            NumericsError: NaN or infinity in the model.
        """
        self.check()
        _record.check_tokenizer(tokenizer, documents)
        batch = self.history.batch
        prompts = parse_prompts(prompt, batch, prompt_length=prompt_length, documents=documents, question=question)
        ids, single = self._parse_ids(self._last_ids() if out is None else out, batch)
        lengths = _record.parse_prompt_lengths(prompt_length, batch)
        if prompts is not None:
            lengths = [len(one.ids) for one in prompts]
        located = [self._locate(ids[index], index, k) for index, k in enumerate(lengths)]
        if prompts is None:
            sequences = TokenSequence.of_batch([(tokens, k) for tokens, _, k in located], tokenizer, documents)
        else:
            sequences = [one.sequence(tokens, tokenizer) for one, (tokens, *_) in zip(prompts, located, strict=True)]
        chosen = self._resolve_weights(weights, tokenizer)
        questions = question_tokens(question, sequences, chosen, prompts)
        options = SweepOptions(normalize=normalize, impl=impl, progress=progress)
        flows = []
        for index, (sequence, (_, start, _), tokens) in enumerate(zip(sequences, located, questions, strict=True)):
            span = Span(index, start, start + sequence.read_ids.numel())
            flows.append(sweep_to_flow(self, FlowTask(sequence, chosen, tokens, options), span))
        return flows[0] if single else flows

    @torch.no_grad()
    def flow_of(
        self,
        sequence: TokenSequence,
        *,
        weights: Any = None,
        question: Any = None,
        options: SweepOptions | None = None,
        index: int = 0,
    ) -> Flow:
        """As `flow`, for one sequence whose text, spans and answer are known already.

        Args:
            sequence: what the model read, without padding; the flow has its text and documents.
            weights: as in `flow`.
            question: as in `attributor.flow`.
            options: of the sweep.
            index: which sequence of the recorded batch.

        Raises:
            RecordingError, UnsupportedModelError, NumericsError, InputError: as `flow`.
        """
        self.check()
        chosen = self._resolve_weights(weights, None)
        (tokens,) = question_tokens([question], [sequence], chosen)
        start = self.span(index).start
        self.check_read(sequence.ids, index, start)
        if sequence.prompt_length == sequence.ids.numel():
            self._check_last_was_read(start + sequence.ids.numel())
        span = Span(index, start, start + sequence.read_ids.numel())
        return sweep_to_flow(self, FlowTask(sequence, chosen, tokens, options or SweepOptions()), span)

    def effects(
        self,
        segments: Sequence[Any],
        out: Any = None,
        *,
        prompt_length: int | None = None,
        answer: tuple[int, int] | None = None,
        tokenizer: Any = None,
        prompt: Any = None,
        impl: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Effects:
        """Removal effects of each segment, computed with the keys and values in the cache of ``generate``.

        As `attributor.effects` with ``rows="suffix"``: only the tokens after the last segment are read again, forward
        and backward. The whole prompt is read again if the cache has dropped or rounded keys (layers with a window,
        quantised caches). Call it inside the ``with record(...)`` block; afterwards the cache is gone.

        Args:
            segments: as in `attributor.effects`.
            out: as in `flow`, one sequence.
            prompt_length: as in `flow`.
            answer: as in `attributor.effects`.
            tokenizer: for `Segment`s of the prompt's text.
            prompt: as in `flow`.
            impl: as in `attributor.effects`.
            progress: as in `attributor.effects`.

        Raises:
            RecordingError: outside of the with block, a batch, or ids that are not those that were read.
            InputError, UnsupportedModelError, NumericsError: as `attributor.effects`.
        """
        self.check()
        model = None if self._model is None else self._model()
        if model is None or self._recorder.cache is None:
            raise RecordingError(
                "effects of a recording use the model's cache, which it holds inside the with block alone: call "
                "recording.effects() there, after generate(); later attributor.effects(model, ids, ...) reads the "
                "prompt again"
            )
        if self.history.batch != 1:
            raise RecordingError(
                f"effects follow one sequence, and the recording holds a batch of {self.history.batch}; generate one "
                "at a time, or call attributor.effects for each row"
            )
        parse_prompts(prompt, 1, prompt_length=prompt_length)
        ids, _ = self._parse_ids(self._last_ids() if out is None else out, 1)
        tokens, start, k = self._locate(ids[0], 0, prompt_length if prompt is None else len(prompt.ids))
        if start:
            raise RecordingError("effects of a recording need a prompt without padding; pass the ids without it")
        readable = prompt or decode_prompt(tokenizer, tokens, k)
        task = EffectsTask(
            ids=tokens,
            prompt_length=k,
            segments=locate_segments(segments, readable, k),
            answer=answer,
            rows="suffix",
            impl=impl,
            progress=progress,
        )
        if self._recorder.state is not None and model_state(model) != self._recorder.state:
            raise RecordingError(
                "the model's parameters or adapters have changed since the prompt was read, so its cache is of another "
                "model; call attributor.effects(model, ids, ...)"
            )
        context = copy_context(self._recorder.cache, task.start())
        # the cache holds images and sounds; without it, only their placeholder ids would be read again
        _record.check_no_media(tokens if context is None else tokens[task.start() :], self.facts)
        if context is not None and not self._holds(context, task.start()):
            raise RecordingError(
                "the model's cache holds other keys than those that were recorded (was it cropped and used again?); "
                "call attributor.effects(model, ids, ...)"
            )
        with self._recorder.calls.pause():
            return effects_of(model, replace(task, cache=context))

    def _holds(self, context: Any, length: int) -> bool:
        """Whether a cache of the first positions holds the recorded keys; True if no layer was recorded."""
        if not self.tapes:
            return True
        layer = max(self.tapes)
        keys = context.layers[layer].keys
        return bool(self.tapes[layer].holds_keys(keys, _record.causal(1, 1, length, 0, length, keys.device)))

    def _resolve_weights(self, weights: Any, tokenizer: Any) -> HeadWeights:
        """Resolve the weights of a flow and check that the heads that they need were recorded."""
        if weights is None:
            return self.weights
        model = None if self._model is None else self._model()
        resolved = resolve_for(self.facts, weights, model, tokenizer)
        if is_derived(weights) and model is not None and model_state(model) != self._recorder.state:
            raise RecordingError(
                f"weights {resolved.name!r} are derived from the model, whose parameters or adapters have changed "
                "since it was recorded; pass numbers, or record again"
            )
        unrecorded = ((resolved.heads > 0) & (self.weights.heads == 0)).nonzero().tolist()
        if unrecorded:
            layer, head = unrecorded[0]
            raise RecordingError(
                f"weights {resolved.name!r} need {len(unrecorded)} heads that were not recorded, (layer {layer}, "
                f"head {head}) for one; give record() weights that choose every head needed later"
            )
        if resolved.value_norms and not self.weights.value_norms:
            raise RecordingError("value norms were not recorded; give record() weights with value_norms=True")
        return resolved

    def _last_ids(self) -> Tensor:
        """(B, n) int64: what the last generate() returned, else all ids that were read.

        Raises:
            RecordingError: the model was given embeddings.
        """
        if self.history.written is not None:
            return self.history.written
        rows = [self.history.tokens(index) for index in range(self.history.batch)]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            raise RecordingError("the model was given embeddings and no ids; pass the ids that they stand for")
        return torch.stack(known)

    def _parse_ids(self, out: Any, batch: int) -> tuple[Tensor, bool]:
        """(B, n) int64 on the CPU, and whether it is one sequence."""
        try:
            ids = torch.as_tensor(getattr(out, "sequences", out)).detach()
            if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
                raise TypeError(f"ids are whole numbers, got {ids.dtype}")
            ids = ids.to("cpu", torch.int64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"pass what generate() returned: ids of shape (n,), (1, n) or (B, n); {error}") from error
        ids = ids[None] if ids.ndim == 1 else ids
        if ids.ndim != 2 or ids.shape[0] != batch or not ids.numel():
            raise RecordingError(
                f"the recording holds a batch of {batch} sequences, got ids {tuple(ids.shape)}; beam search cannot be "
                "recorded (its beams change places)"
            )
        return ids, ids.shape[0] == 1

    def _check_last_was_read(self, stop: int) -> None:
        if self.history.length < stop:
            raise RecordingError("the last token was not read by the model, so what feeds the next one is not known")

    def _locate(self, ids: Tensor, sequence: int, prompt_length: int | None) -> tuple[Tensor, int, int]:
        """The real ids of one sequence, where they start in the cache, and how many of them are the prompt."""
        history = self.history
        start, high = history.real_bounds(sequence)
        self.check_read(ids, sequence)
        total = ids.numel()
        if high < min(total, history.length):  # padding on the right
            total = high
            ids = ids[:total]
        prompt = self._answer_start(total) if prompt_length is None else start + prompt_length
        if not start < prompt <= total:
            raise InputError(
                f"prompt_length must be 1 to {total - start}, the tokens of the sequence, got {prompt - start}"
            )
        if prompt == total:
            self._check_last_was_read(total)
        stop = prompt + _record.answer_length(ids[prompt:], history.generate_call, padded=history.batch > 1)
        return ids[start:stop], start, prompt - start

    def _answer_start(self, total: int) -> int:
        """Where the answer starts, in cache positions: after generate()'s prompt, or after all that one call read."""
        history = self.history
        if history.generate_call is not None and history.generate_call.prompt_length is not None:
            return history.generate_call.prompt_length
        if len(history.calls) == 1:
            return total
        raise InputError(
            f"the model was called {len(history.calls)} times, not by generate(), so where its answer begins is not "
            "known: pass prompt_length"
        )


def sweep_to_flow(
    recorded: RecordedAttention, task: FlowTask, span: Span, seconds: dict[str, str] | None = None
) -> Flow:
    """Run the sweep for one sequence of a recording and build its Flow.

    Args:
        recorded: a recording on which `check` was called.
        task: the inputs of the flow.
        span: the sequence's positions in the cache, up to the last one that is needed.
        seconds: of the stages before, for `meta`.

    Raises:
        NumericsError: NaN or infinity, or rows that should sum to 1 and do not.
    """
    began = time.perf_counter()
    nbytes = recorded.nbytes
    options = task.options
    if len(recorded.history.calls) > 1:  # the model used a cache
        starts = task.start_rows().any(0).nonzero()[:, 0]
        check = RowSumCheck.of(starts, task.sequence.prompt_length, recorded.sinks)
        options = replace(options, row_sums=check)
    rows, implementation = sweep(recorded.tapes, task.weights, task.start_rows(), span, options)
    meta = build_meta(recorded.facts, task, implementation) | (seconds or {})
    meta |= {"seconds_sweep": f"{time.perf_counter() - began:.3f}", "recorded_bytes": str(nbytes)}
    leaks = bool(recorded.sinks) or task.weights.sink == "drop"
    return build_flow(task, rows, meta, exact_sums=None if leaks else recorded.facts.dtype)
