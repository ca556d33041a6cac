"""Opens files without following links out of their folder, and sends all of their bytes or one range."""

import asyncio
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from attributor.web.http.errors import ApiError

__all__ = ["FileRangeResponse", "RootedPath", "open_file", "parse_range"]

CHUNK = 1 << 18
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FLAGS |= getattr(os, "O_NONBLOCK", 0)  # otherwise opening a named pipe blocks until a writer opens it


@dataclass(frozen=True)
class RootedPath:
    """A file or a folder below a root. Both paths were resolved, so a link in them was created afterwards.

    Attributes:
        root: a resolved folder.
        parts: the names below it.
    """

    root: Path
    parts: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, root: Path) -> "RootedPath | None":
        """The resolved path; None if it is outside of the root, or does not exist."""
        try:
            resolved = Path(os.path.realpath(path, strict=True))
        except (OSError, ValueError):  # ValueError: a NUL in a name
            return None
        return cls(root, resolved.relative_to(root).parts) if resolved.is_relative_to(root) else None

    @property
    def path(self) -> Path:
        """The full path."""
        return self.root.joinpath(*self.parts)


@contextmanager
def open_file(rooted_path: RootedPath) -> Iterator[BinaryIO]:
    """Open the regular file at a path, for reading bytes.

    Every name below the root is opened by itself, and none may be a link. So a folder that was replaced by a link after
    it was listed is refused.

    Raises:
        ApiError: 404, the file no longer exists, is a link, or is not a regular file.
    """
    try:
        handle = _open_without_links(rooted_path)
    except OSError as error:
        raise _file_gone(rooted_path) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _file_gone(rooted_path)
        file = os.fdopen(handle, "rb", closefd=False)
        yield file
    finally:
        os.close(handle)


def _open_without_links(rooted_path: RootedPath) -> int:
    if sys.platform == "win32" or os.open not in os.supports_dir_fd:
        if Path(os.path.realpath(rooted_path.path)) != rooted_path.path:
            raise OSError("a link")
        return os.open(rooted_path.path, _FLAGS)
    handle = os.open(rooted_path.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, name in enumerate(rooted_path.parts, 1):
            folder = 0 if number == len(rooted_path.parts) else os.O_DIRECTORY
            deeper = os.open(name, _FLAGS | folder, dir_fd=handle)
            os.close(handle)
            handle = deeper
    except OSError:
        os.close(handle)
        raise
    return handle


def _file_gone(rooted_path: RootedPath) -> ApiError:
    name = rooted_path.parts[-1]
    return ApiError(404, "file_gone", f"{name} is not there any more, or not as a file that can be read")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) of a Range header; None: the whole file.

    Raises:
        ApiError: 416, the header is not one range of bytes of this file.
    """
    if header is None:
        return None
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header.strip(), re.ASCII)
    if match is not None and (match[1] or match[2]):
        first, last = match[1], match[2]
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start < stop:
            return start, stop
    raise ApiError(
        416,
        "invalid_range",
        f"the file has {size} bytes; ask for one range of them, such as bytes=0-{max(min(size, 65536) - 1, 0)}",
        {"Content-Range": f"bytes */{size}"},
    )


class FileRangeResponse(Response):
    """A response that sends a file's bytes; the file is open only while they are sent.

    Args:
        rooted_path: the file.
        range_header: the request's Range, or None.
        if_range: the request's If-Range, or None. If it names another state of the file, all bytes are sent.
    """

    media_type = "application/octet-stream"

    def __init__(self, rooted_path: RootedPath, range_header: str | None, if_range: str | None) -> None:
        super().__init__()
        self.rooted_path, self.range_header, self.if_range = rooted_path, range_header, if_range
        with open_file(rooted_path) as file:
            self.size, self.tag = _size_and_tag(file)
            self.span = self._requested_range()

    def _requested_range(self) -> tuple[int, int] | None:
        stale = self.if_range is not None and self.if_range != self.tag
        return None if stale else parse_range(self.range_header, self.size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        start, stop = self.span or (0, self.size)
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(stop - start),
            "accept-ranges": "bytes",
            "etag": self.tag,
        }
        if self.span is not None:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{self.size}"
        with open_file(self.rooted_path) as file:
            if _size_and_tag(file)[0] < stop:  # the file was shortened in the meantime
                raise _file_gone(self.rooted_path)
            await send(
                {
                    "type": "http.response.start",
                    "status": 200 if self.span is None else 206,
                    "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
                }
            )
            await run_in_threadpool(file.seek, start)
            left = stop - start
            gone = asyncio.ensure_future(_disconnected(receive))  # sending to a closed connection raises no error
            try:
                while left:
                    data = await run_in_threadpool(file.read, min(CHUNK, left))
                    if not data or gone.done():  # shortened while it is sent: the connection ends early
                        return
                    left -= len(data)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            finally:
                gone.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _size_and_tag(file: BinaryIO) -> tuple[int, str]:
    status = os.fstat(file.fileno())
    return status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
