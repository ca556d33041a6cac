"""`Effects`: what the answer would lose without each segment, and its file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attributor._errors import FileFormatError, InputError
from attributor._io import FileKind, read_safetensors, shorten_path, write_atomically

__all__ = ["Effects"]

KIND = FileKind("removal effects", "attributor.effects", 1, "effects.save(path)")
ROWS = ("all", "suffix")


@dataclass(frozen=True, eq=False, repr=False)
class Effects:
    """How much log-probability the answer owes to each segment of its prompt.

    Attributes:
        scores: (S,) float64, nats: about log p(answer) with the segment minus log p(answer) without it. Above 0 the
            segment makes the answer more probable, below 0 less.
        tokens: (k,) float64, nats: the same of each prompt token, by the gradient alone. The tokens of a segment add up
            to its score, unless real removals changed it.
        segments: (S, 2) int64, the first token of each segment and the one after its last; both 0 for a segment without
            tokens.
        log_prob: log p of the answer, or of the chosen part of it, given the intact prompt.
        rows: "all", or "suffix": only the rows after the last segment count, and the row that predicts the answer.
        removals: how many prompts with segments left out the model read.
        errors: (S,) float64, nats: standard deviations of `scores` under the model of docs/effects.md; they are too
            small with fewer than 8 removals. None without removals.
        meta: the model and how the scores were computed, for people to read.

    Raises:
        InputError: arrays that do not fit together.
    """

    scores: Tensor
    tokens: Tensor
    segments: Tensor
    log_prob: float
    rows: str = "all"
    removals: int = 0
    errors: Tensor | None = None
    meta: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        S = len(self.scores) if self.scores.ndim == 1 else -1
        if S < 0 or self.tokens.ndim != 1 or self.segments.shape != (S, 2):
            raise InputError(
                f"scores must be (S,), tokens (k,) and segments (S, 2), got {tuple(self.scores.shape)}, "
                f"{tuple(self.tokens.shape)} and {tuple(self.segments.shape)}"
            )
        if self.errors is not None and self.errors.shape != (S,):
            raise InputError(f"errors must be ({S},), got {tuple(self.errors.shape)}")
        if self.rows not in ROWS:
            raise InputError(f"rows must be one of {', '.join(ROWS)}, got {self.rows!r}")

    def __repr__(self) -> str:
        """The sizes and the strongest effect."""
        strongest = "none" if not len(self.scores) else f"{float(self.scores[self.scores.abs().argmax()]):+.2f} nats"
        removals = f", {self.removals} removals" if self.removals else ""
        return f"Effects({len(self.scores)} segments, strongest {strongest}, rows {self.rows!r}{removals})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file atomically.

        Raises:
            OutputError: it cannot be written.
        """
        from safetensors.numpy import save

        tensors = {"scores": self.scores, "tokens": self.tokens, "segments": self.segments}
        if self.errors is not None:
            tensors["errors"] = self.errors
        fields = {"log_prob": self.log_prob, "rows": self.rows, "removals": self.removals, "meta": dict(self.meta)}
        metadata = {"format": KIND.format, "version": str(KIND.version), "fields": json.dumps(fields)}
        data = save({name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}, metadata)
        write_atomically(path, data, what="effects")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Effects":
        """Read a file written by `save`.

        Raises:
            FileNotFoundError: there is no such file.
            FileFormatError: another kind of file, or a damaged one.
        """
        tensors, metadata = read_safetensors(path, KIND)
        name = shorten_path(Path(path).expanduser())
        try:
            fields: dict[str, Any] = json.loads(metadata["fields"])
            return cls(
                scores=torch.from_numpy(tensors["scores"]).double(),
                tokens=torch.from_numpy(tensors["tokens"]).double(),
                segments=torch.from_numpy(tensors["segments"]).long(),
                log_prob=float(fields["log_prob"]),
                rows=str(fields["rows"]),
                removals=int(fields["removals"]),
                errors=torch.from_numpy(tensors["errors"]).double() if "errors" in tensors else None,
                meta={str(key): str(value) for key, value in dict(fields["meta"]).items()},
            )
        except (InputError, KeyError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise FileFormatError(
                f"{name} is a removal effects file whose parts do not fit together: {what}"
            ) from error
