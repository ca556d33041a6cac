"""Fixtures that several tests of commands share."""

from calibration_fixtures import own_cache, quick_calibration  # noqa: F401
