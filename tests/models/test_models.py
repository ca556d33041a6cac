"""Loading models from folders, the hub's cache and GGUF files; errors. No test uses the network."""

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
from families import tiny
from huggingface_hub import errors as hub
from tiny_hub import TEMPLATE, no_network, same_weights, save_gguf, save_tiny
from transformers import AutoConfig, BertConfig, LlamaForCausalLM, T5Config

from attributor import InputError, ModelLoadError
from attributor._models import load
from attributor._models.load import load_model, model_source


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    no_network(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def gguf_file(folder, tmp_path_factory):
    return save_gguf(folder, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_folder_is_loaded_quietly_and_in_evaluation_mode(folder, capfd):
    chatter = transformers.utils.logging
    before = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    model, tokenizer = load_model(folder)
    assert not model.training
    assert model.dtype == torch.float32
    assert tokenizer.decode(tokenizer("née 日本")["input_ids"]) == "née 日本"
    assert model_source(model) == str(folder)
    assert capfd.readouterr() == ("", "")
    assert (chatter.get_verbosity(), chatter.is_progress_bar_enabled()) == before


def test_the_default_dtype_is_that_of_the_checkpoint(folder, tmp_path):
    LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    for file in folder.glob("token*"):
        shutil.copy(file, tmp_path / "half")
    assert load_model(tmp_path / "half")[0].dtype == torch.bfloat16
    assert load_model(tmp_path / "half", dtype="float32")[0].dtype == torch.float32
    assert load_model(tmp_path / "half", dtype=torch.float16)[0].dtype == torch.float16


@pytest.mark.parametrize("dtype", ["float33", "int8", "Tensor", torch.int64, 32])
def test_invalid_dtypes_are_refused(folder, dtype):
    with pytest.raises(InputError, match="dtype must be 'auto', 'float32'"):
        load_model(folder, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no-such-folder", "no folder here and no hub id"),
        ("/no/such/folder", "no folder here and no hub id"),
        ("a/b/c", "no folder here and no hub id"),
        ("no such model", "no folder here and no hub id"),
        ("missing.gguf", "missing.gguf: no such file"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(ModelLoadError, match=message):
        load_model(name)


@pytest.mark.parametrize("name", ["", None, 3])
def test_invalid_names_are_refused(name):
    with pytest.raises(InputError, match=r"name must be a hub id, a folder or a \.gguf file, got"):
        load_model(name)


def test_folders_and_files_without_a_model_are_refused(folder, tmp_path):
    with pytest.raises(ModelLoadError, match=r"has no config\.json"):
        load_model(tmp_path)
    with pytest.raises(ModelLoadError, match=r"is a file, but not a \.gguf"):
        load_model(folder / "model.safetensors")
    shutil.copytree(folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match=r"damaged or only the beginning of one .*; fetch or copy it again"):
        load_model(tmp_path / "cut")
    weights.unlink()
    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        load_model(tmp_path / "cut")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (T5Config(), r"encoder-decoder model \(t5\); attributor reads decoder-only"),
        (BertConfig(architectures=["BertForMaskedLM"]), r"not a causal language model \(bert\)"),
        (transformers.CLIPConfig(), r"not a causal language model \(clip\)"),
    ],
)
def test_models_of_other_kinds_are_refused(config, message, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=message):
        load_model(tmp_path)


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(own))
    (tmp_path / "mine.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(ModelLoadError, match="pass trust_remote_code=True if you trust it"):
        load_model(tmp_path)


def test_missing_packages_are_named(folder, gguf_file, monkeypatch):
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadError, match=r"needs the package accelerate; pip install 'attributor\[device-map\]'"):
        load_model(folder, device_map="auto")
    with pytest.raises(ModelLoadError, match=r"needs the package gguf; pip install 'attributor\[gguf\]'"):
        load_model(gguf_file)


def test_a_device_map_is_applied(folder):
    model, _ = load_model(folder, device_map="cpu")
    assert same_weights(model, load_model(folder)[0])


# The hub.


def in_hub_cache(folder, root, name="org/tiny"):
    """Copy `folder` into the cache layout of the hub's client."""
    repository = Path(root) / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / "1234abcd")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1234abcd")
    return repository / "snapshots" / "1234abcd"


# transformers would create a tokenizer for the last three families
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gpt_neox"])
def test_a_folder_without_a_tokenizer_says_how_to_save_it(family, tmp_path):
    tiny(family).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=r"holds a model but no tokenizer.*tokenizer\.save_pretrained\('.*'\)"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer.json": "{"},
        {"tokenizer.json": "{}"},
        {"tokenizer.json": ""},
        {"tokenizer.model": "abc"},
        {"vocab.json": "{}", "merges.txt": ""},
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named(files, folder, tmp_path):
    LlamaForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelLoadError, match=rf"the tokenizer in the folder \({max(files)}\) cannot be read"):
        load_model(tmp_path)


def test_a_tokenizer_with_code_of_its_own_needs_trust(folder, tmp_path):
    LlamaForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Tokenizer", null]}}')
    with pytest.raises(ModelLoadError, match="trust_remote_code=True"):
        load_model(tmp_path)


def test_the_hub_cache_is_used_without_network(folder, tmp_path):
    in_hub_cache(folder, tmp_path / "hub")
    model, _ = load_model("org/tiny")
    assert model.config._name_or_path == "org/tiny"
    assert model_source(model) == "org/tiny"
    assert same_weights(model, load_model(folder)[0])


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer*"])
def test_a_cache_without_a_file_is_not_used(folder, tmp_path, missing, monkeypatch):
    snapshot = in_hub_cache(folder, tmp_path / "hub")
    for file in snapshot.glob(missing):
        file.unlink()
    monkeypatch.setattr(load, "_hub_reachable", lambda: False)
    with pytest.raises(ModelLoadError, match="not in the local cache, no such folder, and the hub cannot be reached"):
        load_model("org/tiny")


def test_a_cache_without_a_shard_is_not_used(folder, tmp_path):
    snapshot = in_hub_cache(folder, tmp_path / "hub")
    model = LlamaForCausalLM.from_pretrained(folder)
    (snapshot / "model.safetensors").unlink()
    model.save_pretrained(snapshot, max_shard_size="100KB")
    assert load.is_in_hub_cache("org/tiny", None)
    next(snapshot.glob("model-00002*")).unlink()
    assert not load.is_in_hub_cache("org/tiny", None)


def refused(kind):
    return kind("refused", response=SimpleNamespace(headers={}, request=None, status_code=401))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refused(hub.GatedRepoError), r"gated: accept its conditions at https://huggingface\.co/org/m"),
        (refused(hub.RepositoryNotFoundError), "the hub has no such model, or it is private"),
        (refused(hub.RevisionNotFoundError), "the hub has no such revision"),
        (hub.LocalEntryNotFoundError("gone"), "the connection to the hub failed"),
        (ConnectionResetError("gone"), "the connection to the hub failed"),
    ],
)
def test_refusals_of_the_hub_are_reported(error, message, monkeypatch):
    def fail(*_, **__):
        raise OSError("as transformers puts it") from error

    monkeypatch.setattr(load, "_hub_reachable", lambda: True)
    monkeypatch.setattr(AutoConfig, "from_pretrained", fail)
    with pytest.raises(ModelLoadError, match=f"org/m: {message}"):
        load_model("org/m")


@pytest.fixture
def hub_reachable(monkeypatch):
    """The real check of the hub, with `head` instead of the network."""
    monkeypatch.undo()

    def ask(head, offline=False):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
        return load._hub_reachable()

    return ask


def test_the_hub_is_tried_once_with_a_short_timeout(hub_reachable, monkeypatch):
    def broken(*_, **__):
        raise OSError("no route")

    assert hub_reachable(lambda *_, **__: "any answer")
    assert not hub_reachable(broken)
    assert not hub_reachable(lambda *_, **__: pytest.fail("asked"), offline=True)
    monkeypatch.setattr(load, "HUB_SECONDS", 0.05)
    release = threading.Event()
    assert not hub_reachable(lambda *_, **__: release.wait())
    release.set()


# GGUF.


def test_a_gguf_file_loads_the_same_weights(gguf_file, folder, capfd):
    model, tokenizer = load_model(gguf_file)
    assert same_weights(model, load_model(folder)[0])
    assert model.dtype == torch.float32
    assert tokenizer.chat_template == TEMPLATE
    assert capfd.readouterr() == ("", "")


def test_broken_gguf_files_are_refused(gguf_file, tmp_path):
    whole = gguf_file.read_bytes()
    for name, content, message in [
        ("other.gguf", b"PK\3\4" + whole[4:], "is not a GGUF file: it starts with b'PK"),
        ("empty.gguf", b"", "is not a GGUF file: it starts with b''"),
        ("head.gguf", whole[:2000], "corrupt, or of a kind that transformers cannot read"),
        ("tail.gguf", whole[:-5000], "corrupt, or of a kind that transformers cannot read"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelLoadError, match=message):
            load_model(tmp_path / name)
