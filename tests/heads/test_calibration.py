"""Finding retrieval heads: calibrate(), its cache, and their use in flow() for any model."""

import logging
import os
import threading
import time

import pytest
import tiny_chat
import torch
from calibration_fixtures import made_up_scores
from filelock import FileLock

import attributor
from attributor import InputError, UnsupportedModelError, Weights, flow, record
from attributor._heads.calibration import cache, calibrate
from attributor._heads.calibration.calibrate import measure_heads
from attributor._heads.calibration.choose import rank_heads
from attributor._heads.calibration.model_digest import model_digest
from attributor._models.default_model import converted_folder

KNOWN = {(17, 4), (18, 6), (17, 3), (23, 8), (23, 7), (23, 2), (21, 8), (18, 7)}


pytestmark = pytest.mark.usefixtures("own_cache")


def test_calibrate_is_deterministic_and_its_file_is_weights(model, tokenizer, tmp_path):
    first, second = (calibrate(model, tokenizer, count=2) for _ in range(2))
    assert torch.equal(first.heads, second.heads)
    assert first.meta == second.meta
    assert first.meta["documents"] == "4"  # ten documents would exceed the model's 1,024 positions
    first.save(tmp_path / "w.safetensors")
    assert torch.equal(Weights.of(tmp_path / "w.safetensors").heads, first.heads)


def test_calibrated_weights_have_the_question_share(model, tokenizer, quick_calibration):
    ids = torch.randint(3, len(tokenizer), (40,), generator=torch.Generator().manual_seed(0))
    asked, options = torch.tensor([7, 8, 12]), {"prompt_length": 30, "tokenizer": tokenizer}
    got = flow(model, ids, weights="retrieval", question=asked, **options)
    assert got.meta["question"] == "0.5"
    same = Weights(cache.load_or_calibrate(model).heads, question=0.5)
    torch.testing.assert_close(got.scores, flow(model, ids, weights=same, question=asked, **options).scores)
    apart = flow(model, ids, weights="retrieval", **options).scores
    assert (got.scores - apart).abs().max() > 1e-3
    with record(model, weights="retrieval") as recording, torch.no_grad():
        model(ids[None])
    again = recording.flow(ids, prompt_length=30, question=asked)
    torch.testing.assert_close(again.scores, got.scores, rtol=0, atol=2e-6)


def test_calibrate_is_public():
    assert attributor.calibrate is calibrate


def test_a_window_that_is_too_short_for_any_prompt(tokenizer):
    with pytest.raises(InputError, match=r"window of 128 tokens is too short .* need \d+\).* weights='mean'"):
        calibrate(tiny_chat.model(len(tokenizer), 128), tokenizer, count=1)


def test_heads_are_found_once_and_cached(model, tokenizer, quick_calibration, monkeypatch, caplog):
    first = cache.load_or_calibrate(model, tokenizer)
    assert "finding the heads of LlamaForCausalLM" in caplog.text
    assert str(cache.cache_path(model)) in caplog.text
    assert cache.load_or_calibrate(model) is first  # from this process, without a tokenizer
    monkeypatch.setattr(cache, "_weights_by_digest", {})
    again = cache.load_or_calibrate(model)  # from the file, as in another process
    assert torch.equal(again.heads, first.heads)
    assert again.meta == first.meta
    assert len(quick_calibration) == 1
    assert [path.name for path in cache.cache_path(model).parent.glob("*.safetensors")] == [
        cache.cache_path(model).name
    ]


def test_the_digest_identifies_the_weights(tokenizer):
    def fresh():
        return tiny_chat.model(len(tokenizer))

    plain = model_digest(fresh())
    assert plain == model_digest(fresh()) == model_digest(fresh().to(torch.bfloat16))
    trained = fresh()
    with torch.no_grad():
        trained.model.layers[1].self_attn.k_proj.weight.add_(0.05 * torch.randn(16, 32))
    turned = fresh()
    turned.config.rope_parameters["rope_theta"] = 5e5
    named = fresh()
    named.config._name_or_path = named.name_or_path = "someone/model"
    named.config._commit_hash = "abc"
    assert model_digest(named) == plain  # the same weights and configuration have the same heads
    elsewhere = fresh().to("meta")
    assert len({plain, *(model_digest(other) for other in (trained, turned, elsewhere))}) == 4
    with record(trained, weights="mean"):  # during a recording the configuration names another attention
        assert model_digest(trained) != plain
        recorded = model_digest(trained)
    assert recorded == model_digest(trained)


def test_further_training_in_the_same_folder_changes_the_digest(tokenizer, tmp_path):
    made = tiny_chat.model(len(tokenizer))
    found = []
    for change in (0.0, 1e-2):
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(1 - change).add_(change * parameter.std() * torch.randn_like(parameter))
        made.save_pretrained(tmp_path)
        loaded, again = (type(made).from_pretrained(tmp_path, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
        assert model_digest(loaded) == model_digest(again)
        found.append(model_digest(loaded))
    assert found[0] != found[1]


def test_a_calibration_of_another_process_is_awaited(model, tokenizer, quick_calibration, caplog):
    weights = calibrate(model, tokenizer, count=1)
    path = cache.cache_path(model)
    path.parent.mkdir(parents=True)
    found = []
    with FileLock(path.with_suffix(".lock")):
        asking = threading.Thread(target=lambda: found.append(cache.load_or_calibrate(model, tokenizer)))
        asking.start()
        limit = time.monotonic() + 20
        while "waiting for another process" not in caplog.text and time.monotonic() < limit:
            time.sleep(0.01)
        cache.save_weights(weights, path)
    asking.join(20)
    assert torch.equal(found[0].heads, weights.heads)
    assert not quick_calibration


def test_an_unwritable_cache_folder_is_tolerated(model, tokenizer, quick_calibration, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "file"))
    first = cache.load_or_calibrate(model, tokenizer)
    assert "cannot be kept in" in caplog.text
    assert "set ATTRIBUTOR_CACHE" in caplog.text
    assert cache.load_or_calibrate(model, tokenizer) is first
    assert len(quick_calibration) == 1


def test_a_full_disk_leaves_no_partial_file(model, tokenizer, quick_calibration, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert cache.load_or_calibrate(model, tokenizer).heads.any()
    assert "not kept: cannot write weights to" in caplog.text
    assert "No space left" in caplog.text
    assert [path.suffix for path in cache.cache_path(model).parent.iterdir()] == [".lock"]  # no partial file


def test_a_damaged_file_is_replaced(model, tokenizer, quick_calibration, monkeypatch, caplog):
    first = cache.load_or_calibrate(model, tokenizer)
    path = cache.cache_path(model)
    path.write_bytes(path.read_bytes()[:40])
    monkeypatch.setattr(cache, "_weights_by_digest", {})
    assert torch.equal(cache.load_or_calibrate(model, tokenizer).heads, first.heads)
    assert "the heads are found anew" in caplog.text
    assert torch.equal(Weights.load(path).heads, first.heads)
    assert len(quick_calibration) == 2


def test_a_model_without_retrieval_heads_gets_a_warning(model, tokenizer, monkeypatch, caplog):
    poor = made_up_scores(torch.full((1, 2, 4), 0.11))
    monkeypatch.setattr(cache, "measure_heads", lambda *_, **__: poor)
    cache.load_or_calibrate(model, tokenizer)
    assert "average precision 0.11 at best, 0.10 by chance" in caplog.text
    assert all(record.levelno == logging.WARNING and record.name == "attributor" for record in caplog.records)


def test_flow_and_record_find_the_heads_of_any_model(model, tokenizer, quick_calibration):
    ids = torch.randint(3, len(tokenizer), (40,), generator=torch.Generator().manual_seed(0))
    events = []
    options = {"prompt_length": 30, "weights": "retrieval"}
    got = flow(model, ids, tokenizer=tokenizer, progress=lambda *what: events.append(what[0]), **options)
    assert list(dict.fromkeys(events)) == ["calibrate", "prompt", "sweep"]
    assert got.meta["weights"] == "retrieval"
    found = cache.load_or_calibrate(model)
    torch.testing.assert_close(got.scores, flow(model, ids, prompt_length=30, weights=found.heads).scores)
    sharp = flow(model, ids, prompt_length=30, weights=Weights("retrieval", power=2.0))
    same = flow(model, ids, prompt_length=30, weights=Weights(found.heads, power=2.0))
    torch.testing.assert_close(sharp.scores, same.scores)
    with record(model, weights="retrieval") as recording, torch.no_grad():
        model(ids[None])
    torch.testing.assert_close(recording.flow(ids, prompt_length=30).scores, got.scores, rtol=0, atol=2e-6)
    torch.testing.assert_close(recording.flow(ids, **options).scores, got.scores, rtol=0, atol=2e-6)
    assert len(quick_calibration) == 1


def test_the_tokenizer_is_loaded_from_the_place_of_the_model(tokenizer, quick_calibration, tmp_path):
    folder = tiny_chat.save(tmp_path / "saved")
    loaded, _ = attributor.load_model(folder, progress=False)
    with record(loaded, weights="retrieval"):
        pass
    assert quick_calibration == [loaded]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    loaded.config.rope_parameters["rope_theta"] = 5e5  # now another model
    with pytest.raises(InputError, match=r"no retrieval heads are known for .*saved yet.* pass tokenizer=.*calibrate"):
        flow(loaded, [3, 4, 5], weights="retrieval")


def test_a_model_without_a_place_needs_a_tokenizer(model, quick_calibration):
    with pytest.raises(InputError, match=r"for this model yet, .*not loaded from anywhere.*: pass tokenizer="):
        flow(model, [3, 4, 5], weights="retrieval")
    assert not cache.cache_path(model).parent.exists()


def test_a_model_that_cannot_be_recorded_is_refused(model, tokenizer, monkeypatch):
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    with pytest.raises(UnsupportedModelError, match="retrieval heads can only be found in models that can be recorded"):
        flow(model, [3, 4, 5], weights="retrieval", tokenizer=tokenizer, impl="reference")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_chat.save(tmp_path_factory.mktemp("model"))


# ---- the default model


@pytest.mark.skipif(converted_folder() is None, reason="the converted default model is not in the cache folder")
def test_few_prompts_find_the_shipped_heads_of_the_default_model(monkeypatch):
    monkeypatch.delenv("ATTRIBUTOR_CACHE")
    model, tokenizer = attributor.load_model(dtype="float32", progress=False)
    scores = measure_heads(model, tokenizer, count=4)
    tokens = scores.tokens / 4
    assert 300 < tokens < 1000
    top = {(layer, head) for layer, head, _ in rank_heads(scores)[:16]}
    assert len(top & KNOWN) >= 5
    assert rank_heads(scores)[0][2] > 4 * scores.chance.mean()
