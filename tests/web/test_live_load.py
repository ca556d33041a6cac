"""Loading a model: its stages, its description, and the model that it replaces."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import gc
import weakref

import pytest
import torch
from live_client import PROMPT
from live_loading import ended, failed, folder, live, loaded, offline, stages  # noqa: F401
from tiny_hub import save_gguf, save_tiny

from attributor.web.http.errors import ApiError
from attributor.web.live import loading
from attributor.web.live.schema import RunRequest
from attributor.web.live.service import LiveService, ServerSettings


def test_a_model_is_loaded_in_stages_and_described(live):
    assert live.state().state == "none"
    assert live.state().default_model == live.settings.model
    job = live.start()
    assert live.state().job == job.id
    assert ended(job) == ("done", {"run": None, "flow": None})
    assert stages(job) == ["find", "read", "check"]
    reading = [event.data for event in job._events if event.data.get("stage") == "read"]
    assert reading[-1]["done"] == reading[-1]["total"] == 21, "transformers tells how many weights it has read"
    state = live.state()
    assert (state.state, state.id, state.dtype, state.device_map) == ("ready", live.settings.model, "auto", "cpu")
    assert (state.layers, state.heads, state.kv_heads, state.window, state.max_tokens) == (2, 4, 2, 1024, 1024)
    assert (state.device, state.parameters) == ("cpu", 44_192)
    assert state.error is None
    assert state.memory.budget == live.runs.budget > 0


def test_dtype_revision_and_max_tokens_are_applied(live):
    loaded(live, dtype="bfloat16", max_tokens=100)
    assert live.models.require_loaded().model.dtype == torch.bfloat16
    assert live.state().max_tokens == 100
    assert live.state().dtype == "bfloat16"


def test_a_gguf_file_of_the_command_line_is_loaded(tmp_path):
    path = save_gguf(save_tiny(tmp_path / "tiny"), tmp_path / "tiny.gguf")
    live = LiveService(ServerSettings(model=str(path)))
    assert ended(live.start())[0] == "done"
    assert live.state().window == 128
    live.close()


def test_max_tokens_above_the_window_are_refused_with_both_numbers(live):
    data = failed(live, max_tokens=5000)
    assert data["code"] == "invalid_input"
    assert "max tokens 5,000 is more than the window of" in data["message"]
    assert "1,024 tokens: give 1,024 or less" in data["message"]
    assert live.state().state == "failed"
    assert live.state().error == data["message"]


def test_the_previous_model_is_released_before_the_next_is_read(live, monkeypatch):
    loaded(live)
    before = weakref.ref(live.models.require_loaded().model)
    ended(live.jobs.submit("run", run_work(live)))
    kept = live.runs.all()[0]
    alive = []
    read = loading._read

    def watched(*args):
        gc.collect()
        alive.append(before() is not None)
        return read(*args)

    monkeypatch.setattr(loading, "_read", watched)
    loaded(live)
    assert alive == [False]
    # its run still works, except for weights that need the model
    assert live.runs.get_recorded(kept.flow_id).recording.layer(0).query.shape[0] == 4
    assert kept.presets.of("output_norm").heads.shape == (2, 4)
    with pytest.raises(ApiError, match=r"'retrieval' need the model .*, which is no longer loaded") as gone:
        kept.presets.of("retrieval")
    assert gone.value.code == "model_gone"


def run_work(live):
    from attributor.web.live.run_jobs import run_work

    return run_work(live, RunRequest(**PROMPT, max_new_tokens=3, weights="mean"))


def test_a_failed_load_keeps_the_previous_model(live):
    loaded(live)
    before = live.models.require_loaded()
    data = failed(live, id="org/nowhere")
    assert live.models.require_loaded() is before
    assert (live.state().state, live.state().id) == ("ready", live.settings.model)
    assert live.state().error == data["message"]
