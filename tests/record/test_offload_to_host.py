"""Recorded tensors offloaded to main memory, with stand-ins for streams; and error messages when memory runs out."""

from contextlib import nullcontext

import pytest
import torch
from families import VOCABULARY, tiny

from attributor import DeviceMemoryError, InputError, flow, record
from attributor._flow import api as flow_module
from attributor._flow.memory import is_out_of_memory, recorded_bytes
from attributor._models.facts import model_facts
from attributor._record import offload as park

K, N = 40, 47


def ids_of(n=N):
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(1))


class Stream:
    """Log every stream and event that this stream waits for."""

    def __init__(self, log):
        self.log = log

    def wait_stream(self, other):
        self.log.append("waits for what computes")

    def record_event(self):
        return "copied back"

    def wait_event(self, event):
        self.log.append(f"computing waits for: {event}")


@pytest.fixture
def log(monkeypatch):
    """Let every tensor move and log each step."""
    noted = []
    copies = park.OffloadedTensor.fetch

    def fetch(self):
        if self._coming is None:
            noted.append("fetch")
        copies(self)

    def used_on(tensor, stream):
        noted.append("kept until used")

    monkeypatch.setattr(park, "_is_on_gpu", lambda tensor: True)
    monkeypatch.setattr(park, "_stream", lambda device: Stream(noted))
    monkeypatch.setattr(park, "_pinned_like", torch.empty_like)
    monkeypatch.setattr(park, "_mark_used_on", used_on)
    monkeypatch.setattr(park.OffloadedTensor, "fetch", fetch)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(noted))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return noted


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_offloaded_recordings_give_the_same_flow(family, log):
    model = tiny(family)
    expected = flow(model, ids_of(), prompt_length=K, keep="device")
    assert not log
    got = flow(model, ids_of(), prompt_length=K, keep="host")
    assert torch.equal(got.scores, expected.scores)
    assert log.count("waits for what computes") == 8  # a query and a key of four layers
    assert log.count("fetch") == 8
    assert log.count("computing waits for: copied back") == 8
    assert log.count("kept until used") == 16  # once on the way out, once on the way back


def test_the_next_layer_is_prefetched_during_a_step(log, monkeypatch):
    from attributor._flow import sweep as sweep_module

    step = sweep_module.layer_step

    def noting(*arguments):
        log.append("step")
        return step(*arguments)

    monkeypatch.setattr(sweep_module, "layer_step", noting)
    flow(tiny("llama"), ids_of(), prompt_length=K, keep="host")
    order = [entry for entry in log if entry in ("fetch", "step")]
    # the last two layers come first; then each layer is fetched one layer ahead of its step
    assert order == ["fetch"] * 4 + ["step"] + (["fetch"] * 2 + ["step"]) * 2 + ["step"]


def test_an_offloaded_recording_gives_several_flows(log):
    model = tiny("llama")
    with record(model, keep="host") as recording:
        out = model.generate(ids_of(30)[None], max_new_tokens=6, min_new_tokens=6, do_sample=False)
    first, second = recording.flow(out), recording.flow(out)
    expected = flow(model, out[0], prompt_length=30, keep="device")
    assert torch.equal(first.scores, second.scores)
    torch.testing.assert_close(first.scores, expected.scores, rtol=0, atol=2e-6)
    assert recording.nbytes > 4 * 30 * 4 * 16 * 4


@pytest.mark.parametrize(
    ("keep", "free", "expected"),
    [
        ("device", 0, False),
        ("host", 1 << 40, True),
        ("auto", 1 << 40, False),
        ("auto", 0, True),
        # three query heads and as many key heads are still to come: 3 (q + k) / H, plus 8 q
        ("auto", 3 * (4 + 2) * 320 // 4 + 8 * 4 * 320, False),
        ("auto", 3 * (4 + 2) * 320 // 4 + 8 * 4 * 320 - 1, True),
    ],
)
def test_keep_and_free_memory_decide_what_moves(monkeypatch, log, keep, free, expected):
    monkeypatch.setattr(park, "_free_bytes", lambda device: free)
    query, key = torch.zeros(1, 4, 10, 8), torch.zeros(1, 2, 10, 8)
    assert park.Offload(keep).should_move(query, key, 3) is expected


def test_tensors_of_the_cpu_do_not_move():
    query, key = torch.zeros(1, 4, 10, 8), torch.zeros(1, 2, 10, 8)
    assert not park.Offload("host").should_move(query, key, 3)
    got = flow(tiny("llama"), ids_of(), prompt_length=K, keep="host")
    assert "peak_bytes" not in got.meta


def test_an_unknown_value_of_keep_is_refused():
    with pytest.raises(InputError, match="keep must be one of auto, device, host, got 'disk'"):
        flow(tiny("llama"), ids_of(), keep="disk")
    with pytest.raises(InputError, match="keep must be one of"), record(tiny("llama"), keep="disk"):
        pass


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] not enough memory: you tried"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_out_of_memory_errors_name_the_bytes_needed(monkeypatch, error):
    model = tiny("llama")
    before = model.config._attn_implementation

    def full(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(flow_module, "sweep_to_flow", full)
        with pytest.raises(DeviceMemoryError) as caught:
            flow(model, ids_of(), prompt_length=K)
    # 4 layers, 4 query and 2 key heads of 16 float32, for the 46 tokens read
    assert f"queries and keys of 16 heads for 46 tokens take {4 * 6 * 16 * 4 * 46 / 1e6:.1f} MB" in str(caught.value)
    assert "weights='retrieval'" in str(caught.value)
    assert caught.value.__context__ is None  # its traceback would keep the recording alive
    assert model.config._attn_implementation == before
    assert flow(model, ids_of(), prompt_length=K).scores.shape == (N - K, K)


def test_real_out_of_memory_errors_are_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**14)
    assert is_out_of_memory(caught.value)


def test_unpinned_memory_is_used_if_pages_cannot_be_locked(monkeypatch):
    made = torch.empty_like

    def full(tensor, *, pin_memory=False, **options):
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return made(tensor, **options)

    monkeypatch.setattr(torch, "empty_like", full)
    tensor = torch.zeros(2, 3, 4).transpose(1, 2)
    assert park._pinned_like(tensor).stride() == tensor.stride()


def test_other_errors_stay_as_they_are(monkeypatch):
    def wrong(*_, **__):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(flow_module, "sweep_to_flow", wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        flow(tiny("llama"), ids_of(), prompt_length=K)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_recorded_bytes_count_a_shared_key_head_once():
    model = tiny("llama")
    heads = torch.zeros(4, 4)
    heads[0, 0] = heads[0, 1] = heads[3, 2] = 1  # two query heads of one KV head, one of another
    assert recorded_bytes(model_facts(model), heads, 100) == (3 + 2) * 16 * 4 * 100
