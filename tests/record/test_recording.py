"""record() with padding, caches, several turns, and calls that it refuses."""

import copy

import pytest
import torch
from families import VOCABULARY, tiny
from transformers import StaticCache

from attributor import InputError, RecordingError, flow, record


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


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "llama4_text"])
def test_padded_batches_equal_single_sequences(family, side):
    model = tiny(family)
    rows = [ids_of(50, 1), ids_of(37, 2), ids_of(44, 3)]
    lengths = [40, 30, 31]
    batch, mask = torch.zeros(3, 50, dtype=torch.int64), torch.zeros(3, 50, dtype=torch.int64)
    for i, row in enumerate(rows):
        span = slice(50 - len(row), 50) if side == "left" else slice(0, len(row))
        batch[i, span], mask[i, span] = row, 1
    got = flow(model, batch, attention_mask=mask, prompt_length=lengths)
    for found, row, k in zip(got, rows, lengths, strict=True):
        close(found.scores, flow(model, row, prompt_length=k).scores)
        assert found.ids.tolist() == row.tolist()


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2", "gpt_oss", "llama4_text"])
def test_generation_from_a_left_padded_batch_is_recorded(family):
    # llama4 scales its queries by cache position, so a padded batch itself computes other values
    model = tiny(family, **({"attn_temperature_tuning": False} if family == "llama4_text" else {}))
    rows = [ids_of(40, 1), ids_of(33, 2)]
    batch, mask = torch.zeros(2, 40, dtype=torch.int64), torch.zeros(2, 40, dtype=torch.int64)
    for i, row in enumerate(rows):
        batch[i, 40 - len(row) :], mask[i, 40 - len(row) :] = row, 1
    with record(model) as recording:
        out = model.generate(batch, attention_mask=mask, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    got = recording.flow(out)
    for i, row in enumerate(rows):
        single = torch.cat([row, out[i, 40:]])
        assert got[i].ids.tolist() == single.tolist()
        close(got[i].scores, flow(model, single, prompt_length=len(row)).scores)


def test_a_right_padded_batch_is_recorded_in_one_call(model):
    batch, mask = torch.zeros(2, 40, dtype=torch.int64), torch.ones(2, 40, dtype=torch.int64)
    batch[0], batch[1, :30] = ids_of(40, 1), ids_of(30, 2)
    mask[1, 30:] = 0
    with record(model) as recording, torch.no_grad():
        model(batch, attention_mask=mask)
    with pytest.raises(InputError, match="prompt_length"):
        recording.flow(batch, prompt_length=[30, 35])
    got = recording.flow(batch, prompt_length=[30, 25])
    close(got[1].scores, flow(model, batch[1, :30], prompt_length=25).scores)


def test_answers_of_a_batch_end_at_their_end_token(model):
    prompts = torch.stack([ids_of(20, 4), ids_of(20, 5)])
    with record(model) as recording:
        out = model.generate(prompts, max_new_tokens=5, do_sample=False)
    ended = out.clone()
    model_ended = copy.deepcopy(model)
    model_ended.generation_config.eos_token_id = int(out[0, 21])
    with record(model_ended) as recording:
        ended = model_ended.generate(prompts, max_new_tokens=5, do_sample=False)
    first, second = recording.flow(ended)
    assert first.ids.tolist() == out[0, :21].tolist()  # no end token and no padding
    assert second.ids.numel() > 22


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral"])
def test_generation_with_every_cache_is_recorded(family, cache):
    model = tiny(family)
    with record(model) as recording:
        options = {} if cache == "dynamic" else {"cache_implementation": "static"}
        out = model.generate(ids_of(30)[None], max_new_tokens=8, min_new_tokens=8, do_sample=False, **options)
    close(recording.flow(out).scores, flow(model, out[0], prompt_length=30).scores)


@pytest.mark.parametrize("room", [30, 40])
def test_a_reused_static_cache_never_gives_wrong_scores(model, room):
    """A full buffer is kept by reference and its change detected; a part of a buffer is copied."""
    cache = StaticCache(model.config, max_cache_len=room)
    ids = ids_of(30)[None]
    with record(model) as recording, torch.no_grad():
        model(ids, past_key_values=cache, use_cache=True)
    expected = recording.flow(ids).scores
    for layer in cache.layers:
        layer.keys.zero_()
    if room == 30:
        with pytest.raises(RecordingError, match="changed in place"):
            recording.flow(ids)
    else:
        close(recording.flow(ids).scores, expected)


def test_several_turns_on_one_cache_are_recorded(model):
    first = ids_of(20, 6)
    with record(model) as recording:
        out = model.generate(
            first[None], max_new_tokens=5, min_new_tokens=5, do_sample=False, return_dict_in_generate=True
        )
        second = torch.cat([out.sequences[0], ids_of(12, 7)])
        final = model.generate(
            second[None], past_key_values=out.past_key_values, max_new_tokens=6, min_new_tokens=6, do_sample=False
        )
    got = recording.flow(final)
    assert got.prompt_length == 37  # the whole conversation before the second answer
    close(got.scores, flow(model, final[0], prompt_length=37).scores)
    earlier = recording.flow(final[:, :25], prompt_length=20)
    close(earlier.scores, flow(model, final[0, :25], prompt_length=20).scores)


def test_assisted_generation_needs_the_prompt_length_and_gives_the_same_scores(model):
    assistant = tiny("llama", seed=5)
    with record(model) as recording:
        out = model.generate(
            ids_of(30)[None], assistant_model=assistant, max_new_tokens=12, min_new_tokens=12, do_sample=False
        )
    got = recording.flow(out, prompt_length=30)
    close(got.scores, flow(model, out[0], prompt_length=30).scores)


def test_beam_search_is_refused(model):
    with record(model) as recording:
        out = model.generate(ids_of(20)[None], num_beams=3, max_new_tokens=6, do_sample=False)
    with pytest.raises(RecordingError, match="beam"):
        recording.flow(out)


def test_sampled_sequences_of_one_prompt_are_recorded(model):
    torch.manual_seed(0)
    with record(model) as recording:
        out = model.generate(
            ids_of(20)[None], num_return_sequences=3, do_sample=True, max_new_tokens=5, min_new_tokens=5
        )
    for row, found in enumerate(recording.flow(out)):
        close(found.scores, flow(model, out[row], prompt_length=20).scores)


def test_a_second_sequence_replaces_the_first(model):
    with record(model) as recording:
        first = model.generate(ids_of(20, 8)[None], max_new_tokens=3, do_sample=False)
        second = model.generate(ids_of(25, 9)[None], max_new_tokens=3, do_sample=False)
    close(recording.flow(second).scores, flow(model, second[0], prompt_length=25).scores)
    with pytest.raises(RecordingError, match="not what the model read"):
        recording.flow(first)


def test_a_cache_filled_before_the_recording_is_refused(model):
    with torch.no_grad():
        cache = model(ids_of(20)[None], use_cache=True).past_key_values
    with pytest.raises(RecordingError, match="before recording"), record(model), torch.no_grad():
        model(ids_of(3)[None], past_key_values=cache)


def test_an_empty_recording_has_no_flow(model):
    with record(model) as recording:
        pass
    with pytest.raises(RecordingError, match="nothing was recorded"):
        recording.flow(ids_of())


def test_embeddings_instead_of_ids_are_refused(model):
    with record(model) as recording, torch.no_grad():
        model(inputs_embeds=torch.randn(1, 12, 48))
    with pytest.raises(RecordingError, match="embeddings"):
        recording.flow(ids_of(12))


def test_nested_recordings_are_refused_and_the_outer_continues(model):
    before = state(model)
    with record(model) as outer:
        with pytest.raises(RecordingError, match="already"), record(model):
            pass
        out = model.generate(ids_of(10)[None], max_new_tokens=3, do_sample=False)
    assert outer.flow(out).scores.shape[1] == 10
    assert state(model) == before
