"""Downloading a model from the hub: progress and errors."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import shutil
from types import SimpleNamespace

import pytest
from clock import PATIENCE
from huggingface_hub import errors as hub
from live_hub import Hub
from live_loading import ended, failed, folder, live, loaded, offline, stages  # noqa: F401

from attributor.web.live import memory
from attributor.web.live.schema import LoadRequest


def test_a_model_of_the_hub_is_downloaded_with_progress_in_bytes(live, folder, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    for extra in ("pytorch_model.bin", "consolidated.safetensors", "README.md", "picture.png", "modeling.py"):
        (source / extra).write_bytes(b"x" * 50)
    (source / "onnx").mkdir()
    (source / "onnx" / "model.safetensors").write_bytes(b"x")
    there = Hub(source, tmp_path / "hub", monkeypatch)
    job = loaded(live, id="org/tiny")
    assert stages(job) == ["find", "download", "read", "check"]
    wanted = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert wanted <= set(there.fetched) <= wanted | {"chat_template.jinja", "special_tokens_map.json"}
    events = [event.data for event in job._events if event.data.get("stage") == "download"]
    total = sum((folder / name).stat().st_size for name in there.fetched)
    assert {one["total"] for one in events} == {total}
    assert [one["done"] for one in events] == sorted(one["done"] for one in events)
    assert events[-1]["done"] == total
    assert live.state().id == "org/tiny"


def test_a_cancelled_download_stops(live, folder, tmp_path, monkeypatch):
    there = Hub(folder, tmp_path / "hub", monkeypatch)
    there.during = lambda name: name == "model.safetensors" and live.models._job.cancel()
    job = live.load(LoadRequest(id="org/tiny"))
    assert ended(job) == ("cancelled", {})
    live.models._abandoned.join(PATIENCE)
    assert "model.safetensors" not in there.fetched


def test_a_model_that_is_too_large_is_not_downloaded(live, folder, tmp_path, monkeypatch):
    there = Hub(folder, tmp_path / "hub", monkeypatch, parameters={"F32": 3_550_000_000})
    monkeypatch.setattr(memory, "available", lambda *_: 9_800_000_000)
    data = failed(live, id="org/tiny")
    assert data["code"] == "out_of_memory"
    assert data["message"] == "org/tiny needs about 14.2 GB, 9.8 GB are free: dtype bfloat16 needs 7.1 GB"
    assert there.fetched == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (hub.GatedRepoError, "gated: accept its conditions at https://huggingface.co/org/tiny"),
        (hub.RepositoryNotFoundError, "the hub has no such model, or it is private"),
        (hub.RevisionNotFoundError, "the hub has no such revision"),
    ],
)
def test_errors_of_the_hub_are_reported(live, folder, tmp_path, monkeypatch, kind, message):
    there = Hub(folder, tmp_path / "hub", monkeypatch)
    there.error = kind("no", response=SimpleNamespace(headers={}, request=None, status_code=401))
    data = failed(live, id="org/tiny", revision="v2")
    assert data["code"] == "model_not_loaded"
    assert f"org/tiny: {message}" in data["message"]


def test_without_network_the_model_is_not_found(live):
    data = failed(live, id="org/tiny")
    assert data["code"] == "model_not_loaded"
    assert "the hub cannot be reached" in data["message"]
