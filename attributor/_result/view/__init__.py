"""Compute what the web views and the one-file page show of a flow, with numpy alone.

Nothing here imports torch: `attributor explore` starts without it. Letters: k prompt tokens, u units (tokens, where no
two share a character), o rows of the answer, s sentences, d documents.
"""

from attributor._result.view.flow_view import FlowView

__all__ = ["FlowView"]
