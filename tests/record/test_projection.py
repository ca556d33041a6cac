"""Norms of output projections use the matrix that the module applies, whatever its `.weight` holds."""

import copy
import warnings

import pytest
import torch
from families import VOCABULARY, tiny
from torch import nn
from torch.nn.functional import linear

from attributor import UnsupportedModelError, Weights, flow, record
from attributor._heads.resolution import resolve
from attributor._record.attention_interface import attention_modules
from attributor._record.projection import head_gram, head_slices, output_norm

H = 4
IDS = torch.randint(3, VOCABULARY, (30,), generator=torch.Generator().manual_seed(5))
NORMS = Weights("mean", value_norms=True)


def modules_of(model):
    return [module for _, module in sorted(attention_modules(model).items())]


def projection_of(module):
    return next(getattr(module, name) for name in ("o_proj", "out_proj", "dense", "c_proj") if hasattr(module, name))


def slices(matrix):
    """Reshape (hidden, inner) to (H, hidden, Dv)."""
    return matrix.float().unflatten(1, (H, -1)).transpose(0, 1)


def peft_model(base, config, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside transformers, and the layout of Conv1D
        return pytest.importorskip("peft").get_peft_model(base, config, **options).eval()


def adapted(config_of, family="llama", **options):
    """Return a model with random adapters on its output projections, and the matrices of its merged copy."""
    peft = pytest.importorskip("peft")
    base = tiny(family)
    name = "c_proj" if family == "gpt2" else "o_proj"
    torch.manual_seed(1)
    model = peft_model(base, config_of(peft, name, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    merged = copy.deepcopy(model).merge_and_unload()
    weights = [projection_of(module).weight.detach() for module in modules_of(merged)]
    return model.base_model.model, [weight.T if family == "gpt2" else weight for weight in weights]


def lora(peft, name, **options):
    return peft.LoraConfig(r=4, target_modules=[name], lora_dropout=0.5, init_lora_weights=False, **options)


def ia3(peft, name):
    return peft.IA3Config(target_modules=[name], feedforward_modules=[name], init_ia3_weights=False)


class ScaledLinear(nn.Linear):
    """A float8 weight with a separate scale, as in finegrained FP8 checkpoints."""

    def forward(self, x):
        return linear(x, self.weight.to(x.dtype) * self.weight_scale_inv.to(x.dtype), self.bias)


def with_scales():
    model, expected = tiny("llama"), []
    scale = torch.tensor([1.0, 2, 3, 4]).repeat_interleave(16)
    for module in modules_of(model):
        weight = (module.o_proj.weight.detach() * scale).to(torch.float8_e4m3fn)
        module.o_proj = ScaledLinear(64, 48, bias=False)
        module.o_proj.weight = nn.Parameter(weight, requires_grad=False)
        module.o_proj.weight_scale_inv = nn.Parameter(1 / scale)
        expected.append(weight.float() / scale)
    return model, expected


def dynamic_int8():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated
        model = torch.ao.quantization.quantize_dynamic(tiny("llama"), {nn.Linear}, dtype=torch.qint8)
    return model, [module.o_proj.weight().dequantize() for module in modules_of(model)]


def torchao_int8(config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip("torchao.quantization")
        model = tiny("llama")
        quantization.quantize_(model, getattr(quantization, config)())
        return model, [module.o_proj.weight.dequantize().detach() for module in modules_of(model)]


def quanto_int8():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quanto = pytest.importorskip("optimum.quanto")
        model = tiny("llama")
        quanto.quantize(model, weights=quanto.qint8)
        quanto.freeze(model)
        return model, [module.o_proj.weight.dequantize().detach() for module in modules_of(model)]


def offloaded():
    accelerate = pytest.importorskip("accelerate")
    model = tiny("llama")
    expected = [module.o_proj.weight.detach().clone() for module in modules_of(model)]
    model = accelerate.cpu_offload(model)
    assert model.model.layers[0].self_attn.o_proj.weight.device.type == "meta"
    return model, expected


def lying():
    """`.weight` is a plain matrix of the right shape, but the module applies another one."""
    model = tiny("llama")
    expected = []
    for module in modules_of(model):
        applied = torch.randn(48, 64, generator=torch.Generator().manual_seed(len(expected)))
        module.o_proj.forward = lambda x, applied=applied: x @ applied.T
        expected.append(applied)
    return model, expected


def hooked():
    model = tiny("llama")
    for module in modules_of(model):
        module.o_proj.register_forward_hook(lambda _, __, output: 3 * output + 1)
    return model, [3 * module.o_proj.weight.detach() for module in modules_of(model)]


KINDS = {
    "LoRA": lambda: adapted(lora),
    "DoRA": lambda: adapted(lora, use_dora=True),
    "IA3": lambda: adapted(ia3),
    "LoRA on Conv1D": lambda: adapted(lora, "gpt2", fan_in_fan_out=True),
    "float8 with scales": with_scales,
    "dynamic int8": dynamic_int8,
    "torchao int8": lambda: torchao_int8("Int8WeightOnlyConfig"),
    "torchao dynamic int8": lambda: torchao_int8("Int8DynamicActivationInt8WeightConfig"),
    "quanto int8": quanto_int8,
    "offloaded": offloaded,
    "another matrix": lying,
    "hooks": hooked,
}


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_those_of_the_applied_matrix(kind):
    model, expected = KINDS[kind]()
    modules = modules_of(model)
    assert len(modules) == len(expected) == 4
    for module, matrix in zip(modules, expected, strict=True):
        if kind == "torchao dynamic int8":  # it scales the largest activation of a token by 127/127.5
            matrix = matrix * 127 / 127.5
        size = float(matrix.norm())
        torch.testing.assert_close(head_slices(module, H), slices(matrix), rtol=0, atol=1e-6 * size)
        norms = slices(matrix).flatten(1).norm(dim=1)
        torch.testing.assert_close(output_norm(module, H), norms, rtol=2e-6, atol=0)
        gram = slices(matrix)[[2, 0]].mT @ slices(matrix)[[2, 0]]
        torch.testing.assert_close(head_gram(module, H, [2, 0]), gram, rtol=0, atol=1e-6 * size**2)


@pytest.mark.parametrize("kind", ["LoRA", "float8 with scales", "torchao int8", "quanto int8", "offloaded"])
def test_flows_agree_with_the_same_matrices_in_float32(kind):
    """Value norms are computed inside the forward pass, where the projection is called once more."""
    model, expected = KINDS[kind]()
    plain = tiny("llama")
    if kind in ("torchao int8", "quanto int8"):  # these quantise every projection
        for name, module in plain.named_modules():
            if isinstance(module, nn.Linear):
                weight = model.get_submodule(name).weight.detach()
                module.weight.data = (
                    weight.dequantize() if hasattr(weight, "qtype") or hasattr(weight, "qdata") else weight
                )
    for module, matrix in zip(modules_of(plain), expected, strict=True):
        module.o_proj.weight.data = matrix
    for weights in ("output_norm", NORMS):
        got = flow(model, IDS, prompt_length=24, weights=weights).scores
        want = flow(plain, IDS, prompt_length=24, weights=weights).scores
        torch.testing.assert_close(got, want, rtol=1e-5, atol=2e-6 * float(want.max()))


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_neox"])
def test_a_bias_does_not_change_the_slices(family):
    for module in modules_of(tiny(family)):
        projection = projection_of(module)
        weight = projection.weight.detach().T if family == "gpt2" else projection.weight.detach()
        projection.bias.data.normal_(std=10)
        assert torch.equal(head_slices(module, H), slices(weight))  # the stored weight itself, not a computed copy
        forward = projection.forward
        projection.forward = lambda x, forward=forward: 2 * forward(x)
        got = head_slices(module, H)
        torch.testing.assert_close(got, 2 * slices(weight), rtol=0, atol=1e-5 * float(weight.norm()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_sixteen_bit_projections_are_read_within_rounding(dtype):
    module = modules_of(tiny("llama", dtype=dtype))[0]
    weight = module.o_proj.weight.detach()
    assert torch.equal(head_slices(module, H), slices(weight))
    forward = module.o_proj.forward
    module.o_proj.forward = lambda x: 3 * forward(x)
    got, size = head_slices(module, H), float(weight.norm())
    torch.testing.assert_close(got, 3 * slices(weight), rtol=torch.finfo(dtype).eps, atol=1e-6 * size)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(head_slices(module, H), got, rtol=0.01, atol=0.01 * size)


def test_a_float8_projection_is_applied_in_the_dtype_of_the_model():
    model, expected = with_scales()
    model.to(torch.bfloat16)
    for module, matrix in zip(modules_of(model), expected, strict=True):
        module.o_proj.weight.data = module.o_proj.weight.data.to(torch.float8_e4m3fn)
        got = head_slices(module, H, torch.bfloat16)
        torch.testing.assert_close(got, slices(matrix), rtol=0.02, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norms = resolve("output_norm", model).heads
    want = torch.stack([slices(matrix).flatten(1).norm(dim=1) for matrix in expected])
    torch.testing.assert_close(norms, want / want.sum(1, keepdim=True), rtol=5e-3, atol=0)


def test_a_difference_in_one_head_is_detected():
    """In 16 bits the difference would vanish in the norm over all heads."""
    module = modules_of(tiny("llama", dtype=torch.bfloat16))[0]
    weight = module.o_proj.weight.detach()
    weight[:, :16] *= 1e-3
    forward = module.o_proj.forward
    factor = torch.ones(64, dtype=torch.bfloat16)
    factor[:16] = 2
    module.o_proj.forward = lambda x: forward(x * factor)
    torch.testing.assert_close(head_slices(module, H), slices(weight * factor))


def test_disabled_switched_and_merged_adapters_are_followed():
    peft = pytest.importorskip("peft")
    base = tiny("llama")
    plain = [module.o_proj.weight.detach().clone() for module in modules_of(base)]
    model = peft_model(base, lora(peft, "o_proj"), adapter_name="a")
    model.add_adapter("b", lora(peft, "o_proj"))
    merged = {}
    for name in ("a", "b"):
        model.set_adapter(name)
        copied = copy.deepcopy(model).merge_and_unload()
        merged[name] = [module.o_proj.weight.detach() for module in modules_of(copied)]

    def check(expected):
        for module, matrix in zip(modules_of(model), expected, strict=True):
            torch.testing.assert_close(head_slices(module, H), slices(matrix), rtol=0, atol=1e-5)

    for name in ("a", "b"):
        model.set_adapter(name)
        check(merged[name])
    with model.disable_adapter():
        check(plain)
    model.merge_adapter()
    check(merged["b"])


def test_an_adapter_may_be_switched_between_two_sequences():
    peft = pytest.importorskip("peft")
    model = peft_model(tiny("llama"), lora(peft, "o_proj"))
    expected = flow(model, IDS, prompt_length=24, weights=NORMS).scores
    with record(model, weights=NORMS) as recording, torch.no_grad():
        with model.disable_adapter():
            model(IDS[None])
        model(IDS[None])
    got = recording.flow(IDS, prompt_length=24).scores
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6 * float(expected.max()))


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda _, args, __: calls.append(args[0].shape))
    return calls


def test_a_plain_weight_is_checked_with_few_calls():
    module = modules_of(tiny("llama"))[0]
    calls = count_calls(module.o_proj)
    head_slices(module, H)
    assert len(calls) == 3
    assert max(shape[-2] for shape in calls) == 12  # one row for each of four heads, plus eight


def test_the_model_and_the_random_state_are_unchanged():
    model, expected = adapted(lora)
    model.train()
    module = modules_of(model)[0]
    module.o_proj.lora_B.eval()
    training = {name: part.training for name, part in model.named_modules()}
    state = torch.get_rng_state()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        got = head_slices(module, H)
    finally:
        torch.set_default_dtype(default)
    assert not got.requires_grad
    torch.testing.assert_close(got, slices(expected[0]), rtol=0, atol=1e-5)  # the dropout of 0.5 is off
    assert training == {name: part.training for name, part in model.named_modules()}
    assert torch.equal(state, torch.get_rng_state())


def round_to_bits(x, bits):
    step = x.abs().max().clamp(min=1e-9) / (2 ** (bits - 1) - 1)
    return (x / step).round() * step


NOT_MATRICES = {
    "tanh": (lambda f: lambda x: f(x).tanh(), "is not linear"),
    "relu": (lambda f: lambda x: f(x).relu(), "is not linear"),
    "clamped input": (lambda f: lambda x: f(x.clamp(-2, 2)), "is not linear"),
    "normalised input": (lambda f: lambda x: f(x / x.norm(dim=-1, keepdim=True).clamp(min=1e-6)), "is not linear"),
    "4-bit activations": (lambda f: lambda x: f(round_to_bits(x, 4)), "is not linear"),
    "NaN": (lambda f: lambda x: f(x) * float("nan"), "returns NaN or infinity"),
    "a pair": (lambda f: lambda x: (f(x), None), "returns tuple for an input of"),
    "integers": (lambda f: lambda x: f(x).int(), "returns .*int32 for an input of"),
    "another error": (lambda f: lambda x: {}["scale"], r"cannot be called for its matrix \(KeyError: 'scale'\)"),
    "no size": (None, "does not say the size of its input"),
}


@pytest.mark.parametrize("case", NOT_MATRICES)
@pytest.mark.parametrize("weights", ["output_norm", NORMS], ids=["output_norm", "value_norms"])
def test_nonlinear_projections_are_refused_by_name(case, weights):
    change, reason = NOT_MATRICES[case]
    model = tiny("llama")
    module = modules_of(model)[1]
    if change is None:
        module.o_proj = nn.Sequential(module.o_proj)
    else:
        module.o_proj.forward = change(module.o_proj.forward)
    kind = type(module.o_proj).__name__
    with pytest.raises(UnsupportedModelError, match=rf"^LlamaAttention\.o_proj \({kind}\) of layer 1 {reason}"):
        resolve(weights, model) if weights == "output_norm" else head_gram(module, H, [0])


def test_an_error_of_the_projection_ends_the_recording_with_its_name():
    model = tiny("llama")
    module = modules_of(model)[1]
    calls, forward = [], module.o_proj.forward

    def fail_at_first(x):
        calls.append(x)
        if len(calls) == 1:
            raise KeyError("scale")
        return forward(x)

    module.o_proj.forward = fail_at_first
    with pytest.raises(UnsupportedModelError, match=r"o_proj .*KeyError.*weights='output_norm' and value norms"):
        flow(model, IDS, weights=NORMS)


@pytest.mark.parametrize("message", ["CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_out_of_memory_is_not_reported_as_a_projection_error(message):
    module = modules_of(tiny("llama"))[0]

    def fail(_):
        raise RuntimeError(message)

    module.o_proj.forward = fail
    with pytest.raises(RuntimeError, match=message):
        head_slices(module, H)


def test_rounded_activations_still_give_the_exact_matrix():
    """int8 and float8 activations with one scale per row change the products by 1 to 3% but not the matrix."""
    module = modules_of(tiny("llama"))[0]
    weight, forward = module.o_proj.weight.detach(), module.o_proj.forward
    other = weight.clone()
    module.o_proj.weight = nn.Parameter(torch.randn_like(weight))  # so that the matrix is computed, not read

    def round_to_float8(x):
        scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 448
        return linear((x / scale).to(torch.float8_e4m3fn).float() * scale, other)

    def round_to_int8(x):
        scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
        return linear((x / scale).round() * scale, other)

    x = torch.rand(64, 64) - 0.5
    for rounded, low, high in ((round_to_float8, 0.015, 0.035), (round_to_int8, 0.002, 0.01)):
        module.o_proj.forward = rounded
        exact = linear(x, other)
        assert low < float((rounded(x) - exact).norm() / exact.norm()) < high
        torch.testing.assert_close(head_slices(module, H), slices(other), rtol=0, atol=1e-6)
    module.o_proj.forward = forward
