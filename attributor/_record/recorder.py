"""The recorder: it computes each layer's attention while the model runs and stores the selected heads."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attributor._errors import UnsupportedModelError
from attributor._record.arena import Arena
from attributor._record.attention import attention
from attributor._record.head_weights import HeadWeights
from attributor._record.history import GenerateCall, History
from attributor._record.mask import Mask
from attributor._record.offload import Offload
from attributor._record.projection import head_gram
from attributor._record.tape import Tape

__all__ = ["Recorder"]

LONG = 512  # queries behind a cache that are worth moving: a chunk of a prompt, not a written token


class Recorder:
    """What one model's attention did to one batch of sequences, position by position.

    Attributes:
        weights: heads with weight 0 leave no trace; value norms are kept where these need them.
        tapes: by layer, only layers with a chosen head.
        history: what was read.
        finite: 0-dim bool, whether all logits so far were numbers.
    """

    def __init__(
        self,
        weights: HeadWeights,
        *,
        progress: Callable[[str, int, int], None] | None = None,
        keep: str = "auto",
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
        self.sink = False  # whether a learned sink takes a share of the attention
        self._seen: set[int] = set()
        self._current: tuple[Mask | None, set[int]] = (None, set())  # this forward call: its extent, its layers so far
        self._grams: dict[int, Tensor] = {}
        self._pending: Tensor | None = None

    def missing_layers(self) -> list[int]:
        """Layers whose attention did not pass through the recorder."""
        return [layer for layer in range(self.weights.shape[0]) if layer not in self._seen]

    def note_ids(self, ids: Tensor) -> None:
        """Note the token ids of the forward call that has begun."""
        self._pending = ids.detach()

    def check_logits(self, last: Tensor) -> None:
        """The model's last row of logits; looked at later, so that no device has to be waited for."""
        self.finite = self.finite.to(last.device) & torch.isfinite(last.detach()).all()

    def _begin(self, mask: Mask) -> None:
        """A forward call reaches its first layer; one that starts at position 0 begins a new sequence."""
        if mask.start == 0:
            self.tapes.clear()
            self._seen.clear()
            self.history = History()
            self.arena = Arena()
            self.finite = torch.tensor(True)
            self._grams.clear()  # an adapter may have been switched since the last sequence
        self.history.generate_call = self.generate_call or self.history.generate_call
        self.history.add(mask, self._pending)
        self._pending = None
        self._current = (mask, set())

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
        """Compute one layer's attention output (B, H, Q, Dv) and keep what the flow needs of it."""
        index = int(module.layer_idx)  # type: ignore[arg-type]
        (L, H), heads = self.weights.shape, query.shape[1]
        if index >= L or heads != H:
            raise UnsupportedModelError(
                f"layer {index} has {heads} heads; the configuration promises {L} layers of {H} heads each"
            )
        before, layers = self._current
        # A new call: of another extent, or a layer that this one has had already.
        if before is None or (before.start, before.first.shape) != (mask.start, mask.first.shape) or index in layers:
            self._begin(mask)
            layers = self._current[1]
        layers.add(index)
        self._seen.add(index)
        self.sink = self.sink or sink is not None
        output, lse = attention(query, key, value, mask, scale=scale, softcap=softcap, sink=sink)
        chosen = self.chosen[index]
        if chosen:
            tape = self.tapes.get(index)
            if tape is None:
                tape = self.tapes[index] = Tape(tuple(chosen), heads // key.shape[1], scale, softcap, self.arena)
            norms = self._log_norms(module, index, chosen, value, mask) if self.weights.value_norms else None
            ahead = sum(len(heads) for heads in self.chosen[index:])
            out = (mask.start == 0 or query.shape[2] >= LONG) and self.offload.should_move(query, key, ahead)
            tape.add(query.detach(), key.detach(), lse.detach(), norms, mask, self.offload if out else None)
        if self.progress is not None:
            self.progress("prompt", len(layers), L)
        return output

    def _log_norms(self, module: nn.Module, index: int, chosen: list[int], value: Tensor, mask: Mask) -> Tensor:
        """(B, h, Q) log ||W_O^h v_j^h|| of the new keys."""
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
