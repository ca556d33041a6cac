"""A recording that is asked for its flow."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attributor import _inputs
from attributor._errors import InputError, NumericsError, RecordingError, UnsupportedModelError
from attributor._head_weights import HeadWeights, Transform
from attributor._outcome import complete, describe, draft
from attributor._record import layer_names
from attributor._recorder import Recorder
from attributor._resolve import resolve
from attributor._result import Flow
from attributor._start import question_tokens, start_rows
from attributor._sweep import attention_rows, sweep
from attributor._tape import Layer

__all__ = ["Recording"]


class Recording:
    """What `record` kept: call `flow` once the model has read and written."""

    def __init__(self, model: Any, weights: HeadWeights, recorder: Recorder) -> None:
        self._model = model
        self._weights = weights
        self._recorder = recorder

    @property
    def nbytes(self) -> int:
        """Bytes of query, key and log-sum-exp that the recording keeps alive."""
        return sum(tape.nbytes() for tape in self._recorder.tapes.values())

    def __repr__(self) -> str:
        """How much was recorded."""
        length, layers = self._recorder.history.length, len(self._recorder.tapes)
        return f"Recording({length} positions, {layers} layers with chosen heads, {self.nbytes / 1e6:.1f} MB)"

    @torch.no_grad()
    def flow(
        self,
        out: Any,
        *,
        prompt_length: int | Sequence[int] | None = None,
        weights: Any = None,
        normalize: bool = True,
        tokenizer: Any = None,
        documents: Sequence[Any] | None = None,
        question: Any = None,
        impl: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "Flow | Any":
        """The flow of what was recorded, without another forward pass.

        Args:
            out: what ``generate`` returned: (n,), (1, n) or (B, n) ids of prompt and answer, or its output object.
                Checked against what the model really read.
            prompt_length: tokens before the answer, padding not counted, one for all rows or one a row; default: what
                the last ``generate`` was given, or all that was read where the model was called once by itself.
            weights: other weights than those that `record` was given, of the heads that they chose; so one reading
                gives the flows of several.
            normalize: as in `attributor.flow`.
            tokenizer: as in `attributor.flow`.
            documents: as in `attributor.flow`.
            question: as in `attributor.flow`.
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
        check(self._model, self._recorder)
        _inputs.check_tokenizer(tokenizer, documents)
        followed = self._weights if weights is None else self._other(weights, tokenizer)
        batch = self._recorder.history.batch
        ids, single = self._ids(out, batch)
        found = [self._sequence(ids[row], row, k) for row, k in enumerate(_inputs.per_row(prompt_length, batch))]
        drafts = [draft(sequence, k, tokenizer, documents) for sequence, _, k in found]
        asked = question_tokens(question, drafts, followed)
        flows = []
        for row, ((sequence, start, k), drafted, tokens) in enumerate(zip(found, drafts, asked, strict=True)):
            # the last token of an answer is written but never read
            stop = start + sequence.numel() - (1 if k < sequence.numel() else 0)
            flows.append(
                swept(
                    self._model,
                    self._recorder,
                    followed,
                    drafted,
                    row=row,
                    start=start,
                    stop=stop,
                    question=tokens,
                    normalize=normalize,
                    impl=impl,
                    progress=progress,
                )
            )
        return flows[0] if single else flows

    @torch.no_grad()
    def attention(
        self,
        layer: int,
        heads: Tensor,
        positions: Tensor,
        *,
        power: float = 1.0,
        value_norms: bool = False,
        sink: str = "keep",
        row: int = 0,
        impl: str | None = None,
    ) -> Tensor:
        """Some rows of one layer's attention, as the model's answer tokens paid it: nothing is composed over layers.

            Y[i, j] = sum_h heads[h] P[h, i, j]^power c_h[j]

        Args:
            layer: counted from 0.
            heads: (H,) float >= 0, not all 0, of the heads that were recorded.
            positions: (O,) int64, the queries, counted in the real positions of the sequence.
            power: as in `Weights`.
            value_norms: as in `Weights`.
            sink: as in `Weights`.
            row: which sequence of the recorded batch.
            impl: as in `attributor.flow`.

        Returns:
            (O, N) float32 on the CPU, N the real positions that were read.

        Raises:
            InputError: heads or positions of another shape or out of range.
            RecordingError: the layer or a head of it was not recorded.
        """
        check(self._model, self._recorder)
        start, stop = self._recorder.history.real(row)
        H = self._recorder.weights.shape[1]
        if heads.shape != (H,) or not bool((heads >= 0).all()) or not bool(heads.any()):
            raise InputError(f"heads must be ({H},) numbers >= 0, not all 0, got {tuple(heads.shape)} {heads.tolist()}")
        if positions.ndim != 1 or not bool(((positions >= 0) & (positions < stop - start)).all()):
            raise InputError(f"positions must be (O,), each 0 to {stop - start - 1}, got {positions.tolist()}")
        tape = self._recorder.tapes.get(layer)
        chosen = heads.nonzero()[:, 0].tolist()
        if tape is None or not set(chosen) <= set(tape.heads):
            raise RecordingError(f"heads {chosen} of layer {layer} were not all recorded")
        if value_norms and not tape.log_value:
            raise RecordingError("value norms were not recorded; give record() weights with value_norms=True")
        transform = Transform(power, value_norms, sink)
        return attention_rows(tape.layer(row, start, stop, chosen), heads[chosen], positions, transform, impl)

    def layer(self, index: int, *, row: int = 0) -> Layer:
        """What was recorded of one layer, for methods that are built on `flow_step` itself.

        Args:
            index: counted from 0.
            row: which sequence of the recorded batch.

        Returns:
            Query, key and log-sum-exp of the heads that were recorded, at the real positions of the sequence.

        Raises:
            RecordingError: nothing of this layer was recorded.
        """
        check(self._model, self._recorder)
        if index not in self._recorder.tapes:
            raise RecordingError(
                f"layer {index} was not recorded; there are {sorted(self._recorder.tapes)}, those with chosen heads"
            )
        return self._recorder.tapes[index].layer(row, *self._recorder.history.real(row))

    def _other(self, weights: Any, tokenizer: Any) -> HeadWeights:
        """Weights that were not recorded with, once it is known that what they need was recorded."""
        found = resolve(weights, self._model, tokenizer)
        lost = ((found.heads > 0) & (self._recorder.weights == 0)).nonzero().tolist()
        if lost:
            layer, head = lost[0]
            raise RecordingError(
                f"weights {found.name!r} need {len(lost)} heads that were not recorded, (layer {layer}, head {head}) "
                "for one; give record() weights that choose every head needed later"
            )
        if found.value_norms and not self._recorder.values:
            raise RecordingError("value norms were not recorded; give record() weights with value_norms=True")
        return found

    def _ids(self, out: Any, batch: int) -> tuple[Tensor, bool]:
        """(B, n) int64 on the CPU, and whether it is one sequence."""
        try:
            ids = torch.as_tensor(getattr(out, "sequences", out)).detach().to("cpu", torch.int64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"pass what generate() returned: ids of shape (n,), (1, n) or (B, n); {error}") from error
        ids = ids[None] if ids.ndim == 1 else ids
        if ids.ndim != 2 or ids.shape[0] != batch or not ids.numel():
            raise RecordingError(
                f"the recording holds a batch of {batch} sequences, got ids {tuple(ids.shape)}; beam search cannot be "
                "recorded (its beams change places)"
            )
        return ids, ids.shape[0] == 1

    def _sequence(self, ids: Tensor, row: int, prompt_length: int | None) -> tuple[Tensor, int, int]:
        """The real ids of one row, where they start in the cache, and how many of them are the prompt."""
        history = self._recorder.history
        start, high = history.real(row)
        read = history.tokens(row)
        if read is None:
            raise RecordingError("the model was given embeddings instead of ids, so the answer cannot be checked")
        total = ids.numel()
        # what is behind the last token but one is never needed: it may be a draft that was dropped
        if history.length < total - 1 or not torch.equal(read[: total - 1], ids[: total - 1]):
            raise RecordingError(
                f"the ids given ({total}) are not what the model read ({history.length}) in this recording: pass what "
                "generate() returned, prompt included, before another sequence is read; beam search cannot be recorded"
            )
        if high < min(total, history.length):  # padding on the right
            total = high
            ids = ids[:total]
        prompt = self._answer_begins(total) if prompt_length is None else start + prompt_length
        if not start < prompt <= total:
            raise InputError(
                f"prompt_length must be 1 to {total - start}, the tokens of the sequence, got {prompt - start}"
            )
        if prompt == total and history.length < total:
            raise RecordingError("the last token was not read by the model, so what feeds the next one is not known")
        stop = prompt + _inputs.answer_length(ids[prompt:], history.turn)
        return ids[start:stop], start, prompt - start

    def _answer_begins(self, total: int) -> int:
        """In cache positions: what generate() was given, else all that one call read."""
        history = self._recorder.history
        if history.turn is not None:
            return history.turn.prompt
        if len(history.calls) == 1:
            return total
        raise InputError(
            f"the model was called {len(history.calls)} times, not by generate(), so where its answer begins is not "
            "known: pass prompt_length"
        )


def check(model: Any, recorder: Recorder) -> None:
    """Whether what was recorded is all of a sequence, in numbers.

    Raises:
        RecordingError: nothing was recorded.
        UnsupportedModelError: some layers did not pass through the recorder.
        NumericsError: logits that are no numbers.
    """
    if not recorder.history.calls:
        raise RecordingError("nothing was recorded: run model.generate(...) or model(...) inside the with block")
    missing = recorder.missing()
    if missing:
        raise UnsupportedModelError(
            f"{type(model).__name__}: the attention of {layer_names(missing)} did not pass through the recorder "
            "(a hybrid, or attention code of its own), so a flow without them would be wrong"
        )
    if not bool(recorder.finite):
        raise NumericsError(
            "the model's logits are not finite; do its weights hold NaN, or did 16-bit arithmetic overflow?"
        )


def swept(
    model: Any,
    recorder: Recorder,
    weights: HeadWeights,
    drafted: Flow,
    *,
    row: int,
    start: int,
    stop: int,
    question: Tensor | None,
    normalize: bool,
    impl: str | None,
    progress: Callable[[str, int, int], None] | None,
    release: bool = False,
    seconds: dict[str, str] | None = None,
) -> Flow:
    """One sequence of a recording as a Flow; `release` lets go of every layer once it is used."""
    began = time.perf_counter()
    kept = sum(tape.nbytes() for tape in recorder.tapes.values())
    rows, used = sweep(
        recorder.tapes,
        weights,
        start_rows(torch.arange(drafted.prompt_length - 1, stop - start), stop - start, question, weights.question),
        row=row,
        start=start,
        stop=stop,
        normalize=normalize,
        impl=impl,
        release=release,
        progress=progress,
    )
    meta = describe(model, weights, used, normalize, question) | (seconds or {})
    meta |= {"seconds_sweep": f"{time.perf_counter() - began:.3f}", "recorded_bytes": str(kept)}
    leaks = recorder.sink or weights.sink == "drop"
    return complete(drafted, rows, weights, normalize, meta, exact_sums=None if leaks else model.dtype)
