"""Resolves the named weights of one model and keeps them after the model is unloaded."""

import contextlib
import threading
from typing import Any

from attributor import _heads
from attributor._errors import AttributorError
from attributor._heads import WEIGHT_PER_HEAD, Weights
from attributor._models import model_facts
from attributor._record import HeadWeights
from attributor.web.http import ApiError
from attributor.web.live.schema import WeightsName

__all__ = ["NAMES", "Presets"]

NAMES: tuple[WeightsName, ...] = ("mean", "output_norm", "retrieval")


class Presets:
    """What "mean", "output_norm" and "retrieval" are for one model, resolved when they are first asked for.

    Attributes:
        facts: of the model.
        model_id: hub id or folder, or the model's class where it has neither.
        shape: (L, H).
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.facts = model_facts(model)
        self.model_id, self.shape = self.facts.name, self.facts.shape
        self._resolved = {"mean": _heads.resolve_for(self.facts, "mean")}
        self._model, self._tokenizer = model, tokenizer
        self._lock = threading.Lock()

    def of(self, name: str, progress: Any = None) -> HeadWeights:
        """The weights of that name as numbers; "retrieval" may take minutes where nobody has found them yet.

        Raises:
            ApiError: the model is gone and they were never asked for.
            AttributorError: as `attributor._heads.resolution.resolve`.
        """
        with self._lock:
            if name not in self._resolved:
                model = self._model
                if model is None:
                    raise ApiError(
                        409,
                        "model_gone",
                        f"weights {name!r} need the model {self.model_id}, which is no longer loaded: load it again, "
                        "and run the prompt again",
                    )
                self._resolved[name] = _heads.resolve_for(self.facts, name, model, self._tokenizer, progress=progress)
            return self._resolved[name]

    def of_heads(self, heads: list[tuple[int, int]]) -> HeadWeights:
        """These heads alone, each as heavy as a retrieval head.

        Raises:
            InputError: a head that the model does not have.
        """
        rule = Weights.of_heads(self.shape, dict.fromkeys(heads, WEIGHT_PER_HEAD), note="heads chosen by hand")
        return _heads.head_weights(rule, self.shape)

    def forget_model(self) -> None:
        """Let go of the model; what its weights say about its heads is taken down before."""
        with contextlib.suppress(AttributorError):  # a family without one projection a head
            self.of("output_norm")
        with contextlib.suppress(AttributorError):
            if self._model is not None and _heads.has_shipped_heads(self._model):  # others take minutes to find
                self.of("retrieval")
        with self._lock:
            self._model = self._tokenizer = None
