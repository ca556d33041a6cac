"""The imports of the fork server of warm_start.py, without output, as on the command line."""

import gc
import logging
from importlib import import_module

from attributor.cli.entry import CHATTER

gc.disable()  # as in conftest.py
for name in CHATTER:
    logging.getLogger(name).setLevel(logging.ERROR)
for name in ("cli.commands", "eval.run", "web.app", "web.explore", "web.live"):
    import_module(f"attributor.{name}")
gc.freeze()
gc.enable()
