"""The schedule of the CUDA kernel: every pair of tiles with a visible pair of positions is in exactly one item."""

import ctypes
from dataclasses import dataclass

import cuda_emulator
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(cuda_emulator.COMPILER is None, reason="no Linux with g++ to build the schedule with")
KEYS = 128  # per thread block


class Schedule(ctypes.Structure):
    """`Schedule` of schedule.h."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in ("N", "window", "queries", "cluster", "group", "tiles", "blocks", "part_tiles", "parts")
    ]


class Workspace(ctypes.Structure):
    """`Workspace` of schedule.h."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("row_bias", "key_bias", "high", "low", "factor", "rows", "active", "partial", "bytes")
    ]


@dataclass
class Cut:
    """A schedule with readers for its items and parts."""

    library: ctypes.CDLL
    schedule: Schedule

    def __getattr__(self, name):
        return getattr(self.schedule, name)

    @property
    def items(self):
        return self.library.item_count(ctypes.byref(self.schedule))

    def list(self, function, first, count, width):
        to = np.full((count, width), -1, np.int32)
        function(ctypes.byref(self.schedule), first, count, to.ctypes.data_as(ctypes.c_void_p))
        return to

    def item(self, first=0, count=None):
        """Return (count, 4): block, part, first tile, end of the tiles."""
        return self.list(self.library.list_items, first, self.items - first if count is None else count, 4)

    def parts_of(self, first=0, count=None):
        return self.list(self.library.list_parts, first, self.blocks if count is None else count, 2)

    def masked(self):
        """Return (tiles, cluster blocks)."""
        to = np.full((self.tiles, self.cluster * self.blocks), -1, np.int8)
        self.library.list_masked(ctypes.byref(self.schedule), to.ctypes.data_as(ctypes.c_void_p))
        return to


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    built = cuda_emulator.build("schedule.cpp", tmp_path_factory.mktemp("schedule"))
    for name in ("rows_padded", "most_part_bytes", "most_tokens"):
        getattr(built, name).restype = ctypes.c_int64
    built.rows_padded.argtypes = [ctypes.c_int64]
    built.make_plan.argtypes = [ctypes.c_int] * 2 + [ctypes.c_int64] + [ctypes.c_int] * 3
    built.make_plan.argtypes += [ctypes.c_int64, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    built.list_workspace.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_bool, ctypes.c_void_p]
    return built


def cut(library, N, window, queries=128, cluster=2, group=8, parts=1):
    schedule = Schedule()
    library.make_schedule(N, window, queries, cluster, group, parts, ctypes.byref(schedule))
    return Cut(library, schedule)


def planned(library, N, window, O, queries=128, cluster=2, group=8, H=32, D=128, slots=66):
    schedule = Schedule()
    library.make_plan(N, window, O, queries, cluster, group, H, D, slots, ctypes.byref(schedule))
    return Cut(library, schedule)


def visible(N, window, queries):
    """Return two arrays (tiles, blocks of 128 keys): the number of existing pairs and of visible pairs of positions."""
    i, j = np.arange(N)[:, None], np.arange(N)[None, :]
    seen = (j <= i) & (i - j < window)

    def by_tile(pairs):
        return np.add.reduceat(np.add.reduceat(pairs, np.arange(0, N, queries), 0), np.arange(0, N, KEYS), 1)

    return by_tile(np.ones((N, N), np.int64)), by_tile(seen.astype(np.int64))


def check_cover(s, window):
    """Check the cover by the definition, pair by pair."""
    existing, seen = visible(s.N, window, s.queries)
    assert s.tiles == len(existing)
    assert s.blocks == -(-s.N // (KEYS * s.cluster))
    covered = np.zeros((s.tiles, s.blocks), int)
    parts_with_tiles = [set() for _ in range(s.blocks)]
    written = set()
    for block, part, begin, end in s.item():
        assert 0 <= block < s.blocks
        assert 0 <= part < s.parts
        assert (block, part) not in written  # two writers would have no defined order
        written.add((block, part))
        if begin < end:
            assert part * s.part_tiles <= begin < end <= min(s.tiles, (part + 1) * s.part_tiles)
            covered[begin:end, block] += 1
            parts_with_tiles[block].add(part)
    by_cluster = np.add.reduceat(seen, np.arange(0, seen.shape[1], s.cluster), 1)
    np.testing.assert_array_equal(covered, (by_cluster > 0).astype(int))
    for block, (begin, end) in enumerate(s.parts_of()):
        assert parts_with_tiles[block] == set(range(begin, end))
        assert begin < end
    hidden = existing > seen
    masked = s.masked()[:, : hidden.shape[1]]
    asked = (covered > 0).repeat(s.cluster, 1)[:, : hidden.shape[1]]
    assert masked[hidden & asked].all()


@pytest.mark.parametrize("N", [1, 127, 128, 129, 255, 256, 257, 383, 1000, 1537])
@pytest.mark.parametrize(("queries", "cluster"), [(128, 1), (128, 2), (192, 1), (192, 2)])
def test_each_pair_of_tiles_is_in_one_item(library, N, queries, cluster):
    for window in (1, 2, 64, 128, 129, 300, N - 1, N, N + 5):
        if window > 0:
            for group, parts in ((1, 1), (8, 1), (3, 4), (2, 16)):
                check_cover(cut(library, N, window, queries, cluster, group, parts), window)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_schedule(library, data):
    N = data.draw(st.integers(1, 2000))
    window = data.draw(st.integers(1, N + 3))
    queries, cluster = data.draw(st.sampled_from([128, 192])), data.draw(st.integers(1, 2))
    group, parts = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 20))
    check_cover(cut(library, N, window, queries, cluster, group, parts), window)


def test_inner_tiles_are_not_masked(library):
    """Most tiles of a long call have no hidden pair and need no mask."""
    s = cut(library, 8192, 8192)
    assert s.masked().mean() < 0.6
    assert not s.masked()[10, :8].any()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_plans_stay_within_the_limits(library, data):
    N = data.draw(st.integers(1, 40_000))
    window = data.draw(st.one_of(st.just(N), st.integers(1, N)))
    O, H = data.draw(st.sampled_from([1, 5, 16, 100, 128, 2000, 40_000])), data.draw(st.integers(1, 64))
    queries, cluster = data.draw(st.sampled_from([128, 192])), data.draw(st.integers(1, 2))
    s = planned(library, N, window, O, queries, cluster, H=H, slots=132 // cluster)
    assert 1 <= s.parts <= library.most_parts()
    assert s.part_tiles <= library.most_tiles()
    assert s.parts == 1 or 4 * O * N * s.parts <= library.most_part_bytes()
    assert s.parts * s.part_tiles >= s.tiles > (s.parts - 1) * s.part_tiles
    check_workspace(s, O, H)


def check_workspace(s, O, H):
    """Check that pieces follow one another at multiples of 256 bytes and are as large as the kernel's indices need."""
    queries, keys, rows = s.tiles * s.queries, s.blocks * s.cluster * KEYS, s.library.rows_padded(O)
    assert rows >= O
    assert rows % (1 if O == 1 else 16 if O <= 16 else 64) == 0
    for key_bias in (False, True):
        at = Workspace()
        s.library.list_workspace(ctypes.byref(s.schedule), O, H, key_bias, ctypes.byref(at))
        pieces = [
            (at.row_bias, 4 * H * queries),
            (at.key_bias, 4 * H * keys * key_bias),
            (at.high, 2 * rows * queries * (O > 1)),
            (at.low, 2 * rows * queries * (O > 1)),
            (at.factor, 4 * s.tiles * rows * (O > 1)),
            (at.rows, 4 * queries * (O == 1)),
            (at.active, 4 * s.tiles),
            (at.partial, 4 * s.parts * O * s.N * (s.parts > 1)),
        ]
        assert all(begin % 256 == 0 for begin, _ in pieces)
        ends = [begin + size for begin, size in pieces]
        begins = [begin for begin, _ in pieces[1:]] + [at.bytes]
        assert all(end <= begin for end, begin in zip(ends, begins, strict=True))
        assert at.bytes <= sum(size for _, size in pieces) + 256 * len(pieces)


@pytest.mark.parametrize("N", [131_072, 1_000_003, 1 << 20])
@pytest.mark.parametrize("window", [None, 1, 4096])
@pytest.mark.parametrize(("queries", "cluster"), [(128, 2), (192, 1)])
def test_a_million_tokens(library, N, window, queries, cluster):
    s = planned(library, N, window or N, 2000, queries, cluster, slots=132 // cluster)
    assert s.part_tiles <= library.most_tiles()
    check_workspace(s, 2000, 128)
    check_far(s, window or N)


def test_the_largest_number_of_tokens(library):
    """Every number fits its type."""
    N = library.most_tokens()
    for window in (N, 1 << 20, 1):
        s = cut(library, N, window)
        assert s.part_tiles <= library.most_tiles()
        check_workspace(s, 1, 1)
        check_far(s, window)


def check_far(s, window):
    """Check the first and last items and the parts of the first and last blocks, computed in Python."""
    keys = KEYS * s.cluster

    def seen_by(block):
        last = min(s.N, (block + 1) * keys) - 1
        return block * keys // s.queries, min(s.N - 1, last + window - 1) // s.queries + 1

    assert 0 < s.items < 2**31 // s.cluster  # a grid of thread blocks
    for first in (0, s.items // 2, s.items - 40):
        for block, part, begin, end in s.item(max(first, 0), min(40, s.items)).tolist():
            low, high = seen_by(block)
            assert (begin, end) == (max(low, part * s.part_tiles), min(high, (part + 1) * s.part_tiles))
    for first in (0, s.blocks - 3):
        for block, (begin, end) in enumerate(s.parts_of(max(first, 0), min(3, s.blocks)).tolist(), max(first, 0)):
            low, high = seen_by(block)
            assert (begin, end) == (low // s.part_tiles, (high - 1) // s.part_tiles + 1)
