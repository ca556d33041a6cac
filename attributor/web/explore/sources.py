"""The files that the explorer may read: those below the path of the command line, each under a random id."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attributor._errors import FileFormatError, InputError
from attributor._result import FlowView, open_mapped
from attributor.eval.store import FLOWS, RUN, flow_name
from attributor.web.explore.file_kinds import (
    ENDINGS,
    OPENS,
    Kind,
    detect_file_kind,
    detect_folder_kind,
    find_case_files,
    is_run_file,
)
from attributor.web.http import ApiError, RootedPath, open_file

__all__ = ["Source", "Sources"]

MAX_SOURCES = 500  # sources of one folder
MAX_OPEN_FLOWS = 3  # flows that stay open: the flow on the page, and flows to compare it with


@dataclass(frozen=True)
class Source:
    """A run, a flow or a list that the page can show.

    Attributes:
        kind: run, flow or list.
        name: for the page: the name of its file or folder, with the folders below the path of the command line.
        rooted_path: its file or folder.
        files: by content: "run", "cases", "list" or "flow".
    """

    kind: Kind
    name: str
    rooted_path: RootedPath
    files: dict[str, tuple[RootedPath, ...]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The bytes of its files, without the flows of cases."""
        return sum(_size_of(rooted_path) for paths in self.files.values() for rooted_path in paths)


class Sources:
    """The sources at the path of `attributor explore`, and the ids by which the page requests them.

    Args:
        path: a file or a folder; None: the user chooses a file in the page.

    Raises:
        InputError: the path does not exist, or holds nothing that can be shown; the message says what it holds.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = None if path is None else _resolve(path)
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, RootedPath], str] = {}
        self._path_of_id: dict[str, tuple[str, RootedPath]] = {}
        self._flows: OrderedDict[str, tuple[tuple[int, int], FlowView]] = OrderedDict()
        self._kinds: dict[tuple[RootedPath, int, int], tuple[Kind | None, str]] = {}
        self.note: str | None = None
        if path is not None and not self.scan():
            raise InputError(f"cannot open {path}: {self.note or self._describe_nothing()}; {OPENS}")

    def scan(self) -> dict[str, Source]:
        """List the files again: the sources by their ids, in the order of their names. A source keeps its id."""
        if self._path is None:
            return {}
        left_out: list[str] = []
        scan = self._scan_file if self._path.is_file() else self._scan_folder
        sources = scan(self._path, left_out)
        self.note = _summarize_left_out(left_out)
        with self._lock:
            return {self._assign_id("source", source.rooted_path): source for source in sources}

    def _describe_nothing(self) -> str:
        assert self._path is not None
        return "it holds no run, no flow and no list of cases" if any(self._path.iterdir()) else "the folder is empty"

    @property
    def only_source_id(self) -> str | None:
        """The id of the source that the page shows first, if it is the only one."""
        sources = self.scan()
        return next(iter(sources)) if len(sources) == 1 else None

    def file_ids(self, source: Source) -> dict[str, Any]:
        """The ids of a source's files, as GET /api/sources gives them."""
        with self._lock:
            ids = {
                name: [self._assign_id("flow" if name == "flow" else "file", rooted_path) for rooted_path in paths]
                for name, paths in source.files.items()
            }
        return {name: some if name == "cases" else some[0] for name, some in ids.items() if some or name == "cases"}

    def file(self, name: str) -> RootedPath:
        """The file with an id.

        Raises:
            ApiError: 404, no such id.
        """
        return self._look_up("file", name)

    def find_case_flow(self, source: str, case: str) -> str | None:
        """The id of the token-level flow that a run stored for a case, or None.

        Raises:
            ApiError: 404, no such source.
        """
        rooted_path = self._look_up("source", source)
        if not rooted_path.path.is_dir():
            return None
        flow = RootedPath.of(rooted_path.path / FLOWS / flow_name(case), rooted_path.root)
        if flow is None or not flow.path.is_file():
            return None
        with self._lock:
            return self._assign_id("flow", flow)

    def flow(self, name: str) -> FlowView:
        """The flow with an id. It is read once, and stays open until `MAX_OPEN_FLOWS` others were read.

        Raises:
            ApiError: 404, no such id, or its file is gone.
            FileFormatError: its file is not a flow.
        """
        rooted_path = self._look_up("flow", name)
        with open_file(rooted_path) as file:
            state = _file_state(file)
        with self._lock:
            cached = self._flows.get(name)
            if cached is not None and cached[0] == state:
                self._flows.move_to_end(name)
                return cached[1]
        view = _open_view(rooted_path)
        with self._lock:
            self._flows[name] = (state, view)
            self._flows.move_to_end(name)
            while len(self._flows) > MAX_OPEN_FLOWS:
                self._flows.popitem(last=False)
        return view

    def _look_up(self, kind: str, name: str) -> RootedPath:
        kind_of_id, rooted_path = self._path_of_id.get(name, ("", None))
        if kind_of_id != kind or rooted_path is None:
            message = f"no {kind} has this id: an earlier start of the server gave it; reload the page"
            raise ApiError(404, f"unknown_{kind}", message)
        return rooted_path

    def _assign_id(self, kind: str, rooted_path: RootedPath) -> str:
        known = self._ids.get((kind, rooted_path))
        if known is None:
            known = secrets.token_urlsafe(12)
            self._ids[kind, rooted_path] = known
            self._path_of_id[known] = (kind, rooted_path)
        return known

    def _scan_file(self, path: Path, left_out: list[str]) -> list[Source]:
        if is_run_file(path.name):
            return self._scan_folder(path.parent, left_out)
        rooted_path = RootedPath(path.parent, (path.name,))
        source = self._describe_file(rooted_path, path.name, left_out)
        return [] if source is None else [source]

    def _scan_folder(self, root: Path, left_out: list[str]) -> list[Source]:
        folder_source = _describe_run(RootedPath(root, ()), root.name, left_out)
        if folder_source is not None:
            return [folder_source]
        sources: list[Source] = []
        try:
            paths = sorted(root.iterdir())
        except OSError as error:  # the path existed when the command began
            left_out.append(f"{root.name} cannot be read any more ({error.strerror or error})")
            paths = []
        for path in paths:
            if path.name.startswith(".") or len(sources) >= MAX_SOURCES:
                continue
            rooted_path = RootedPath.of(path, root)
            if rooted_path is None:
                left_out.append(f"{path.name} leads out of the folder")
            elif path.is_dir():
                source = _describe_run(rooted_path, path.name, left_out)
                sources += [] if source is None else [source]
            elif path.suffix in (*ENDINGS["flow"], *ENDINGS["list"]):
                source = self._describe_file(rooted_path, path.name, left_out)
                sources += [] if source is None else [source]
        return sources

    def _describe_file(self, rooted_path: RootedPath, name: str, left_out: list[str]) -> Source | None:
        try:
            seen = rooted_path.path.stat()
        except OSError:
            return None
        key = (rooted_path, seen.st_mtime_ns, seen.st_size)
        if key not in self._kinds:
            self._kinds[key] = detect_file_kind(rooted_path)
        kind, why = self._kinds[key]
        if kind is None:
            left_out.append(why if rooted_path.root.joinpath(name) == self._path else f"{name}: {why}")
            return None
        return Source(kind, _make_sendable(name), rooted_path, {kind: (rooted_path,)})


def _describe_run(rooted_path: RootedPath, name: str, left_out: list[str]) -> Source | None:
    kind, why = detect_folder_kind(rooted_path)
    if kind is None:
        if why:
            left_out.append(f"{name}: {why}" if rooted_path.parts else why)
        return None
    run = RootedPath.of(rooted_path.path / RUN, rooted_path.root)
    files = {"cases": tuple(find_case_files(rooted_path))}
    return Source("run", _make_sendable(name), rooted_path, files if run is None else {"run": (run,), **files})


def _resolve(path: Path) -> Path:
    try:
        resolved = path.expanduser().resolve(strict=True)
        if resolved.is_dir():
            next(resolved.iterdir(), None)
    except FileNotFoundError:
        raise InputError(f"there is no file or folder {path}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not resolved.is_dir() and not resolved.is_file():
        raise InputError(f"{path} is neither a file nor a folder; {OPENS}")
    return resolved


def _summarize_left_out(left_out: list[str]) -> str | None:
    if not left_out:
        return None
    more = f", and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return _make_sendable("; ".join(left_out[:3]) + more)


def _make_sendable(name: str) -> str:
    """The name without lone surrogates, which stand for bytes that are not UTF-8 and cannot be sent."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _size_of(rooted_path: RootedPath) -> int:
    try:
        return rooted_path.path.stat().st_size
    except OSError:
        return 0


def _file_state(file: Any) -> tuple[int, int]:
    import os

    status = os.fstat(file.fileno())
    return status.st_mtime_ns, status.st_size


def _open_view(rooted_path: RootedPath) -> FlowView:
    """The flow of a file, memory-mapped.

    Raises:
        FileFormatError: the file is not a flow; the message names the file without its folders.
    """
    try:
        return FlowView(open_mapped(rooted_path.path), name=rooted_path.parts[-1])
    except FileFormatError as error:
        raise FileFormatError(str(error).replace(str(rooted_path.path), rooted_path.parts[-1])) from None
