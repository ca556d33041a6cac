"""The folder of a run: run.json, cases.jsonl, flows/. A killed run loses at most the case in flight."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from attributor._errors import FileFormatError, InputError, OutputError
from attributor._io import OLD_MAC, has_old_mac_lines, write_atomically
from attributor.eval.config import Config

if sys.platform != "win32":
    import fcntl

__all__ = ["CASES", "CASE_PARTS", "FLOWS", "FORMAT", "RUN", "VERSION"]
__all__ += ["CaseWriter", "Follower", "RunFolder", "flow_name", "write_json"]

RUN, CASES, FLOWS, LOCK = "run.json", "cases.jsonl", "flows", ".lock"
CASE_PARTS = "cases.*.jsonl"  # of the processes of a shared run; * is the rank
BLOCK = 1 << 16
BINARY = getattr(os, "O_BINARY", 0)  # Windows would write other line ends
FORMAT, VERSION = "attributor.run", 1
Record = dict[str, Any]


class RunFolder:
    """The folder of one run.

    cases.jsonl holds one record in each line. In a shared run each process writes its own part, cases.<rank>.jsonl, and
    the first process merges the parts. Parts of a killed run are read too, with any number of processes that resume it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def run(self) -> Record | None:
        """The content of run.json; None if there is no such file.

        Raises:
            FileFormatError: it is not readable.
        """
        path = self.path / RUN
        try:
            content = json.loads(path.read_text("utf-8-sig"))
        except FileNotFoundError:
            return None
        except (ValueError, OSError, RecursionError) as error:
            raise FileFormatError(f"{path} is not readable: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FileFormatError(f"{path} does not describe a run of attributor eval")
        version = content.get("version", 0)
        if not isinstance(version, int) or version > VERSION:
            raise FileFormatError(f"{path} is of version {str(version)[:20]}; this attributor reads up to {VERSION}")
        return content

    def open(self, config: Config, data: Mapping[str, Any], *, overwrite: bool = False) -> list[str]:
        """Create the folder, or resume the run in it; return notes for the user.

        Raises:
            InputError: the folder holds a run with other settings or data, or files of another kind.
            OutputError: the folder cannot be written, or another process writes to it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire_lock()
            there = sorted(file.name for file in self.path.iterdir() if not file.name.startswith("."))
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"cannot write to the folder {self.path}: {error.strerror or error}") from error
        notes: list[str] = []
        if there and RUN not in there:
            raise InputError(f"{self.path} holds {there[0]} and no {RUN}: not the folder of a run; give another --out")
        if there and overwrite:
            self._clear()
            notes.append(f"{self.path}: what an earlier run left there was removed")
        elif there and not self._has_cases():
            self._clear()  # the earlier run ended before its first case
        elif there:
            self._check_same_settings(config, data)
        run = self.run
        if run is None:
            run = {"format": FORMAT, "version": VERSION, "config": config.to_json(), "data": dict(data)}
            write_json(self.path / RUN, run | {"status": "running"})
        return notes + self._repair()

    def _check_same_settings(self, config: Config, data: Mapping[str, Any]) -> None:
        run = self.run
        assert run is not None
        before = Config.from_json(run.get("config"))
        differences = before.differences(config)
        if not differences and run.get("data") != dict(data):
            differences = ["the rows of the data set are not those of then"]
        if differences:
            methods = f"--method {','.join(before.methods)} to go on with it, " * (before.methods != config.methods)
            raise InputError(
                f"{self.path} holds a run with other settings ({'; '.join(differences)}); give {methods}another --out, "
                "or --overwrite to start anew there"
            )

    def _has_cases(self) -> bool:
        return any(file.exists() and file.stat().st_size > 0 for file in (self.path / CASES, *self.parts()))

    def _acquire_lock(self) -> None:
        """Lock the folder until this process ends, so that two runs do not write the same files."""
        if sys.platform == "win32":
            return
        self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise OutputError(f"{self.path} is being written by another run that has not ended") from None
        except OSError:  # a file system without locks
            return

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _clear(self) -> None:
        """Remove the files that a run writes, and no others."""
        files = [self.path / CASES, *self.parts(), *(self.path / FLOWS).glob("*.safetensors")]
        files.append(self.path / RUN)  # last, because a folder without it is not recognised
        try:
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {error.filename}: {error.strerror or error}") from error

    def parts(self) -> list[Path]:
        """Return the parts of a shared run that are not merged yet."""
        return sorted(self.path.glob(CASE_PARTS))

    def _repair(self) -> list[str]:
        """Cut off unfinished last lines and merge the parts; return notes for the user."""
        notes = []
        for file in (self.path / CASES, *self.parts()):
            if file.exists() and (torn := _cut_torn_line(file)):
                notes.append(
                    f"{file}: the last line was not finished ({torn} bytes) and was cut off; its case runs again"
                )
        if self.parts():
            self.merge(None)
        return notes

    def records(self) -> dict[str, Record]:
        """Return the last record of every case by id, in the order of the files.

        Raises:
            FileFormatError: a line is not a record.
        """
        records: dict[str, Record] = {}
        for file in (self.path / CASES, *self.parts()):
            if file.exists():
                records |= {record["id"]: record for record in _read_records(file)}
        return records

    def merge(self, order: Sequence[str] | None) -> dict[str, Record]:
        """Write all records to cases.jsonl, one for each case, and return them.

        `order` lists the ids in the order to write; None keeps the present order. The parts are removed after the file
        is complete.
        """
        records = self.records()
        if order is not None:
            records = {name: records[name] for name in order if name in records}
        content = b"".join(encode_record(record) for record in records.values())
        file = self.path / CASES
        if not file.exists() or file.read_bytes() != content:
            write_atomically(file, content)
        for part in self.parts():
            part.unlink()
        return records

    def update(self, more: Mapping[str, Any]) -> Record:
        """Add `more` to run.json; return the new content."""
        content = {**(self.run or {}), **more}
        write_json(self.path / RUN, content)
        return content

    def flow_file(self, name: str) -> Path:
        """Return the file for the flow of a case, and create its folder."""
        folder = self.path / FLOWS
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        return folder / flow_name(name)


class CaseWriter:
    """Appends records to a file. `write` adds a whole record, or fails and leaves the file as before."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | BINARY, 0o644)
        except OSError as error:
            raise OutputError(f"cannot write {file}: {error.strerror or error}") from error

    def __enter__(self) -> "CaseWriter":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._handle)

    def write(self, record: Record) -> None:
        """Append one line.

        Raises:
            OutputError: the line could not be written, for example because the disk is full; earlier lines are intact.
        """
        data = memoryview(encode_record(record))
        before = os.fstat(self._handle).st_size
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except BaseException as error:  # no partial line is left, also after Ctrl-C
            with suppress(OSError):
                os.ftruncate(self._handle, before)
            if isinstance(error, OSError):
                raise OutputError(
                    f"cannot write {self.file}: {error.strerror or error}. Every case before is kept; make room, run "
                    "the same command again, and it goes on there"
                ) from error
            raise


class Follower:
    """Reads the records that other processes append to their parts; the first process shows the progress of all."""

    def __init__(self, folder: RunFolder, own: Path) -> None:
        self._folder, self._own = folder, own
        self._read: dict[Path, int] = {}

    def read_new(self) -> list[Record]:
        """Return the records that were finished since the last call."""
        records: list[Record] = []
        for part in self._folder.parts():
            if part == self._own:
                continue
            with suppress(OSError, ValueError, RecursionError):
                with part.open("rb") as file:
                    file.seek(self._read.get(part, 0))
                    data = file.read()
                finished = data[: data.rfind(b"\n") + 1]
                records += [json.loads(line) for line in finished.splitlines()]
                self._read[part] = self._read.get(part, 0) + len(finished)
        return records


def flow_name(case: str) -> str:
    """Return the file name of a case's flow in the folder FLOWS: ASCII without separators, for any id.

    Ids with capitals get a hash, because some file systems ignore case.
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f"%{ord(c):02x}" for c in case)
    # beyond two digits the end of %xx is ambiguous: "แ" and "ä1" would both be %e41
    if len(plain) > 100 or plain != plain.lower() or any(ord(c) > 0xFF for c in case):
        import hashlib

        plain = f"{plain[:80]}-{hashlib.sha256(case.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    return f"{plain}.safetensors"


def encode_record(record: Record) -> bytes:
    """Encode a record as one line of ASCII, which has no other line breaks. NaN is not JSON and raises ValueError."""
    return json.dumps(record, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_atomically(file, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _cut_torn_line(file: Path) -> int:
    """Cut off an unfinished last line; return its length in bytes.

    Raises:
        FileFormatError: the rest of the file is lines with old Mac line ends.
        OutputError: the file cannot be read or written.
    """
    try:
        with file.open("rb+") as opened:
            size = end = opened.seek(0, os.SEEK_END)
            while end:
                start = max(end - BLOCK, 0)
                opened.seek(start)
                if (line_end := opened.read(end - start).rfind(b"\n")) >= 0:
                    end = start + line_end + 1
                    break
                end = start
            if end < size:
                opened.seek(end)
                if has_old_mac_lines(opened.read()):
                    raise FileFormatError(f"{file}: {OLD_MAC}")
                opened.truncate(end)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}") from error
    return size - end


def _read_records(file: Path) -> Iterator[Record]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise FileFormatError(f"{file} is not readable: {error.strerror or error}") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise FileFormatError(
                f"{file}: line {number} is no record of a case; remove the line, and its case runs again"
            )
        yield record
