"""Only the outermost calls of one model in one thread are recorded. A recording changes no result of other calls."""

import copy
import threading

import pytest
import tiny_chat
import torch
from families import VOCABULARY, tiny
from rollout_truth import rollout
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TextIteratorStreamer,
)

from attributor import RecordingError, flow, record

N, WRITTEN = 40, 8
WRITE = {"max_new_tokens": WRITTEN, "min_new_tokens": WRITTEN, "do_sample": False}


def ids_of(seed=1, n=N):
    return torch.randint(3, VOCABULARY, (1, n), generator=torch.Generator().manual_seed(seed))


def same_config(model, seed=7):
    """Return another model that holds the same configuration object."""
    torch.manual_seed(seed)
    other = type(model)(model.config).eval()
    assert other.config is model.config
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(4) if parameter.ndim > 1 else parameter.add_(0.2)
    return other


def is_right(found, model, out):
    torch.testing.assert_close(found.scores.double(), rollout(model, out[0], N), rtol=0, atol=2e-6)


@pytest.fixture(params=["sdpa", "eager"])
def model(request):
    made = tiny("mistral")  # has a window, so that a lost mask changes the result
    made.set_attn_implementation(request.param)
    return made


def in_thread(work):
    """Run `work` in its own thread and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(60)
    assert results, "the thread failed"
    return results[0]


def padded():
    """Return two rows, one of them padded on the left."""
    ids, mask = ids_of(2).repeat(2, 1), torch.ones(2, N, dtype=torch.int64)
    ids[1, :9], mask[1, :9] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def test_calls_of_another_thread_are_unchanged_and_not_recorded(model):
    with torch.no_grad():
        expected, text = model(**padded()).logits, model.generate(**padded(), **WRITE)
    with record(model) as recording:
        out = model.generate(ids_of(), **WRITE)
        with torch.no_grad():
            assert torch.equal(in_thread(lambda: model(**padded()).logits), expected)
        assert torch.equal(in_thread(lambda: model.generate(**padded(), **WRITE)), text)
    is_right(recording.flow(out), model, out)
    with pytest.raises(RecordingError, match="calls of other threads"):
        recording.flow(text[:1])


def test_another_thread_during_the_recorded_call_is_unchanged(model):
    plain, text = model.generate(ids_of(), **WRITE), model.generate(**padded(), **WRITE)
    results = []

    def bystander(*_):
        results.append(in_thread(lambda: model.generate(**padded(), **WRITE)))

    with record(model) as recording:
        hook = model.model.layers[2].register_forward_pre_hook(
            lambda *_: bystander() if threading.current_thread() is threading.main_thread() else None
        )
        out = model.generate(ids_of(), **WRITE)
        hook.remove()
    assert len(results) == WRITTEN
    assert all(torch.equal(result, text) for result in results)
    assert torch.equal(out, plain)
    is_right(recording.flow(out), model, out)


def test_the_first_thread_that_calls_owns_the_recording(model):
    with record(model) as recording:
        out = in_thread(lambda: model.generate(ids_of(), **WRITE))
        model.generate(ids_of(3), **WRITE)  # this thread opened the recording but calls second
    is_right(recording.flow(out), model, out)


def test_generation_in_a_thread_with_a_streamer_is_recorded():
    tokenizer = tiny_chat.tokenizer()
    model = tiny_chat.model(len(tokenizer), 512)
    prompt = tokenizer("Who keeps the light?", return_tensors="pt")["input_ids"]
    results = []
    with record(model) as recording:
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
        thread = threading.Thread(
            target=lambda: results.append(model.generate(prompt, streamer=streamer, max_new_tokens=6, do_sample=False))
        )
        thread.start()
        text = "".join(streamer)
        thread.join()
    assert text == tokenizer.decode(results[0][0, prompt.shape[1] :])
    found, again = recording.flow(results[0]), flow(model, results[0], prompt_length=prompt.shape[1])
    torch.testing.assert_close(found.scores, again.scores, rtol=0, atol=2e-6)


def test_a_model_with_the_same_configuration_is_unchanged(model):
    other = same_config(model)
    with torch.no_grad():
        expected, text = other(**padded()).logits, other.generate(**padded(), **WRITE)
        static = other.generate(**padded(), cache_implementation="static", **WRITE)
    with record(model) as recording:
        out = model.generate(ids_of(), **WRITE)
        with torch.no_grad():
            assert torch.equal(other(**padded()).logits, expected)
        assert torch.equal(other.generate(**padded(), **WRITE), text)
        assert torch.equal(other.generate(**padded(), cache_implementation="static", **WRITE), static)
    is_right(recording.flow(out), model, out)


def test_two_models_with_one_configuration_can_be_recorded_together(model):
    other = same_config(model)
    before = model.config._attn_implementation
    with record(model) as first, record(other) as second:
        out, answer = model.generate(ids_of(), **WRITE), other.generate(ids_of(2), **WRITE)
    assert model.config._attn_implementation == before
    is_right(first.flow(out), model, out)
    is_right(second.flow(answer), other, answer)


def test_recordings_may_end_in_any_order(model):
    other, before = same_config(model), model.config._attn_implementation
    first, second = record(model), record(other)
    first.__enter__()
    recording = second.__enter__()
    first.__exit__(None, None, None)
    answer = other.generate(ids_of(2), **WRITE)
    second.__exit__(None, None, None)
    assert model.config._attn_implementation == before
    is_right(recording.flow(answer), other, answer)


def test_an_assistant_with_the_same_configuration_is_not_recorded(model):
    assistant = same_config(model)
    model.generation_config.pad_token_id = 0
    plain = model.generate(ids_of(), assistant_model=assistant, **WRITE)
    with record(model) as recording:
        out = model.generate(ids_of(), assistant_model=assistant, **WRITE)
    assert torch.equal(out, plain)
    is_right(recording.flow(out), model, out)


def test_a_model_may_be_its_own_assistant(model):
    plain = model.generate(ids_of(), assistant_model=model, **WRITE)
    with record(model) as recording:
        out = model.generate(ids_of(), assistant_model=model, **WRITE)
    assert torch.equal(out, plain)
    is_right(recording.flow(out), model, out)


def test_generation_in_a_pipeline_is_recorded(tmp_path):
    from transformers import pipeline

    tokenizer = tiny_chat.tokenizer()
    model = tiny_chat.model(len(tokenizer), 512)
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    with record(model) as recording:
        text = pipe("Who keeps the light?", max_new_tokens=6, do_sample=False, return_tensors=True)
    ids = torch.tensor(text[0]["generated_token_ids"])
    prompt = len(tokenizer("Who keeps the light?")["input_ids"])
    expected = flow(model, ids, prompt_length=prompt).scores
    torch.testing.assert_close(recording.flow(ids).scores, expected, rtol=0, atol=2e-6)


def test_self_drafting_layers_are_not_part_of_the_answer(model):
    """An inner generate() runs some of the layers; its tokens and prompt are not those of the answer."""
    plain = model.generate(ids_of(), assistant_early_exit=2, **WRITE)
    with record(model) as recording:
        out = model.generate(ids_of(), assistant_early_exit=2, **WRITE)
    assert torch.equal(out, plain)
    found = recording.flow(out)
    assert found.prompt_length == N
    is_right(found, model, out)


def test_a_nested_forward_pass_is_not_recorded(model):
    with torch.no_grad():
        expected = model(ids_of(5)).logits
    results = []

    def read_another(*_):
        if not results:
            results.append(None)
            results[0] = model(ids_of(5)).logits

    with record(model) as recording, torch.no_grad():
        hook = model.model.layers[1].register_forward_pre_hook(read_another)
        model(ids_of())
        hook.remove()
    assert torch.equal(results[0], expected)
    torch.testing.assert_close(
        recording.flow(ids_of(), prompt_length=30).scores.double(), rollout(model, ids_of()[0], 30), rtol=0, atol=2e-6
    )


def test_generation_from_the_start_token_is_recorded():
    model = tiny("llama")
    with record(model) as recording:
        out = model.generate(**WRITE)
    assert recording.flow(out).prompt_length == 1
    torch.testing.assert_close(recording.flow(out).scores, flow(model, out, prompt_length=1).scores, rtol=0, atol=2e-6)


class Contrast(LogitsProcessor):
    """Read the prompt again without its beginning, as context-aware decoding does; or read only its end."""

    def __init__(self, model, length=None):
        self.model, self.length = model, length

    def __call__(self, ids, scores):
        mask = torch.ones_like(ids)
        mask[:, :10] = 0
        with torch.no_grad():
            if self.length:
                return scores - 0.5 * self.model(ids[:, -self.length :]).logits[:, -1]
            return 1.5 * scores - 0.5 * self.model(ids, attention_mask=mask).logits[:, -1]


@pytest.mark.parametrize("length", [None, 10])
@pytest.mark.parametrize("use_cache", [True, False])
def test_forward_passes_inside_generate_are_not_part_of_the_answer(model, length, use_cache):
    options = {"logits_processor": LogitsProcessorList([Contrast(model, length)]), "use_cache": use_cache, **WRITE}
    plain = model.generate(ids_of(), **options)
    with record(model) as recording:
        out = model.generate(ids_of(), **options)
    assert torch.equal(out, plain)
    assert recording.flow(out).prompt_length == N
    is_right(recording.flow(out), model, out)


def test_forward_passes_of_a_streamer_are_not_part_of_the_answer(model):
    """Also before the second turn on a cache, after inputs that were prepared by hand but never read."""

    class Streamer:
        def put(self, value):
            with torch.no_grad():
                model(ids_of(4, 7))

        def end(self):
            pass

    cache = DynamicCache(config=model.config)
    with record(model) as recording:
        out = model.generate(ids_of(n=20), streamer=Streamer(), past_key_values=cache, **WRITE)
        model.prepare_inputs_for_generation(ids_of(), is_first_iteration=True)
        prompt = torch.cat([out, ids_of(5, N - out.shape[1])], 1)
        out = model.generate(prompt, streamer=Streamer(), past_key_values=cache, **WRITE)
    is_right(recording.flow(out), model, out)


@pytest.mark.parametrize("by", ["argument", "configuration"])
def test_guidance_is_recorded_without_its_second_prompt(by):
    model = tiny("llama")
    options = {"guidance_scale": 1.5, **WRITE}
    if by == "configuration":
        options = {"generation_config": GenerationConfig(eos_token_id=None, **options)}
    plain = model.generate(ids_of(), **options)
    with record(model) as recording:
        out = model.generate(ids_of(), **options)
    assert torch.equal(out, plain)
    is_right(recording.flow(out), model, out)


def test_a_generation_that_began_before_the_recording_is_not_recorded(model):
    """A thread is generating when the recording begins."""
    text = model.generate(ids_of(3), max_new_tokens=40, min_new_tokens=40, do_sample=False)
    begun, go, results = threading.Event(), threading.Event(), []

    class Wait(LogitsProcessor):
        def __call__(self, ids, scores):
            begun.set()
            assert go.wait(60)
            return scores

    def generate():
        processors = LogitsProcessorList([Wait()])
        options = {"max_new_tokens": 40, "min_new_tokens": 40, "do_sample": False, "logits_processor": processors}
        results.append(model.generate(ids_of(3), **options))

    thread = threading.Thread(target=generate)
    thread.start()
    assert begun.wait(60)
    with record(model) as recording:
        go.set()
        thread.join(60)
        out = model.generate(ids_of(), **WRITE)
    assert torch.equal(results[0], text)
    is_right(recording.flow(out), model, out)


def test_flow_is_right_while_another_thread_generates(model):
    text = model.generate(ids_of(3), **WRITE)
    expected = flow(model, ids_of(), prompt_length=30).scores
    stop, results = threading.Event(), []

    def generate():
        while not stop.is_set():
            results.append(model.generate(ids_of(3), **WRITE))

    thread = threading.Thread(target=generate)
    thread.start()
    try:
        for _ in range(20):
            assert torch.equal(flow(model, ids_of(), prompt_length=30).scores, expected)
    finally:
        stop.set()
        thread.join(60)
    assert results
    assert all(torch.equal(result, text) for result in results)


def test_a_nested_model_with_the_same_configuration_is_unchanged(model):
    other = same_config(model)
    with torch.no_grad():
        expected = other(**padded()).logits
    results = []
    for place in (model.model.embed_tokens, model.model.layers[1]):
        with record(model) as recording, torch.no_grad():
            hook = place.register_forward_pre_hook(lambda *_: results.append(other(**padded()).logits))
            model(ids_of())
            hook.remove()
        scores = recording.flow(ids_of(), prompt_length=30).scores.double()
        torch.testing.assert_close(scores, rollout(model, ids_of()[0], 30), rtol=0, atol=2e-6)
    for result in results:
        torch.testing.assert_close(result[0], expected[0], rtol=0, atol=1e-5)  # its mask may select another kernel


def test_a_second_turn_may_pass_only_its_new_ids(model):
    cache = DynamicCache(config=model.config)
    with record(model) as recording:
        first = model.generate(ids_of(n=20), past_key_values=cache, **WRITE)
        new = torch.cat([first[:, -1:], ids_of(5, 6)], 1)
        mask = torch.ones(1, 34, dtype=torch.long)
        second = model.generate(new, past_key_values=cache, attention_mask=mask, **WRITE)
    out = torch.cat([first[:, :27], second], 1)
    assert recording.flow(out).prompt_length == 34


def test_end_tokens_default_to_those_of_the_model(model):
    batch = torch.cat([ids_of(1), ids_of(2)])
    ends = [int(model.generate(batch, **WRITE)[0, N + 2])]
    model.generation_config.eos_token_id = ends
    with record(model) as recording:
        out = model.generate(batch, generation_config=GenerationConfig(max_new_tokens=8, do_sample=False))
    expected = [len(flow.ids) - N for flow in recording.flow(out)]
    with record(model) as recording:
        again = model.generate(batch, GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=ends))
    assert torch.equal(out, again)
    assert [len(flow.ids) - N for flow in recording.flow(again)] == expected
    assert expected[0] == 2, "the third token ends the answer and is no part of it"


def test_an_attention_changed_inside_the_recording_is_kept_and_named():
    model = tiny("llama")
    model.set_attn_implementation("sdpa")
    with record(model):
        model.set_attn_implementation("eager")
        with pytest.raises(RecordingError, match="changed to 'eager' inside the recording"):
            model.generate(ids_of(), **WRITE)
    assert model.config._attn_implementation == "eager"
    flow(model, ids_of())
    assert model.config._attn_implementation == "eager"


def test_the_reference_may_run_inside_a_recording():
    from attributor._flow.eager import eager_attentions

    model = tiny("llama")
    with record(model) as recording:
        out = model.generate(ids_of(), **WRITE)
        eager_attentions(model, ids_of(4)[0])
    is_right(recording.flow(out), model, out)


class StopNow(BaseException):
    """Like KeyboardInterrupt: torch runs no further hooks after it."""


def test_an_interrupted_call_does_not_block_the_next():
    model = tiny("llama")

    def stop(*_):
        raise StopNow

    with record(model) as recording:
        hook = model.model.layers[2].register_forward_pre_hook(stop)
        with pytest.raises(StopNow):
            model.generate(ids_of(), **WRITE)
        hook.remove()
        out = model.generate(ids_of(), **WRITE)
    is_right(recording.flow(out), model, out)


def test_copies_made_inside_the_recording_are_named():
    model = tiny("llama")
    with record(model):
        with pytest.raises(RecordingError, match="copy it before record"):
            copy.deepcopy(model)
        config = copy.deepcopy(model.config)
    with pytest.raises(RecordingError, match=r"copied while another model was recorded\? Call set_attn_implementation"):
        type(model)(config)(ids_of())


def test_output_attentions_inside_a_recording_warns():
    model = tiny("llama")
    model.set_attn_implementation("eager")
    with record(model) as recording:
        with pytest.warns(UserWarning, match="no attention matrices inside a recording"):
            out = model.generate(ids_of(), output_attentions=True, return_dict_in_generate=True, **WRITE)
        with pytest.warns(UserWarning, match="no attention matrices inside a recording"), torch.no_grad():
            model(ids_of(), output_attentions=True)
        model.config._output_attentions = True
        with pytest.warns(UserWarning, match="no attention matrices inside a recording"), torch.no_grad():
            model(ids_of())
        model.config._output_attentions = False
    assert recording.flow(ids_of(), prompt_length=20).scores.shape == (20, 20)
    assert out.sequences.shape == (1, N + WRITTEN)


def test_the_functions_of_the_model_are_restored(model):
    before = {name: set(vars(m)) for name, m in model.named_modules()}
    with record(model):
        model.generate(ids_of(), **WRITE)
    assert {name: set(vars(m)) for name, m in model.named_modules()} == before
    assert isinstance(model, AutoModelForCausalLM._model_mapping[type(model.config)])
