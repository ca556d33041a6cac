"""The routes of `attributor serve`: a model is loaded, writes while it is recorded, and its flows are shown.

routes.py and views.py are the addresses, schema.py what they send; service.py holds what one server holds; jobs.py
runs long work one at a time, view_queue.py the work of single views. Needs the extra attributor[web].
"""

from attributor.web.live.routes import router
from attributor.web.live.service import Live, Settings

__all__ = [
    "Live",
    "Settings",
    "router",
]
