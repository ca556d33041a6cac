"""Readers refuse damaged and hostile files and paths quickly, with an error of attributor."""

import time

import pytest
import torch
from hostile_files import SLOW, VALUES, bad_paths, join, mutate, split

import attributor
from attributor import AttributorError, FileFormatError, Flow, InputError, OutputError, Segment, Weights
from attributor._result import open_mapped

TEXT = "One. Two."


def write_flow(path):
    offsets = torch.tensor([(i, i + 1) for i in range(len(TEXT))])
    flow = Flow(
        scores=torch.rand(2, len(TEXT)),
        ids=torch.arange(len(TEXT) + 2),
        missing_mass=torch.zeros(2),
        text=TEXT,
        offsets=offsets,
        documents=[Segment(0, 4, "One.", 'a "label" [of brackets'), Segment(5, 9, "Two.")],
        meta={"model": "tiny"},
    )
    flow.save(path)


def write_weights(path):
    Weights(torch.rand(3, 2), note="by hand", meta={"model": "tiny"}).save(path)


READERS = {
    "flow": (write_flow, attributor.load),
    "mapped": (write_flow, open_mapped),
    "weights": (write_weights, Weights.load),
}


def refusal(read, path):
    """Return the error message for a refused file; None if it is read."""
    try:
        read(path)
    except FileFormatError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", READERS)
def test_changed_files_are_refused_or_read(kind, tmp_path):
    write, read = READERS[kind]
    path = tmp_path / "file.safetensors"
    write(path)
    messages = []
    for change, content in mutate(path.read_bytes()):
        path.unlink()  # a mapped file must not be overwritten
        path.write_bytes(content)
        began = time.process_time()
        messages.append(refusal(read, path))
        assert time.process_time() - began < SLOW, change
    refused = [message for message in messages if message is not None]
    assert len(refused) > 5 * len(VALUES)
    assert all("file.safetensors" in message and len(message) < 1_000 for message in refused)


@pytest.mark.parametrize("kind", READERS)
def test_bad_paths_are_refused_with_short_messages(kind, tmp_path):
    read = READERS[kind][1]
    for problem, path in bad_paths(tmp_path).items():
        if kind == "mapped" and not isinstance(path, str):
            continue  # not public: its callers check the path
        with pytest.raises((AttributorError, FileNotFoundError)) as raised:
            read(path)
        assert len(str(raised.value)) < 1_000, problem


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("NUL", r"got 'x\\x00', which no file can have"),
        ("long", "File name too long"),
        ("folder", "is a folder, not a .* file"),
        ("device", "/dev/zero is not a regular file, not a"),
        ("fifo", "fifo is not a regular file"),
        ("below a file", "Not a directory"),
        ("loop", "symbolic links"),
        ("half a character", "which no file can have"),
    ],
)
def test_the_message_names_the_problem_of_a_path(problem, message, tmp_path):
    path = bad_paths(tmp_path)[problem]
    for read in (attributor.load, Weights.load, Weights.of):
        with pytest.raises((InputError, FileFormatError), match=message):
            read(path)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_flow(path)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    for function in ("os.stat", "builtins.open"):
        with monkeypatch.context() as patched:
            patched.setattr(function, deny)
            for read in (attributor.load, Weights.load, open_mapped):
                with pytest.raises(FileFormatError, match=r"a\.safetensors cannot be read: Permission denied"):
                    read(path)


@pytest.mark.parametrize("path", ["x\0", "\ud800", "", None, b"x"])
def test_impossible_paths_are_refused_by_save(path):
    flow = Flow(scores=torch.zeros(1, 2), ids=torch.arange(2))
    for save in (flow.save, Weights(torch.ones(1, 1)).save):
        with pytest.raises(InputError, match="path must be a file name"):
            save(path)


def test_many_tensors_and_documents_are_refused_before_they_are_parsed(tmp_path):
    path = tmp_path / "a.safetensors"
    write_flow(path)
    header, data = split(path.read_bytes())
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path.write_bytes(join(header | {f"t{i}": empty for i in range(30_000)}, data))
    with pytest.raises(FileFormatError, match="more than 10,000 strings, which is more than 1,000 tensors take"):
        attributor.load(path)
    path.write_bytes(join(header | {f"t{i}": empty for i in range(990)}, data))
    assert attributor.load(path).text == TEXT
    header["__metadata__"]["documents"] = "[" + "[0,1,null]," * 9 + "[0,1,null]]"
    path.write_bytes(join(header, data))
    with pytest.raises(FileFormatError, match="10 documents are more than the text has characters, 9"):
        attributor.load(path)


def test_a_flow_too_large_for_readers_is_not_written(tmp_path):
    flow = Flow(scores=torch.zeros(1, 2), ids=torch.arange(2), meta={"note": "x" * 16_000_000})
    with pytest.raises(InputError, match=r"take 16,000,\d+ bytes, and readers of flow files take 16,000,000"):
        flow.save(tmp_path / "a.safetensors")
    with pytest.raises(OutputError, match="cannot write"):
        Flow(scores=torch.zeros(1, 2), ids=torch.arange(2)).save(tmp_path)
    assert not list(tmp_path.iterdir())
