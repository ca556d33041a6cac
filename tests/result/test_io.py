"""Files are written completely or not at all; only files of the expected kind are read."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from attributor import FileFormatError, OutputError
from attributor._io.files import FileKind, read_safetensors, replace_folder, write_atomically

KIND = FileKind("test", "attributor.test", 2, "test.save(path)")
GOOD = {"format": KIND.format, "version": "2"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a file"


# ---- writing


def fill(file):
    file.write_bytes(b"new")


@pytest.mark.parametrize("content", [b"new", fill], ids=["bytes", "function"])
@pytest.mark.parametrize("old", [None, b"old, and longer"])
def test_a_file_is_written_or_replaced_without_leftovers(path, content, old):
    if old is not None:
        path.write_bytes(old)
    write_atomically(path, content)
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == [path.name]


def test_home_and_relative_paths_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_atomically("~/one", b"1")
    write_atomically("two", b"2")
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def test_new_files_have_default_and_replaced_files_their_old_permissions(path):
    plain = path.with_name("plain")
    plain.write_bytes(b"")
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o600)
    write_atomically(path, b"newer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_a_link(path, tmp_path):
    path.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(path)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("not a file's fault")])
def test_an_interrupted_write_leaves_the_old_file(path, error):
    path.write_bytes(b"old")

    def interrupted(file):
        file.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, interrupted)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_file_and_is_reported(path, monkeypatch, call):
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match=r"cannot write numbers to .*a file: No space left on device"):
        write_atomically(path, b"new", what="numbers")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_the_content_is_on_the_disk_before_the_name_changes(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    write_atomically(path, b"new")
    assert calls == ["fsync", "replace"]


def test_a_killed_process_leaves_the_old_file(path):
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from attributor._io.files import write_atomically\n"
        "def die(file):\n    file.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(sys.argv[1], die)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_unwritable_paths_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place, message in (
        (tmp_path / "missing" / "file", r"there is no folder .*missing; make it first"),
        (tmp_path / "file" / "file", "there is no folder"),
        (tmp_path, "it is a folder"),
        (tmp_path / ("x" * 300), "File name too long"),
        (os.devnull, "not a regular file"),
    ):
        with pytest.raises(OutputError, match=rf"^cannot write /.*{message}"):
            write_atomically(place, b"new")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(path):
    path.parent.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write_atomically(path, b"new")
    path.parent.chmod(0o700)
    assert os.listdir(path.parent) == []


def folder_of(text):
    def make(work):
        (work / "scratch").write_text("")
        (work / "made").mkdir()
        (work / "made" / "text").write_text(text)
        return work / "made"

    return make


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for text in ("one", "two"):
        replace_folder(target, folder_of(text))
        assert [(file.name, file.read_text()) for file in target.iterdir()] == [("text", text)]
        assert os.listdir(tmp_path) == ["folder"]

    def interrupted(work):
        folder_of("three")(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_folder(target, interrupted)
    assert (target / "text").read_text() == "two"
    assert os.listdir(tmp_path) == ["folder"]


# ---- reading


def test_arrays_and_metadata_are_read_as_written(path):
    tensors = {
        "floats": torch.tensor([[1.5, -2.0], [float("inf"), 3.25]]),
        "half": torch.tensor([0.5, 1e-3], dtype=torch.float16),
        "brain": torch.tensor([1.5, -3.140625, float("nan")], dtype=torch.bfloat16),
        "whole": torch.tensor([[1, -(2**40)]]),
        "flags": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 3),
        "one": torch.tensor(7.0),
    }
    save_file(tensors, path, GOOD | {"more": "text"})
    arrays, metadata = read_safetensors(path, KIND)
    assert metadata == GOOD | {"more": "text"}
    assert arrays.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert arrays[name].shape == expected.shape
        np.testing.assert_array_equal(arrays[name], expected.numpy(), strict=True)
        assert arrays[name].size == 0 or arrays[name].flags.writeable
    arrays["floats"][:] = 0
    assert read_safetensors(path, KIND)[0]["floats"][0, 0] == 1.5


def test_an_older_version_is_read(path):
    save_file({"a": torch.ones(1)}, path, GOOD | {"version": "1"})
    assert read_safetensors(str(path), KIND)[1]["version"] == "1"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, r"safetensors file but not a test file \(format: None, expected 'attributor.test'\)"),
        (GOOD | {"format": "attributor.flow"}, "not a test file .format: 'attributor.flow'"),
        (GOOD | {"version": "3"}, r"a newer attributor \(test version 3, this one reads up to 2\): pip install -U"),
        (GOOD | {"version": "0"}, "a test file with the unknown version '0'; versions are 1 to 2"),
        (GOOD | {"version": "two"}, "unknown version 'two'"),
        ({"format": KIND.format}, "unknown version None"),
    ],
)
def test_other_kinds_and_versions_are_refused(path, metadata, message):
    save_file({"a": torch.ones(1)}, path, metadata)
    with pytest.raises(FileFormatError, match=rf"{path.name} .*{message}"):
        read_safetensors(path, KIND)


def test_damaged_files_are_refused(path):
    save_file({"a": torch.ones(8)}, path, GOOD)
    good = path.read_bytes()
    header = json.dumps({"__metadata__": GOOD, "a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}})
    for content, message in (
        (b"", r"is not a test file, or only the beginning of one \(0 bytes\): test.save\(path\) writes one"),
        (b"not safetensors at all", "is not a test file, or only the beginning"),
        (good[:-4], r"is corrupt or truncated: .*; test.save\(path\) writes one, and copies of it must be whole"),
        (good + b"more", "is corrupt or truncated"),
        (good[:8] + b"?" + good[9:], "is not a test file: its header cannot be read"),
        (len(header).to_bytes(8, "little") + header.encode() + b"ab", "tensor 'a' is of dtype F8_E4M3"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=message):
            read_safetensors(path, KIND)


def test_missing_files_folders_and_devices_are_refused(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no test file at .*a file"):
        read_safetensors(path, KIND)
    with pytest.raises(FileFormatError, match="is a folder, not a test file"):
        read_safetensors(tmp_path, KIND)
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_safetensors(os.devnull, KIND)


def test_the_module_imports_nothing_heavy():
    code = (
        "import attributor._io.files, sys; print({'torch', 'numpy', 'safetensors', 'transformers'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "set()\n"
