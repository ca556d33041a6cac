"""The source of the CUDA kernel on a CPU: copies, barriers and tensor cores are emulated in any permitted order.

The values agree with the definition in float64, with the budget of test_step.py, and do not depend on the order of
execution. No thread waits forever, reads data before its arrival or writes outside its own data. A kernel with a fault
does not pass.
"""

import cuda_emulator
import cuda_faults
import pytest
import torch
from cuda_emulator import EmulatorError
from flow_step_cases import FLOOR, TENSOR_CORE_FLOOR, case, error, truth
from hypothesis import given, settings
from hypothesis import strategies as st

import attributor

pytestmark = pytest.mark.skipif(cuda_emulator.COMPILER is None, reason="no Linux with g++ to build the emulator with")
BF16, FP16 = torch.bfloat16, torch.float16
PLAIN = "64 to_16 bfloat16"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A second thread does not help with such small matrices."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def emulate(tmp_path_factory):
    return cuda_emulator.Emulator(cuda_emulator.build("emulate.cpp", tmp_path_factory.mktemp("emulator")))


def check(emulate, variant, args, options, *, seeds=(1, 2, 3), floor=FLOOR, **how):
    """Check that all seeds give the same bits, within the budget."""
    true = truth(args, options)
    budget = error(attributor.flow_step(*args, **options, impl="reference"), true)
    got = [emulate(variant, args, options, seed=seed, **how) for seed in seeds]
    assert all(torch.equal(one, got[0]) for one in got)
    assert torch.isfinite(got[0]).all()
    assert error(got[0], true) <= 2 * budget + floor
    assert ((got[0].double() - true).abs() <= 1e-4 * true.abs().amax(1, keepdim=True) + 1e-12).all()
    return got[0]


@pytest.mark.parametrize("N", [1, 63, 64, 129, 300, 517])
@pytest.mark.parametrize("parts", [1, 3])
def test_lengths(emulate, N, parts):
    check(emulate, PLAIN, *case(N, dtype=BF16), parts=parts, group=1 if parts == 3 else 8)


VARIANTS = {
    "64 one bfloat16": {"O": 1},
    "64 to_128 float16": {"O": 100},
    "64 to_64 bfloat16 general": {"O": 50, "key_bias": True},
    "64 to_16 float16 general": {"O": 16, "softcap": 20.0},
    "64 more bfloat16": {"O": 200},
    "64 to_16 bfloat16 keys shared": {"H": 5, "G": 3},
    "128 to_16 float16": {"D": 128},
    "128 to_128 bfloat16": {"D": 128, "O": 128},
    "256 to_16 bfloat16 general": {"D": 256, "H": 2, "G": 1, "key_bias": True},
    "256 one float16": {"D": 256, "O": 1, "H": 2},
    "256 to_64 bfloat16": {"D": 256, "O": 17, "H": 2},
    "256 more bfloat16 general": {"D": 256, "O": 65, "H": 2, "softcap": 20.0},
    "64 to_16 bfloat16 alone": {},
    "64 to_16 bfloat16 turns": {},
    "64 to_16 bfloat16 192 turns": {},
    "64 one bfloat16 192 turns alone polynomial": {"O": 1},
    "128 more bfloat16 192 turns": {"D": 128, "O": 70, "H": 2},
}


def dtype_of(variant):
    return FP16 if "float16" in variant.split() else BF16


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_right_over_several_tiles(emulate, variant):
    check(emulate, variant, *case(450, dtype=dtype_of(variant), **VARIANTS[variant]))


def test_every_variant_is_tested(emulate):
    assert sorted(emulate.variants) == sorted([PLAIN, *VARIANTS])


@pytest.mark.parametrize(
    ("variant", "D"), [(PLAIN, 1), (PLAIN, 40), ("128 to_16 float16", 80), ("256 one float16", 136)]
)
def test_padded_head_sizes_are_right(emulate, variant, D):
    O = 1 if "one" in variant else 5
    check(emulate, variant, *case(150, D, O=O, dtype=dtype_of(variant)))


@pytest.mark.parametrize(
    ("variant", "O"),
    [(PLAIN, 2), (PLAIN, 16), ("64 to_128 float16", 17), ("64 to_128 float16", 64), ("64 to_128 float16", 65),
     ("64 to_128 float16", 128), ("64 more bfloat16", 64), ("64 more bfloat16", 129), ("64 more bfloat16", 300)],
)  # fmt: skip
def test_numbers_of_rows(emulate, variant, O):
    check(emulate, variant, *case(270, 64, 2, 1, O=O, dtype=dtype_of(variant)), seeds=(3,))


@pytest.mark.parametrize("variant", [PLAIN, "64 to_16 bfloat16 keys shared", "64 to_16 bfloat16 turns"])
@pytest.mark.parametrize(("H", "G"), [(1, 1), (3, 3), (5, 3), (9, 3)])
def test_grouped_heads(emulate, variant, H, G):
    check(emulate, variant, *case(300, 64, H, G, dtype=BF16))


@pytest.mark.parametrize("window", [1, 17, 64, 100, 200])
@pytest.mark.parametrize("variant", [PLAIN, "64 to_16 bfloat16 192 turns"])
def test_windows(emulate, variant, window):
    check(emulate, variant, *case(450, 64, 2, 1, dtype=BF16, window=window))
    check(emulate, variant, *case(450, 64, 2, 1, dtype=BF16, window=window), parts=3, group=1, seeds=(3,))


@pytest.mark.parametrize("options", [{"power": 3.0}, {"power": 0.5}, {"window": 70, "power": 2.0}], ids=str)
def test_power(emulate, options):
    check(emulate, PLAIN, *case(300, dtype=BF16, **options))


@pytest.mark.parametrize("options", [{"softcap": 5.0}, {"key_bias": True}], ids=str)
def test_general_options(emulate, options):
    check(emulate, "64 to_16 float16 general", *case(300, dtype=FP16, **options))


def test_all_options_at_once(emulate):
    options = {"softcap": 20.0, "power": 2.0, "key_bias": True, "window": 70}
    check(emulate, "64 to_64 bfloat16 general", *case(300, 40, 6, 2, 20, BF16, **options))


def test_a_bias_of_minus_infinity_excludes_its_pairs(emulate):
    args, options = case(200, 64, dtype=FP16, key_bias=True)
    args[3][:, 70] = float("-inf")
    args[3][1, 100:140] = float("-inf")
    args[4][:, 0] = float("-inf")
    args[4][2, 30:50] = float("-inf")
    assert not check(emulate, "64 to_16 float16 general", args, options)[:, 0].any()
    args[3][:] = float("-inf")
    assert not emulate("64 to_16 float16 general", args, options).any()


@pytest.mark.parametrize("variant", [PLAIN, "64 more bfloat16", "64 one bfloat16", "64 to_16 bfloat16 turns"])
def test_tiles_without_rows_are_skipped(emulate, variant):
    O = {"one": 1, "more": 70}.get(variant.split()[1], 5)
    args, options = case(520, 64, 2, 1, O=O, dtype=BF16)
    args[0][:, :130] = 0
    args[0][:, 200:400] = 0
    args[0][O // 2, 200:] = 0
    for parts in (1, 5):
        check(emulate, variant, args, options, parts=parts)
    args[0][:] = 0
    assert not emulate(variant, args, options).any()
    args[0][:, 40] = 1
    assert not check(emulate, variant, args, options)[:, 41:].any()


@pytest.mark.parametrize("where", ["key", "query", "rows", "infinite bias"])
@pytest.mark.parametrize("variant", [PLAIN, "64 one bfloat16", "64 to_128 float16"])
def test_nan_and_infinity_do_not_spread_to_finite_results(emulate, variant, where):
    """Keys share a scale, as do the queries of a row; values outside its range must not become zero."""
    args, options = case(200, 64, 2, 1, O=VARIANTS.get(variant, {}).get("O", 5), dtype=dtype_of(variant))
    true = truth(args, options)
    hit = torch.zeros_like(true, dtype=torch.bool)  # the elements that such a number affects
    if where == "key":
        args[2][0, 40, 3] = torch.nan
        hit[:, 40] = True
    elif where == "query":
        args[1][0, 70, 3] = torch.nan
        hit[:, :71] = True
    elif where == "rows":
        args[0][-1, 70] = torch.nan
        hit[-1, :71] = True
    else:
        args[3][0, 70] = torch.inf
        hit[:, :71] = True
    got = emulate(variant, args, options)
    assert not got[hit].isfinite().any()
    finite = got.isfinite()
    assert finite.any() or (where == "rows" and len(got) == 1)  # 0 x NaN, if the query of the only row is hidden
    torch.testing.assert_close(got[finite].double(), true[finite], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", [PLAIN, "64 to_128 float16"])
def test_signed_rows_of_any_size(emulate, variant):
    args, options = case(300, 64, O=16, dtype=dtype_of(variant))
    sizes = 10.0 ** torch.linspace(-25, 25, 16)[:, None]
    args = ((args[0] - 0.5) * sizes, *args[1:])
    true, got = truth(args, options), emulate(variant, args, options, seed=4)
    torch.testing.assert_close(got.double() / sizes, true / sizes, rtol=1e-4, atol=1e-5)


ROWS_OF = {"one": (1, 1), "to_16": (2, 16), "to_64": (17, 64), "to_128": (17, 128), "more": (17, 200)}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_call(emulate, data):
    variant = data.draw(st.sampled_from([PLAIN, *VARIANTS]))
    columns, rows, *_ = variant.split()
    general = "general" in variant.split()
    N, D = data.draw(st.integers(1, 400)), data.draw(st.integers(1, int(columns)))
    H, G = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    args, options = case(
        N, D, H, G, data.draw(st.integers(*ROWS_OF[rows])), dtype_of(variant),
        window=data.draw(st.none() | st.integers(1, N + 2)),
        softcap=data.draw(st.none() | st.floats(5, 50)) if general else None,
        power=data.draw(st.floats(0.25, 3)),
        key_bias=general and data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 99)),
    )  # fmt: skip
    first = data.draw(st.integers(0, N))
    args[0][:, first : first + data.draw(st.integers(0, 300))] = 0
    seeds = data.draw(st.lists(st.integers(0, 2**40), min_size=2, max_size=2))
    group, parts = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    check(emulate, variant, args, options, seeds=seeds, group=group, parts=parts)


@pytest.mark.parametrize("variant", [PLAIN, "64 more bfloat16", "64 to_16 bfloat16 turns", "64 to_16 bfloat16 alone"])
def test_the_same_bits_in_any_order(emulate, variant):
    O = 200 if "more" in variant else 5
    check(emulate, variant, *case(300, 64, 3, 2, O=O, dtype=BF16), seeds=range(10, 30))


def test_truncated_products_and_inexact_exponentials_stay_within_the_budget(emulate):
    """Sums of products rounded toward zero, and exponentials with an error of 2 units in the last place."""
    args, options = case(450, 128, dtype=FP16)
    check(emulate, "128 to_16 float16", args, options, floor=TENSOR_CORE_FLOOR, truncate=True, exponential_error=2)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    cuda_faults.write_faulty_sources(cuda_emulator.SOURCES, folder)
    return cuda_emulator.Emulator(cuda_emulator.build("emulate.cpp", folder, folder, "-DATTRIBUTOR_FAULTS"))


# Faults that need more rows to have an effect.
MANY_ROWS = {"rows released before their products": 200, "the factors of other rows": 200}


@pytest.mark.parametrize("name", cuda_faults.FAULTS)
def test_planted_faults_are_detected(emulate, faulty, name):
    O = MANY_ROWS.get(name, 5)
    variant = "64 more bfloat16" if O > 5 else PLAIN
    args, options = case(300, 64, 3, 2, O=O, dtype=BF16)
    args[0].mul_(2.0 ** torch.arange(O)[:, None].remainder(7))
    right = emulate(variant, args, options)
    assert torch.equal(faulty(variant, args, options), right)

    def noticed(seed):
        try:
            got = faulty(variant, args, options, seed=seed, fault=cuda_faults.number(name))
        except EmulatorError:
            return True
        return not torch.equal(got, right)

    assert any(noticed(seed) for seed in range(20))


def test_16_bit_numbers_are_rounded_like_torch(emulate):
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(FP16)
    near = torch.cat([every.float(), every.float().nextafter(torch.tensor(0.0)), torch.randn(9999) * 1e-6])
    midway = (every.float() + every[torch.arange(1 << 16).add(1) % (1 << 16)].float()) / 2
    for numbers in (near, midway):
        numbers = numbers[~numbers.isnan()].contiguous()
        assert torch.equal(emulate.to_half(numbers), numbers.to(FP16))
        assert torch.equal(emulate.from_half(numbers.to(FP16)), numbers.to(FP16).float())


def test_descriptors_equal_those_of_the_kernel():
    """`matrix` is in two files for two compilers; both give the same bits for the same address."""
    bodies = [
        path.read_text("utf-8").split("uint64_t matrix(const void* p) {")[1].split("}\n")[0]
        for path in (cuda_emulator.SOURCES / "ptx.cuh", cuda_emulator.HERE / "tensor_cores.h")
    ]
    assert bodies[0] == bodies[1]
