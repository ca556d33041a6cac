"""The data in a standalone page."""

import base64
import json
import re
from itertools import pairwise

import numpy as np
from safetensors.numpy import load


def data_of(text: str) -> dict:
    """Return the tensors and info of the view file in a page, as one dictionary."""
    found = re.search(r'<script type="application/octet-stream" id="view">([A-Za-z0-9+/=]*)</script>', text)[1]
    raw = base64.b64decode(found, validate=True)
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"]["format"] == "attributor.view"
    assert header["__metadata__"]["version"] == "2"
    data = json.loads(header["__metadata__"]["info"]) | load(raw)
    for key, lengths in (("text", "lengths"), ("answer", "answer_lengths")):
        whole = data[key].tobytes().decode()
        ends = np.cumsum(data[lengths], dtype=np.int64)
        assert ends[-1] == len(whole)
        data[lengths.removesuffix("_lengths").replace("lengths", "units")] = [
            whole[a:b] for a, b in pairwise([0, *ends])
        ]
    return data
