"""Sums and means of the views agree with flow.by(...) for any range and are fast."""

import json
import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from example_flow import example
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_bytes
from web_cases import flow_file

import attributor
from attributor._errors import FileFormatError, InputError
from attributor._result.flow import Flow, open_mapped
from attributor._result.view import FlowView
from attributor._result.view import scores as module
from attributor._result.view.encode import encode_page_view, encode_view
from attributor._result.view.scores import Scores
from attributor._result.view.top import LargestEdges
from attributor._text.segments import Segment


def random_flow(seed: int, o: int = 70, k: int = 900, signed: bool = False, scale: float = 1.0) -> Flow:
    """Return a flow with short words, documents with gaps, and tokens that share characters or have none."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, k)
    text = "".join(rng.choice(list("abcé .  \n"), int(lengths.sum()) + 1)).replace("  ", ". ")
    stops = np.minimum(np.cumsum(lengths), len(text))
    starts = np.maximum(stops - lengths - rng.integers(0, 2, k) * (rng.random(k) < 0.05), 0)
    starts = np.minimum(np.maximum.accumulate(starts), stops)
    cuts = np.sort(rng.choice(np.arange(1, len(text)), 12, replace=False))
    documents = [Segment(int(a), int(b), "") for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
    scores = rng.standard_normal((o, k)) if signed else rng.random((o, k)) ** 6
    scores[scores < 0.01 if not signed else np.zeros_like(scores, bool)] = 0.0
    return Flow(
        scores=torch.from_numpy(scores * scale).float(),
        ids=torch.arange(k + o),
        text=text,
        offsets=torch.from_numpy(np.stack([starts, stops], 1)),
        documents=[documents[i] for i in rng.permutation(len(documents))],
        normalized=False,
    )


def ranges(count: int, seed: int, n: int = 12) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    found = [tuple(int(v) for v in np.sort(rng.choice(count + 1, 2, replace=False))) for _ in range(n)]
    middle = [(count // 2, count // 2 + 1), (count // 2 + 1, count // 2 + 3)]  # mostly within one sentence
    return [(0, count), (0, 1), (count - 1, count), *middle, *found]


def close(got, want, scale=1.0):
    assert got.shape == want.shape
    assert np.abs(np.asarray(got, np.float64) - want).max(initial=0) <= 1e-6 * scale


@pytest.fixture(params=[(0, False, 1.0), (1, True, 1.0), (2, False, 2.0**30)], ids=["shares", "signed", "unnormalised"])
def case(request):
    seed, signed, scale = request.param
    flow = random_flow(seed, signed=signed, scale=scale)
    return flow, Scores(flow), max(float(flow.scores.abs().sum(1).max()), 1e-30)


def units_of(flow: Flow, values: np.ndarray, scores: Scores) -> np.ndarray:
    return np.add.reduceat(values.astype(np.float64), scores.units.first, axis=-1)


def test_rows_returns_the_mean_of_a_range(case):
    flow, scores, scale = case
    exact = flow.scores.double().numpy()
    for start, stop in ranges(len(exact), 0):
        close(scores.rows(start, stop), units_of(flow, exact[start:stop].mean(0), scores), scale)
    close(scores.total, units_of(flow, flow.total().double().numpy(), scores), scale)


def test_sums_agree_with_the_flow(case):
    flow, scores, scale = case
    for by in ("sentence", "document"):
        grouped = flow.by(by)
        assert len(grouped) > 3
        for start, stop in ranges(len(flow.scores), 1):
            sums, rest = scores.sums(by, start, stop)
            close(sums, grouped.scores[start:stop].double().mean(0).numpy(), scale)
            assert rest == pytest.approx(float(grouped.rest[start:stop].double().mean()), abs=1e-6 * scale)


def test_sums_over_the_prompt_a_range_of_units_for_each_row(case):
    flow, scores, scale = case
    by_unit = units_of(flow, flow.scores.double().numpy(), scores)
    for start, stop in ranges(by_unit.shape[1], 2):
        close(scores.sum_over_prompt(start, stop), by_unit[:, start:stop].sum(1), scale)


def test_base_sums_the_documents_or_else_the_prompt(case):
    flow, scores, scale = case
    close(scores.base, flow.by("document").scores.double().sum(1).numpy(), scale)
    plain = replace(flow, documents=())
    close(Scores(plain).base, plain.scores.double().sum(1).numpy(), scale)


def brute(masses: np.ndarray, rows: tuple[int, int], limit: int, first_piece: int) -> tuple[list, float]:
    """Sort all edges directly: largest first, equal ones by row and piece."""
    narrow = masses[rows[0] : rows[1]].astype(np.float32)
    found = [(-m, r + rows[0], p + first_piece) for (r, p), m in np.ndenumerate(narrow) if m > 0]
    return sorted(found)[:limit], float(narrow[narrow > 0].sum(dtype=np.float64))


@pytest.mark.parametrize("by", ["document", "sentence", "token"])
def test_edges_are_the_largest_and_total_sums_all(case, by):
    flow, scores, scale = case
    exact = flow.scores.double().numpy()
    u = len(scores.units)
    bounds = scores.units.bounds
    for (start, stop), (left, right) in zip(ranges(len(exact), 3, 6), ranges(u, 4, 6), strict=True):
        inside = np.zeros_like(exact)
        inside[:, bounds[left] : bounds[right]] = exact[:, bounds[left] : bounds[right]]
        if by == "token":
            masses, first = units_of(flow, inside, scores), 0
        else:
            part = Flow(
                scores=torch.from_numpy(inside), ids=flow.ids, text=flow.text, offsets=flow.offsets,
                documents=flow.documents,
            ).by(by)  # fmt: skip
            masses, first = np.concatenate([part.rest[:, None], part.scores], axis=1), -1
        for limit in (1, 7, 500):
            got = scores.edges(by, start, stop, limit, left, right)
            want, total = brute(masses, (start, stop), limit, first)
            assert len(got.mass) == len(want)
            close(got.mass, np.array([-m for m, _, _ in want], dtype=np.float64), scale)
            assert got.total == pytest.approx(total, rel=1e-5, abs=1e-6 * scale)
            assert np.all(np.diff(got.mass) <= 0)
            for row, piece, mass in zip(got.rows, got.pieces, got.mass, strict=True):
                assert start <= row < stop
                assert mass == pytest.approx(masses[row, piece - first], rel=1e-5, abs=1e-6 * scale)
            assert len({*zip(got.rows.tolist(), got.pieces.tolist(), strict=True)}) == len(want)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, -1.0, 0.25, 0.5, 1.0, 3.0]), min_size=1, max_size=120),
    width=st.integers(1, 6),
    limit=st.integers(0, 40),
    at_once=st.integers(1, 9),
)
def test_the_first_of_equal_edges_are_kept(values, width, limit, at_once):
    block = np.resize(np.array(values, np.float32), (-(-len(values) // width), width))
    top = LargestEdges(limit)
    for row in range(0, len(block), at_once):
        top.offer(block[row : row + at_once])
    want, total = brute(block, (0, len(block)), limit, 0)
    got = top.edges(0, width, 0)
    assert [*zip((-got.mass).tolist(), got.rows.tolist(), got.pieces.tolist(), strict=True)] == want
    assert got.total == pytest.approx(total)


@pytest.mark.parametrize("kind", ["random", "equal", "rising", "few"])
def test_the_estimated_threshold_loses_no_large_edge(kind):
    n = 64 * module.CACHED // 50
    rng = np.random.default_rng(0)
    values = {
        "random": rng.random(n),
        "equal": np.ones(n),
        "rising": np.arange(n),
        "few": np.where(rng.random(n) < 3e-5, rng.random(n), 0.0),
    }[kind].astype(np.float32)
    for limit in (1, 100, 5_000):
        top = LargestEdges(limit)
        for row in range(0, n, n // 4):
            top.offer(values[None, row : row + n // 4])
        order = np.argsort(-values, kind="stable")[: min(limit, int((values > 0).sum()))]
        assert np.array_equal(top.edges(0, n, 0).pieces % n, order)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.rows(0, 0), "there are 4 rows of the answer; 0 to 0 is no range of them"),
        (lambda s: s.rows(2, 1), "2 to 1 is no range"),
        (lambda s: s.rows(-1, 1), "-1 to 1 is no range"),
        (lambda s: s.rows(0, 5), "0 to 5 is no range"),
        (lambda s: s.sums("token", 0, 1), "by must be one of sentence, document, got 'token'"),
        (lambda s: s.sums("document", 0, 99), "0 to 99"),
        (lambda s: s.sum_over_prompt(0, 10**9), r"pieces of the prompt; 0 to 1000000000"),
        (lambda s: s.edges("word", 0, 1, 5), "by must be one of document, sentence, token"),
        (lambda s: s.edges("token", 0, 1, -1), "limit must be at least 0"),
        (lambda s: s.edges("token", 0, 1, 5, 3, 3), "3 to 3 is no range"),
    ],
)
def test_invalid_ranges_and_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(Scores(example()))


def test_a_flow_without_text_has_only_the_rest():
    scores = Scores(Flow(scores=torch.rand(3, 5), ids=torch.arange(8)))
    for by in ("sentence", "document"):
        sums, rest = scores.sums(by, 0, 3)
        assert sums.shape == (0,)
        assert rest == pytest.approx(float(scores.total.sum()))
    edges = scores.edges("document", 0, 3, 10)
    assert edges.pieces.tolist() == [-1, -1, -1]


def test_nan_is_refused_by_every_method(tmp_path):
    path = flow_file(tmp_path / "a.safetensors", tokens=600, rows=40, sentences=20, documents=2)
    data = bytearray(path.read_bytes())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    at = 8 + int.from_bytes(data[:8], "little") + header["scores"]["data_offsets"][0] + 4 * (600 * 33 + 5)
    for bits in (np.float32(np.nan), np.float32(-np.inf)):
        data[at : at + 4] = bits.tobytes()
        path.write_bytes(data)
        for ask in (
            lambda s: s.rows(33, 34),
            lambda s: s.total,
            lambda s: s.sums("sentence", 0, 1),
            lambda s: s.sum_over_prompt(0, 600),
            lambda s: s.edges("token", 0, 1, 5),
        ):
            with pytest.raises(FileFormatError, match=r"^a\.safetensors has scores that are NaN or infinite"):
                ask(Scores(open_mapped(path), path.name))
    with pytest.raises(FileFormatError):
        encode_view(FlowView(open_mapped(path), name=path.name))


def test_threads_share_one_set_of_cumulative_sums(monkeypatch):
    view = FlowView(random_flow(5))
    made = []
    make = Scores._compute_cumulative_sums
    monkeypatch.setattr(
        Scores, "_compute_cumulative_sums", lambda self: (made.append(1), time.sleep(0.05), make(self))[2]
    )
    want = Scores(random_flow(5)).rows(0, 70)
    made.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(view.scores.rows(0, 70))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.array_equal(one, want) for one in found)
    assert len(made) == 1


def test_cache_bytes_counts_the_cumulative_sums():
    flow = random_flow(6, o=200, k=3_000)
    scores = Scores(flow)
    tracemalloc.start()
    scores.rows(0, 200)
    scores.sums("sentence", 0, 1)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept <= scores.cache_bytes * 1.02 + 20_000
    assert scores.cache_bytes <= 1.3 * flow.scores.nbytes
    one_by_one = Scores(Flow(scores=torch.rand(64, 512), ids=torch.arange(576)))
    one_by_one.rows(0, 64)
    assert one_by_one.cache_bytes <= 64 * 512 * 4


@pytest.fixture(scope="module")
def largest(tmp_path_factory):
    """A flow file of 100,000 tokens x 512 rows, 4,000 sentences, 200 documents."""
    path = tmp_path_factory.mktemp("f1") / "f1.safetensors"
    flow_file(path, tokens=100_000, rows=512, sentences=4_000, documents=200)
    yield path
    path.unlink()


def p95(call, asks) -> float:
    times = []
    for ask in asks:
        start = time.perf_counter()
        call(*ask)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[int(0.95 * len(times))]


def test_the_largest_case_meets_its_time_and_size_limits(largest):
    """Time limits in milliseconds, with slack for a busy machine; size limits in bytes, without slack."""
    view = FlowView(open_mapped(largest))
    data = encode_view(view)
    assert len(data) <= 1_500_000
    assert len(load_bytes(data)["total"]) == 100_000
    scores = view.scores
    assert scores.cache_bytes <= 0.25 * view.flow.arrays.scores.nbytes
    slack = 4
    rows = [(i, i + 1) for i in range(0, 512, 7)]
    assert p95(scores.rows, rows) <= 10 * slack
    assert p95(scores.rows, ranges(512, 0, 40)) <= 10 * slack
    assert p95(lambda *r: scores.sums("sentence", *r), ranges(512, 1, 40)) <= 60 * slack
    assert p95(scores.sum_over_prompt, ranges(100_000, 2, 40)) <= 60 * slack
    for by in ("document", "sentence"):
        assert p95(lambda *r, by=by: scores.edges(by, *r, 1000), ranges(512, 3, 20)) <= 60 * slack


def test_the_largest_case_agrees_with_the_flow(largest):
    flow = attributor.load(largest)
    scores = Scores(open_mapped(largest))
    assert len(flow.sentences) == 4_000
    for by in ("sentence", "document"):
        grouped = flow.by(by)
        for start, stop in [(0, 512), (100, 357), (5, 6)]:
            sums, rest = scores.sums(by, start, stop)
            close(sums, grouped.scores[start:stop].double().mean(0).numpy())
            assert rest == pytest.approx(float(grouped.rest[start:stop].double().mean()), abs=1e-6)
    close(scores.rows(100, 357), flow.scores[100:357].double().mean(0).numpy())


def test_the_page_view_of_the_largest_case_leaves_room_for_text(largest):
    assert len(encode_page_view(FlowView(open_mapped(largest)), 4_000_000)) <= 4_700_000
