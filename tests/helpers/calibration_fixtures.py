"""Fixtures for tests that find retrieval heads: a tiny model, a separate cache, and a calibration on one prompt."""

import pytest
import tiny_chat
import torch

from attributor._heads.calibration import cache
from attributor._heads.calibration.calibrate import measure_heads
from attributor._heads.calibration.head_scores import HeadScores


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """An empty cache folder, and no earlier calibration in memory."""
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
    """Calibrate on one prompt; yields the list of models that it was called with."""
    calls = []

    def measure_quickly(model, tokenizer, progress=None):
        calls.append(model)
        return measure_heads(model, tokenizer, count=1, progress=progress)

    monkeypatch.setattr(cache, "measure_heads", measure_quickly)
    return calls


def made_up_scores(ap, kinds=("fact",)):
    """Return `HeadScores` with these (C, L, H) average precisions, without scores that depend on hops."""
    C, L, H = ap.shape
    blank = torch.full((C, L, H), torch.nan)
    hops = torch.full((C, 2, L, H), torch.nan)
    return HeadScores(
        kinds=kinds, ap=ap, mass=1 - ap,
        answer_ap=blank, answer_mass=blank, question_ap=blank, question_mass=blank,
        hop_ap=hops, hop_mass=hops, link_ap=blank, link_mass=blank,
        link_from=torch.zeros(C, dtype=torch.int64), chance=torch.full((C,), 0.1),
        model="m", documents=4, tokens=100, seconds=1.0,
    )  # fmt: skip
