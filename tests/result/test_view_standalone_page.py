"""Rendering the one-file page ends after a few attempts, within the size limit or above it."""

import numpy as np
import pytest
from tiny_front_end import tiny_front_end  # noqa: F401

from attributor._result.flow import Flow
from attributor._result.view import FlowView, standalone_page


@pytest.mark.parametrize("over", [1, 2, 1000])
@pytest.mark.usefixtures("tiny_front_end")
def test_rendering_a_slightly_too_long_page_ends(monkeypatch, over):
    words = np.arange(300, dtype=np.int64)
    offsets = np.stack([words, words + 1], axis=1) * 1000
    flow = Flow(scores=np.full((2, 300), 0.001, np.float32), ids=np.arange(302), text="word " * 60_000, offsets=offsets)
    view = FlowView(flow)
    rendered = []
    render = standalone_page._render
    monkeypatch.setattr(
        standalone_page, "_render", lambda *given: rendered.append(0) or _bounded(rendered, render(*given))
    )
    size = len(standalone_page.render_page(view))
    rendered.clear()
    assert len(standalone_page.render_page(view, size - over)) <= size
    assert len(rendered) > 1  # more than one attempt


def _bounded(rendered, text):
    assert len(rendered) < 50, "no end in sight"
    return text
