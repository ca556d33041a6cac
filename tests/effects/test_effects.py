"""effects(): arguments, errors, precision, caches, checkpointing, recordings and measured removals."""

import copy
import threading
import warnings
from dataclasses import replace

import pytest
import torch
from families import VOCABULARY, tiny
from gated_attention import gate_gradient
from transformers import DynamicCache, StaticCache

import attributor
from attributor import InputError, NumericsError, RecordingError, UnsupportedModelError
from attributor._effects import (
    EffectsTask,
    SegmentTokens,
    draw_antithetic_masks,
    effects_of,
    gradient_run,
    read_context,
)
from attributor._effects.gradient_run import copy_context
from attributor._effects.posterior import fit_posterior

K, ANSWER = 50, 7
SPANS = [(3, 11), (11, 12), (12, 30), (33, 45)]
IDS = torch.randint(3, VOCABULARY, (K + ANSWER,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


def truth(model, **options):
    stops = SegmentTokens.of_spans(SPANS, K).find_stops(len(IDS) - 1)
    tokens = gate_gradient(model, IDS, K, stops, **options)[:K]
    return torch.stack([tokens[start:stop].sum() for start, stop in SPANS])


def distance(scores, true):
    return float((scores - true).abs().sum() / true.abs().sum())


def test_result_is_in_nats_and_adds_up(llama):
    effects = attributor.effects(llama, IDS, SPANS, prompt_length=K)
    assert effects.scores.dtype == effects.tokens.dtype == torch.float64
    assert effects.scores.shape == (4,)
    assert effects.tokens.shape == (K,)
    assert effects.errors is None
    assert effects.removals == 0
    sums = torch.stack([effects.tokens[start:stop].sum() for start, stop in SPANS])
    torch.testing.assert_close(effects.scores, sums)
    with torch.no_grad():
        log_probs = llama(IDS[None, :-1]).logits[0, K - 1 :].double().log_softmax(-1)
    assert effects.log_prob == pytest.approx(float(log_probs.gather(1, IDS[K:, None]).sum()), abs=1e-4)
    assert effects.segments.tolist() == [list(span) for span in SPANS]
    assert "4 segments" in repr(effects)
    assert "nats" in repr(effects)


def test_effects_equal_the_gradient_of_a_gate_on_every_key():
    """A slightly closed gate on a key changes log p as the gradient predicts, to first order."""
    model = tiny("llama").double()
    gradient = attributor.effects(model, IDS, SPANS, prompt_length=K).scores
    assert distance(gradient, truth(model)) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "mistral"])
@pytest.mark.parametrize("rows", ["all", "suffix"])
def test_rounding_errors_stay_within_the_limit_of_the_dtype(family, dtype, rows):
    model = tiny(family)
    rounded = copy.deepcopy(model).to(dtype)
    if hasattr(rounded, "set_experts_implementation"):
        rounded.set_experts_implementation("eager")
    start = 45 if rows == "suffix" else 0
    true = truth(rounded, start=start)  # the rounded parameters, in float64
    scores = attributor.effects(rounded, IDS, SPANS, prompt_length=K, rows=rows).scores
    assert distance(scores, true) < {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}[dtype]


def test_ids_may_be_a_row_and_the_model_comes_back_as_it_was(llama):
    model = copy.deepcopy(llama).train()
    before = [parameter.requires_grad for parameter in model.parameters()]
    row = attributor.effects(model, IDS[None], SPANS, prompt_length=K)
    flat = attributor.effects(llama, IDS.tolist(), SPANS, prompt_length=K)
    assert torch.equal(row.scores, flat.scores)
    assert model.training
    assert model.config._attn_implementation == llama.config._attn_implementation
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(before)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapters_are_part_of_the_model():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    tuned = peft.get_peft_model(tiny("llama"), settings).eval()
    before = {name: parameter.requires_grad for name, parameter in tuned.named_parameters()}
    effects = attributor.effects(tuned, IDS, SPANS, prompt_length=K)
    assert {name: parameter.requires_grad for name, parameter in tuned.named_parameters()} == before
    assert set(before.values()) == {True, False}
    assert distance(effects.scores, truth(tuned.merge_and_unload())) < 1e-3


def test_checkpointed_layers_give_the_same_effects(llama, monkeypatch):
    plain = attributor.effects(llama, IDS, SPANS, prompt_length=K)
    runs = []
    original = gradient_run.checkpoint
    monkeypatch.setattr(gradient_run, "checkpoint", lambda *a, **o: runs.append(1) or original(*a, **o))
    monkeypatch.setattr(gradient_run, "CHECKPOINT_FROM", 0)
    again = attributor.effects(llama, IDS, SPANS, prompt_length=K)
    assert len(runs) == 4, "each of the four layers is checkpointed"
    torch.testing.assert_close(again.scores, plain.scores, rtol=1e-4, atol=1e-9)
    assert not any("forward" in vars(module) for module in llama.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_effects_work_inside_no_grad(llama, mode):
    expected = attributor.effects(llama, IDS, SPANS, prompt_length=K).scores
    with mode():
        torch.testing.assert_close(
            attributor.effects(llama, IDS.clone(), SPANS, prompt_length=K).scores, expected, rtol=0, atol=0
        )
        with attributor.record(llama) as recording:
            out = llama.generate(IDS[None, :K].clone(), max_new_tokens=3, do_sample=False)
            effects = recording.effects(SPANS)
        assert not torch.is_grad_enabled()
    outside = attributor.effects(llama, out[0].tolist(), SPANS, prompt_length=K, rows="suffix")
    torch.testing.assert_close(effects.scores, outside.scores, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "llama4_text"])
def test_checkpointed_layers_keep_windows_and_sinks(family, monkeypatch):
    model = tiny(family).double()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    monkeypatch.setattr(gradient_run, "CHECKPOINT_FROM", 0)
    assert distance(attributor.effects(model, IDS, SPANS, prompt_length=K).scores, truth(model)) < 1e-8


def test_rows_are_chosen_by_length(llama, monkeypatch):
    from attributor._effects import api

    assert attributor.effects(llama, IDS, SPANS, prompt_length=K).rows == "all"
    monkeypatch.setattr(api, "SUFFIX_FROM", K - 1)
    assert attributor.effects(llama, IDS, SPANS, prompt_length=K).rows == "suffix"


def test_effects_survive_saving_and_loading(llama, tmp_path):
    effects = attributor.effects(llama, IDS, SPANS, prompt_length=K, ablations=4)
    effects.save(tmp_path / "effects.safetensors")
    again = attributor.Effects.load(tmp_path / "effects.safetensors")
    for name in ("scores", "tokens", "segments", "errors"):
        assert torch.equal(getattr(again, name), getattr(effects, name))
    assert (again.log_prob, again.rows, again.removals) == (effects.log_prob, effects.rows, effects.removals)
    assert dict(again.meta) == dict(effects.meta)
    with pytest.raises(attributor.FileFormatError):
        attributor.load(tmp_path / "effects.safetensors")
    with pytest.raises(FileNotFoundError):
        attributor.Effects.load(tmp_path / "none")


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss"])
def test_one_context_serves_several_answers(family):
    """Also if the model's own cache drops the keys outside its window."""
    model = tiny(family)
    segments = SegmentTokens.of_spans(SPANS, K)
    tasks = [EffectsTask(IDS, K, segments, answer, rows="suffix") for answer in ((0, 3), (3, ANSWER), None)]
    assert tasks[0].start() == 45
    assert EffectsTask(IDS, K, segments, rows="all").start() == 0
    with torch.no_grad():
        cache = model(IDS[None, :K], use_cache=True).past_key_values
    for held in (None, cache):
        context = read_context(model, IDS[:45], held)
        assert copy_context(context, 45) is not None
        assert context.get_seq_length() == 45
        first, rest, both = (effects_of(model, replace(task, cache=context)).scores for task in tasks)
        torch.testing.assert_close(first + rest, both, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(both, effects_of(model, tasks[2]).scores, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "gpt_oss", "gpt2", "gpt_neox"])
def test_a_recording_computes_effects_from_the_cache_of_generate(family):
    model = tiny(family)
    prompt = IDS[:K]
    with attributor.record(model) as recording:
        out = model.generate(prompt[None], max_new_tokens=5, do_sample=False)
        effects = recording.effects(SPANS)
        flow = recording.flow(out)  # the pause did not change the recording
    expected = attributor.effects(model, out[0], SPANS, prompt_length=K, rows="suffix")
    assert effects.rows == "suffix"
    assert distance(effects.scores, expected.scores) < 1e-3
    assert flow.scores.shape[1] == K
    with pytest.raises(RecordingError, match="inside the with block"):
        recording.effects(SPANS)


def test_a_recording_does_not_read_the_prompt_again(llama):
    lengths = []
    handle = llama.model.layers[0].register_forward_hook(lambda _, __, out: lengths.append(out[0].shape[-2]))
    try:
        with attributor.record(llama) as recording:
            llama.generate(IDS[None, :K], max_new_tokens=5, do_sample=False)
            lengths.clear()
            recording.effects(SPANS)
    finally:
        handle.remove()
    assert lengths == [K + 4 - 45]


def test_a_recording_with_a_static_cache_has_effects(llama):
    with attributor.record(llama) as recording:
        out = llama.generate(IDS[None, :K], max_new_tokens=5, do_sample=False, cache_implementation="static")
        effects = recording.effects(SPANS)
    expected = attributor.effects(llama, out[0], SPANS, prompt_length=K, rows="suffix")
    assert distance(effects.scores, expected.scores) < 1e-3


def test_caches_are_left_as_they_were(llama):
    cache = DynamicCache()
    with torch.no_grad():
        llama(IDS[None, :-1], past_key_values=cache, use_cache=True)
    before = [layer.keys.clone() for layer in cache.layers]
    context = gradient_run.copy_context(cache, 45)
    assert context.get_seq_length() == 45
    context.update(torch.zeros(1, 2, 3, 16), torch.zeros(1, 2, 3, 16), 0)
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, before, strict=True))
    assert gradient_run.copy_context(cache, 100) is None
    assert gradient_run.copy_context(StaticCache(llama.config, max_cache_len=64), 3) is None


def test_recordings_that_cannot_have_effects_are_refused(llama):
    with attributor.record(llama) as recording:
        llama.generate(IDS[:K].reshape(2, K // 2), max_new_tokens=3, do_sample=False)
        with pytest.raises(RecordingError, match="batch of 2"):
            recording.effects([(0, 3)])
    with attributor.record(llama) as recording:
        mask = torch.ones(1, K, dtype=torch.long)
        mask[0, :3] = 0
        llama.generate(IDS[None, :K], attention_mask=mask, max_new_tokens=3, do_sample=False)
        with pytest.raises(RecordingError, match="without padding"):
            recording.effects([(5, 9)])
    with attributor.record(llama), pytest.raises(RecordingError, match="recorded already"):
        attributor.effects(llama, IDS, SPANS, prompt_length=K)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": []}, "no segments"),
        ({"segments": [(3, 9), (8, 12)]}, "segments 0 and 1 overlap"),
        ({"segments": [(3, 3)]}, "must hold a token"),
        ({"segments": [(45, 51)]}, "lie in the prompt, 0 to 50"),
        ({"segments": [3, 9]}, r"\(start, stop\) tokens"),
        ({"segments": [(0.5, 2)]}, r"\(start, stop\) tokens"),
        ({"segments": torch.tensor([[3.7, 11.9]])}, r"\(start, stop\) tokens"),
        ({"segments": [(True, 2)]}, r"\(start, stop\) tokens"),
        ({"segments": None}, "segments must be a list"),
        ({"segments": [(0, K)], "ablations": 2}, "the one segment is the whole prompt"),
        ({"segments": [attributor.Segment(0, 4, "text")]}, "pass tokenizer= or prompt="),
        ({"segments": [attributor.Segment(0, 4, "text"), (1, 2)]}, "got both"),
        ({"prompt_length": None}, "pass prompt_length= or prompt="),
        ({"prompt_length": K + ANSWER}, "no answer to explain"),
        ({"answer": (0, 8)}, "within 0 to 7"),
        ({"answer": (3, 3)}, "within 0 to 7"),
        ({"answer": 3}, r"answer must be \(start, stop\)"),
        ({"rows": "some"}, "'all', 'suffix' or 'auto'"),
        ({"ablations": -1}, "ablations must be >= 0"),
        ({"ids": IDS.reshape(3, 19)}, "one sequence"),
        ({"impl": "fast"}, "unknown implementation"),
        ({"progress": 3}, "progress must be a function"),
        ({"ids": torch.full((K + ANSWER,), VOCABULARY)}, "0 to 96"),
    ],
)
def test_bad_arguments_are_refused(llama, change, message):
    arguments = {"ids": IDS, "segments": SPANS, "prompt_length": K} | change
    with pytest.raises((InputError, attributor.ImplementationError), match=message):
        attributor.effects(llama, arguments.pop("ids"), arguments.pop("segments"), **arguments)


def test_modules_without_a_gradient_are_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but its modules are like those of other packages
        quantised = torch.ao.quantization.quantize_dynamic(tiny("llama"), {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(UnsupportedModelError, match=r"layers\.0\..*Linear\) has no gradient"):
        attributor.effects(quantised, IDS, SPANS, prompt_length=K)


def test_nan_gradients_are_named(llama):
    model = copy.deepcopy(llama)
    handle = model.model.layers[2].register_full_backward_hook(lambda *_: (torch.full((1, 56, 48), float("nan")),))
    try:
        with pytest.raises(NumericsError, match="layers 0-1"):
            attributor.effects(model, IDS, SPANS, prompt_length=K)
    finally:
        handle.remove()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("inf"))
    with pytest.raises(NumericsError, match="log-probability is nan"):
        attributor.effects(model, IDS, SPANS, prompt_length=K)


def test_hybrid_models_are_refused():
    from transformers import JambaConfig, JambaForCausalLM

    config = JambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, attn_layer_offset=0, attn_layer_period=2, use_mamba_kernels=False, mamba_d_state=4,
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError, match="Mamba"):
        attributor.effects(JambaForCausalLM(config), IDS, SPANS, prompt_length=K)


def test_progress_reports_layers_and_removals(llama):
    calls = []
    attributor.effects(llama, IDS, SPANS, prompt_length=K, ablations=10, progress=lambda *call: calls.append(call))
    assert [call for call in calls if call[0] == "gradient"] == [("gradient", layer, 4) for layer in range(1, 5)]
    assert [call for call in calls if call[0] == "ablations"] == [
        ("ablations", 0, 10), ("ablations", 8, 10), ("ablations", 10, 10),
    ]  # fmt: skip


def test_the_posterior_combines_removals_and_gradient(llama):
    effects = attributor.effects(llama, IDS, SPANS, prompt_length=K, ablations=12)
    assert effects.removals == 12
    assert effects.errors.shape == (4,)
    assert bool((effects.errors > 0).all())
    gradient = attributor.effects(llama, IDS, SPANS, prompt_length=K)
    assert torch.equal(effects.tokens, gradient.tokens)
    # with all 14 proper sets (neither all segments nor none) the fit is close to least squares
    everything = attributor.effects(llama, IDS, SPANS, prompt_length=K, ablations=14)
    kept = torch.tensor([[bool(number >> bit & 1) for bit in range(4)] for number in range(16)])
    log_probs = []
    for mask in kept:
        stays = torch.ones(K, dtype=torch.bool)
        for keep, (start, stop) in zip(mask.tolist(), SPANS, strict=True):
            stays[start:stop] = keep
        ids = torch.cat([IDS[:K][stays], IDS[K:]])
        with torch.no_grad():
            rows = llama(ids[None, :-1]).logits[0, -ANSWER:].double().log_softmax(-1)
        log_probs.append(float(rows.gather(1, IDS[K:, None]).sum()))
    y = torch.tensor(log_probs, dtype=torch.float64)
    design = torch.cat([torch.ones(16, 1), kept], 1).double()
    squares = torch.linalg.lstsq(design, y[:, None]).solution[1:, 0]
    assert torch.corrcoef(torch.stack([everything.scores, squares]))[0, 1] > 0.95


def test_the_posterior_follows_the_data_and_the_prior():
    g = torch.Generator().manual_seed(0)
    S = 12
    truth_w = torch.randn(S, generator=g, dtype=torch.float64)
    gradient = truth_w + 0.8 * torch.randn(S, generator=g, dtype=torch.float64)
    errors = {}
    for count in (2, 8, 64):
        kept = torch.rand(count, S, generator=g) < 0.5
        kept = torch.cat([torch.ones(1, S, dtype=torch.bool), kept])
        y = -3 + kept.double() @ truth_w + 0.05 * torch.randn(len(kept), generator=g, dtype=torch.float64)
        posterior = fit_posterior(gradient, kept, y)
        errors[count] = float((posterior.mean - truth_w).norm())
        if count == 64:
            assert errors[count] < 0.15
            assert bool(((posterior.mean - truth_w).abs() < 5 * posterior.deviation).all())
    assert errors[64] < errors[8] < float((gradient - truth_w).norm())
    nothing = fit_posterior(torch.zeros(S, dtype=torch.float64), kept, y)
    assert float((nothing.mean - truth_w).norm()) < 0.3
    flat = fit_posterior(gradient, kept, torch.zeros(len(kept)))
    assert bool(torch.isfinite(flat.mean).all())
    assert float(flat.mean.abs().max()) < 0.05


def test_segments_are_accepted_in_any_kind_of_list(llama):
    expected = attributor.effects(llama, IDS, SPANS, prompt_length=K).scores
    for spans in (torch.tensor(SPANS), tuple(map(list, SPANS)), iter(SPANS)):
        assert torch.equal(attributor.effects(llama, IDS, spans, prompt_length=K).scores, expected)


def test_calls_of_other_threads_are_not_changed(llama):
    """Another thread runs the same model at the same length meanwhile; the results of both do not change."""
    expected = attributor.effects(llama, IDS, SPANS, prompt_length=K).scores
    other = IDS.flip(0)[None, :-1]
    with torch.no_grad():
        logits = llama(other).logits
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                with torch.no_grad():
                    got = llama(other).logits
                if got.shape != logits.shape or not torch.allclose(got, logits, atol=1e-4):
                    wrong.append("other logits")
            except Exception as error:
                wrong.append(repr(error))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(15):
            scores = attributor.effects(llama, IDS, SPANS, prompt_length=K).scores
            torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-7)
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_a_long_suffix_is_checkpointed_with_the_same_effects(llama, monkeypatch):
    spans = [(2, 6), (6, 9)]
    expected = attributor.effects(llama, IDS, spans, prompt_length=K, rows="suffix")
    runs = []
    original = gradient_run.checkpoint
    monkeypatch.setattr(gradient_run, "checkpoint", lambda *a, **o: runs.append(1) or original(*a, **o))
    monkeypatch.setattr(gradient_run, "CHECKPOINT_FROM", 0)
    long = attributor.effects(llama, IDS, spans, prompt_length=K, rows="suffix")
    assert len(runs) == 4
    assert long.rows == "suffix"
    torch.testing.assert_close(long.scores, expected.scores, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(long.tokens, expected.tokens, rtol=1e-3, atol=1e-7)


def test_models_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        model = tiny("llama")
    with pytest.raises(UnsupportedModelError, match="inference_mode"):
        attributor.effects(model, IDS, SPANS, prompt_length=K)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_cache_of_another_model_or_of_other_tokens_is_refused(llama):
    model = copy.deepcopy(llama)
    with attributor.record(model) as recording:
        model.generate(IDS[None, :K], max_new_tokens=5, do_sample=False)
        with torch.no_grad():
            model.model.layers[1].self_attn.v_proj.weight.mul_(1.5)
        with pytest.raises(RecordingError, match="parameters or adapters have changed"):
            recording.effects(SPANS)
    with attributor.record(llama) as recording:
        out = llama.generate(IDS[None, :K], max_new_tokens=5, do_sample=False, return_dict_in_generate=True)
        for layer in out.past_key_values.layers:
            layer.keys, layer.values = layer.keys + 1, layer.values + 1
        with pytest.raises(RecordingError, match="other keys than those that were recorded"):
            recording.effects(SPANS, out)


def test_images_that_would_be_read_again_as_their_ids_are_refused():
    model = tiny("mistral")
    model.config.image_token_id = 7
    ids = IDS.clone()
    ids[IDS == 7] = 8
    ids[4], ids[47] = 7, 7
    with attributor.record(model) as recording:
        model.generate(ids[None, :K], max_new_tokens=3, do_sample=False, suppress_tokens=[7])
        with pytest.raises(InputError, match="image, video or sound"):
            recording.effects(SPANS)  # the window's cache has dropped keys
    model = tiny("llama")
    model.config.image_token_id = 7
    with attributor.record(model) as recording:
        model.generate(ids[None, :K], max_new_tokens=3, do_sample=False, suppress_tokens=[7])
        with pytest.raises(InputError, match="image, video or sound"):
            recording.effects(SPANS)  # position 47 is in the suffix
        assert recording.effects([(3, 11), (12, 49)]).rows == "suffix"


def test_random_masks_come_in_complementary_pairs():
    for segments in (1, 2, 3, 5, 40):
        for count in (1, 2, 5, 8, 200):
            masks = draw_antithetic_masks(3, count, segments)
            most = 1 if segments == 1 else min(count, 2**segments - 2)
            assert masks.shape == (most, segments)
            assert len({tuple(row) for row in masks.tolist()}) == len(masks)
            if segments > 1:
                pairs = len(masks) // 2
                assert torch.equal(masks[0 : 2 * pairs : 2], ~masks[1 : 2 * pairs : 2])
                assert bool(masks.any(1).all() & ~masks.all(1).any())


def test_with_all_masks_the_effects_are_the_removals(llama):
    def log_prob(*spans):
        stays = torch.ones(K, dtype=torch.bool)
        for start, stop in spans:
            stays[start:stop] = False
        ids = torch.cat([IDS[:K][stays], IDS[K:]])
        with torch.no_grad():
            rows = llama(ids[None, :-1]).logits[0, -ANSWER:].double().log_softmax(-1)
        return float(rows.gather(1, IDS[K:, None]).sum())

    one, two = (3, 20), (21, 45)
    single = attributor.effects(llama, IDS, [one], prompt_length=K, ablations=9)
    assert single.removals == 1
    assert float(single.scores) == pytest.approx(log_prob() - log_prob(one), abs=1e-4)
    both = attributor.effects(llama, IDS, [one, two], prompt_length=K, ablations=2)
    assert both.scores.tolist() == pytest.approx([log_prob() - log_prob(one), log_prob() - log_prob(two)], abs=1e-4)
    assert both.errors.tolist() == [0, 0]
    three = attributor.effects(llama, IDS, SPANS[:1] + SPANS[2:], prompt_length=K, ablations=6)
    assert three.removals == 6
    assert bool((three.errors > 0).all())


def test_the_result_says_how_segments_were_removed(llama):
    assert attributor.effects(llama, IDS, SPANS, prompt_length=K, ablations=2).meta["removal"] == "tokens"


def test_the_posterior_does_not_depend_on_the_unit():
    g = torch.Generator().manual_seed(1)
    for _ in range(20):
        gradient, noise = torch.randn(2, 6, generator=g, dtype=torch.float64)
        kept = torch.cat([torch.ones(1, 6, dtype=torch.bool), torch.rand(12, 6, generator=g) < 0.5])
        y = kept.double() @ (gradient + noise) + 0.3 * torch.randn(13, generator=g, dtype=torch.float64)
        one, four = fit_posterior(gradient, kept, y), fit_posterior(4 * gradient, kept, 4 * y)
        # the grid of tau / sigma has steps of 2, so a factor of 4 in nats is a whole number of steps
        torch.testing.assert_close(four.mean, 4 * one.mean, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(four.deviation, 4 * one.deviation, rtol=1e-6, atol=1e-9)


def test_the_posterior_finds_a_large_effect_that_the_gradient_misses():
    """Saturated attention: the gradient estimates 0.1 nats for a sentence whose removal costs 8."""
    truth_w = torch.tensor([0.2, 0.6, 0.1, 8.0], dtype=torch.float64)
    gradient = torch.tensor([-0.8, 0.15, -0.3, 0.1], dtype=torch.float64)
    for scale in (1.0, 1e-3):
        kept = torch.cat([torch.ones(1, 4, dtype=torch.bool), draw_antithetic_masks(0, 8, 4)])
        posterior = fit_posterior(scale * gradient, kept, kept.double() @ truth_w)
        assert float((posterior.mean - truth_w).abs().max()) < 0.2
