"""Fixtures of tests that find retrieval heads: a tiny model, an own cache, and a calibration on one prompt."""

import pytest
import tiny_chat

from attributor._heads.calibration import cache, calibrate


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """An empty cache folder, and nothing in memory of earlier calibrations."""
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_weights_by_digest", {})


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_chat.tokenizer()


@pytest.fixture
def model(tokenizer):
    return tiny_chat.model(len(tokenizer), 1024)


@pytest.fixture
def quick_calibration(monkeypatch):
    """Calibration on one prompt; the list of the models that it was called with."""
    calls = []

    def calibrate_quickly(model, tokenizer, progress=None):
        calls.append(model)
        return calibrate(model, tokenizer, count=1, progress=progress)

    monkeypatch.setattr(cache, "calibrate", calibrate_quickly)
    return calls
