"""The recorded attention of a whole model, one `Tape` per layer. It can be read without the model."""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attributor._checks import check_index, shorten_value
from attributor._errors import InputError, NumericsError, RecordingError, UnsupportedModelError
from attributor._models import ModelFacts, accepts_argument, device_of, model_facts
from attributor._record.attach import attach_recorder
from attributor._record.attention_interface import layer_names
from attributor._record.calls import Calls
from attributor._record.head_weights import HeadWeights, Transform
from attributor._record.history import History
from attributor._record.layer_recurrence import attention_rows
from attributor._record.recorder import Recorder
from attributor._record.tape import Layer, Span, Tape

__all__ = ["RecordedAttention", "forward", "record_attention"]


class RecordedAttention:
    """The attention of one model on one batch of sequences.

    Attributes:
        facts: of the model.
        weights: those that chose the recorded heads.
    """

    def __init__(self, recorder: Recorder, facts: ModelFacts, derived_in: Hashable = None) -> None:
        """`derived_in`: the state of the model when the weights were derived from it; None: they were not derived."""
        self.facts = facts
        self.weights = recorder.weights
        self._recorder = recorder
        self._derived_in = derived_in

    @property
    def history(self) -> History:
        """The ids and padding that the model has read."""
        return self._recorder.history

    @property
    def tapes(self) -> dict[int, Tape]:
        """The recorded layers, those with a chosen head, by number."""
        return self._recorder.tapes

    @property
    def sinks(self) -> dict[int, Tensor]:
        """(H,) per layer, learned logits that take a share of the attention."""
        return self._recorder.sinks

    @property
    def nbytes(self) -> int:
        """Bytes of query, key and log-sum-exp that the recording keeps alive."""
        return sum(tape.nbytes() for tape in self.tapes.values())

    def span(self, sequence: int = 0) -> Span:
        """The unpadded part of one sequence of the recorded batch."""
        return Span(sequence, *self.history.real_bounds(sequence))

    def check(self) -> None:
        """Check that the recording holds every layer of a sequence, in finite numbers.

        Raises:
            RecordingError: nothing was recorded.
            UnsupportedModelError: some layers did not pass through the recorder.
            RecordingError: the cache returned other keys than those that were recorded.
            NumericsError: logits that are not finite.
        """
        if not self.history.calls:
            raise RecordingError(
                "nothing was recorded: run model.generate(...) or model(...) inside the with block"
                + ", in the thread that calls the model first" * self._recorder.calls.ignored
            )
        missing = self._recorder.missing_layers()
        if missing:
            raise UnsupportedModelError(
                f"{self.facts.kind}: the attention of {layer_names(missing)} did not pass through the recorder "
                "(a hybrid, or attention code of its own), so a flow without them would be wrong"
            )
        if self._derived_in is not None and self._derived_in != self._recorder.state:
            raise RecordingError(
                f"weights {self.weights.name!r} were derived from the model before its parameters or adapters changed; "
                "change them before record()"
            )
        if bool(self._recorder.rounded):
            raise RecordingError(
                "the cache handed the model other keys than those that it had been given: it is quantised, or it was "
                "reordered, as beam search does; use a cache that keeps what it gets, and no beams"
            )
        if not bool(self._recorder.finite):
            raise NumericsError(
                "the model's logits are not finite; do its weights hold NaN, or did 16-bit arithmetic overflow?"
            )

    def check_read(self, ids: Tensor, sequence: int = 0, start: int = 0) -> None:
        """Check that the model read the ids (n,) from cache position `start` on; the last id is not compared.

        Raises:
            RecordingError: it did not, or the model was given other embeddings than those of its ids.
        """
        history, stop = self.history, start + ids.numel()
        read = history.tokens(sequence)
        if read is None:
            raise RecordingError(
                "the model was given embeddings that are not those of as many ids (inputs_embeds, a soft prompt), so "
                "which tokens it read is not known; give it input_ids"
            )
        # positions from the last id on are not needed; they may hold a dropped draft
        if history.length < stop - 1 or not torch.equal(read[start : stop - 1], ids[:-1]):
            raise RecordingError(
                f"the ids given ({stop}) are not what the model read ({history.length}) in this recording: pass what "
                "generate() returned, prompt included, before another sequence is read; beam search cannot be recorded"
                + ("; nor are calls of other threads, or generate() inside generate()" * self._recorder.calls.ignored)
            )
        varying = history.find_varying(sequence)[start : stop - 1].nonzero()
        if varying.numel():
            raise RecordingError(
                f"the model's embedding gives an id other vectors at other positions (position {int(varying[0])}), "
                "as a soft prompt in the place of tokens does, or a hook that moves what was looked up, so a share of "
                "a token would be wrong; record the model without it. An embedding that looks up each id for itself, "
                "an adapter (LoRA) on it included, can be followed"
            )
        other = history.find_replaced(sequence)[start : stop - 1]
        other &= ~torch.isin(ids[:-1], torch.tensor(self.facts.media_ids, dtype=torch.int64))
        if bool(other.any()):
            place = int(other.nonzero()[0])
            raise RecordingError(
                f"at position {place} the model was given another embedding than that of id {int(ids[place])} "
                f"({int(other.sum())} such positions), so a share of that token would be wrong; give it input_ids"
            )

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
        """Attention of one layer for selected queries, summed over heads; no composition across layers.

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
        self.check()
        span = self.span(check_index("row", row, self.history.batch))
        H = self.weights.shape[1]
        heads = _parse_heads(heads, H)
        positions = _parse_positions(positions, span.length)
        transform = Transform(power, value_norms, sink)
        tape = self.tapes.get(check_index("layer", layer))
        chosen = heads.nonzero()[:, 0].tolist()
        if tape is None or not set(chosen) <= set(tape.heads):
            raise RecordingError(f"heads {chosen} of layer {layer} were not all recorded")
        if value_norms and not tape.log_value:
            raise RecordingError("value norms were not recorded; give record() weights with value_norms=True")
        return attention_rows(tape.layer(span, chosen), heads[chosen], positions, transform, impl)

    def layer(self, index: int, *, row: int = 0) -> Layer:
        """The recorded tensors of one layer, for methods that call `flow_step` themselves.

        Args:
            index: counted from 0.
            row: which sequence of the recorded batch.

        Returns:
            Query, key and log-sum-exp of the heads that were recorded, at the real positions of the sequence.

        Raises:
            RecordingError: nothing of this layer was recorded.
        """
        self.check()
        check_index("index", index)
        check_index("row", row, self.history.batch)
        if index not in self.tapes:
            raise RecordingError(
                f"layer {index} was not recorded; there are {sorted(self.tapes)}, those with chosen heads"
            )
        return self.tapes[index].layer(self.span(row))


def _parse_heads(heads: Any, count: int) -> Tensor:
    """(H,) float, numbers >= 0 that are not all 0.

    Raises:
        InputError: anything else.
    """
    if isinstance(heads, Tensor) and heads.shape == (count,) and heads.layout == torch.strided and not heads.is_meta:
        numbers = heads.detach() if heads.is_floating_point() or heads.is_complex() else heads.detach().float()
        if not numbers.is_complex() and bool((numbers >= 0).all()) and bool(numbers.isfinite().all() & numbers.any()):
            return numbers
    raise InputError(f"heads must be ({count},) numbers >= 0, not all 0, a tensor, got {shorten_value(heads)}")


def _parse_positions(positions: Any, length: int) -> Tensor:
    """(O,) int64, each from 0 to length - 1.

    Raises:
        InputError: anything else.
    """
    if isinstance(positions, Tensor) and positions.layout == torch.strided and not positions.is_meta:
        integers = not (positions.is_floating_point() or positions.is_complex() or positions.dtype == torch.bool)
        if integers and positions.ndim == 1 and bool(((positions >= 0) & (positions < length)).all()):
            return positions.detach().long()
    raise InputError(
        f"positions must be (O,), each 0 to {length - 1}, a tensor of whole numbers, got {shorten_value(positions)}"
    )


@contextmanager
def record_attention(
    model: Any,
    weights: HeadWeights,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    keep: str = "auto",
) -> Iterator[RecordedAttention]:
    """Record the heads that `weights` choose while the model reads inside the with block.

    Args:
        model: a transformers decoder-only model that can be recorded.
        weights: of the model.
        progress: called with ("prompt", layers done, layers) while the model reads.
        keep: as in `attributor.flow`.

    Raises:
        RecordingError: the model is being recorded already.
    """
    recorder = Recorder(weights, progress=progress, keep=keep, calls=Calls(threading.current_thread()))
    with attach_recorder(model, recorder):
        yield RecordedAttention(recorder, model_facts(model))


@torch.no_grad()
def forward(model: Any, ids: Tensor) -> None:
    """Run the model on the ids (N,); it computes one row of logits, enough to check that they are finite."""
    options = {"logits_to_keep": 1} if accepts_argument(model.forward, "logits_to_keep") else {}
    model(input_ids=ids[None].to(device_of(model)), use_cache=False, **options)
