"""The recorder: it computes each layer's attention while the model runs and stores the selected heads."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attributor._errors import UnsupportedModelError
from attributor._record.arena import Arena
from attributor._record.attention import attention
from attributor._record.calls import Calls
from attributor._record.head_weights import HeadWeights
from attributor._record.history import GenerateCall, History, ReadIds
from attributor._record.mask import Mask
from attributor._record.offload import Offload
from attributor._record.projection import head_gram
from attributor._record.tape import Tape

__all__ = ["Recorder"]

LONG = 512  # queries after a cache that are moved: a chunk of a prompt, not a written token


class Recorder:
    """Records one model's attention on one batch of sequences.

    Attributes:
        weights: heads with weight 0 are not recorded; value norms are recorded only if the weights need them.
        tapes: by layer, only layers with a chosen head.
        history: the ids and padding that were read.
        calls: which calls of the model are recorded.
        finite: 0-dim bool, whether all logits so far were numbers.
        rounded: 0-dim bool, whether a cache returned other keys than those that were recorded.
        order: the layers as they ran, the same in each forward pass of the sequence.
        sinks: (H,) per layer, learned logits in the softmax's denominator.
        state: the `model_state` when the last prompt was read.
        cache: the model's cache of keys and values, as the last pass left it, while the recorder is attached.
    """

    follows_masks = False  # other calls of the model may run in between

    def __init__(
        self,
        weights: HeadWeights,
        *,
        progress: Callable[[str, int, int], None] | None = None,
        keep: str = "auto",
        calls: Calls | None = None,
    ) -> None:
        self.weights = weights
        self.progress = progress
        self.chosen = [weights.chosen_heads(layer) for layer in range(weights.shape[0])]
        self.tapes: dict[int, Tape] = {}
        self.history = History()
        self.arena = Arena()
        self.offload = Offload(keep)
        self.finite = torch.tensor(True)
        self.generate_call: GenerateCall | None = None  # while generate() runs
        self.calls = calls or Calls()
        self.order: list[int] = []
        self.rounded = torch.tensor(False)
        self.sinks: dict[int, Tensor] = {}
        self._read: Callable[[int], ReadIds | None] | None = None  # this forward pass
        self._ran: list[int] = []  # layers of this forward pass that have run
        self._grams: dict[int, Tensor] = {}
        self.state: Hashable = None
        self.cache: Any = None
        self._probe_layer = max((layer for layer, heads in enumerate(self.chosen) if heads), default=-1)

    def missing_layers(self) -> list[int]:
        """Layers whose attention did not pass through the recorder."""
        return [layer for layer in range(self.weights.shape[0]) if layer not in self.order]

    @property
    def in_layers(self) -> bool:
        """Whether a layer of this forward pass has attended."""
        return bool(self._ran)

    def note_state(self, state: Hashable) -> None:
        """Set the current `model_state`; drop what was derived from another state."""
        if state != self.state:
            self.state = state
            self._grams.clear()

    @contextmanager
    def forward_pass(self, read: Callable[[int], ReadIds | None]) -> Iterator[None]:
        """Run a forward pass of the decoder.

        Args:
            read: returns the ids that the pass reads, None if they are unknown. It is called with the cache position at
                which the pass starts, when its first layer attends.

        Raises:
            UnsupportedModelError: its layers differ from those of the previous pass.
        """
        self._read, self._ran = read, []
        try:
            yield
            if not self.order:
                self.order = self._ran
            elif self._ran and self._ran != self.order:
                raise UnsupportedModelError(
                    f"a forward pass ran the layers {_brief(self._ran)}, the one before {_brief(self.order)}; only "
                    "models that run the same layers in the same order in every pass can be recorded"
                )
        finally:
            self._read, self._ran = None, []

    def check_logits(self, last: Tensor) -> None:
        """Check the last row of logits. The result is read later, to avoid a synchronisation with the device."""
        self.finite = self.finite.to(last.device) & torch.isfinite(last.detach()).all()

    def note_written(self, sequences: Any) -> None:
        """Store the ids (B, n) that generate() returned, if it read the recorded batch of B sequences."""
        is_ids = isinstance(sequences, Tensor) and sequences.ndim == 2 and not sequences.is_floating_point()
        if is_ids and self.history.calls and sequences.shape[0] == self.history.batch:
            self.history.written = sequences.detach()

    def _begin(self, mask: Mask) -> None:
        """Handle the first layer of a forward pass; a pass that starts at position 0 begins a new sequence."""
        if mask.start == 0:
            self.tapes.clear()
            self.sinks.clear()
            self.order = []
            self.history = History()
            self.arena = Arena()
            self.finite, self.rounded = torch.tensor(True), torch.tensor(False)
        if self.generate_call is not None:
            if self.generate_call.prompt_length is None:
                length = mask.start + mask.first.shape[1]
                self.generate_call = replace(self.generate_call, prompt_length=length)
            self.history.generate_call = self.generate_call
        self.history.add(mask, self._read(mask.start) if self._read is not None else None)

    def layer(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask,
        *,
        scale: float,
        softcap: float | None,
        sink: Tensor | None,
    ) -> Tensor:
        """Compute one layer's attention output (B, H, Q, Dv) and record what the flow needs."""
        index = int(module.layer_idx)  # type: ignore[arg-type]
        (L, H), heads = self.weights.shape, query.shape[1]
        if index >= L or heads != H:
            raise UnsupportedModelError(
                f"layer {index} has {heads} heads; the configuration promises {L} layers of {H} heads each"
            )
        if index in self._ran:
            raise UnsupportedModelError(
                f"layer {index} attends twice in one forward pass (a layer that is repeated, or two with the same "
                "layer_idx); a recording holds each layer once"
            )
        if not self._ran:
            self._begin(mask)
        self._ran.append(index)
        if sink is not None:
            self.sinks[index] = sink.detach()
        output, lse = attention(query, key, value, mask, scale=scale, softcap=softcap, sink=sink)
        chosen = self.chosen[index]
        if chosen:
            tape = self.tapes.get(index)
            if tape is None:
                tape = self.tapes[index] = Tape(tuple(chosen), heads // key.shape[1], scale, softcap, self.arena)
            if index == self._probe_layer and mask.start > 0:
                self.rounded = self.rounded.to(key.device) | ~tape.holds_keys(key, mask)
            norms = self._log_norms(module, index, chosen, value, mask) if self.weights.value_norms else None
            ahead = sum(len(heads) for heads in self.chosen[index:])
            out = (mask.start == 0 or query.shape[2] >= LONG) and self.offload.should_move(query, key, ahead)
            tape.add(query.detach(), key.detach(), lse.detach(), norms, mask, self.offload if out else None)
        if self.progress is not None:
            self.progress("prompt", len(self._ran), L)
        return output

    def _log_norms(self, module: nn.Module, index: int, chosen: list[int], value: Tensor, mask: Mask) -> Tensor:
        """(B, h, Q) log ||W_O^h v_j^h|| for the new keys."""
        if index not in self._grams:
            self._grams[index] = head_gram(module, self.weights.shape[1], chosen, value.dtype).to(value.device)
        matrix = self._grams[index]
        groups = self.weights.shape[1] // value.shape[1]
        low = mask.start - mask.keys_from
        new = value[:, [h // groups for h in chosen], low : low + mask.first.shape[1]].to(matrix.dtype)
        if new.shape[-1] != matrix.shape[-1]:
            raise UnsupportedModelError(
                f"{type(module).__name__} has values of size {new.shape[-1]} but projects {matrix.shape[-1]} a head"
            )
        return torch.einsum("bhqd,hde,bhqe->bhq", new, matrix, new).clamp(min=0).log() / 2


def _brief(layers: list[int]) -> str:
    """A list of layers in a few words."""
    return str(layers) if len(layers) <= 8 else f"{str(layers[:6])[:-1]}, ...] ({len(layers)} layers)"
