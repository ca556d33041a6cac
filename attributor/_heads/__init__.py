"""Which heads count how much: weights as a user writes them, resolved for one model.

`calibration` finds the retrieval heads of a model; `shipped` holds those of known models.
"""

from attributor._heads.calibration.cache import cache_path, keep
from attributor._heads.calibration.calibrate import calibrate, measure
from attributor._heads.calibration.choose import WEIGHT, check_heads, choose
from attributor._heads.calibration.head_scores import HeadScores
from attributor._heads.calibration.progress_bar import Bar
from attributor._heads.resolution import head_weights, resolve, resolve_for
from attributor._heads.weights import Weights, shipped_models

__all__ = [
    "WEIGHT",
    "Bar",
    "HeadScores",
    "Weights",
    "cache_path",
    "calibrate",
    "check_heads",
    "choose",
    "head_weights",
    "keep",
    "measure",
    "resolve",
    "resolve_for",
    "shipped_models",
]
