"""Run the methods over the rows of a data set, case by case, into a folder that can be resumed."""

from attributor.eval.run.runner import Outcome, run
from attributor.eval.run.shards import ElsewhereError

__all__ = [
    "ElsewhereError",
    "Outcome",
    "run",
]
