"""Files and paths that a reader of safetensors files must refuse, or read correctly, within a few seconds."""

import json
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NESTED = "[" * 100_000
VALUES = [None, True, -1, 2**70, 1.5, float("inf"), "", "x" * 10_000, [], [[]], {}, {"a": {}}, NESTED, '{"a":' * 50_000]
VALUES += ["null", "7", '"x"', '{"heads": 1}', '{"a": 1e999}', "\N{LATIN SMALL LETTER E WITH ACUTE}", "\0"]
SLOW = 10.0  # CPU seconds on a busy machine; the slowest case, 2 million lists in the metadata, takes about 2


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of a safetensors file and the bytes of its tensors."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: Any, data: bytes) -> bytes:
    """Return a file with that header, which may be any value."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def mutate(content: bytes, seed: int = 0, flips: int = 60) -> Iterator[tuple[str, bytes]]:
    """Yield (name of the change, file) for many changes of one good file."""
    rng = random.Random(seed)
    for number in range(flips):
        changed = bytearray(content)
        for _ in range(1 + number % 4):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        yield f"random bytes {number}", bytes(changed)
    header, data = split(content)
    for name in header:
        for field in header[name]:
            for value in VALUES:
                yield (
                    f"{name}.{field} = {str(value)[:20]}",
                    join({**header, name: {**header[name], field: value}}, data),
                )
            yield (
                f"no {name}.{field}",
                join({**header, name: {k: v for k, v in header[name].items() if k != field}}, data),
            )
        for value in VALUES:
            yield f"{name} = {str(value)[:20]}", join({**header, name: value}, data)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    yield "30,000 tensors", join(header | {f"t{i}": empty for i in range(30_000)}, data)
    yield "1,001 tensors", join(header | {f"t{i}": empty for i in range(1_001)}, data)
    escaped = join(header, data).replace(b"shape", b"\\u0073hape")
    yield "escaped keys", struct.pack("<Q", len(escaped) - 8 - len(data)) + escaped[8:]
    metadata = header["__metadata__"]
    for name, text in (
        ("15 MB of escapes", '"' * 7_900_000),
        ("2 million lists", "[" + "[0,1,0]," * 1_900_000 + "[0,1,0]]"),
        ("deep and long", "[" * 15_000_000),
    ):
        for key in metadata:
            yield f"{key}: {name}", join({**header, "__metadata__": {**metadata, key: text}}, data)
    yield "a header of 17 MB", join({**header, "__metadata__": {**metadata, "more": "x" * 17_000_000}}, data)
    yield "3 million strings", join(b'{"a":[' + b'"",' * 3_000_000 + b'""]}', data)
    yield "nested", join(b"[" * 900_000, data)
    yield "a length only", struct.pack("<Q", 2**63) + b"{}"
    yield "nothing", b""


def bad_paths(folder: Path) -> dict[str, Any]:
    """Return paths that cannot be read as a file, by the kind of problem."""
    os.mkfifo(folder / "fifo")
    (folder / "file").write_bytes(b"x" * 100)
    (folder / "loop").symlink_to(folder / "loop")
    paths = {
        "NUL": "x\0",
        "long": "x" * 300,
        "longer": "y/" * 3_000,
        "empty": "",
        "folder": folder,
        "device": "/dev/zero",
    }
    paths |= {"fifo": folder / "fifo", "below a file": folder / "file" / "x", "loop": folder / "loop", "bytes": b"x"}
    return paths | {"None": None, "number": 3, "home of nobody": "~nobody-of-this-name/x", "half a character": "\ud800"}
