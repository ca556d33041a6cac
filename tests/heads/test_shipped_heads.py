"""Shipped heads apply only to the weights that they were found in; any other model gets its own."""

import copy
import json
import warnings

import pytest
import tiny_chat
import torch
from torch import nn
from typer.testing import CliRunner

import attributor
from attributor import InputError, UnsupportedModelError, Weights, flow, record
from attributor._heads import weights as weights_module
from attributor._heads.calibration.calibrate import measure_heads
from attributor._heads.calibration.choose import choose_heads
from attributor._heads.calibration.model_digest import weights_digest
from attributor._heads.resolution import has_shipped_heads, resolve, resolve_for
from attributor._models.default_model import DEFAULT_MODEL, converted_folder
from attributor._models.facts import model_facts, model_id
from attributor.cli.commands import app

pytestmark = pytest.mark.usefixtures("own_cache")
HEADS = {(0, 1): 0.5, (1, 2): 0.25}  # differs from the result of calibration


@pytest.fixture
def shipped(model, monkeypatch, tmp_path):
    """A file of heads for the tiny model, installed like a shipped one."""
    path = tmp_path / "shipped.safetensors"
    digests = (weights_digest(model), weights_digest(model, torch.float16))
    Weights.of_heads((2, 4), HEADS, source="someone/tiny", digests=digests, rule="retrieval").save(path)
    monkeypatch.setattr(weights_module, "shipped_models", lambda: {"someone/tiny": path})
    return path


def adapted(model, config):
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside transformers
        return peft.get_peft_model(model, config(peft)).eval()


def lora(peft):
    return peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])  # untrained, so it adds 0


def ia3(peft):
    return peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])


def dynamic_int8(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def torchao_int8(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip("torchao.quantization")
        quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model


def quanto_int8(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quanto = pytest.importorskip("optimum.quanto")
        quanto.quantize(model, weights=quanto.qint8)
        quanto.freeze(model)
    return model


def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "copy")
    tiny_chat.tokenizer().save_pretrained(tmp_path / "copy")
    return tmp_path / "copy"


def tune(model, size=2e-3):
    """Simulate a small fine-tune: every weight of a matrix moves by a five hundredth of their standard deviation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.add_(size * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return model


def round_to_8_bits(model):
    """Round like a dequantised Q8_0 file: blocks of 32 with one scale each."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                blocks = parameter.view(-1, 32)
                scale = blocks.abs().amax(1, keepdim=True) / 127
                parameter.copy_(((blocks / scale).round() * scale).view_as(parameter))
    return model


# ---- which models get the shipped heads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_same_weights_get_the_shipped_heads(model, shipped, quick_calibration, dtype):
    resolved = resolve("retrieval", model.to(dtype))
    assert torch.equal(resolved.heads, Weights.of_heads((2, 4), HEADS).heads)
    assert (resolved.name, resolved.source) == ("retrieval", "someone/tiny")
    sharp = resolve(Weights("retrieval", power=2.0), model)
    assert (sharp.power, sharp.count) == (2.0, 2)
    assert not quick_calibration


def test_the_same_weights_under_another_name_get_the_shipped_heads(model, shipped, quick_calibration, tmp_path):
    loaded, tokenizer = attributor.load_model(saved(model, tmp_path), progress=False)
    got = flow(loaded, [3, 4, 5], weights="retrieval", tokenizer=tokenizer)
    assert got.meta["model"] == str(tmp_path / "copy")
    assert got.meta["heads_used"] == "2"
    assert not quick_calibration


def test_offloaded_weights_get_the_shipped_heads(model, shipped, quick_calibration):
    accelerate = pytest.importorskip("accelerate")
    offloaded = accelerate.cpu_offload(copy.deepcopy(model))
    assert next(offloaded.parameters()).device.type == "meta"
    assert resolve("retrieval", offloaded).count == 2
    assert not quick_calibration


OTHERS = {
    "tuned": tune,
    "rounded to 8 bits": round_to_8_bits,
    "LoRA": lambda model: adapted(model, lora),
    "IA3": lambda model: adapted(model, ia3),
    "dynamic int8": dynamic_int8,
    "torchao int8": torchao_int8,
    "quanto int8": quanto_int8,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_weights_get_their_own_heads(model, tokenizer, shipped, quick_calibration, kind, caplog):
    model.name_or_path = model.config._name_or_path = "someone/tiny"
    model.config.attributor_source = "someone/tiny"
    other = OTHERS[kind](model)
    for _ in range(2):
        resolved = resolve("retrieval", other, tokenizer)
        assert not torch.equal(resolved.heads, Weights.of_heads((2, 4), HEADS).heads)
    assert len(quick_calibration) == 1
    assert "finding the heads of" in caplog.text


def test_a_tuned_copy_in_a_folder_gets_its_own_heads(model, shipped, quick_calibration, tmp_path):
    model.config.attributor_source = "someone/tiny"  # as in the configuration of the converted default model
    model.config.attributor_weights = "dequantised"
    folder = str(saved(tune(model), tmp_path))
    loaded, tokenizer = attributor.load_model(folder, progress=False)
    got = flow(loaded, [3, 4, 5], weights="retrieval", tokenizer=tokenizer)
    assert got.meta["model"] == model_id(loaded) == folder
    assert resolve("retrieval", loaded).source == folder
    assert len(quick_calibration) == 1
    on_purpose = resolve(Weights("retrieval").load_shipped("someone/tiny"), loaded)
    assert on_purpose.count == 2


def test_the_command_line_announces_the_search_for_heads_of_a_tuned_copy(model, shipped, quick_calibration, tmp_path):
    folder = saved(tune(model), tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("The keeper lit the lamp.")
    options = ["flow", "-m", str(folder), "--prompt-file", str(text), "--answer", " Yes", "--weights", "retrieval"]
    result = CliRunner().invoke(app, [*options, "--json"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["meta"]["model"] == str(folder)
    assert len(quick_calibration) == 1


def test_a_file_without_digests_is_used_only_by_name(model, shipped, tokenizer, quick_calibration):
    Weights.of_heads((2, 4), HEADS, source="someone/tiny").save(shipped)
    assert not has_shipped_heads(model)
    resolve("retrieval", model, tokenizer)
    assert len(quick_calibration) == 1
    assert resolve(Weights("retrieval").load_shipped("someone/tiny"), model).count == 2


def test_a_recording_uses_the_shipped_heads_of_its_models_current_weights(model, shipped, tokenizer):
    ids = torch.tensor([3, 4, 5, 6])
    with record(model) as recording, torch.no_grad():
        model(ids[None])
    got = recording.flow(ids, prompt_length=3, weights="retrieval")
    assert got.meta["heads_used"] == "2"
    facts = model_facts(model)
    with pytest.raises(InputError, match="'retrieval' are derived from LlamaForCausalLM, which is no longer in mem"):
        resolve_for(facts, "retrieval")
    tune(model)  # the current state of the model decides
    with pytest.raises(InputError, match="no retrieval heads are known"):
        recording.flow(ids, prompt_length=3, weights="retrieval")


# ---- the digest


def test_calibration_stores_the_digests_of_both_dtypes(model, tokenizer):
    weights = choose_heads(measure_heads(model, tokenizer, count=1))
    noted = weights.digests
    loaded = {weights_digest(model.to(dtype)) for dtype in (torch.float16, torch.float32)}
    assert noted[0] == weights_digest(tiny_chat.model(len(tokenizer)))
    assert noted[1] == weights_digest(tiny_chat.model(len(tokenizer)).half())
    assert len(set(noted)) == 2
    assert loaded == {noted[1]}  # float32 numbers converted from float16 are exact in float16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_model_has_one_digest_in_every_dtype(model, dtype):
    with torch.no_grad():
        for parameter in model.parameters():  # with numbers that lose digits in float16 or exceed its range
            parameter.view(-1)[::7] *= torch.logspace(0, -8, parameter.view(-1)[::7].numel())
    model.to(dtype).float()
    digests = {weights_digest(copy.deepcopy(model).to(other)) for other in (torch.float32, torch.bfloat16, dtype)}
    if dtype == torch.bfloat16:
        digests.add(weights_digest(copy.deepcopy(model).half()))
    assert len(digests) == 1


def test_the_state_of_adapters_is_part_of_the_digest(model):
    peft = pytest.importorskip("peft")
    adapter = adapted(model, lora)
    adapter.add_adapter("other", lora(peft))
    seen = [weights_digest(adapter)]
    adapter.set_adapter("other")
    seen.append(weights_digest(adapter))
    with adapter.disable_adapter():
        seen.append(weights_digest(adapter))
    for module in adapter.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling["other"] = 3.0
    seen.append(weights_digest(adapter))
    adapter.merge_adapter()
    seen.append(weights_digest(adapter))
    assert len(set(seen)) == 5


@pytest.mark.parametrize("kind", ["dynamic int8", "torchao int8", "quanto int8"])
def test_quantised_weights_are_part_of_the_digest(tokenizer, kind):
    """Their numbers are in no parameter or in a parameter of another class; only one projection differs."""
    first, second = (tiny_chat.model(len(tokenizer)) for _ in range(2))
    same = weights_digest(OTHERS[kind](tiny_chat.model(len(tokenizer))))
    with torch.no_grad():
        second.model.layers[1].mlp.down_proj.weight[:, ::2] *= 1.5
    first, second = (weights_digest(OTHERS[kind](model)) for model in (first, second))
    assert first == same != second


def test_weights_that_cannot_be_read_are_refused_by_name(model):
    class Locked(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is torch.Tensor.detach:
                return args[0]
            return super().__torch_function__(function, types, args, kwargs or {})

        def __tensor_flatten__(self):
            raise NotImplementedError("locked")

    model.model.layers[0].mlp.register_buffer("table", torch.zeros(3).as_subclass(Locked))
    with pytest.raises(UnsupportedModelError, match=r"numbers of .*mlp\.table \(Locked\) cannot be read.*calibrate\("):
        flow(model, [3, 4, 5], weights="retrieval")


# ---- the default model


needs_default = pytest.mark.skipif(
    converted_folder() is None, reason="the converted default model is not in the cache folder"
)


@needs_default
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_default_model_gets_the_shipped_heads(monkeypatch, dtype):
    monkeypatch.delenv("ATTRIBUTOR_CACHE")
    model, _ = attributor.load_model(dtype=dtype, progress=False)
    assert has_shipped_heads(model)
    assert resolve("retrieval", model).source == model_id(model) == DEFAULT_MODEL


@needs_default
def test_only_unchanged_copies_of_the_default_model_have_shipped_heads(monkeypatch, tmp_path):
    monkeypatch.delenv("ATTRIBUTOR_CACHE")
    model, tokenizer = attributor.load_model(progress=False)
    converted, _ = attributor.load_model(converted_folder(), progress=False)
    assert model_id(converted) == DEFAULT_MODEL
    tune(model)
    assert not has_shipped_heads(model)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["attributor_source"] == DEFAULT_MODEL
    tuned, _ = attributor.load_model(tmp_path, progress=False)
    assert model_id(tuned) == str(tmp_path)
    assert not has_shipped_heads(tuned)
    assert not has_shipped_heads(round_to_8_bits(converted))
    assert not has_shipped_heads(adapted(attributor.load_model(progress=False)[0], lora))
