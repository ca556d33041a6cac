"""From a run to rows that head weights can be learned from: each is read once more, with every head recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attributor._errors import InputError
from attributor._facts import text_config
from attributor._models import load_model
from attributor._segments import assign_tokens
from attributor.eval import read, rows
from attributor.eval.case import forced_answer
from attributor.eval.config import Config
from attributor.eval.learning.fit import Row
from attributor.eval.learning.targets import TARGETS
from attributor.eval.learning.trace import Trace
from attributor.eval.prompts import case_prompt
from attributor.eval.store import RunFolder

__all__ = ["Source", "load_rows", "open_source"]

Progress = Callable[[str, int, int], None]


class Source:
    """A finished run whose rows can be learned from.

    Attributes:
        path: the run's folder.
        config: its settings.
        against: "gold" or "ablations".
        targets: what the scores of each row should say, by id, in the run's order.
    """

    def __init__(self, path: Path, config: Config, against: str, targets: dict[str, Any]) -> None:
        self.path, self.config, self.against, self.targets = path, config, against, targets


def open_source(path: Path, against: str) -> Source:
    """Read what a run says about its rows; no model is loaded.

    Args:
        path: the folder of a run whose answers were the expected ones.
        against: "gold", the marked evidence, or "ablations", what leaving pieces out did (--faithfulness).

    Raises:
        InputError: an unknown target, no such run, a run of generated answers or without ablations, or too few rows.
        FileFormatError: the run is not readable.
    """
    if against not in TARGETS:
        raise InputError(f"weights are learned against {' or '.join(TARGETS)}, got {against!r}")
    folder = RunFolder(path)
    if (found := folder.run) is None:
        raise InputError(f"{path} is no run of attributor eval (it has no run.json)")
    config = Config.from_json(found["config"])
    if config.answer != "expected":
        raise InputError(f"the run {path} attributed generated answers; learn from one with --answer expected")
    targets = {}
    for name, record in folder.records().items():
        if record["status"] == "done" and (target := TARGETS[against].of(record)) is not None:
            targets[name] = target
    if len(targets) < 4:
        raise InputError(f"the run {path} has {len(targets)} rows to learn {against} from; it takes 4 or more")
    return Source(path, config, against, targets)


def load_rows(
    source: Source, progress: Progress, *, model: Any = None, tokenizer: Any = None
) -> tuple[list[Row], tuple[int, int], Any]:
    """Read every row with the run's model: (rows, (L, H), the model).

    Args:
        source: of the rows; its data set is read again.
        progress: told ("read", rows done, rows to do).
        model: already loaded; None: the run's.
        tokenizer: that goes with it.

    Raises:
        InputError: the data set no longer holds the run's rows.
        AttributorError: the model or the data cannot be loaded.
    """
    config = source.config
    questions = {question.id: question for question in rows.read(config).questions}
    if lost := [name for name in source.targets if name not in questions]:
        raise InputError(f"{len(lost)} rows of {source.path} are not in its data set any more, {lost[0]} for one")
    if model is None:
        model, tokenizer = load_model(
            config.model,
            dtype=config.dtype,
            device_map=config.device_map,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    shape = (text_config(model).num_hidden_layers, text_config(model).num_attention_heads)
    every = torch.full(shape, 1 / shape[1])
    found = []
    for done, (name, target) in enumerate(source.targets.items()):
        case = case_prompt(tokenizer, questions[name])
        if case.prompt.question is None:
            raise InputError("the chat template hides where the question stands, so its share cannot be learned")
        answer = forced_answer(questions[name], tokenizer, config)
        recording = read.force(model, case.prompt.ids, answer, every).recording
        assert recording is not None
        segment_of = torch.from_numpy(assign_tokens(case.prompt.offsets.numpy(), case.segments))
        found.append(Row(Trace.of(recording, case, segment_of, answer.numel(), shape[0]), target))
        progress("read", done + 1, len(source.targets))
    return found, shape, model
