"""Random sets of segments to keep, seeded by case, so that every method and process draws the same ones."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from attributor._errors import InputError

__all__ = ["case_seed", "count_masks", "draw_antithetic_masks", "draw_shared_masks"]


def case_seed(seed: int, ids: Tensor) -> int:
    """The seed of one prompt, from the run's seed and the prompt's ids; it does not depend on earlier rows."""
    return _derive_seed(seed, ids.tolist())


def draw_shared_masks(seed: int, masks: int, segments: int, *, apart_from: Tensor | None = None) -> Tensor:
    """(M, S) bool, distinct sets of segments, each segment kept with probability 1/2.

    The same arguments give the same masks on every machine. If there are fewer than `masks` distinct sets (2^S less
    those in `apart_from`), all of them are returned.

    Args:
        seed: any whole number; a measurement uses another seed than the method that it measures.
        masks: M.
        segments: S.
        apart_from: (M', S) bool, sets that must not come up, such as those that a method was fitted to.

    Raises:
        InputError: a negative count, or sets of another number of segments.
    """
    if masks < 0 or segments < 0:
        raise InputError(f"masks and segments must be >= 0, got {masks} and {segments}")
    taken: set[bytes] = set()
    if apart_from is not None:
        if apart_from.ndim != 2 or apart_from.shape[1] != segments:
            raise InputError(f"apart_from must be (M, {segments}) bool, got {tuple(apart_from.shape)}")
        taken = {row.tobytes() for row in apart_from.bool().cpu().numpy()}
    count = min(masks, 2**segments - len(taken))
    random = np.random.default_rng(_derive_seed(seed, masks, segments))
    sets: list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = []
    while len(sets) < count:
        row = random.random(segments) < 0.5
        if row.tobytes() not in taken:
            taken.add(row.tobytes())
            sets.append(row)
    return torch.from_numpy(np.array(sets, dtype=np.bool_).reshape(len(sets), segments))


def count_masks(segments: int) -> int:
    """How many sets `draw_antithetic_masks` can return for S segments."""
    return 1 if segments == 1 else 2**segments - 2


def draw_antithetic_masks(seed: int, masks: int, segments: int) -> Tensor:
    """(M, S) bool: sets of segments to keep, each followed by its complement; never all segments, never none.

    Every segment is left out in half of the sets if M is even. A single segment is left out once.

    Args:
        seed: as in `draw_shared_masks`.
        masks: M; fewer are returned if there are fewer sets.
        segments: S >= 1.
    """
    if segments == 1:
        return torch.zeros(min(masks, 1), 1, dtype=torch.bool)
    pairs = min(-(-masks // 2), count_masks(segments) // 2)
    random = np.random.default_rng(_derive_seed(seed, masks, segments))
    taken: set[bytes] = set()
    sets: list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = []
    while len(sets) < 2 * pairs:
        row = random.random(segments) < 0.5
        if row.all() or not row.any() or row.tobytes() in taken:
            continue
        taken |= {row.tobytes(), (~row).tobytes()}
        sets += [row, ~row]
    return torch.from_numpy(np.array(sets, dtype=np.bool_).reshape(len(sets), segments))[:masks]


def _derive_seed(*parts: object) -> int:
    """64 bits that depend on every part."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
