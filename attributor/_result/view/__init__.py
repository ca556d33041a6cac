"""Compute the data that the web views and the one-file page show of a flow, with numpy alone.

No module here imports torch, so that `attributor explore` starts without it. Letters: k prompt tokens, u units (tokens,
but tokens that share a character are one unit), o rows of the answer, s sentences, d documents.
"""

from attributor._result.view.flow_view import FlowView

__all__ = ["FlowView"]
