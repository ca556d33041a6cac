"""Find the retrieval heads of a model on generated prompts; see docs/weights.md."""

from attributor._heads.calibration.calibrate import calibrate

__all__ = ["calibrate"]
