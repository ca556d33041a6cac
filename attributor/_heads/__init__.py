"""Head weights: the rule that a user writes, resolved for one model.

`calibration` finds the retrieval heads of a model; `shipped` holds those of known models.
"""

from attributor._heads.calibration.cache import cache_path, save_weights
from attributor._heads.calibration.calibrate import calibrate, measure_heads
from attributor._heads.calibration.choose import WEIGHT_PER_HEAD, check_head_count, choose_heads, rank_heads
from attributor._heads.calibration.head_scores import HeadScores
from attributor._heads.calibration.progress_bar import ProgressBar
from attributor._heads.resolution import has_shipped_heads, head_weights, resolve, resolve_for
from attributor._heads.weights import Weights, shipped_models

__all__ = [
    "WEIGHT_PER_HEAD",
    "HeadScores",
    "ProgressBar",
    "Weights",
    "cache_path",
    "calibrate",
    "check_head_count",
    "choose_heads",
    "has_shipped_heads",
    "head_weights",
    "measure_heads",
    "rank_heads",
    "resolve",
    "resolve_for",
    "save_weights",
    "shipped_models",
]
