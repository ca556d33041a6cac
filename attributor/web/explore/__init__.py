"""The routes of `attributor explore`: runs, flows and case lists on disk. Imports neither torch nor a model.

sources.py lists the files and chooses them by their ending; file_kinds.py detects what one holds; routes.py serves
them.
"""

from attributor.web.explore.routes import create_router
from attributor.web.explore.sources import Sources

__all__ = [
    "Sources",
    "create_router",
]
