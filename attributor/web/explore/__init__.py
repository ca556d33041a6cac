"""The routes of `attributor explore`: runs, flows and case lists on disk. Imports neither torch nor a model.

file_kinds.py has the endings of the files that can be opened, and detects what a file holds. sources.py lists the
files, routes.py serves them.
"""

from attributor.web.explore.routes import create_router
from attributor.web.explore.sources import Sources

__all__ = [
    "Sources",
    "create_router",
]
