"""flow() of one sequence, refused inputs, and a model that is left unchanged."""

import copy

import pytest
import torch
from families import VOCABULARY, tiny

from attributor import InputError, NumericsError, UnsupportedModelError, Weights, flow, record
from attributor._record.recorder import Recorder

K = 40


def ids_of(n=50, seed=1):
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


def state(model):
    """Return all state that a recording changes."""
    return (
        model.config._attn_implementation,
        [(name, module.training, len(module._forward_pre_hooks)) for name, module in model.named_modules()],
        {k: v for k, v in vars(model.generation_config).items() if not k.startswith("_")},
    )


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: x[None], lambda x: x.tolist(), lambda x: x.int(), lambda x: x.numpy()]
)
def test_ids_are_accepted_in_any_form(model, form):
    got = flow(model, form(ids_of()), prompt_length=K)
    assert got.scores.shape == (10, K)
    close(got.scores, flow(model, ids_of(), prompt_length=K).scores)


def test_a_prompt_alone_has_the_row_of_the_next_token(model):
    got = flow(model, ids_of())
    assert got.scores.shape == (1, 50)
    close(got.scores.sum(), torch.tensor(1.0))  # everything comes from the prompt
    with_answer = flow(model, ids_of(51), prompt_length=50)
    close(got.scores, flow(model, torch.cat([ids_of(), ids_of(1)]), prompt_length=50).scores)
    assert with_answer.scores.shape == (1, 50)


def test_rows_sum_to_one_with_the_part_on_the_answer(model):
    got = flow(model, ids_of(), prompt_length=K)
    assert got.missing_mass.abs().max() < 1e-6
    assert (got.scores >= 0).all()
    assert got.scores[0].sum() == pytest.approx(1, abs=1e-6)  # the first answer token can only come from the prompt
    assert got.scores[-1].sum() < 1


def test_normalize_false_multiplies_by_two_to_the_layers(model):
    plain = flow(model, ids_of(), prompt_length=K)
    raw = flow(model, ids_of(), prompt_length=K, normalize=False)
    torch.testing.assert_close(raw.scores, plain.scores * 2**4)
    close(raw.missing_mass, plain.missing_mass)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_model_is_as_before_after_an_exception(error):
    model = tiny("llama")
    model.train()
    model.model.layers[1].eval()  # makes the training flags differ by module
    before = state(model)

    def fail(*_):
        raise error("stop")

    def generate():
        with record(model):
            assert not model.training
            model.generate(ids_of(10)[None], max_new_tokens=3)

    handle = model.model.layers[2].register_forward_hook(fail)
    with pytest.raises(error):
        generate()
    handle.remove()
    assert state(model) == before
    flow(model, ids_of(), prompt_length=K)
    assert state(model) == before


def test_interrupted_sweeps_leave_the_model_usable(model, monkeypatch):
    before = state(model)
    calls = []

    def interrupt(stage, done, total):
        calls.append((stage, done, total))
        if stage == "sweep" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flow(model, ids_of(), prompt_length=K, progress=interrupt)
    assert calls == [("prompt", i, 4) for i in range(1, 5)] + [("sweep", 1, 4), ("sweep", 2, 4)]
    assert state(model) == before
    assert flow(model, ids_of(), prompt_length=K).scores.shape == (10, K)


def test_training_mode_with_dropout_runs_in_eval_and_comes_back():
    model = tiny("gpt2", attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)
    expected = flow(model, ids_of(), prompt_length=K).scores
    model.train()
    close(flow(model, ids_of(), prompt_length=K).scores, expected)
    assert all(module.training for module in model.modules())


def test_the_models_output_is_not_changed_by_recording(model):
    with torch.no_grad():
        plain = model(ids_of()[None]).logits
        with record(model):
            recorded = model(ids_of()[None]).logits
        again = model(ids_of()[None]).logits
    torch.testing.assert_close(recorded, plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(again, plain)


def test_an_eager_model_is_recorded_too():
    model = tiny("llama")
    model.set_attn_implementation("eager")
    expected = flow(tiny("llama"), ids_of(), prompt_length=K).scores
    close(flow(model, ids_of(), prompt_length=K).scores, expected)
    assert model.config._attn_implementation == "eager"


def test_flow_works_inside_inference_mode(model):
    expected = flow(model, ids_of(), prompt_length=K).scores
    with torch.inference_mode(), record(model) as recording:
        out = model.generate(ids_of(30)[None], max_new_tokens=4, min_new_tokens=4, do_sample=False)
    close(recording.flow(out).scores, flow(model, out[0], prompt_length=30).scores)
    with torch.inference_mode():
        close(flow(model, ids_of(), prompt_length=K).scores, expected)


def test_packed_sequences_do_not_attend_to_each_other(model):
    """Several sequences in one row, separated by their positions, are chunks."""
    ids = ids_of()
    positions = torch.cat([torch.arange(20), torch.arange(30)])[None]
    with record(model) as recording, torch.no_grad():
        model(ids[None], position_ids=positions, use_cache=False)
    got = recording.flow(ids, prompt_length=K).scores
    assert not got[:, :20].any()
    close(got[:, 20:], flow(model, ids[20:], prompt_length=K - 20).scores)


def test_four_dimensional_masks_are_followed_or_refused(model):
    causal = torch.ones(50, 50, dtype=torch.bool).tril()[None, None]
    expected = flow(model, ids_of(), prompt_length=K).scores
    for mask in (causal, torch.zeros(1, 1, 50, 50).masked_fill(~causal, torch.finfo(torch.float32).min)):
        with record(model) as recording, torch.no_grad():
            model(ids_of()[None], attention_mask=mask, use_cache=False)
        close(recording.flow(ids_of(), prompt_length=K).scores, expected)
    for mask in (torch.ones_like(causal), torch.zeros(1, 1, 50, 50).masked_fill(~causal, -3.0)):
        with pytest.raises(UnsupportedModelError, match="mask"), record(model), torch.no_grad():
            model(ids_of()[None], attention_mask=mask, use_cache=False)


def test_layers_with_accelerate_hooks_are_followed(model):
    """The hooks of accelerate move activations between devices; here every layer has one, on the same device."""
    accelerate = pytest.importorskip("accelerate")
    dispatched = accelerate.dispatch_model(copy.deepcopy(model), {"": "cpu"}, force_hooks=True)
    close(flow(dispatched, ids_of(), prompt_length=K).scores, flow(model, ids_of(), prompt_length=K).scores)


def test_layers_offloaded_to_disk_are_followed(model, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    moved = copy.deepcopy(model)
    names = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    places = dict.fromkeys(names, "cpu") | {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(4)}
    moved = accelerate.dispatch_model(moved, places, main_device="cpu", offload_dir=str(tmp_path))
    close(flow(moved, ids_of(), prompt_length=K).scores, flow(model, ids_of(), prompt_length=K).scores)


@pytest.mark.parametrize(
    "where", ["model.layers.1.self_attn.q_proj", "model.embed_tokens", "model.layers.3.mlp.down_proj"]
)
def test_nan_weights_raise(where):
    model = tiny("llama")
    with torch.no_grad():
        model.get_submodule(where).weight[:] = float("nan")
    with pytest.raises(NumericsError, match="finite"):
        flow(model, ids_of(), prompt_length=K)
    with record(model) as recording, torch.no_grad():
        model(ids_of()[None])
    with pytest.raises(NumericsError, match="finite"):  # also if no selected head is affected
        recording.flow(ids_of(), prompt_length=K)


BAD = {
    "empty": ([], {}, "empty"),
    "float": (torch.rand(5), {}, "integers"),
    "three dimensions": (torch.ones(1, 2, 3, dtype=torch.long), {}, r"\(n,\)"),
    "ragged": ([[1, 2], [3]], {}, "integers"),
    "prompt_length 0": (ids_of(), {"prompt_length": 0}, "1 to 50"),
    "prompt_length past the end": (ids_of(), {"prompt_length": 51}, "1 to 50"),
    "too few lengths": (ids_of().view(2, 25), {"prompt_length": [3]}, "one a row"),
    "out of vocabulary": (torch.tensor([5, VOCABULARY]), {}, "0 to 96"),
    "negative id": (torch.tensor([5, -1]), {}, "got -1"),
    "past the positions": (ids_of(300), {}, "256 positions"),
    "mask shape": (ids_of(), {"attention_mask": torch.ones(1, 7)}, "shape"),
    "mask with a hole": (ids_of(3), {"attention_mask": [1, 0, 1]}, "between"),
    "mask all zero": (ids_of(3), {"attention_mask": [0, 0, 0]}, "all 0"),
    "unknown weights": (ids_of(), {"weights": "men"}, "preset"),
    "weights of another model": (ids_of(), {"weights": torch.ones(3, 4)}, r"\(4, 4\)"),
    "no shipped weights": (ids_of(), {"weights": "retrieval"}, "no retrieval heads"),
    "documents without a tokenizer": (ids_of(), {"documents": ["a"]}, "tokenizer"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_what_would_work(model, case):
    ids, options, match = BAD[case]
    with pytest.raises(InputError, match=match):
        flow(model, ids, **options)


def test_an_object_that_is_not_a_model_is_refused():
    with pytest.raises(InputError, match="PreTrainedModel"):
        flow("SmolLM2", ids_of())


def test_an_unknown_implementation_is_refused(model):
    from attributor import ImplementationError

    with pytest.raises(ImplementationError, match="unknown implementation 'fast'"):
        flow(model, ids_of(), impl="fast")


def test_only_chosen_heads_are_recorded_and_computed(model, monkeypatch):
    import attributor._record.layer_recurrence as module

    calls = []
    real = module.flow_step
    monkeypatch.setattr(
        module, "flow_step", lambda rows, query, *a, **k: calls.append(query.shape[0]) or real(rows, query, *a, **k)
    )
    taped = []
    monkeypatch.setattr(Recorder, "layer", _spy(Recorder.layer, taped))
    weights = Weights.of_heads((4, 4), {(1, 2): 0.5, (3, 0): 0.25, (3, 3): 0.25})
    got = flow(model, ids_of(), prompt_length=K, weights=weights)
    assert calls == [2, 1]  # layer 3 with two heads, layer 1 with one; layers 0 and 2 are skipped
    assert got.meta["heads_used"] == "3"
    whole = flow(model, ids_of(), prompt_length=K)
    per_head = 49 * 4 * (16 + 1)  # query and log-sum-exp of one head
    kv_head = 49 * 4 * 16
    positions = 49 * 8
    assert int(got.meta["recorded_bytes"]) == 3 * per_head + 3 * kv_head + 2 * positions
    assert int(whole.meta["recorded_bytes"]) >= 16 * per_head + 8 * kv_head


def _spy(method, log):
    def wrapped(self, *args, **kwargs):
        log.append(args[0].layer_idx)
        return method(self, *args, **kwargs)

    return wrapped
