"""Memory of the live view: evicted recordings, runs that do not fit, and tensors that are released."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import pytest
import torch
from live_client import PROMPT, serving, wait_for
from live_service import ANSWER, client, error, folder, info, model  # noqa: F401

import attributor
from attributor import _flow
from attributor.web.live import memory
from attributor.web.live.service import ServerSettings


def test_evicted_recordings_keep_their_flows(folder):
    with serving(ServerSettings(model=str(folder))) as client:
        client.live.start()
        first = client.run(answer=ANSWER)
        nbytes = client.live.runs.get_recorded(first["flow"]).recording.nbytes
        client.live.runs.budget = int(2.6 * nbytes)
        made = [first, *(client.run(answer=ANSWER) for _ in range(2))]
        listed = client.get("/api/runs").json()
        assert [run["recorded"] for run in listed["runs"]] == [True, True, False]
        assert listed["used"] <= listed["budget"] == client.live.runs.budget
        assert client.live.get_view(made[0]["flow"]).scores.total.any()


@pytest.mark.parametrize("weights", ["mean", "output_norm"])
def test_a_run_above_the_budget_keeps_its_flow_and_a_note(folder, model, weights):
    with serving(ServerSettings(model=str(folder), memory_budget=20_000)) as client:
        client.live.start()
        made = client.run(answer=ANSWER, weights=weights)
        run = info(client, made["run"])
        assert run["recorded"] is False
        assert len(run["notes"]) == 1
        assert "the budget for all runs is 20 kB (--memory-budget)" in run["notes"][0]
        flow = client.live.runs.get_flow(made["flow"])
        expected = attributor.flow(model[0], flow.ids, prompt_length=flow.prompt_length, weights=weights)
        torch.testing.assert_close(flow.scores, expected.scores, rtol=1e-4, atol=1e-6)
        assert error(client.post(f"/api/runs/{made['run']}/weigh", json={"weights": "mean"}), 409)["code"] == (
            "recording_gone"
        )


def test_only_weighted_heads_are_recorded_if_all_would_not_fit(folder, monkeypatch):
    recorded = []
    inner = _flow.api.Recorder

    def watched(weights, **options):
        recorded.append(weights.count)
        return inner(weights, **options)

    monkeypatch.setattr(_flow.api, "Recorder", watched)
    rule = attributor.Weights.of_heads((2, 4), {(1, 3): 0.1})
    monkeypatch.setattr("attributor._heads.resolution._retrieval_weights", lambda *_: rule)
    with serving(ServerSettings(model=str(folder), memory_budget=20_000)) as client:
        client.live.start()
        client.run(answer=ANSWER, weights="retrieval")
        client.live.runs.budget = 1 << 30
        client.run(answer=ANSWER, weights="retrieval")
        monkeypatch.setattr(memory, "available", lambda *_: -(10**9))
        run = client.run(answer=ANSWER, weights="retrieval")["run"]
        assert "and 0 kB are free, so single layers" in info(client, run)["notes"][0]
    assert recorded == [1, 8, 1]


def test_a_recording_keeps_no_values_logits_or_model(folder):
    import gc
    import weakref

    with serving(ServerSettings(model=str(folder))) as client:
        client.live.start()
        made = client.run(max_new_tokens=5)
        kept = client.live.runs.get_recorded(made["flow"]).recording
        there = weakref.ref(client.live.models.require_loaded().model)
        N, G = kept.layer(0).key.shape[1], 2
        gc.collect()
        ours = {held.tensor.data_ptr() for tape in kept.tapes.values() for _, held in tape.key}
        shaped = [
            one
            for one in gc.get_objects()
            if type(one) is torch.Tensor and one.ndim == 4 and one.shape[:3] in ((1, G, N), (1, G, N - 1))
        ]
        assert shaped
        assert {one.data_ptr() for one in shaped} <= ours, "the cache's values are kept"
        vocabulary = client.live.models.require_loaded().model.config.vocab_size
        logits = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.shape[-1:] == (vocabulary,)]
        assert all(isinstance(one, torch.nn.Parameter) for one in logits)
        del shaped, logits
        client.live.models._loaded.presets.forget_model()
        client.live.models._loaded = None
        wait_for(lambda: gc.collect() is not None and there() is None)
        assert kept.layer(1).query.shape[0] == 4


def test_out_of_memory_is_reported_and_the_next_run_works(client, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr("attributor._ask.recorded_flow.force_answer", full)
    name, data = client.ended(client.post("/api/runs", json={**PROMPT, "answer": ANSWER}))
    assert (name, data["code"]) == ("failed", "out_of_memory")
    assert "queries and keys of 8 heads for" in data["message"]
    monkeypatch.undo()
    assert client.run(answer=ANSWER)["run"]
