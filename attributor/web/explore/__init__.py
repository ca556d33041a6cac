"""The routes of `attributor explore`: runs, flows and case lists on disk. Imports neither torch nor a model."""

from attributor.web.explore.routes import create_router
from attributor.web.explore.sources import Sources

__all__ = [
    "Sources",
    "create_router",
]
