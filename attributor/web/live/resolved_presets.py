"""Resolves the presets of head weights for one model and keeps them after the model is unloaded."""

import contextlib
import threading
from typing import Any

from attributor import _heads
from attributor._errors import AttributorError
from attributor._heads import PRESETS, WEIGHT_PER_HEAD, Weights
from attributor._models import model_facts
from attributor._record import HeadWeights
from attributor.web.http import ApiError

__all__ = ["ResolvedPresets"]


class ResolvedPresets:
    """The head weights of every preset for one model, each resolved at its first use.

    Attributes:
        facts: of the model.
        model_id: hub id or folder, or the model's class if it has neither.
        shape: (L, H).
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.facts = model_facts(model)
        self.model_id, self.shape = self.facts.name, self.facts.shape
        of_shape = [name for name, preset in PRESETS.items() if preset.derived_from == "shape"]
        self._resolved = {name: _heads.resolve_for(self.facts, name) for name in of_shape}
        self._model, self._tokenizer = model, tokenizer
        self._lock = threading.Lock()

    def of(self, name: str, progress: Any = None) -> HeadWeights:
        """The weights of a preset as numbers; a calibration that was not run before may take minutes.

        Raises:
            ApiError: the model is no longer loaded, and the weights were not resolved before.
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
        """Weights of these heads alone, each with the weight of a retrieval head.

        Raises:
            InputError: a head that the model does not have.
        """
        rule = Weights.of_heads(self.shape, dict.fromkeys(heads, WEIGHT_PER_HEAD), note="heads chosen by hand")
        return _heads.resolve_for_shape(rule, self.shape)

    def forget_model(self) -> None:
        """Resolve the presets that follow quickly from the model's parameters, then drop the model."""
        if self._model is not None:
            shipped = _heads.has_shipped_heads(self._model)  # other heads take minutes to find
            for name, preset in PRESETS.items():
                if preset.derived_from == "parameters" or (preset.derived_from == "calibration" and shipped):
                    with contextlib.suppress(AttributorError):  # for a family without a projection for each head
                        self.of(name)
        with self._lock:
            self._model = self._tokenizer = None
