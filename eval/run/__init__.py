"""Run the methods over the questions of a data set, case by case, into a folder that can be resumed."""

from attributor.eval.run.runner import RunOutcome, run_evaluation
from attributor.eval.run.shards import OtherProcessError

__all__ = [
    "OtherProcessError",
    "RunOutcome",
    "run_evaluation",
]
