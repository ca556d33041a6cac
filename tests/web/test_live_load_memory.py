"""Models that do not fit into memory are refused before or during reading."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import pytest
import torch
from live_loading import failed, folder, live, loaded, offline  # noqa: F401

from attributor import _models
from attributor._models import load
from attributor.web.live import memory, model


def test_a_model_larger_than_memory_is_refused_before_it_is_read(live, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda *_: 100_000)
    monkeypatch.setattr(_models, "load_model", lambda *_, **__: pytest.fail("it was read"))
    data = failed(live)
    assert data["code"] == "out_of_memory"
    assert f"{live.settings.model} needs about 177 kB, 100 kB are free: dtype bfloat16 needs 88 kB" in data["message"]


def test_the_memory_of_the_previous_model_counts_as_free(live, monkeypatch):
    loaded(live)
    nbytes = live.models.require_loaded().nbytes
    assert nbytes == 44_192 * 4
    monkeypatch.setattr(memory, "available", lambda *_: 0)
    loaded(live)
    monkeypatch.setattr(memory, "available", lambda *_: -1)
    failed(live)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("auto", "dtype bfloat16 needs 5.0 GB"),
        ("float32", "dtype bfloat16 needs 5.0 GB"),
        ("bfloat16", None),
    ],
)
def test_the_memory_needed_depends_on_the_dtype(monkeypatch, dtype, advice):
    monkeypatch.setattr(memory, "available", lambda *_: 6_000_000_000)
    counts = {"F32": 2_500_000_000, "I64": 1000}
    if advice is None:
        memory.check_fits("m", counts, dtype, "cpu")
        return
    with pytest.raises(MemoryError, match=f"m needs about 10.0 GB, 6.0 GB are free: {advice}"):
        memory.check_fits("m", counts, dtype, "cpu")


def test_a_model_too_large_in_16_bits_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda *_: 1_000_000_000)
    with pytest.raises(MemoryError, match=r"14\.0 GB, still too much: take a smaller model"):
        memory.check_fits("m", {"F32": 7_000_000_000}, "float32", "cpu")
    with pytest.raises(MemoryError, match=r"needs about 14\.0 GB, 1\.0 GB are free: take a smaller model, or free"):
        memory.check_fits("m", {"BF16": 7_000_000_000}, "auto", "cpu")


def test_free_memory_is_that_of_the_target_devices(monkeypatch):
    monkeypatch.setattr(memory, "_memory", lambda: (100, 50))
    assert memory.available("balanced") == 50  # no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free = {None: 3, 0: 3, 1: 4}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda at: (free[at if isinstance(at, int) else at.index], 9))
    found = {name: memory.available(name) for name in ("cpu", "cuda", "cuda:1", "auto", "balanced", "sequential")}
    assert found == {"cpu": 50, "cuda": 3, "cuda:1": 4, "auto": 57, "balanced": 57, "sequential": 57}


def test_sizes_are_read_from_file_headers(folder, tmp_path):
    assert memory.count_stored_numbers(folder) == {"F32": 44_192}
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    assert memory.count_stored_numbers(broken) == {}
    (broken / "model.safetensors").write_bytes(b"\x02\0\0")
    assert memory.count_stored_numbers(broken) == {}
    assert memory.count_stored_numbers(tmp_path) == {}


def test_out_of_memory_during_loading_is_reported(live, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(load, "_read", full)
    data = failed(live)
    assert data["code"] == "out_of_memory"
    assert "memory ran out while its weights were read: take dtype bfloat16" in data["message"]
    monkeypatch.undo()
    loaded(live)


def test_the_memory_of_the_machine_is_known():
    everything, free = memory.total(), memory.available()
    assert everything is not None
    assert free is not None
    assert 0 < free <= everything
    assert 0 < memory.budget() <= 4 << 30
    assert model.device_maps()[:2] == ["cpu", "auto"]
