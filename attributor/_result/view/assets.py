"""Locate the built front end: app.js and app.css."""

import os
from pathlib import Path

from attributor._errors import AttributorError, InputError

__all__ = ["VARIABLE", "static_folder", "static_text"]

VARIABLE = "ATTRIBUTOR_WEB_STATIC"  # another folder with a built front end, for its development


def static_folder() -> Path:
    """The folder of the built front end: index.html, app.js, app.css and the files that they load later.

    Raises:
        InputError: ATTRIBUTOR_WEB_STATIC names something that is not a folder.
        AttributorError: this installation has no front end.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise InputError(f"{VARIABLE} must name a folder with a built front end, and {chosen!r} is not a folder")
        return folder
    folder = Path(__file__).parents[2] / "web" / "static"
    if not folder.is_dir():
        raise AttributorError(
            f"this installation has no front end ({folder} is missing): install attributor anew, or in a checkout "
            f"build it with `npm run build` in webapp/, or name a built one with {VARIABLE}"
        )
    return folder


def static_text(name: str) -> str:
    """The text of a file of the front end, "app.js" or "app.css".

    Raises:
        InputError, AttributorError: as `static_folder`; or the folder lacks the file.
    """
    path = static_folder() / name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AttributorError(
            f"the front end in {path.parent} has no {name}: install attributor anew, or in a checkout build it with "
            "`npm run build` in webapp/"
        ) from None
