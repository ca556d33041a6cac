"""An `Answer` with a flow made by hand, for tests of printed output."""

from dataclasses import fields

import torch
from example_flow import example

from attributor._ask import Answer
from attributor._record.head_weights import HeadWeights

META = {"model": "tiny", "weights": "mean", "layers": "2", "heads": "4", "heads_used": "8"}


def example_answer(flow=None, claims=None, **changes) -> Answer:
    """Return the example flow with its citations; `changes` replace fields of the answer."""
    flow = example(meta=META) if flow is None else flow
    cited = flow.cite(claims=claims)
    values = {
        "question": None,
        "weights": HeadWeights(torch.full((2, 4), 0.25), name="mean"),
        "model": "tiny",
        "uses_question": False,
        "written": False,
        "notes": (),
        "seconds": {"load": 1.0, "sweep": 0.5},
    }
    return Answer(flow=flow, **{part.name: getattr(cited, part.name) for part in fields(cited)}, **(values | changes))
