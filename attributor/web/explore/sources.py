"""The files that this server may read: found below what was named on the command line, and known by random ids only."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attributor._errors import FileFormatError, InputError
from attributor._result import FlowView, open_mapped
from attributor.eval.store import FLOWS, RUN, flow_name
from attributor.web.explore.file_kinds import OPENS, Kind, case_files, kind_of_file, kind_of_folder
from attributor.web.http import ApiError, Place, opened

__all__ = ["Source", "Sources"]

MOST = 500  # sources of one folder
KEPT = 3  # flows that stay open: the one that is looked at, and those to compare it with


@dataclass(frozen=True)
class Source:
    """One thing to look at.

    Attributes:
        kind: run, flow or list.
        name: to show; the name of its file or folder, with the folders between it and what was opened.
        place: its file or folder.
        files: by what they hold: "run", "cases", "list" or "flow".
    """

    kind: Kind
    name: str
    place: Place
    files: dict[str, tuple[Place, ...]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """How much there is to read; flows of cases are not counted."""
        return sum(_size(place) for places in self.files.values() for place in places)


class Sources:
    """What `attributor explore` was given, and the ids under which a page may ask for it.

    Args:
        path: a file or a folder; None: nothing, the page asks for a file of the browser's own.

    Raises:
        InputError: there is nothing there, or nothing in it that can be shown; the message says what was found.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = None if path is None else _resolved(path)
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, Place], str] = {}
        self._places: dict[str, tuple[str, Place]] = {}
        self._flows: OrderedDict[str, tuple[tuple[int, int], FlowView]] = OrderedDict()
        self._kinds: dict[tuple[Place, int, int], tuple[Kind | None, str]] = {}
        self.note: str | None = None
        if path is not None and not self.find():
            raise InputError(f"cannot open {path}: {self.note or self._nothing()}; {OPENS}")

    def find(self) -> dict[str, Source]:
        """Look again: the sources by their ids, in the order of their names. An id stays what it was."""
        if self._path is None:
            return {}
        left_out: list[str] = []
        found = self._in_file(self._path, left_out) if self._path.is_file() else self._in_folder(self._path, left_out)
        self.note = _note(left_out)
        with self._lock:
            return {self._id("source", source.place): source for source in found}

    def _nothing(self) -> str:
        assert self._path is not None
        return "it holds no run, no flow and no list of cases" if any(self._path.iterdir()) else "the folder is empty"

    @property
    def opened(self) -> str | None:
        """The id of the source to show at once: the only one."""
        found = self.find()
        return next(iter(found)) if len(found) == 1 else None

    def ids(self, source: Source) -> dict[str, Any]:
        """The ids of a source's files, as GET /api/sources gives them."""
        with self._lock:
            ids = {
                name: [self._id("flow" if name == "flow" else "file", place) for place in places]
                for name, places in source.files.items()
            }
        return {name: found if name == "cases" else found[0] for name, found in ids.items() if found or name == "cases"}

    def file(self, name: str) -> Place:
        """The file of an id.

        Raises:
            ApiError: 404, no such id.
        """
        return self._known("file", name)

    def flow_of(self, source: str, case: str) -> str | None:
        """The id of the token-level flow that a run kept for a case; None where it kept none.

        Raises:
            ApiError: 404, no such source.
        """
        place = self._known("source", source)
        if not place.path.is_dir():
            return None
        flow = Place.of(place.path / FLOWS / flow_name(case), place.root)
        if flow is None or not flow.path.is_file():
            return None
        with self._lock:
            return self._id("flow", flow)

    def flow(self, name: str) -> FlowView:
        """The flow of an id, read once and kept while few others are asked for.

        Raises:
            ApiError: 404, no such id, or its file is gone.
            FileFormatError: its file is no flow.
        """
        place = self._known("flow", name)
        with opened(place) as file:
            state = _state_of(file)
        with self._lock:
            kept = self._flows.get(name)
            if kept is not None and kept[0] == state:
                self._flows.move_to_end(name)
                return kept[1]
        found = _read(place)
        with self._lock:
            self._flows[name] = (state, found)
            self._flows.move_to_end(name)
            while len(self._flows) > KEPT:
                self._flows.popitem(last=False)
        return found

    def _known(self, kind: str, name: str) -> Place:
        found, place = self._places.get(name, ("", None))
        if found != kind or place is None:
            message = f"no {kind} has this id: an earlier start of the server gave it; reload the page"
            raise ApiError(404, f"unknown_{kind}", message)
        return place

    def _id(self, kind: str, place: Place) -> str:
        known = self._ids.get((kind, place))
        if known is None:
            known = secrets.token_urlsafe(12)
            self._ids[kind, place] = known
            self._places[known] = (kind, place)
        return known

    def _in_file(self, path: Path, left_out: list[str]) -> list[Source]:
        if path.name == RUN or (path.name.startswith("cases") and path.suffix == ".jsonl"):
            return self._in_folder(path.parent, left_out)
        place = Place(path.parent, (path.name,))
        found = self._file(place, path.name, left_out)
        return [] if found is None else [found]

    def _in_folder(self, root: Path, left_out: list[str]) -> list[Source]:
        itself = _run(Place(root, ()), root.name, left_out)
        if itself is not None:
            return [itself]
        found: list[Source] = []
        try:
            paths = sorted(root.iterdir())
        except OSError as error:  # it was there when the command began
            left_out.append(f"{root.name} cannot be read any more ({error.strerror or error})")
            paths = []
        for path in paths:
            if path.name.startswith(".") or len(found) >= MOST:
                continue
            place = Place.of(path, root)
            if place is None:
                left_out.append(f"{path.name} leads out of the folder")
            elif path.is_dir():
                one = _run(place, path.name, left_out)
                found += [] if one is None else [one]
            elif path.suffix in (".safetensors", ".json"):
                one = self._file(place, path.name, left_out)
                found += [] if one is None else [one]
        return found

    def _file(self, place: Place, name: str, left_out: list[str]) -> Source | None:
        try:
            seen = place.path.stat()
        except OSError:
            return None
        key = (place, seen.st_mtime_ns, seen.st_size)
        if key not in self._kinds:
            self._kinds[key] = kind_of_file(place)
        kind, why = self._kinds[key]
        if kind is None:
            left_out.append(why if place.root.joinpath(name) == self._path else f"{name}: {why}")
            return None
        return Source(kind, _shown(name), place, {kind: (place,)})


def _run(place: Place, name: str, left_out: list[str]) -> Source | None:
    kind, why = kind_of_folder(place)
    if kind is None:
        if why:
            left_out.append(f"{name}: {why}" if place.parts else why)
        return None
    run = Place.of(place.path / RUN, place.root)
    files = {"cases": tuple(case_files(place))}
    return Source("run", _shown(name), place, files if run is None else {"run": (run,), **files})


def _resolved(path: Path) -> Path:
    try:
        found = path.expanduser().resolve(strict=True)
        if found.is_dir():
            next(found.iterdir(), None)
    except FileNotFoundError:
        raise InputError(f"there is no file or folder {path}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not found.is_dir() and not found.is_file():
        raise InputError(f"{path} is neither a file nor a folder; {OPENS}")
    return found


def _note(left_out: list[str]) -> str | None:
    if not left_out:
        return None
    more = f", and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return _shown("; ".join(left_out[:3]) + more)


def _shown(name: str) -> str:
    """A name that can be sent: Python keeps bytes of it that are no UTF-8 as halves of surrogates."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _size(place: Place) -> int:
    try:
        return place.path.stat().st_size
    except OSError:
        return 0


def _state_of(file: Any) -> tuple[int, int]:
    import os

    found = os.fstat(file.fileno())
    return found.st_mtime_ns, found.st_size


def _read(place: Place) -> FlowView:
    """The flow of a file, mapped.

    Raises:
        FileFormatError: it is no flow; the message names the file without its folders.
    """
    try:
        return FlowView(open_mapped(place.path), name=place.parts[-1])
    except FileFormatError as error:
        raise FileFormatError(str(error).replace(str(place.path), place.parts[-1])) from None
