"""The store of runs: its memory budget, the order of eviction, and its ids."""

import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from attributor import Flow
from attributor._prompt.sequence import TokenSequence
from attributor._record.head_weights import HeadWeights
from attributor.web.http.errors import ApiError
from attributor.web.live import runs as module
from attributor.web.live.runs import LiveRun, RecordingGone, RunStore, SharedRecording, format_bytes, pick_title

OWN = 2 * 3 * 4 + 5 * 8  # the scores and ids of `run`


def shared(nbytes):
    return SharedRecording(SimpleNamespace(), TokenSequence(torch.arange(5), 3), nbytes)


def run(title="t", recording=None, rows=2):
    flow = Flow(scores=torch.rand(rows, 3), ids=torch.arange(3 + rows))
    return LiveRun(title, "m", flow, SimpleNamespace(), HeadWeights(torch.ones(1, 1)), "mean", shared=recording)


def titles(store):
    return [one.title for one in store.all()]


def test_a_shared_recording_counts_once():
    store, one = RunStore(10_000), shared(1000)
    for title in "ab":
        store.add(run(title, one))
    store.add(run("c", shared(500)))
    assert store.used == 1500 + 3 * OWN
    assert titles(store) == ["c", "b", "a"]


def test_the_least_recently_used_recording_is_evicted_first():
    store = RunStore(2500)
    first, second = run("first", shared(1000)), run("second", shared(1000))
    store.add(first)
    store.add(second)
    assert store.get_recorded(first.flow_id).length == 4  # now the second one is the least recently used
    store.add(run("third", shared(1000)))
    assert titles(store) == ["third", "second", "first"]
    assert first.shared is not None
    assert second.shared is None
    assert store.get_flow(second.flow_id) is second.flow
    with pytest.raises(RecordingGone, match="to make room for others; the flow itself is still there") as gone:
        store.get_recorded(second.flow_id)
    assert (gone.value.status, gone.value.code) == (409, "recording_gone")
    assert store.used <= store.budget


def test_all_runs_lose_an_evicted_recording_at_once():
    store, one = RunStore(2500), shared(1500)
    both = [run("a", one), run("b", one)]
    for each in both:
        store.add(each)
    store.add(run("c", shared(1500)))
    assert [each.shared for each in both] == [None, None]


def test_runs_are_evicted_once_no_recording_is_left():
    store = RunStore(3 * OWN + 10)
    made = [run(str(number)) for number in range(3)]
    for each in made:
        store.add(each)
    store.get_flow(made[0].flow_id)  # used last
    store.add(run("3"))
    assert titles(store) == ["3", "2", "0"]
    with pytest.raises(ApiError) as gone:
        store.get_flow(made[1].flow_id)
    assert (gone.value.status, gone.value.code) == (404, "run_not_found")


def test_the_memory_of_views_counts():
    store, made = RunStore(10_000), run("shown", rows=100)
    store.add(made)
    before = store.used
    store.get_view(made.flow_id)
    assert store.used == before + int(1.2 * made.flow.scores.nbytes)


def test_the_newest_run_is_kept_even_above_the_budget():
    store = RunStore(OWN)
    store.add(run("small"))
    store.add(run("large", rows=1000))
    assert titles(store) == ["large"]


def test_a_recording_above_the_budget_is_dropped_with_a_note():
    store = RunStore(2_000_000)
    store.add(run("before", shared(1_000_000)))
    large = run("large", shared(3_500_000))
    store.add(large)
    assert large.shared is None
    assert "takes 3.5 MB, and the budget for all runs is 2.0 MB (--memory-budget)" in large.notes[0]
    with pytest.raises(RecordingGone, match=r"takes 3\.5 MB"):
        store.get_recorded(large.flow_id)
    assert store.all()[1].shared is not None, "others were given up for nothing"


def test_memory_is_freed_before_a_recording_begins():
    store = RunStore(3000)
    for title in "abc":
        store.add(run(title, shared(900)))
    store.reserve(1000)
    assert [each.shared is None for each in store.all()] == [False, False, True]
    store.reserve(10**9)
    assert all(each.shared is None for each in store.all())
    assert len(store.all()) == 3


def test_removing_a_run_keeps_a_shared_recording():
    store, one = RunStore(10_000), shared(1000)
    a, b = run("a", one), run("b", one)
    store.add(a)
    store.add(b)
    store.remove(a.id)
    assert store.get_recorded(b.flow_id).recording is one.recording
    store.remove(b.id)
    assert store.used == 0
    with pytest.raises(ApiError, match="no such run"):
        store.remove(b.id)


def test_at_most_max_runs_are_stored(monkeypatch):
    monkeypatch.setattr(module, "MAX_RUNS", 3)
    store = RunStore(10**9)
    for number in range(5):
        store.add(run(str(number)))
    assert titles(store) == ["4", "3", "2"]


def test_ids_are_opaque_and_differ_between_run_and_flow():
    made = [run() for _ in range(50)]
    ids = {each.id for each in made} | {each.flow_id for each in made}
    assert len(ids) == 100
    assert all(len(name) >= 12 for name in ids)
    store = RunStore(10**9)
    store.add(made[0])
    for wrong in (made[0].id, made[1].flow_id, "", "../x"):
        with pytest.raises(ApiError):
            store.get_flow(wrong)
    with pytest.raises(ApiError):
        store.get(made[0].flow_id)


def test_the_view_of_a_flow_is_cached_and_shares_its_arrays():
    store, one = RunStore(10**9), run()
    one.question_text = "Who?"
    store.add(one)
    view = store.get_view(one.flow_id)
    assert view is store.get_view(one.flow_id)
    assert view.flow is one.flow
    assert view.question == "Who?"


def test_a_recorded_run_has_the_fields_for_layer_views():
    store, one = RunStore(10**9), run("a", shared(10))
    store.add(one)
    found = store.get_recorded(one.flow_id)
    assert (found.length, found.positions.tolist()) == (4, [2, 3])
    assert found.weights is one.weights
    assert found.flow is one.flow


def test_concurrent_threads_stay_within_the_budget():
    store, failed = RunStore(20_000), []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work(number):
        try:
            for step in range(60):
                one = run(f"{number}-{step}", shared(1500))
                store.add(one)
                store.reserve(2000)
                try:
                    store.get_recorded(one.flow_id)
                    store.get_view(one.flow_id)
                    store.remove(one.id)
                except ApiError:
                    pass
                store.all()
                assert store.used <= 20_000
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert not failed
    assert set(store._runs) == {each.id for each in store.all()}
    assert len(store._flows) == len(store._runs)


def test_sizes_and_titles_are_formatted():
    assert [format_bytes(number) for number in (999, 1_234_567, 14_200_000_000)] == ["1 kB", "1.2 MB", "14.2 GB"]
    assert pick_title(["", " \n", "Who  keeps\nthe light?"]) == "Who keeps the light?"
    assert len(pick_title(["word " * 100])) == 80
    assert pick_title([]) == ""
