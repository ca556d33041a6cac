"""Finding the heads of a model that look facts up, on generated prompts; see docs/weights.md."""

from attributor._heads.calibration.calibrate import calibrate

__all__ = ["calibrate"]
