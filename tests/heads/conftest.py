"""Fixtures for tests of heads: a tiny model, a separate cache, and a calibration on one prompt."""

from calibration_fixtures import model, own_cache, quick_calibration, tokenizer  # noqa: F401
