"""The web views' server: `attributor explore` and `attributor serve`. Needs the extra attributor[web].

start.py binds the port and runs the server. app.py combines the routes of http, explore and live.
"""

from attributor.web.app import Mode, create_app
from attributor.web.start import bind, open_browser, serve

__all__ = [
    "Mode",
    "bind",
    "create_app",
    "open_browser",
    "serve",
]
