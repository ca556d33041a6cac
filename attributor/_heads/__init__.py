"""Head weights: the rule that a user writes, resolved for one model.

`presets` lists the named rules; `calibration` finds the retrieval heads of a model; `shipped` holds those of known
models. Names are imported on first use: the command line reads the presets without importing torch.
"""

from typing import TYPE_CHECKING

from attributor._literals import import_on_first_use, lazy_imports

# the one list of names; type checkers read it, and __getattr__ takes their modules from it
if TYPE_CHECKING:
    from attributor._heads.calibration.cache import cache_path as cache_path
    from attributor._heads.calibration.cache import save_weights as save_weights
    from attributor._heads.calibration.calibrate import calibrate as calibrate
    from attributor._heads.calibration.calibrate import measure_heads as measure_heads
    from attributor._heads.calibration.choose import WEIGHT_PER_HEAD as WEIGHT_PER_HEAD
    from attributor._heads.calibration.choose import check_head_count as check_head_count
    from attributor._heads.calibration.choose import choose_heads as choose_heads
    from attributor._heads.calibration.choose import rank_heads as rank_heads
    from attributor._heads.calibration.head_scores import HeadScores as HeadScores
    from attributor._heads.calibration.progress_bar import ProgressBar as ProgressBar
    from attributor._heads.presets import PRESETS as PRESETS
    from attributor._heads.presets import PresetName as PresetName
    from attributor._heads.resolution import has_shipped_heads as has_shipped_heads
    from attributor._heads.resolution import is_derived as is_derived
    from attributor._heads.resolution import resolve as resolve
    from attributor._heads.resolution import resolve_for as resolve_for
    from attributor._heads.resolution import resolve_for_shape as resolve_for_shape
    from attributor._heads.weights import Weights as Weights
    from attributor._heads.weights import shipped_models as shipped_models

_HOMES = lazy_imports(__file__)

__all__ = sorted(_HOMES)

__getattr__ = import_on_first_use(__name__, _HOMES)
