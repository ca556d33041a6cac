"""The named choices of head weights, in one list. Imports no torch, so that `--help` stays fast.

The command line, the error messages and the OpenAPI description of `attributor serve` take the names from here. To add
a preset, add its name and its row below, and compute its weights in `resolution.py`. Until the table of labels in
`webapp/src/live/weights.ts` has the name too, it does not compile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["PRESETS", "Preset", "PresetName"]

PresetName = Literal["mean", "output_norm", "retrieval"]


@dataclass(frozen=True)
class Preset:
    """One preset.

    Attributes:
        derived_from: "shape" (the numbers of layers and heads), "parameters" of the model, or "calibration" (forward
            passes on generated prompts, whose results are shipped for known models).
        help: its description for `--help`; "" if the name is enough.
        report: its description for one model, a format string with {heads} (heads of the model), {count} (those with a
            weight) and {model} (the model in which they were found).
    """

    derived_from: Literal["shape", "parameters", "calibration"]
    help: str
    report: str


PRESETS: Mapping[str, Preset] = {
    "mean": Preset(
        derived_from="shape",
        help="all the same: the plain definition",
        report="every one of the {heads} heads counts the same, the plain definition",
    ),
    "output_norm": Preset(
        derived_from="parameters",
        help="",
        report="{heads} heads by the norm of their output projections",
    ),
    "retrieval": Preset(
        derived_from="calibration",
        help="the few heads that attend from answer or question to the evidence; found once for a model without "
        "shipped heads, see attributor calibrate",
        report="{count} of {heads} heads, found without labels in {model}",
    ),
}
