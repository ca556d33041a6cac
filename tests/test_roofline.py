"""The arithmetic of bench/roofline.py: counts by hand and by walking loops, the schedule, the page that shows it."""

import importlib
import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))


def module(name):
    return importlib.import_module(name)


def step(**changes):
    return replace(module("gpu_shapes").HEADLINE, **changes)


def test_the_rates_are_those_of_the_data_sheet():
    units = module("roofline_units")
    assert pytest.approx(989.4e12, rel=1e-3) == units.TENSOR * units.PROCESSORS * 1.83e9
    assert pytest.approx(3.35e12) == units.HBM * units.PROCESSORS * units.CLOCK


@pytest.mark.parametrize(("D", "tensor"), [(64, 512), (128, 1024), (256, 2048)])
def test_clocks_of_a_head_counted_by_hand(D, tensor):
    """128 x 128 elements: 2 D operations each, one exponential, two multiply-adds."""
    units = module("roofline_units")
    head, exponentials, tile = units.clocks(step(D=D, O=1, H=1, G=1), units.Layout())
    assert head["tensor"] == tensor == 2 * 128 * 128 * D / 4096
    assert exponentials["exponentials"] == 1024
    assert exponentials["multipliers"] == 256
    assert tile["multipliers"] == 128  # times R
    assert "tensor" not in tile


@pytest.mark.parametrize(("width", "held"), [(64, False), (128, False), (64, True)])
def test_bytes_of_shared_memory_counted_by_walking_the_products(width, held):
    """Two warpgroups of 64 keys, D / 16 products of 64 x width x 16 for each `width` queries; Q comes by the copies."""
    units = module("roofline_units")
    D = 128
    found = 0
    for _warpgroup, _queries, _columns in itertools.product(range(2), range(0, 128, width), range(0, D, 16)):
        found += (0 if held else 64 * 16 * 2) + width * 16 * 2
    found += 128 * D * 2 + 128 * 4
    layout = units.Layout(width=width, from_registers=held)
    head, _, _ = units.clocks(step(D=D, O=1, H=1, G=1), layout)
    assert head["shared memory"] == found / 128


@pytest.mark.parametrize(("H", "G", "resident"), [(1, 1, 1), (4, 4, 1), (32, 8, 1), (4, 4, 4), (8, 4, 2), (2, 2, 2)])
def test_loads_of_keys_counted_by_walking_the_heads(H, G, resident):
    """Up for one tile, down for the next; what was used longest ago makes room."""
    units = module("roofline_units")
    held, loads, tiles = [], 0, 40
    for tile in range(tiles):
        for h in range(H) if tile % 2 == 0 else range(H - 1, -1, -1):
            key = h // (H // G)
            if key in held:
                held.remove(key)
            else:
                loads += tile > 1  # the first tiles fill it
                del held[: max(0, len(held) - resident + 1)]
            held.append(key)
    assert units.key_loads(step(H=H, G=G), units.Layout(resident=resident)) == loads / (tiles - 2)


def test_the_product_with_the_rows():
    """Three products for O rows padded to 16 or 64, once for all heads; both parts of R by the copies."""
    units = module("roofline_units")
    for O, rows in ((2, 16), (16, 16), (17, 64), (128, 128), (130, 192), (512, 512)):
        _, _, tile = units.clocks(step(O=O), units.Layout())
        assert tile["tensor"] == 3 * 2 * 128 * 128 * rows / 4096
        products = 2 * 3 * 128 / 16 * rows * 16 * 2
        assert tile["shared memory"] == (products + 2 * rows * 128 * 2) / 128
        in_memory = 128 * rows * 4 if O > 128 else 0
        assert tile["L2"] == pytest.approx((rows * 128 * 2 + in_memory) / units.L2)


def test_nothing_overlapped_is_slower_than_what_is_not():
    roofline, units = module("roofline"), module("roofline_units")
    peak = units.TENSOR * units.PROCESSORS * units.CLOCK / 1e12
    for D, O, (H, G), changes in itertools.product(
        (64, 128, 256), (1, 16, 128, 512), roofline.HEADS, roofline.LAYOUTS.values()
    ):
        call = step(D=D, O=O, H=H, G=G)
        found = units.ceiling(call, replace(units.compiled(call), **changes))
        assert 0 < found.series <= found.written <= found.overlapped <= peak * 1.000001
        assert found.busy[found.bound] == max(found.busy.values())


def test_what_bounds_few_heads():
    """One head with 128 rows: the tensor cores, by the rows; four heads of four key heads: the loads of K."""
    units = module("roofline_units")
    assert units.ceiling(step(H=1, G=1)).bound == "tensor"
    assert units.ceiling(step(H=1, G=1)).overlapped == pytest.approx(units.ceiling(step(H=1, G=1, O=1)).overlapped / 4)
    assert units.ceiling(step(H=4, G=4, O=16)).bound == "L2"
    assert units.ceiling(step(H=32, G=8, D=64)).bound == "exponentials"


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_schedule_is_that_of_the_kernel(tmp_path):
    """Parts and the tiles of every item, as csrc/cuda/schedule.h cuts them."""
    (tmp_path / "schedule.cpp").write_text("""
#include "plan.h"
#include <cstdio>
#include <cstdlib>
int main(int, char** v) {
    auto n = [&](int i) { return std::atoi(v[i]); };
    auto s = attributor::cuda::plan(n(1), n(1), n(2), n(3), n(4), n(5), n(6), n(7), n(8), 132 / n(4));
    std::printf("%d", s.parts);
    for (int i = 0; i < s.items(); ++i) std::printf(" %d", s.item(i).tiles.count());
}
""")
    program = tmp_path / "schedule"
    subprocess.run(
        ["c++", "-std=c++17", f"-I{ROOT / 'csrc' / 'cuda'}", "-o", program, tmp_path / "schedule.cpp"], check=True
    )
    plan = module("roofline_schedule").plan
    chosen = set()
    for N, O, H, D, queries, cluster, group, parts in (
        (32_768, 128, 32, 128, 128, 2, 8, 0), (131_072, 512, 1, 128, 128, 2, 8, 0), (8191, 1, 1, 64, 192, 1, 4, 0),
        (1000, 16, 4, 64, 128, 2, 8, 5), (8192, 512, 32, 256, 128, 2, 16, 0), (8192, 16, 4, 128, 128, 2, 8, 0),
    ):  # fmt: skip
        given = [str(x) for x in (N, O, queries, cluster, group, parts, H, D)]
        said = subprocess.run([program, *given], check=True, capture_output=True, text=True).stdout.split()
        found = plan(step(N=N, O=O, H=H, G=1, D=D), cluster * 128, queries, group, 132 // cluster, parts)
        counts = [int(count) for count in said[1:]]
        assert (found.parts, list(found.counts)) == (int(said[0]), counts)
        assert max(max(counts), sum(counts) / (132 // cluster)) <= found.longest <= sum(counts)
        chosen.add(found.parts)
    assert len(chosen) > 2


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_layout_is_that_of_the_kernel(tmp_path):
    """Whether Y is held, as csrc/cuda/launch.h decides it, which also leaves K its registers or not."""
    text = (ROOT / "csrc" / "cuda" / "launch.h").read_text("utf-8")
    found = re.search(r"constexpr int MANY_HEADS.*?^}", text, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "rows.cpp").write_text(f"""
#include <cstdint>
#include <cstdio>
#include <cstdlib>
enum class Rows {{ one, to_16, to_64, to_128, more }};
{found[0]}
int main(int, char** v) {{
    const char* names[] = {{"one", "to_16", "to_64", "to_128", "more"}};
    std::puts(names[static_cast<int>(rows_of(std::atoi(v[1]), std::atoi(v[2]), std::atoi(v[3]), false))]);
}}
""")
    program = tmp_path / "rows"
    subprocess.run(["c++", "-std=c++17", "-o", program, tmp_path / "rows.cpp"], check=True)
    compiled = module("roofline_units").compiled
    for O, H, D in itertools.product((1, 16, 17, 64, 65, 128, 129), (1, 7, 8), (64, 128, 256)):
        given = [str(x) for x in (O, H, D)]
        rows = subprocess.run([program, *given], check=True, capture_output=True, text=True).stdout.strip()
        layout = compiled(step(O=O, H=H, G=1, D=D))
        assert (layout.held < O) == (rows == "more"), (O, H, D)
        assert layout.from_registers == (D <= 128 and rows in ("one", "to_16", "more"))


def test_the_cuts_that_are_measured_are_those_of_the_kernel():
    """Named by the fields of Tuning; each has an expectation, the first is what is chosen."""
    tuning, units = module("gpu_tuning"), module("roofline_units")
    text = (ROOT / "csrc" / "cuda" / "flow_step.h").read_text("utf-8")
    fields = re.findall(
        r"^    (?:int|bool) (\w+) = ", text.partition("struct Tuning {")[2].partition("};")[0], re.MULTILINE
    )
    assert fields
    assert {name for cut in tuning.CUTS for name in cut} == set(fields)
    names = [tuning.named(cut) for cut in tuning.CUTS]
    assert len(set(names)) == len(names)
    assert tuning.CUTS[0] == {}
    for call in tuning.STEPS:
        chosen = tuning.allowed(call, {})
        assert chosen == pytest.approx(call.flops / units.seconds(call) / 1e12)
        assert all(0 < tuning.allowed(call, cut) < 989 for cut in tuning.CUTS)
        assert tuning.allowed(call, {"cluster": 1}) <= chosen
    assert tuning.allowed(step(), {"keys_shared": True}) < 0.8 * tuning.allowed(step(), {})


def test_the_page_shows_what_the_program_prints():
    page = (ROOT / "docs" / "gpu-roofline.md").read_text("utf-8")
    assert module("roofline").markdown().strip() in page, "python bench/roofline.py prints other tables"
