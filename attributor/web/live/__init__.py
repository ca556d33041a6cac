"""The routes of `attributor serve`: they load a model, run prompts while recording, and send flows and views.

routes.py and views.py define the routes, schema.py the JSON that they send. service.py holds the state of a server.
jobs.py runs long jobs one at a time, view_queue.py computes views. Needs the extra attributor[web].
"""

from attributor.web.live.routes import create_router
from attributor.web.live.service import LiveService, ServerSettings

__all__ = [
    "LiveService",
    "ServerSettings",
    "create_router",
]
