"""Semantic similarity of each segment to the question and its answer; the model's attention is not used."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from attributor._errors import InputError, ModelLoadError
from attributor._models import silence_transformers
from attributor.methods._method import Needs
from attributor.methods._texts import join_query

if TYPE_CHECKING:
    from attributor.methods._reading import Reading

__all__ = ["Similarity"]

NAME = "similarity"
SUMMARY = "sentence embeddings of question and answer against each segment; similarity:ID|FOLDER; needs an extra"
SOURCE = "https://arxiv.org/abs/1908.10084"
ARGUMENT = "model"
ORDER = 110
LIBRARY = "sentence_transformers"

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Similarity:
    """cos(e(question + " " + answer), e(segment)) with e a sentence-embedding model.

    Attributes:
        model: a hub id or a folder that sentence-transformers can load.
        name: "similarity", followed by the model if it is not the default.
    """

    model: str = DEFAULT
    name: str = field(default="", compare=False)
    source: ClassVar[str] = SOURCE
    by: ClassVar[str] = "segment"
    reads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Name it after its model.

        Raises:
            InputError: no model is named.
        """
        if not self.model:
            raise InputError("similarity needs a sentence-embedding model: a hub id or a folder, got ''")
        if not self.name:
            object.__setattr__(self, "name", "similarity" if self.model == DEFAULT else f"similarity:{self.model}")

    def needs(self, model: Any) -> Needs:
        """Record nothing; load the embedding model before the first case."""
        _encoder(self.model)
        return Needs()

    def __call__(self, reading: Reading) -> Tensor:
        """(S,): -1 to 1."""
        texts = [join_query(reading, NAME), *(segment.text for segment in reading.segments)]
        embeddings = _encoder(self.model).encode(texts, convert_to_numpy=True, show_progress_bar=False)
        vectors = torch.from_numpy(np.asarray(embeddings, dtype=np.float64))
        return torch.nn.functional.cosine_similarity(vectors[1:], vectors[:1], dim=1)


@lru_cache(maxsize=2)
def _encoder(name: str) -> Any:
    try:
        from sentence_transformers import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            SentenceTransformer,
        )
    except ImportError as error:
        raise InputError(
            "the method 'similarity' needs sentence-transformers; install it with: pip install 'attributor[similarity]'"
        ) from error
    place = Path(name).expanduser()
    here = place.exists()
    try:
        with silence_transformers(downloads=not here):
            return SentenceTransformer(str(place) if here else name)
    except (OSError, ValueError) as error:
        message = f"no sentence-embedding model could be loaded from {name!r}: {' '.join(str(error).split())}"
        raise ModelLoadError(
            message if here else f"{message} (similarity:FOLDER takes one from this machine)"
        ) from error
