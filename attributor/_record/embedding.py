"""Watch a model's input embedding: what it looked up, and whether each id was looked up for itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attributor._errors import RecordingError
from attributor._record.calls import Calls

__all__ = ["EmbeddingWatch", "Lookup", "are_ids"]

# Adapters multiply matrices, whose kernels round a row by where it stands: so many roundings of what they compute in,
# at least float32, and so many of the result, as a share of a vector's norm (measured: 10 and 0)
ROUNDINGS = 16
RESULT_ROUNDINGS = 2


@dataclass(frozen=True, eq=False)
class Lookup:
    """One call of the input embedding.

    Attributes:
        module: the embedding.
        ids: (B, Q) integers.
        vectors: (B, Q, D), what it gave, hooks included.
        others: the arguments beside the ids, by position and by name.
        version: of `vectors`; None where torch counts no changes of it (inference mode).
    """

    module: nn.Module
    ids: Tensor
    vectors: Tensor
    others: tuple[tuple[Any, ...], dict[str, Any]]
    version: int | None


class EmbeddingWatch:
    """The last lookup of a model's input embedding in its recorded calls.

    Attributes:
        last: None where nothing was looked up since the forward pass began.
        varying: (B, Q) bool, where the last lookup gave an id another vector than at another position; None: nowhere,
            or not compared: it was of one token.
    """

    def __init__(self, model: Any, calls: Calls) -> None:
        self.last: Lookup | None = None
        self.varying: Tensor | None = None
        self._model = model
        self._calls = calls
        self._handle: RemovableHandle | None = None
        self._repeating = False
        self.begin()

    def __deepcopy__(self, memo: dict[int, Any]) -> "EmbeddingWatch":
        """Refuse: the copy would keep what belongs to the recording."""
        raise RecordingError("a model cannot be copied while it is recorded; copy it before record()")

    def begin(self) -> None:
        """A forward pass begins: watch the embedding that the model has now, after the hooks that it has now."""
        self.close()
        self.last = self.varying = None
        self._handle = self._model.get_input_embeddings().register_forward_hook(self._note, with_kwargs=True)

    def close(self) -> None:
        """Remove the hook."""
        if self._handle is not None:
            self._handle.remove()

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._calls.recorded or self._repeating:
            return
        named = dict(kwargs)
        ids, others = (args[0], args[1:]) if args else (named.pop("input", None), ())
        if not (isinstance(output, Tensor) and are_ids(ids) and output.ndim == 3 and output.shape[:2] == ids.shape):
            return
        one = ids.shape[1] == 1
        vectors = output.detach().clone() if one else output.detach()  # the model may write to its output
        version = None if vectors.is_inference() else vectors._version
        self.last = Lookup(module, ids, vectors, (others, named), version)
        self.varying = None if one else self.compare_orders(self.last)

    def compare_orders(self, lookup: Lookup) -> Tensor | None:
        """Where an id gets another vector than at another position: (B, Q) bool; None: nowhere.

        The ids are looked up again in reverse order. Then the first id is looked up at every position, which also
        finds a vector put over the position in the middle, and output that a hook reverses. Hooks of the embedding are
        called again only where they change its output.
        """
        return self._repeat(lookup, _compare_orders)

    def original(self, lookup: Lookup) -> Tensor:
        """(B, Q, D) what the embedding gave, looked up again where the model may have written to it since."""
        vectors = lookup.vectors
        if lookup.ids.shape[1] == 1 or (lookup.version is not None and lookup.version == vectors._version):
            return vectors
        changed = self._repeat(lookup, _compare_again)
        return vectors if changed is None else changed

    @torch.no_grad()
    def _repeat(self, lookup: Lookup, compare: Callable[[Lookup, bool], Tensor | None]) -> Tensor | None:
        """What `compare` finds without the hooks of the embedding and with them; None where one of both agrees."""
        self._repeating = True
        try:
            # a shard of a table cannot look up the ids without its hooks, which change them first
            hooks = bool(lookup.module._forward_pre_hooks)
            result = compare(lookup, hooks)
            return result if result is None or hooks else compare(lookup, True)
        finally:
            self._repeating = False


def _compare_orders(lookup: Lookup, hooks: bool) -> Tensor | None:
    ids, vectors = lookup.ids, lookup.vectors
    Q = ids.shape[1]
    varying = _find_differing(_look_up(lookup, ids.flip(1), hooks).flip(1), vectors) if Q > 1 else None
    if varying is not None:
        return varying
    first = ids[:, :1].repeat(1, max(Q, 2))
    varying = _find_differing(_look_up(lookup, first, hooks), vectors[:, :1].expand(-1, first.shape[1], -1))
    return varying if varying is None or Q > 1 else varying.any(1, keepdim=True)


def _compare_again(lookup: Lookup, hooks: bool) -> Tensor | None:
    vectors = _look_up(lookup, lookup.ids, hooks)
    return None if _find_differing(vectors, lookup.vectors) is None else vectors


def _look_up(lookup: Lookup, ids: Tensor, hooks: bool) -> Tensor:
    """(B, Q, D) the vectors of other ids, looked up as before."""
    look_up = lookup.module if hooks else lookup.module.forward
    args, kwargs = lookup.others
    vectors: Tensor = look_up(ids, *args, **kwargs)
    return vectors


def _find_differing(vectors: Tensor, others: Tensor) -> Tensor | None:
    """Where vectors (B, Q, D) differ by more than rounding: (B, Q) bool; None: nowhere."""
    if vectors.shape != others.shape:
        return torch.ones(others.shape[:2], dtype=torch.bool, device=others.device)
    if vectors.dtype == others.dtype and torch.equal(vectors, others):
        return None
    differing = (vectors != others).any(-1)
    dtype = torch.promote_types(others.dtype, torch.float32)
    one, other = vectors[differing].to(dtype), others[differing].to(dtype)
    share = ROUNDINGS * torch.finfo(dtype).eps + RESULT_ROUNDINGS * torch.finfo(others.dtype).eps
    budget = share * torch.maximum(one.norm(dim=-1), other.norm(dim=-1))
    differing[differing.clone()] = ~((one - other).norm(dim=-1) <= budget)
    return differing if bool(differing.any()) else None


def are_ids(ids: Any) -> TypeGuard[Tensor]:
    """Whether they are (B, Q) integers."""
    return isinstance(ids, Tensor) and ids.ndim == 2 and not ids.is_floating_point()
