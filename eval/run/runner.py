"""Runs the methods over the rows of a data set, case by case, into a folder that a killed run can be taken up from."""

import platform
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from attributor import methods as registry
from attributor._errors import ImplementationError, InputError, OutputError, UnsupportedModelError
from attributor._models import load_model, model_source
from attributor._prompt import build_prompt
from attributor.eval.config import Config
from attributor.eval.data import Question
from attributor.eval.metrics import summarize
from attributor.eval.run import dataset_rows as rows_of
from attributor.eval.run.case import Setting, failed_record, release, run_case
from attributor.eval.run.observer import Silent, Watcher
from attributor.eval.run.shards import Shards
from attributor.eval.run.verifier import Verifier
from attributor.eval.store import CASES, CaseWriter, Follower, RunFolder
from attributor.methods import FlowMethod

__all__ = ["Outcome", "run"]

PACKAGES = (
    "attributor",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
)
HOPELESS = (UnsupportedModelError, ImplementationError, OutputError)  # what the next row would raise again
Record = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: where it lies.
        run: what run.json holds.
        already: whether it was complete before, so that nothing was run.
        main: whether this process speaks for all that shared the rows.
    """

    folder: Path
    run: Record
    already: bool
    main: bool = True

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return int(self.run["counts"]["failed"])


def run(
    config: Config,
    out: Path,
    *,
    model: Any = None,
    tokenizer: Any = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    watcher: Watcher | None = None,
    debug: Callable[[str], None] | None = None,
) -> Outcome:
    """Run, or go on with, an evaluation.

    Args:
        config: the settings.
        out: the run's folder, made where it is not there.
        model: loaded already; None: `config.model` is loaded.
        tokenizer: the model's, with `model`.
        overwrite: remove what a run left in the folder and start anew.
        retry_failed: run rows again that failed before; without it their records are kept.
        watcher: is told how it goes; in a shared run the first process's alone.
        debug: called with the traceback of each row that fails.

    Returns:
        The outcome, metrics included. Rows that failed are counted in it, and no error.

    Raises:
        InputError: settings, data or a folder that cannot be used.
        OutputError: a record could not be written; every case before is kept.
        ElsewhereError: in a shared run, another process failed and has said why.
        KeyboardInterrupt: after the folder was left in order.
    """
    shards = Shards.join()
    watcher = watcher if watcher is not None and shards.main else Silent()
    folder = RunFolder(out)
    try:
        return _run(config, folder, shards, watcher, model, tokenizer, overwrite, retry_failed, debug)
    finally:
        watcher.end()
        folder.close()
        shards.leave()


def _run(
    config: Config,
    folder: RunFolder,
    shards: Shards,
    watcher: Watcher,
    model: Any,
    tokenizer: Any,
    overwrite: bool,
    retry_failed: bool,
    debug: Callable[[str], None] | None,
) -> Outcome:
    kept: list[Record] = []

    def prepare() -> tuple[list[str], bool]:
        """What one process does for all before a model is loaded: the ids of the cases that there are, and if all."""
        shards.device_map(config.device_map)
        _check(config)
        loaded = rows_of.read(config)
        for note in [*folder.open(config, rows_of.describe(loaded), overwrite=overwrite), *rows_of.notes(loaded)]:
            watcher.say(note)
        for record in folder.records().values():
            if not (retry_failed and record["status"] == "failed"):
                kept.append(record)
        ids = [record["id"] for record in kept]
        return ids, set(rows_of.order(loaded)) <= set(ids) and (folder.run or {}).get("status") == "done"

    watcher.stage("Reading the data")
    known, complete = shards.first(prepare)
    if complete:
        return Outcome(folder.path, folder.run or {}, True, shards.main)
    loaded = rows_of.read(config)
    before = set(known)
    problems = [record for record in rows_of.unusable(loaded) if record["id"] not in before]
    rows = [(i, question) for i, question in enumerate(loaded.questions) if question.id not in before]
    began = time.perf_counter()
    try:
        with ExitStack() as stack:
            setting = None
            if rows:
                watcher.stage(f"Loading {config.model}")
                device_map = shards.device_map(config.device_map)
                setting = _setting(config, folder, watcher, model, tokenizer, device_map)
                stack.callback(setting.close)
            if shards.main:
                folder.finish({"status": "running"} | ({} if setting is None else _surroundings(setting, shards)))
            own = folder.path / (f"cases.{shards.rank}.jsonl" if shards.shared else CASES)
            follower = Follower(folder, own)
            watcher.begin(len(rows_of.order(loaded)), kept)

            def others() -> None:
                for record in follower.new():
                    watcher.case(record)

            writer = stack.enter_context(CaseWriter(own))
            for number, (index, question) in enumerate(shards.mine(rows)):
                assert setting is not None
                timed = index < config.cost_rows
                record = _attempt(question, setting, timed=timed, warm=number > 0, debug=debug)
                writer.write(record)
                watcher.case(record)
                if shards.main and shards.shared:
                    others()
            for record in problems if shards.main else ():
                writer.write(record)
                watcher.case(record)
        shards.wait(others if shards.main else None)
    except KeyboardInterrupt:
        if shards.main:
            folder.finish({"status": "interrupted"})
        raise
    watcher.stage("Computing the metrics")
    seconds = time.perf_counter() - began
    result = shards.first(lambda: _finish(folder, rows_of.order(loaded), seconds))
    return Outcome(folder.path, result, False, shards.main)


def _check(config: Config) -> None:
    """Refuse settings that cannot work together."""
    methods = registry.parse(config.methods)
    if config.save_flows and not any(isinstance(method, FlowMethod) for method in methods):
        raise InputError(f"--save-flows keeps flows, and no method is one ({', '.join(config.methods)}); add flow")
    if config.verifier is not None:
        if config.answer == "expected" and not config.check_answer:
            raise InputError("--verifier judges the model's own answer; --no-check-answer has it write none")
        with Verifier(config.verifier, config.verifier_model):
            pass
    elif config.verifier_model is not None:
        raise InputError("--verifier-model goes with --verifier URL")


def _setting(
    config: Config, folder: RunFolder, watcher: Watcher, model: Any, tokenizer: Any, device_map: str | None
) -> Setting:
    """Everything that the cases share; what would fail in every one of them fails here."""
    methods = registry.parse(config.methods)
    if model is None:
        model, tokenizer = load_model(
            config.model,
            dtype=config.dtype,
            device_map=device_map,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    # a chat template or a tokenizer that cannot be used is told now
    if note := build_prompt(tokenizer, [("A title", "A sentence.")], "A question?").note:
        watcher.say(note)
    weights = registry.union(methods, model)
    verifier = None if config.verifier is None else Verifier(config.verifier, config.verifier_model)
    flow_file = folder.flow_file if config.save_flows else None
    return Setting(config, model, tokenizer, methods, weights, verifier, flow_file)


def _attempt(
    question: Question, setting: Setting, *, timed: bool, warm: bool, debug: Callable[[str], None] | None
) -> Record:
    """One case; whatever is wrong with this row alone is written into its record."""
    try:
        record: Record = run_case(question, setting, timed=timed, warm=warm)
        return record
    except HOPELESS:
        raise
    except Exception as error:
        if debug is not None:
            debug(traceback.format_exc())
        record = failed_record(question, error)
    release(setting.model)  # out here, where the traceback no longer holds what the case had read
    return record


def _finish(folder: RunFolder, order: Sequence[str], seconds: float) -> Record:
    """Merge, compute the metrics, write run.json."""
    cases = list(folder.merge(order).values())
    counts = {status: sum(case["status"] == status for case in cases) for status in ("done", "skipped", "failed")}
    more: Record = {
        "status": "done",
        "counts": {"rows": len(order), **counts},
        "metrics": summarize(cases),
        "seconds": {"last_session": seconds, "cases": sum(case.get("seconds") or 0.0 for case in cases)},
    }
    found: Record = folder.finish(more)
    return found


def _surroundings(setting: Setting, shards: Shards) -> Record:
    """What the numbers of this session were made with."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "device": _device(setting.model),
        "processes": shards.count,
        "weights_from": model_source(setting.model),
    }


def _device(model: Any) -> str:
    """Where the model was, in words."""
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    names = [torch.cuda.get_device_name(torch.device(name)) for name in devices if name.startswith("cuda")]
    shown = f"{', '.join(devices)} ({', '.join(names)})" if names else ", ".join(devices)
    return f"{shown}, {torch.get_num_threads()} threads, {str(model.dtype).removeprefix('torch.')}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
