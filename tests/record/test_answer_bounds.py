"""The first and last token of an answer, for every way of generating one."""

import copy

import pytest
import torch
from families import VOCABULARY, tiny
from transformers import DynamicCache

from attributor import InputError, NumericsError, RecordingError, UnsupportedModelError, Weights, flow, record
from attributor._record import HeadWeights, Recorder
from attributor._record.history import History, ReadIds
from attributor._record.mask import causal

N = 40
WRITE = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False}


def ids_of(n=N, seed=1):
    return torch.randint(3, VOCABULARY, (1, n), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


def prefilled(model, ids):
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids[:, :-1], past_key_values=cache)
    return cache


WAYS = {
    "plain": lambda model, ids: model.generate(ids, **WRITE),
    "no cache": lambda model, ids: model.generate(ids, use_cache=False, **WRITE),
    "prompt in chunks": lambda model, ids: model.generate(ids, prefill_chunk_size=13, **WRITE),
    "prompt read before": lambda model, ids: model.generate(ids, past_key_values=prefilled(model, ids), **WRITE),
    "by name": lambda model, ids: model.generate(inputs=ids, **WRITE),
    "all drafts accepted": lambda model, ids: model.generate(ids, assistant_model=tiny("llama"), **WRITE),
    "prompt lookup": lambda model, ids: model.generate(ids, prompt_lookup_num_tokens=3, **WRITE),
    "sampled": lambda model, ids: model.generate(ids, **WRITE | {"do_sample": True}),
    "attentions asked for": lambda model, ids: model.generate(
        ids, output_scores=True, return_dict_in_generate=True, **WRITE
    ),
}


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral"])
@pytest.mark.parametrize("way", WAYS)
def test_the_answer_begins_after_the_input_of_generate(way, family):
    if way in ("all drafts accepted", "prompt lookup") and family != "llama":
        pytest.skip("sliding caches cannot be cropped")
    model = tiny(family)
    with record(model) as recording:
        out = WAYS[way](model, ids_of())
    got = recording.flow(out)
    ids = getattr(out, "sequences", out)[0]
    assert got.prompt_length == N
    torch.testing.assert_close(got.scores, flow(model, ids, prompt_length=N).scores, rtol=0, atol=2e-6)


def test_a_second_answer_continues_the_cache_of_the_first(model):
    with record(model) as recording:
        first = model.generate(ids_of(), return_dict_in_generate=True, **WRITE)
        # the first answer's last token was written but not read
        second = model.generate(first.sequences, past_key_values=first.past_key_values, **WRITE)
    got = recording.flow(second)
    assert got.prompt_length == N + 9
    torch.testing.assert_close(got.scores, flow(model, second[0], prompt_length=N + 9).scores, rtol=0, atol=2e-6)


@pytest.mark.parametrize("given", ["argument", "config of the call", "config of the model"])
def test_the_end_token_passed_to_generate_ends_the_answer(model, given):
    prompts = torch.cat([ids_of(seed=4), ids_of(seed=5)])
    plain = model.generate(prompts, **WRITE)
    end = int(plain[0, N + 2])
    stop = int((plain[0, N:] == end).nonzero()[0])  # the end token is not part of the answer
    options = {"max_new_tokens": 9, "do_sample": False}
    config = copy.deepcopy(model.generation_config)
    config.update(eos_token_id=end, pad_token_id=0, **options)
    before = model.generation_config
    try:
        if given == "config of the model":
            model.generation_config = config
        with record(model) as recording:
            if given == "argument":
                out = model.generate(prompts, eos_token_id=end, pad_token_id=0, **options)
            elif given == "config of the call":
                out = model.generate(prompts, generation_config=config)
            else:
                out = model.generate(prompts)
    finally:
        model.generation_config = before
    first, _ = recording.flow(out)
    assert first.ids.tolist() == plain[0, : N + stop].tolist()
    assert first.scores.shape[0] == stop


def test_a_custom_decoding_loop_needs_the_prompt_length(model):
    with record(model) as recording, torch.no_grad():
        cache = DynamicCache(config=model.config)
        ids = ids_of()
        new = ids
        for _ in range(3):
            logits = model(new, past_key_values=cache).logits
            new = logits[:, -1:].argmax(-1)
            ids = torch.cat([ids, new], 1)
    with pytest.raises(InputError, match="prompt_length"):
        recording.flow(ids)
    got = recording.flow(ids, prompt_length=N)
    torch.testing.assert_close(got.scores, flow(model, ids[0], prompt_length=N).scores, rtol=0, atol=2e-6)


def test_one_forward_call_gives_the_row_of_the_next_token(model):
    with record(model) as recording, torch.no_grad():
        model(ids_of())
    torch.testing.assert_close(recording.flow(ids_of()).scores, flow(model, ids_of()).scores, rtol=0, atol=2e-6)
    unread = torch.cat([ids_of(), ids_of(1)], 1)
    with pytest.raises(RecordingError, match="not read"):
        recording.flow(unread, prompt_length=N + 1)


def test_a_call_after_generate_is_not_part_of_its_answer(model):
    with record(model) as recording, torch.no_grad():
        model.generate(ids_of(20), **WRITE)
        model(ids_of(seed=2))
    assert recording.flow(ids_of(seed=2)).prompt_length == N


def test_generate_is_restored_after_the_recording(model):
    assert "generate" not in vars(model)
    with record(model):
        assert "generate" in vars(model)
    assert "generate" not in vars(model)
    try:
        model.generate = mine = lambda *args, **kwargs: type(model).generate(model, *args, **kwargs)
        with record(model) as recording:
            out = model.generate(ids_of(), **WRITE)
        assert model.generate is mine
        assert recording.flow(out).prompt_length == N
    finally:
        del model.generate


@pytest.mark.parametrize("out", ["text", [], [[]], {"a": 1}], ids=repr)
def test_ids_that_generate_did_not_return_are_refused(model, out):
    with record(model) as recording:
        model.generate(ids_of(), **WRITE)
    with pytest.raises((InputError, RecordingError), match="ids"):
        recording.flow(out)


@pytest.mark.parametrize("length", [2.0, "5", True, [5.5], [None], {5}], ids=repr)
def test_prompt_lengths_must_be_whole_numbers(model, length):
    with pytest.raises(InputError, match="whole number"):
        flow(model, ids_of(), prompt_length=length)


@pytest.mark.parametrize("length", [torch.tensor(30), torch.tensor([30]), [torch.tensor(30)], (30,)], ids=repr)
def test_prompt_lengths_may_be_tensors(model, length):
    assert flow(model, ids_of(), prompt_length=length).prompt_length == 30


def test_missing_documents_are_reported_before_any_forward_pass(model, tmp_path):
    read = []
    handle = model.register_forward_pre_hook(lambda *_: read.append(1))
    try:
        with pytest.raises(InputError, match="tokenizer"):
            flow(model, ids_of(), tokenizer="SmolLM2")
        tokenizer = type("Tokenizer", (), {"decode": lambda self, ids, **_: " ".join(f"t{int(i)}" for i in ids)})()
        with pytest.raises(InputError, match="document"):
            flow(model, ids_of(), tokenizer=tokenizer, documents=["not in the text"])
    finally:
        handle.remove()
    assert not read


def test_progress_counts_the_layers_of_each_call(model):
    events = []
    with record(model, progress=lambda *what: events.append(what)):
        model.generate(ids_of(), max_new_tokens=2, min_new_tokens=2, do_sample=False)
    assert events == [("prompt", done, 4) for _ in range(2) for done in (1, 2, 3, 4)]


def test_keywords_that_might_change_attention_are_refused(model):
    """New families pass new keywords to the attention function; unknown keywords are refused, not ignored."""
    layer = model.model.layers[2].self_attn
    before = layer.forward
    try:
        layer.forward = lambda *args, **kwargs: before(*args, **kwargs, indices=torch.ones(3))
        with pytest.raises(UnsupportedModelError, match=r"layer 2.*indices"):
            flow(model, ids_of())
        layer.forward = lambda *args, **kwargs: before(*args, **kwargs, some_flag=True, another=None)
        flow(model, ids_of())
    finally:
        del layer.forward


def test_keys_beyond_the_mask_are_refused(model):
    from attributor._record import attention_interface

    query, key = torch.randn(1, 4, 10, 16), torch.randn(1, 2, 13, 16)
    layer = model.model.layers[0].self_attn
    recorder = Recorder(HeadWeights(torch.ones(4, 4)))
    mask = causal(1, 10, 0, 0, 10, "cpu")
    with pytest.raises(UnsupportedModelError, match="13 keys"):
        attention_interface._attend_recorded(recorder, layer, query, key, key, mask, scaling=1.0)


def test_models_that_read_their_own_mask_are_refused(model):
    mask = causal(1, 5, 0, 0, 5, "cpu")
    assert not hasattr(mask, "to")
    with pytest.raises(UnsupportedModelError, match="mask"):
        mask.masked_fill(0, 1)
    with pytest.raises(UnsupportedModelError, match="mask"):
        mask[:, :, :, :3]


def test_keys_that_the_attention_did_not_use_are_detected(model):
    """A cache that stores other keys than it returns, such as a quantised cache."""
    with record(model) as recording:
        out = model.generate(ids_of(), **WRITE)
    recording.flow(out)
    for tape in recording.tapes.values():
        for _, held in tape.key:
            held.tensor = held.tensor * 1.2
            held.version = held.tensor._version
    with pytest.raises(NumericsError, match=r"sums to [\d.]+ instead of 1"):
        recording.flow(out)


def test_flow_under_autocast_agrees_with_float32(model):
    with torch.autocast("cpu", torch.bfloat16):
        got = flow(model, ids_of(), prompt_length=30)
    torch.testing.assert_close(got.scores, flow(model, ids_of(), prompt_length=30).scores, rtol=0, atol=2e-2)
    assert got.missing_mass.abs().max() < 1e-3


def test_the_default_dtype_of_torch_does_not_change_the_scores(model):
    expected = flow(model, ids_of(), prompt_length=30, weights=Weights.of_heads((4, 4), {(1, 2): 1 / 3})).scores
    mean = flow(model, ids_of(), prompt_length=30).scores
    torch.set_default_dtype(torch.bfloat16)
    try:
        got = flow(model, ids_of(), prompt_length=30, weights=Weights.of_heads((4, 4), {(1, 2): 1 / 3})).scores
        again = flow(model, ids_of(), prompt_length=30).scores
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(again, mean, rtol=0, atol=1e-6)


def test_a_history_of_many_calls_is_stored_without_copies():
    history = History()
    for start in range(5000):  # would take seconds if every call copied the calls before it
        history.add(causal(1, 1, start, 0, start + 1, "cpu"), ReadIds(torch.tensor([[start]]), None, None))
    assert history.length == 5000
    assert history.tokens(0).tolist() == list(range(5000))
    assert history.real_bounds(0) == (0, 5000)
    history.add(causal(1, 2, 100, 0, 102, "cpu"), ReadIds(torch.tensor([[7, 8]]), None, None))
    assert history.tokens(0).tolist() == [*range(100), 7, 8]
