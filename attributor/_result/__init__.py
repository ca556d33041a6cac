"""`Flow`, the result: scores by token, sentence and document, its file, its page, its plots.

A Flow holds numpy arrays and imports torch only to return tensors. `view` computes the data of the web views.
"""

from attributor._result.flow import Flow, load, open_mapped
from attributor._result.flow_file import pack_flow
from attributor._result.grouped import Grouped, Hit
from attributor._result.safetensors_arrays import pack_safetensors
from attributor._result.view.assets import static_folder
from attributor._result.view.encode import encode_view
from attributor._result.view.escape import escape_invisible
from attributor._result.view.flow_view import FlowView
from attributor._result.view.scores import Scores
from attributor._result.view.standalone_page import render_page

__all__ = [
    "Flow",
    "FlowView",
    "Grouped",
    "Hit",
    "Scores",
    "encode_view",
    "escape_invisible",
    "load",
    "open_mapped",
    "pack_flow",
    "pack_safetensors",
    "render_page",
    "static_folder",
]
