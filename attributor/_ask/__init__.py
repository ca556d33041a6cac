"""Prompt, answer, recording and flow in one place, for the command line, `serve`, the evaluation and the methods.

`ask` answers a question about documents in one call. It calls `answer_prompt`, which takes a finished prompt. That
calls `read_and_follow`, which records an answer with `force_answer` or `write_answer` and computes its flow. Each note
for the user is written in one place. Names are imported on first use, so that the command line can use `StageClock`
before it imports torch.
"""

from typing import TYPE_CHECKING

from attributor._literals import import_on_first_use, lazy_imports

# the one list of names; type checkers read it, and __getattr__ takes their modules from it
if TYPE_CHECKING:
    from attributor._ask.answer_pass import AnswerCounter as AnswerCounter
    from attributor._ask.answer_pass import AnswerPass as AnswerPass
    from attributor._ask.answer_pass import force_answer as force_answer
    from attributor._ask.answer_pass import write_answer as write_answer
    from attributor._ask.api import MAX_NEW_TOKENS as MAX_NEW_TOKENS
    from attributor._ask.api import Answer as Answer
    from attributor._ask.api import AnswerWithout as AnswerWithout
    from attributor._ask.api import AskOptions as AskOptions
    from attributor._ask.api import answer_prompt as answer_prompt
    from attributor._ask.api import ask as ask
    from attributor._ask.api import check_impl as check_impl
    from attributor._ask.notes import Hints as Hints
    from attributor._ask.notes import cut_off_note as cut_off_note
    from attributor._ask.notes import fit_answer as fit_answer
    from attributor._ask.notes import question_notes as question_notes
    from attributor._ask.prompt_source import PromptSource as PromptSource
    from attributor._ask.recorded_flow import WriteOptions as WriteOptions
    from attributor._ask.recorded_flow import follow as follow
    from attributor._ask.recorded_flow import read_and_follow as read_and_follow
    from attributor._ask.recorded_flow import share_tokens as share_tokens
    from attributor._ask.stage_clock import StageClock as StageClock

_HOMES = lazy_imports(__file__)

__all__ = sorted(_HOMES)

__getattr__ = import_on_first_use(__name__, _HOMES)
