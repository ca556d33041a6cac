"""Models that cannot be recorded, would run code, or are damaged are refused."""

# ruff: noqa: F811  (tests use imported fixtures by name)

import json
import shutil

import pytest
import tiny_chat
import torch
from live_hub import Hub
from live_loading import ended, failed, folder, live, offline  # noqa: F401
from transformers import AutoConfig

from attributor._models import load
from attributor.web.live.service import LiveService, ServerSettings


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bloom", {}, "BloomForCausalLM computes the attention of all its 2 layers in its own code"),
        ("mamba", {"num_attention_heads": 4}, "MambaForCausalLM"),
    ],
)
def test_an_unsupported_family_is_refused_before_its_download(live, tmp_path, monkeypatch, family, changes, message):
    path = tmp_path / family
    config = AutoConfig.for_model(family, vocab_size=97, hidden_size=48, num_hidden_layers=2, n_head=4, **changes)
    config.save_pretrained(path)
    (path / "model.safetensors").write_bytes(b"never read")
    tiny_chat.tokenizer().save_pretrained(path)
    there = Hub(path, tmp_path / "hub", monkeypatch)
    data = failed(live, id="org/tiny")
    assert data["code"] == "unsupported_model"
    assert message in data["message"]
    assert "config.json" in there.fetched
    assert "model.safetensors" not in there.fetched


def pickled(folder, path):
    shutil.copytree(folder, path)
    weights = tiny_chat.model(len(tiny_chat.tokenizer())).state_dict()
    (path / "model.safetensors").unlink()
    torch.save(weights, path / "pytorch_model.bin")
    return path


def test_pickled_weights_need_a_flag(folder, tmp_path):
    path = pickled(folder, tmp_path / "pickled")
    live = LiveService(ServerSettings(model=str(path)))
    name, data = ended(live.start())
    assert (name, data["code"]) == ("failed", "model_not_loaded")
    assert "(pytorch_model.bin) are in a format that can run code" in data["message"]
    assert "--allow-pickle" in data["message"]
    live.close()
    allowed = LiveService(ServerSettings(model=str(path), allow_pickle=True))
    assert ended(allowed.start())[0] == "done"
    allowed.close()


def test_load_model_refuses_pickled_weights(folder, tmp_path):
    path = pickled(folder, tmp_path / "pickled")
    with pytest.raises(load.ModelLoadError):
        load.load_model(path, safetensors_only=True)
    assert load.load_model(path)[0].dtype == torch.float32


def test_code_of_a_model_is_not_run(folder, tmp_path):
    path, mark = tmp_path / "own", tmp_path / "it-ran"
    shutil.copytree(folder, path)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    live = LiveService(ServerSettings(model=str(path)))
    name, data = ended(live.start())
    live.close()
    assert (name, data["code"]) == ("failed", "model_not_loaded")
    assert "start the server with --trust-remote-code if you trust it" in data["message"]
    assert not mark.exists()


def test_a_broken_model_is_reported(folder, tmp_path):
    path = tmp_path / "broken"
    shutil.copytree(folder, path)
    (path / "model.safetensors").write_bytes(b"not a model")
    live = LiveService(ServerSettings(model=str(path)))
    name, data = ended(live.start())
    live.close()
    assert (name, data["code"]) == ("failed", "model_not_loaded")
    assert "Traceback" not in data["message"]
