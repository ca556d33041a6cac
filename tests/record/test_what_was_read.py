"""A recording covers every position that was read: its id, embedding, keys and layers. All other cases are refused."""

import copy
import functools

import peft
import pytest
import torch
from families import VOCABULARY, tiny
from rollout_truth import rollout
from torch import nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DynamicCache,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama import modeling_llama

from attributor import InputError, NumericsError, RecordingError, UnsupportedModelError, Weights, flow, record

N = 40
WRITE = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
FEW = Weights.of_heads((4, 4), {(1, 2): 1 / 16, (3, 0): 1 / 16})


def ids_of(seed=1, n=N):
    return torch.randint(3, VOCABULARY, (1, n), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    return tiny("llama")


def is_right(found, model, ids, prompt_length, **inputs):
    expected = rollout(model, ids[0], prompt_length, **inputs)
    torch.testing.assert_close(found.scores.double(), expected, rtol=0, atol=2e-6)


# ---- positions and embeddings


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # from peft with transformers
@pytest.mark.parametrize(
    "settings",
    [
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
        peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, encoder_hidden_size=16),
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    ],
    ids=["prompt", "encoder", "prefix"],
)
def test_soft_prompts_are_refused(model, settings):
    tuned = peft.get_peft_model(model, settings).eval()
    with pytest.raises(UnsupportedModelError, match="soft prompt"):
        flow(tuned, ids_of(), prompt_length=30)
    with pytest.raises(UnsupportedModelError, match="soft prompt"), record(tuned):
        pass


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("settings", [peft.LoraConfig(r=4), peft.LoraConfig(r=4, use_dora=True), peft.IA3Config()])
def test_weight_adapters_are_recorded(model, settings):
    settings.task_type, settings.target_modules = "CAUSAL_LM", {"q_proj", "k_proj", "v_proj", "down_proj"}
    if settings.peft_type == "IA3":
        settings.feedforward_modules = {"down_proj"}
    before = flow(model, ids_of(), prompt_length=30).scores
    tuned = peft.get_peft_model(model, settings).eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name or "ia3" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    found = flow(tuned, ids_of(), prompt_length=30)
    is_right(found, tuned.get_base_model(), ids_of(), 30)
    assert (found.scores - before).abs().max() > 1e-4
    with record(tuned) as recording:
        out = tuned.generate(input_ids=ids_of(), **WRITE)
    assert recording.flow(out).prompt_length == N
    is_right(recording.flow(out), tuned.get_base_model(), out, N)


def test_prepended_embeddings_are_refused(model):
    """A soft prompt from an unknown library."""
    inner, extra = model.model.forward, torch.randn(1, 3, 48)

    def longer(input_ids=None, inputs_embeds=None, **options):
        return inner(inputs_embeds=torch.cat([extra, model.model.embed_tokens(input_ids)], 1), **options)

    model.model.forward = longer
    with pytest.raises((RecordingError, UnsupportedModelError), match="embeddings"):
        flow(model, ids_of(), prompt_length=30)


def test_embeddings_of_other_ids_are_refused(model):
    with record(model) as recording, torch.no_grad():
        looked_up = model.get_input_embeddings()(ids_of())
        model(inputs_embeds=looked_up.flip(1))
    with pytest.raises(RecordingError, match="inputs_embeds"):
        recording.flow(ids_of(), prompt_length=30)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_one_changed_embedding_is_refused(model, in_place, inference):
    """Changed inside the forward pass, as models with images do, but at an ordinary token."""
    inner = model.forward

    def changed(input_ids=None, **options):
        embeddings = model.model.embed_tokens(input_ids)
        embeddings = embeddings if in_place else embeddings.clone()
        embeddings[0, 17] += 1
        return inner(inputs_embeds=embeddings, **options)

    model.forward = changed
    with (
        torch.inference_mode(inference),
        pytest.raises(RecordingError, match=r"at position 17 the model was given another embedding than that of id"),
    ):
        flow(model, ids_of(), prompt_length=30)


def test_embeddings_passed_to_generate_are_named(model):
    with record(model) as recording:
        out = model.generate(inputs_embeds=model.get_input_embeddings()(ids_of()).detach(), **WRITE)
    with pytest.raises(RecordingError, match="inputs_embeds"):
        recording.flow(torch.cat([ids_of(), out], 1))


class ChangedEmbedding(nn.Module):
    """An embedding with a function applied to its output."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, ids):
        return self.change(self.inner(ids), ids)


MARK = 3
SOFT = torch.randn(64, 48, generator=torch.Generator().manual_seed(5))


def overwrite(low, high):
    def change(vectors, ids):
        vectors = vectors.clone()
        rows = vectors[:, low(ids.shape[1]) : high(ids.shape[1])]
        rows.copy_(SOFT[: rows.shape[1]])
        return vectors

    return change


def add_to_some(vectors, ids):
    vectors = vectors.clone()
    vectors[:, 3:7] += 0.02 * SOFT[0]
    return vectors


def replace_marks(vectors, ids):
    """Replace the embedding of the k-th MARK token by the k-th vector."""
    vectors = vectors.clone()
    marks = (ids == MARK).nonzero()
    for k, (row, place) in enumerate(marks.tolist()):
        vectors[row, place] = SOFT[k]
    return vectors


def mix_neighbours(vectors, ids):
    return torch.cat([vectors[:, :1], 0.9 * vectors[:, 1:] + 0.1 * vectors[:, :-1]], 1)


def add_noise(vectors, ids):
    return vectors + 0.1 * torch.rand_like(vectors)


BY_POSITION = {
    "overwrites the first rows": overwrite(lambda n: 0, lambda n: 5),
    "overwrites the first row": overwrite(lambda n: 0, lambda n: 1),
    "overwrites the last row": overwrite(lambda n: n - 1, lambda n: n),
    "overwrites the middle row": overwrite(lambda n: n // 2, lambda n: n // 2 + 1),
    "overwrites every row": overwrite(lambda n: 0, lambda n: n),
    "adds a vector to some rows": add_to_some,
    "replaces marks in their order": replace_marks,
    "mixes neighbours": mix_neighbours,
    "rolls": lambda vectors, ids: vectors.roll(1, 1),
    "rolls by half": lambda vectors, ids: vectors.roll(vectors.shape[1] // 2, 1),
    "reverses": lambda vectors, ids: vectors.flip(1),
    "shifts": lambda vectors, ids: torch.cat([torch.zeros_like(vectors[:, :1]), vectors[:, :-1]], 1),
    "is random": add_noise,
}


def change_in_place(vectors, change, ids):
    vectors.copy_(change(vectors.clone(), ids))


PLACES = {
    "module": lambda model, change: model.set_input_embeddings(ChangedEmbedding(model.get_input_embeddings(), change)),
    "hook": lambda model, change: model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: change(output, args[0])
    ),
    "hook in place": lambda model, change: model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: change_in_place(output, change, args[0])
    ),
}
PROMPTS = {"odd": ids_of(1, 31), "even": ids_of(1, 30), "batch": torch.cat([ids_of(1, 31), ids_of(2, 31)])}
for _prompt in PROMPTS.values():
    _prompt[:, [9, 20]] = MARK
BY_POSITION_MESSAGE = r"gives an id other vectors at other positions \(position \d+\).*record the model without it"


@pytest.mark.parametrize("kind", BY_POSITION)
def test_embeddings_that_depend_on_the_position_are_refused(model, kind):
    PLACES["module"](model, BY_POSITION[kind])
    for ids in PROMPTS.values():
        with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
            flow(model, torch.cat([ids, ids[:, :1]], 1), prompt_length=20)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["overwrites the first rows", "adds a vector to some rows", "rolls", "reverses"])
def test_position_dependent_hooks_and_generation_are_refused(model, kind, place):
    PLACES[place](model, BY_POSITION[kind])
    for ids in PROMPTS.values():
        with record(model) as recording, torch.no_grad():
            model(ids)
        with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
            recording.flow(ids, prompt_length=20)
    with record(model) as recording:
        out = model.generate(ids_of(), **WRITE)
    with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
        recording.flow(out)
    with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
        flow(model, ids_of(), prompt_length=30)


@pytest.mark.parametrize("kind", ["overwrites the first row", "adds a vector to some rows", "rolls", "reverses"])
def test_position_dependent_embeddings_of_an_outer_model_are_refused(kind):
    model = llava()
    PLACES["hook"](model, BY_POSITION[kind])
    with record(model) as recording:
        out = model.generate(ids_of().clamp(min=6), pad_token_id=0, eos_token_id=None, **WRITE)
    with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
        recording.flow(out)


@pytest.mark.parametrize("kind", ["overwrites the first row", "rolls", "reverses"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_changed_embeddings_of_short_prompts_are_refused(model, kind, length):
    PLACES["module"](model, BY_POSITION[kind])
    ids = torch.tensor([[5, 6, 7]])[:, :length]
    with record(model) as recording:
        out = model.generate(ids, **WRITE)
    if length == 1 and kind != "overwrites the first row":
        is_right(recording.flow(out), tiny("llama"), out, 1)
    else:
        with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
            recording.flow(out)


@pytest.mark.parametrize("place", ["module", "hook"])
def test_embeddings_changed_inside_the_recording_are_detected(model, place):
    with record(model) as recording, torch.no_grad():
        PLACES[place](model, BY_POSITION["rolls"])
        model(ids_of())
    with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
        recording.flow(ids_of(), prompt_length=30)


def test_a_hook_that_changes_the_ids_is_detected(model):
    """The hook runs before the embedding, so the embedding returns vectors of the changed ids."""
    model.get_input_embeddings().register_forward_pre_hook(lambda module, args: (args[0].clamp(max=50),))
    ids = ids_of()
    assert (ids > 50).any()
    place = int((ids[0] > 50).nonzero()[0])
    with pytest.raises(
        RecordingError, match=rf"at position {place} the model was given another embedding than that of"
    ):
        flow(model, ids, prompt_length=30)
    low = ids.clamp(max=50)
    is_right(flow(model, low, prompt_length=30), model, low, 30)


BY_ID = {
    "scales": lambda vectors, ids: 3 * vectors,
    "normalises": lambda vectors, ids: nn.functional.layer_norm(vectors, vectors.shape[-1:]),
    "adds one vector everywhere": lambda vectors, ids: vectors + SOFT[0],
    "replaces an id": lambda vectors, ids: torch.where((ids == MARK)[..., None], SOFT[0].to(vectors), vectors),
}


def is_followed(tuned, model, ids):
    """Compare flow(), generate() and a forward call with the rollout of `model`."""
    is_right(flow(tuned, ids, prompt_length=30), model, ids, 30)
    with record(tuned) as recording:
        out = tuned.generate(input_ids=ids, **WRITE)
    is_right(recording.flow(out), model, out, N)
    with record(tuned) as recording, torch.no_grad():
        tuned(input_ids=ids, use_cache=False)
    is_right(recording.flow(ids, prompt_length=30), model, ids, 30)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", BY_ID)
def test_embeddings_that_depend_only_on_the_id_are_recorded(model, kind, place):
    PLACES[place](model, BY_ID[kind])
    ids = ids_of()
    ids[0, [9, 20]] = MARK
    before = flow(tiny("llama"), ids, prompt_length=30).scores
    assert (flow(model, ids, prompt_length=30).scores - before).abs().max() > 1e-4
    is_followed(model, model, ids)


def test_dropout_on_the_embedding_is_off_in_a_recording(model):
    dropout = nn.Dropout(0.5)
    PLACES["module"](model, lambda vectors, ids: dropout(vectors))
    model.get_input_embeddings().dropout = dropout
    expected = flow(model, ids_of(), prompt_length=30).scores
    model.train()
    torch.testing.assert_close(flow(model, ids_of(), prompt_length=30).scores, expected, rtol=0, atol=0)
    assert dropout.training


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_embedding_adapters_are_recorded(model, dtype):
    settings = peft.LoraConfig(
        r=16, lora_alpha=64, task_type="CAUSAL_LM", target_modules=["embed_tokens"], init_lora_weights=False
    )
    before = flow(model, ids_of(), prompt_length=30).scores
    tuned = peft.get_peft_model(model, settings).eval().to(dtype)
    assert (flow(tuned, ids_of(), prompt_length=30).scores - before).abs().max() > 1e-4
    if dtype != torch.bfloat16:
        is_followed(tuned, tuned.get_base_model(), ids_of())
    model.get_input_embeddings().register_forward_hook(lambda module, args, output: output.roll(1, 1))
    with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
        flow(tuned, ids_of(), prompt_length=30)


@pytest.mark.parametrize("family", ["gemma", "gemma3_text", "opt"])
def test_scaled_and_projected_embeddings_are_recorded_and_checked(family):
    model = tiny(family)
    is_followed(model, model, ids_of())
    PLACES["hook"](model, BY_POSITION["overwrites the first rows"])
    with pytest.raises(RecordingError, match=BY_POSITION_MESSAGE):
        flow(model, ids_of(), prompt_length=30)


def test_a_decoder_that_writes_to_its_embeddings_is_recorded(model):
    """Some models add their position embeddings this way."""
    inner, places = model.model.layers[0].forward, torch.randn(1, N + 8, 48) / 9

    def add_places(hidden, *args, position_ids, **options):
        return inner(hidden.add_(places[:, position_ids[0]].to(hidden)), *args, position_ids=position_ids, **options)

    model.model.layers[0].forward = add_places
    exact = copy.deepcopy(tiny("llama"))
    exact.model.layers[0].register_forward_pre_hook(
        lambda module, args: (args[0] + places[:, : args[0].shape[1]].to(args[0]), *args[1:])
    )
    is_followed(model, exact, ids_of())


@pytest.mark.parametrize("length", [1, 2, N])
def test_hooks_that_read_the_embedding_are_called_once(model, length):
    outputs = []
    handle = model.get_input_embeddings().register_forward_hook(lambda module, args, output: outputs.append(output))
    with record(model) as recording, torch.no_grad():
        model(ids_of()[:, :length])
    assert [output.shape[1] for output in outputs] == [length]
    recording.flow(ids_of()[:, :length], prompt_length=1 if length == 1 else length - 1)
    handle.remove()
    assert not model.get_input_embeddings()._forward_hooks


def llava():
    torch.manual_seed(0)
    text = AutoConfig.for_model(
        "llama", vocab_size=VOCABULARY, hidden_size=48, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    vision = AutoConfig.for_model(
        "clip_vision_model", hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=16, patch_size=8, projection_dim=32,
    )  # fmt: skip
    config = AutoConfig.for_model(
        "llava", text_config=text, vision_config=vision, image_token_id=5, vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    made = AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3) if parameter.ndim > 1 else parameter.add_(0.2)
    return made


def test_images_are_recorded_in_their_call_and_refused_elsewhere():
    model = llava()
    ids = ids_of().clamp(min=6)
    ids[0, 10:14] = 5
    pixels = torch.randn(1, 3, 16, 16)
    with record(model) as recording:
        out = model.generate(ids, pixel_values=pixels, pad_token_id=0, eos_token_id=None, **WRITE)
    found = recording.flow(out)
    is_right(found, model, out, N, pixel_values=pixels.double())
    with pytest.raises(InputError, match=r"4 of the ids stand for .* \(id 5 at position 10\).*record\(model\)"):
        flow(model, out, prompt_length=N)
    text = ids_of(4).clamp(min=6)
    is_right(flow(model, text, prompt_length=30), model, text, 30)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_weights_derived_from_another_model_state_are_refused(model):
    settings = peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["o_proj"], init_lora_weights=False)
    tuned = peft.get_peft_model(model, settings).eval()
    with record(tuned) as recording:
        out = tuned.generate(input_ids=ids_of(), **WRITE)
    recording.flow(out, weights="output_norm")
    with tuned.disable_adapter(), pytest.raises(RecordingError, match="adapters have changed since it was recorded"):
        recording.flow(out, weights="output_norm")
    scaled = model.model.layers[0].self_attn.o_proj
    scaled.set_scale("default", 3.0)
    with pytest.raises(RecordingError, match="adapters have changed since it was recorded"):
        recording.flow(out, weights="output_norm")
    scaled.set_scale("default", 1.0)
    with record(tuned, weights="output_norm") as recording, tuned.disable_adapter():
        out = tuned.generate(input_ids=ids_of(), **WRITE)
    with pytest.raises(RecordingError, match="before its parameters or adapters changed"):
        recording.flow(out)
    with record(tuned) as recording:
        out = tuned.generate(input_ids=ids_of(), **WRITE)
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.base_layer.weight.mul_(1.5)
    with pytest.raises(RecordingError, match="adapters have changed since it was recorded"):
        recording.flow(out, weights="output_norm")
    recording.flow(out)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_a_prompt_inside_the_attention_is_refused():
    model = tiny("llama", num_key_value_heads=4, head_dim=12)
    tuned = peft.get_peft_model(model, peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=2))
    with pytest.raises(UnsupportedModelError, match="AdaptedAttention"):
        flow(tuned.get_base_model(), ids_of(), prompt_length=30)


# ---- layers


def test_layers_are_recorded_in_the_order_they_run(model):
    layers = model.model.layers
    model.model.layers = nn.ModuleList([layers[2], layers[0], layers[3], layers[1]])
    is_right(flow(model, ids_of(), prompt_length=30), model, ids_of(), 30)
    with record(model) as recording:
        out = model.generate(ids_of(), **WRITE)
    is_right(recording.flow(out), model, out, N)


@pytest.mark.parametrize("how", ["shared", "copied"])
def test_a_layer_that_runs_twice_is_named(model, how):
    layers = model.model.layers
    model.model.layers[2] = layers[1] if how == "shared" else copy.deepcopy(layers[1])
    with pytest.raises(UnsupportedModelError, match="layer 1 attends twice in one forward pass"):
        flow(model, ids_of(), prompt_length=30)


def test_a_layer_that_does_not_run_is_named(model):
    model.model.layers = nn.ModuleList([layer for i, layer in enumerate(model.model.layers) if i != 2])
    with pytest.raises(UnsupportedModelError, match="layer 2 did not pass through the recorder"):
        flow(model, ids_of(), prompt_length=30)


def test_a_layer_that_runs_in_only_some_calls_is_named(model):
    layers = list(model.model.layers)
    with pytest.raises(UnsupportedModelError, match=r"ran the layers \[0, 1, 3\], the one before \[0, 1, 2, 3\]"):
        skip_in_the_second_call(model, layers)


def skip_in_the_second_call(model, layers):
    cache = DynamicCache()
    with record(model), torch.no_grad():
        model(ids_of(), past_key_values=cache)
        model.model.layers = nn.ModuleList([layers[0], layers[1], layers[3]])
        model(ids_of(2, 1), past_key_values=cache)


# ---- attention


def threefold(module, query, key, value, mask, **options):
    return sdpa_attention_forward(module, query * 3, key, value, mask, **options)


def test_a_custom_attention_function_is_refused(model):
    AttentionInterface.register("threefold", threefold)
    AttentionMaskInterface.register("threefold", sdpa_mask)
    model.set_attn_implementation("threefold")
    for call in (lambda: flow(model, ids_of()), lambda: record(model).__enter__()):
        with pytest.raises(UnsupportedModelError, match=r"'threefold' \(.*threefold\), which need not compute plain"):
            call()


def test_a_custom_attention_function_under_a_known_name_is_refused(model, monkeypatch):
    model.set_attn_implementation("sdpa")
    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", threefold)
    with pytest.raises(UnsupportedModelError, match=r"'sdpa' \(.*threefold\), which need not compute"):
        flow(model, ids_of())


def wrapped(*args, **options):
    return threefold(*args, **options)


FOREIGN = {
    "registered as eager": (
        "eager",
        lambda patch: patch.setitem(AttentionInterface._global_mapping, "eager", threefold),
    ),
    "wrapper": (
        "sdpa",
        lambda patch: patch.setitem(
            AttentionInterface._global_mapping, "sdpa", functools.wraps(sdpa_attention_forward)(wrapped)
        ),
    ),
    "mask": ("sdpa", lambda patch: patch.setitem(AttentionMaskInterface._global_mapping, "sdpa", wrapped)),
    "patched module": ("eager", lambda patch: patch.setattr(modeling_llama, "eager_attention_forward", threefold)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_replaced_attention_is_refused(model, monkeypatch, name):
    implementation, replace = FOREIGN[name]
    model.set_attn_implementation(implementation)
    replace(monkeypatch)
    if name == "patched module":
        monkeypatch.setattr(threefold, "__module__", modeling_llama.__name__)  # as functools.wraps would
    with pytest.raises(UnsupportedModelError, match="need not compute plain softmax"):
        flow(model, ids_of())


@pytest.mark.parametrize("name", ["eager", "sdpa", "flex_attention", "flash_attention_2"])
def test_plain_attention_is_recorded_under_any_name(model, name):
    expected = flow(model, ids_of(), prompt_length=30).scores
    model.config._attn_implementation_internal = name  # flash attention is neither installed nor called
    torch.testing.assert_close(flow(model, ids_of(), prompt_length=30).scores, expected, rtol=0, atol=0)
    assert model.config._attn_implementation == name


def test_an_unused_mask_does_not_refuse_the_model():
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2_moe", vocab_size=VOCABULARY, hidden_size=48, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
    )  # fmt: skip
    assert not config.use_sliding_window
    model = AutoModelForCausalLM.from_config(config).eval()
    is_right(flow(model, ids_of(), prompt_length=30), model, ids_of(), 30)


# ---- caches


class RoundedCache(DynamicCache):
    """Return the given keys in the first call and rounded ones afterwards, as quantised caches do."""

    def update(self, key, value, layer, *args, **kwargs):
        keys, values = super().update(key, value, layer, *args, **kwargs)
        if keys.shape[2] == key.shape[2]:
            return keys, values
        scale = keys.abs().amax(-1, keepdim=True) / 7
        old = slice(0, keys.shape[2] - key.shape[2])
        keys = keys.clone()
        keys[:, :, old] = (keys[:, :, old] / scale[:, :, old]).round() * scale[:, :, old]
        return keys, values


@pytest.mark.parametrize("weights", ["mean", FEW], ids=["all", "few"])
def test_a_rounding_cache_is_detected_with_few_heads(model, weights):
    with record(model, weights=weights) as recording:
        out = model.generate(ids_of(), past_key_values=RoundedCache(), **WRITE)
    with pytest.raises(RecordingError, match="quantised"):
        recording.flow(out)


@pytest.mark.parametrize("weights", ["mean", FEW], ids=["all", "few"])
def test_rows_that_do_not_sum_to_1_are_detected_in_each_head(model, weights):
    """Detected even where the compared keys are equal."""
    with record(model, weights=weights) as recording:
        out = model.generate(ids_of(), **WRITE)
    recording.flow(out)
    for tape in recording.tapes.values():
        for _, keys in tape.key:
            keys.tensor = keys.tensor + 0.2 * torch.randn(keys.tensor.shape)
            keys.version = keys.tensor._version
    with pytest.raises(NumericsError, match=r"layer \d, head \d: the attention of position \d+ sums to"):
        recording.flow(out)


@pytest.mark.parametrize("weights", ["mean", FEW], ids=["all", "few"])
def test_a_cache_reordered_by_hand_is_detected(model, weights):
    """Two histories, then equal ids: the ids alone do not show that the caches were swapped."""
    batch = torch.cat([ids_of(1), ids_of(2)])
    batch[:, -3:] = batch[:1, -3:]
    cache = DynamicCache()
    with record(model, weights=weights) as recording, torch.no_grad():
        model(batch, past_key_values=cache)
        cache.reorder_cache(torch.tensor([1, 0]))
        model(batch[:, :1], past_key_values=cache)
        model(batch[:, :1], past_key_values=cache)
    with pytest.raises(RecordingError, match="reordered"):
        recording.flow(torch.cat([batch, batch[:, :1], batch[:, :1]], 1), prompt_length=N)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gpt_oss", "gemma2", "mistral"])
def test_plain_caches_are_recorded_in_every_dtype(family, dtype):
    model = copy.deepcopy(tiny(family)).to(dtype)
    model.set_experts_implementation("eager")
    with record(model) as recording:
        out = model.generate(ids_of(), **WRITE)
    assert recording.flow(out).scores.isfinite().all()
