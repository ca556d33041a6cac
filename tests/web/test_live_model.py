"""Loading a model: what may be asked for, its stages, leaving it, what it replaces, and why it may fail."""

import gc
import json
import shutil
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
import tiny_chat
import torch
from clock import PATIENCE
from huggingface_hub import errors as hub
from live_client import PROMPT, wait_for
from live_hub import Hub
from tiny_hub import no_network, save_gguf, save_tiny
from transformers import AutoConfig

from attributor import _models
from attributor._models import load
from attributor.web.http.errors import ApiError
from attributor.web.live import loading, memory, model
from attributor.web.live.model import check_request
from attributor.web.live.schema import LoadRequest, RunRequest
from attributor.web.live.service import LiveService, ServerSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("other") / "model", positions=512)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    no_network(monkeypatch, tmp_path)
    monkeypatch.setattr(load, "_hub_reachable", lambda: False)


@pytest.fixture
def live(folder):
    made = LiveService(ServerSettings(model=str(folder)))
    yield made
    made.close()


def ended(job):
    assert job.stopped.wait(PATIENCE), "it never ended"
    return job._events[-1].name, job._events[-1].data


def stages(job):
    found = []
    for event in job._events:
        if event.name == "stage" and event.data["stage"] not in found:
            found.append(event.data["stage"])
    return found


def loaded(live, **fields):
    job = live.load(LoadRequest(**{"id": live.settings.model, **fields}))
    assert ended(job)[0] == "done", job._events[-1]
    return job


def failed(live, **fields):
    name, data = ended(live.load(LoadRequest(**{"id": live.settings.model, **fields})))
    assert name == "failed", (name, data)
    return data


# What may be asked for.


@pytest.mark.parametrize(
    "name",
    [
        "/etc",
        "/etc/passwd",
        "../model",
        "org/../model",
        "./model",
        "~/model",
        "org/model/more",
        "https://huggingface.co/org/model",
        "file:" + "//" + "/etc/passwd",
        "\\\\server\\share",
        "C:\\model",
        "org/mo\0del",
        "org/mo\ndel",
        "org/model\n",
        "org/model ",
        "-org/model",
        "org/model.gguf",
        "model.git",
        "org/mo--del",
        "org/módel",
        "$(reboot)",
        "a" * 200,
        " ",
    ],
)
def test_only_hub_ids_come_over_http(name, folder):
    with pytest.raises(ApiError, match="is no hub id") as refused:
        check_request(LoadRequest(id=name), ServerSettings(model=str(folder)))
    assert (refused.value.status, refused.value.code) == (400, "invalid_model")
    assert len(refused.value.message) < 500


def test_a_folder_can_be_asked_for_where_the_server_was_started_with_it(folder):
    assert check_request(LoadRequest(id=str(folder)), ServerSettings(model=str(folder))).id == str(folder)
    with pytest.raises(ApiError, match="can only be named on the command line"):
        check_request(LoadRequest(id=str(folder)), ServerSettings())
    with pytest.raises(ApiError):
        check_request(LoadRequest(id=f"{folder}/"), ServerSettings(model=str(folder)))


def test_a_hub_id_that_is_also_a_folder_here_is_not_read_as_one(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ApiError, match="is also a folder where this server runs"):
        check_request(LoadRequest(id="model"), ServerSettings())


@pytest.mark.parametrize("revision", ["../main", "a..b", "/main", "main/", "a//b", "x.lock", "ma in", "m\0", "-x", "ü"])
def test_invalid_revisions_are_refused(revision):
    with pytest.raises(ApiError, match="a revision is a branch, a tag or a commit") as refused:
        check_request(LoadRequest(id="org/model", revision=revision), ServerSettings())
    assert (refused.value.status, refused.value.code) == (400, "invalid_revision")


def test_valid_revisions_are_accepted():
    for revision in ("main", "refs/pr/3", "v1.0", "1234abcd" * 5):
        assert check_request(LoadRequest(id="org/model", revision=revision), ServerSettings()).revision == revision
    assert check_request(LoadRequest(id="org/model", revision=""), ServerSettings()).revision is None


@pytest.mark.parametrize("device_map", ["cuda:9", "disk", "meta", "__class__", '{"": 0}', "CPU"])
def test_unknown_devices_are_refused(device_map):
    with pytest.raises(ApiError, match=r"device_map must be one of cpu, auto") as refused:
        check_request(LoadRequest(id="org/model", device_map=device_map), ServerSettings())
    assert (refused.value.status, refused.value.code) == (400, "invalid_device_map")


@pytest.mark.parametrize("dtype", ["int8", "nn", "load", "__dict__", "float64", "Float32", ""])
def test_any_other_attribute_of_torch_is_no_dtype(dtype):
    with pytest.raises(ValueError, match="Input should be 'auto', 'float32', 'bfloat16' or 'float16'"):
        LoadRequest(id="org/model", dtype=dtype)


def test_what_runs_code_is_decided_by_the_command_line_alone():
    for name in ("trust_remote_code", "remote_code", "allow_pickle"):
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            LoadRequest(**{"id": "org/model", name: True})
    wanted = check_request(LoadRequest(id="org/model"), ServerSettings(trust_remote_code=True, allow_pickle=True))
    assert (wanted.remote_code, wanted.pickle) == (True, True)
    wanted = check_request(LoadRequest(id="org/model"), ServerSettings())
    assert (wanted.remote_code, wanted.pickle) == (False, False)


# From nothing to ready.


def test_a_model_is_loaded_in_stages_and_says_what_it_is(live):
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


def test_dtype_revision_and_max_tokens_are_as_asked(live):
    loaded(live, dtype="bfloat16", max_tokens=100)
    assert live.models.require_loaded().model.dtype == torch.bfloat16
    assert live.state().max_tokens == 100
    assert live.state().dtype == "bfloat16"


def test_a_gguf_file_that_the_server_was_started_with(tmp_path):
    path = save_gguf(save_tiny(tmp_path / "tiny"), tmp_path / "tiny.gguf")
    live = LiveService(ServerSettings(model=str(path)))
    assert ended(live.start())[0] == "done"
    assert live.state().window == 128
    live.close()


def test_more_max_tokens_than_the_window_are_refused_with_both_numbers(live):
    data = failed(live, max_tokens=5000)
    assert data["code"] == "invalid_input"
    assert "max tokens 5,000 is more than the window of" in data["message"]
    assert "1,024 tokens: give 1,024 or less" in data["message"]
    assert live.state().state == "failed"
    assert live.state().error == data["message"]


def test_the_model_before_is_let_go_of_before_the_new_one_is_read(live, monkeypatch):
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
    # its run is as useful as before, but for what only the model knows
    assert live.runs.get_recorded(kept.flow_id).recording.layer(0).query.shape[0] == 4
    assert kept.presets.of("output_norm").heads.shape == (2, 4)
    with pytest.raises(ApiError, match=r"'retrieval' need the model .*, which is no longer loaded") as gone:
        kept.presets.of("retrieval")
    assert gone.value.code == "model_gone"


def run_work(live):
    from attributor.web.live.run_jobs import run_work

    return run_work(live, RunRequest(**PROMPT, max_new_tokens=3))


def test_a_model_that_cannot_be_had_leaves_the_one_before_in_place(live):
    loaded(live)
    before = live.models.require_loaded()
    data = failed(live, id="org/nowhere")
    assert live.models.require_loaded() is before
    assert (live.state().state, live.state().id) == ("ready", live.settings.model)
    assert live.state().error == data["message"]


# Leaving.


class Gate:
    """A function that waits in the middle until it is let go."""

    def __init__(self, inner):
        self.inner, self.reached, self.go, self.calls = inner, threading.Event(), threading.Event(), 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        self.reached.set()
        assert self.go.wait(PATIENCE)
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize(
    ("module", "name"), [(_models, "locate_model"), (_models, "load_model"), (memory, "check_fits")]
)
def test_loading_can_be_cancelled_in_every_stage(live, monkeypatch, module, name):
    gate = Gate(getattr(module, name))
    monkeypatch.setattr(module, name, gate)
    job = live.start()
    assert gate.reached.wait(PATIENCE)
    assert live.state().state == "loading"
    began = time.perf_counter()
    live.jobs.cancel(job.id)
    assert ended(job) == ("cancelled", {})
    wait_for(lambda: not live.jobs.busy)
    assert time.perf_counter() - began < 2
    assert live.state().state == "none"
    gate.go.set()
    live.models._abandoned.join(PATIENCE)
    assert live.models.loaded is None, "what came of it was not dropped"
    assert live.state().state == "none"


def test_a_load_that_was_left_behind_is_waited_for_before_the_next_one_begins(live, monkeypatch):
    gate = Gate(_models.load_model)
    monkeypatch.setattr(_models, "load_model", gate)
    left = live.start()
    assert gate.reached.wait(PATIENCE)
    live.jobs.cancel(left.id)
    second = live.start()
    wait_for(lambda: "wait" in stages(second))
    time.sleep(0.2)
    assert gate.calls == 1
    gate.go.set()
    assert ended(second)[0] == "done"
    assert gate.calls == 2
    third_gate = Gate(_models.load_model)
    monkeypatch.setattr(_models, "load_model", third_gate)
    live.jobs.cancel(live.start().id)  # in the queue or not: nothing of it is left
    third_gate.go.set()


def test_reading_the_weights_stops_between_two_of_them(live, monkeypatch):
    seen = []
    update = loading._ReadingProgress.update

    def watched(self, n=1):
        seen.append(self._done)
        if len(seen) == 3:
            self._job.cancel()
        update(self, n)

    monkeypatch.setattr(loading._ReadingProgress, "update", watched)
    assert ended(live.start()) == ("cancelled", {})
    live.models._abandoned.join(PATIENCE)
    assert len(seen) == 3
    monkeypatch.undo()


def test_the_model_before_stays_where_loading_is_left_early(live, monkeypatch):
    loaded(live)
    before = live.models.require_loaded()
    gate = Gate(load.locate_model)
    monkeypatch.setattr(_models, "locate_model", gate)
    job = live.start()
    assert gate.reached.wait(PATIENCE)
    live.jobs.cancel(job.id)
    gate.go.set()
    live.models._abandoned.join(PATIENCE)
    assert live.models.require_loaded() is before
    assert live.state().state == "ready"


# The hub.


def test_a_model_of_the_hub_is_fetched_with_progress_in_bytes(live, folder, tmp_path, monkeypatch):
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
    told = [event.data for event in job._events if event.data.get("stage") == "download"]
    total = sum((folder / name).stat().st_size for name in there.fetched)
    assert {one["total"] for one in told} == {total}
    assert [one["done"] for one in told] == sorted(one["done"] for one in told)
    assert told[-1]["done"] == total
    assert live.state().id == "org/tiny"


def test_a_cancelled_download_stops(live, folder, tmp_path, monkeypatch):
    there = Hub(folder, tmp_path / "hub", monkeypatch)
    there.during = lambda name: name == "model.safetensors" and live.models._job.cancel()
    job = live.load(LoadRequest(id="org/tiny"))
    assert ended(job) == ("cancelled", {})
    live.models._abandoned.join(PATIENCE)
    assert "model.safetensors" not in there.fetched


def test_a_model_that_is_too_large_is_not_even_fetched(live, folder, tmp_path, monkeypatch):
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
def test_refusals_of_the_hub_are_reported_as_they_are(live, folder, tmp_path, monkeypatch, kind, message):
    there = Hub(folder, tmp_path / "hub", monkeypatch)
    there.error = kind("no", response=SimpleNamespace(headers={}, request=None, status_code=401))
    data = failed(live, id="org/tiny", revision="v2")
    assert data["code"] == "model_not_loaded"
    assert f"org/tiny: {message}" in data["message"]


def test_without_network_the_model_is_not_found(live):
    data = failed(live, id="org/tiny")
    assert data["code"] == "model_not_loaded"
    assert "the hub cannot be reached" in data["message"]


# What does not fit, cannot be recorded, or would run code.


def test_a_model_larger_than_memory_is_refused_before_it_is_read(live, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda *_: 100_000)
    monkeypatch.setattr(_models, "load_model", lambda *_, **__: pytest.fail("it was read"))
    data = failed(live)
    assert data["code"] == "out_of_memory"
    assert f"{live.settings.model} needs about 177 kB, 100 kB are free: dtype bfloat16 needs 88 kB" in data["message"]


def test_what_the_model_before_takes_counts_as_free(live, monkeypatch):
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
def test_what_a_dtype_takes(monkeypatch, dtype, advice):
    monkeypatch.setattr(memory, "available", lambda *_: 6_000_000_000)
    counts = {"F32": 2_500_000_000, "I64": 1000}
    if advice is None:
        memory.check_fits("m", counts, dtype, "cpu")
        return
    with pytest.raises(MemoryError, match=f"m needs about 10.0 GB, 6.0 GB are free: {advice}"):
        memory.check_fits("m", counts, dtype, "cpu")


def test_a_model_that_does_not_even_fit_in_16_bits(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda *_: 1_000_000_000)
    with pytest.raises(MemoryError, match=r"14\.0 GB, still too much: take a smaller model"):
        memory.check_fits("m", {"F32": 7_000_000_000}, "float32", "cpu")
    with pytest.raises(MemoryError, match=r"needs about 14\.0 GB, 1\.0 GB are free: take a smaller model, or free"):
        memory.check_fits("m", {"BF16": 7_000_000_000}, "auto", "cpu")


def test_what_is_free_wherever_a_model_goes(monkeypatch):
    monkeypatch.setattr(memory, "_memory", lambda: (100, 50))
    assert memory.available("balanced") == 50  # no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free = {None: 3, 0: 3, 1: 4}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda at: (free[at if isinstance(at, int) else at.index], 9))
    found = {name: memory.available(name) for name in ("cpu", "cuda", "cuda:1", "auto", "balanced", "sequential")}
    assert found == {"cpu": 50, "cuda": 3, "cuda:1": 4, "auto": 57, "balanced": 57, "sequential": 57}


def test_sizes_are_read_from_headers_alone(folder, tmp_path):
    assert memory.count_stored_numbers(folder) == {"F32": 44_192}
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    assert memory.count_stored_numbers(broken) == {}
    (broken / "model.safetensors").write_bytes(b"\x02\0\0")
    assert memory.count_stored_numbers(broken) == {}
    assert memory.count_stored_numbers(tmp_path) == {}


def test_memory_out_while_a_model_is_read(live, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(load, "_read", full)
    data = failed(live)
    assert data["code"] == "out_of_memory"
    assert "memory ran out while its weights were read: take dtype bfloat16" in data["message"]
    monkeypatch.undo()
    loaded(live)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bloom", {}, "BloomForCausalLM computes the attention of all its 2 layers in its own code"),
        ("mamba", {"num_attention_heads": 4}, "MambaForCausalLM"),
    ],
)
def test_a_family_that_cannot_be_recorded_is_refused_before_its_weights_are_fetched(
    live, tmp_path, monkeypatch, family, changes, message
):
    path = tmp_path / family
    config = AutoConfig.for_model(family, vocab_size=97, hidden_size=48, num_hidden_layers=2, n_head=4, **changes)
    config.save_pretrained(path)
    (path / "model.safetensors").write_bytes(b"never read")
    tiny_chat.tokenizer().save_pretrained(path)
    there = Hub(path, tmp_path / "hub", monkeypatch)
    data = failed(live, id="org/tiny")
    assert data["code"] == "unsupported_model"
    assert message in data["message"]
    assert "config.json" in there.fetched
    assert "model.safetensors" not in there.fetched


def pickled(folder, path):
    shutil.copytree(folder, path)
    weights = tiny_chat.model(len(tiny_chat.tokenizer())).state_dict()
    (path / "model.safetensors").unlink()
    torch.save(weights, path / "pytorch_model.bin")
    return path


def test_weights_that_can_run_code_need_a_flag(folder, tmp_path):
    path = pickled(folder, tmp_path / "pickled")
    live = LiveService(ServerSettings(model=str(path)))
    name, data = ended(live.start())
    assert (name, data["code"]) == ("failed", "model_not_loaded")
    assert "(pytorch_model.bin) are in a format that can run code" in data["message"]
    assert "--allow-pickle" in data["message"]
    live.close()
    allowed = LiveService(ServerSettings(model=str(path), allow_pickle=True))
    assert ended(allowed.start())[0] == "done"
    allowed.close()


def test_load_model_itself_refuses_them_too(folder, tmp_path):
    path = pickled(folder, tmp_path / "pickled")
    with pytest.raises(load.ModelLoadError):
        load.load_model(path, safetensors_only=True)
    assert load.load_model(path)[0].dtype == torch.float32


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    path, mark = tmp_path / "own", tmp_path / "it-ran"
    shutil.copytree(folder, path)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    live = LiveService(ServerSettings(model=str(path)))
    name, data = ended(live.start())
    live.close()
    assert (name, data["code"]) == ("failed", "model_not_loaded")
    assert "start the server with --trust-remote-code if you trust it" in data["message"]
    assert not mark.exists()


def test_a_broken_model(folder, tmp_path):
    path = tmp_path / "broken"
    shutil.copytree(folder, path)
    (path / "model.safetensors").write_bytes(b"not a model")
    live = LiveService(ServerSettings(model=str(path)))
    name, data = ended(live.start())
    live.close()
    assert (name, data["code"]) == ("failed", "model_not_loaded")
    assert "Traceback" not in data["message"]


def test_the_memory_of_this_machine():
    everything, free = memory.total(), memory.available()
    assert everything is not None
    assert free is not None
    assert 0 < free <= everything
    assert 0 < memory.budget() <= 4 << 30
    assert model.device_maps()[:2] == ["cpu", "auto"]
