"""Watch a model's input embedding: its lookups, and whether an id's vector depends on the id alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attributor._errors import RecordingError
from attributor._record.calls import Calls

__all__ = ["EmbeddingWatch", "Lookup", "are_ids"]

# Adapters multiply matrices, and the rounding of a row depends on its place. The tolerance, as a share of a vector's
# norm: ROUNDINGS times eps of the computing dtype (at least float32) and RESULT_ROUNDINGS times eps of the result's
# dtype (measured: 10 and 0).
ROUNDINGS = 16
RESULT_ROUNDINGS = 2


@dataclass(frozen=True, eq=False)
class Lookup:
    """One call of the input embedding.

    Attributes:
        module: the embedding.
        ids: (B, Q) integers.
        vectors: (B, Q, D), its output, after hooks.
        others: the other arguments, by position and by name.
        version: of `vectors`; None if torch does not count its changes (inference mode).
    """

    module: nn.Module
    ids: Tensor
    vectors: Tensor
    others: tuple[tuple[Any, ...], dict[str, Any]]
    version: int | None


class EmbeddingWatch:
    """The last lookup of a model's input embedding in its recorded calls.

    Attributes:
        last: None if nothing was looked up since the forward pass began.
        varying: (B, Q) bool, where the last lookup gave an id another vector than at another position; None: nowhere,
            or not compared, because it was a lookup of one token.
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
        """Refuse: the copy would share the recording's state."""
        raise RecordingError("a model cannot be copied while it is recorded; copy it before record()")

    def begin(self) -> None:
        """Begin a forward pass: watch the model's current embedding, after its current hooks."""
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
        """(B, Q) bool: where an id gets another vector than at another position; None: nowhere.

        The ids are looked up again in reverse order. Then the first id is looked up at every position. This also finds
        a vector that was written over the middle position, and output that a hook reverses. Hooks of the embedding are
        called again only if they change its output.
        """
        return self._repeat(lookup, _compare_orders)

    def original(self, lookup: Lookup) -> Tensor:
        """(B, Q, D) the embedding's output, looked up again if the model may have overwritten it."""
        vectors = lookup.vectors
        if lookup.ids.shape[1] == 1 or (lookup.version is not None and lookup.version == vectors._version):
            return vectors
        changed = self._repeat(lookup, _compare_again)
        return vectors if changed is None else changed

    @torch.no_grad()
    def _repeat(self, lookup: Lookup, compare: Callable[[Lookup, bool], Tensor | None]) -> Tensor | None:
        """The differences that `compare` finds with and without the embedding's hooks; None if either finds none."""
        self._repeating = True
        try:
            # a shard of a table cannot look up ids without its hooks, which change them first
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
    """(B, Q) bool: where vectors (B, Q, D) differ by more than rounding; None: nowhere."""
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
