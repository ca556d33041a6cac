"""The settings of a run, as run.json stores them; a resumed run must have the same ones."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from typing import Any

from attributor._errors import FileFormatError, InputError
from attributor._models import DEFAULT_MODEL

__all__ = ["MAX_NEW_TOKENS", "Config", "default_methods", "removal_methods"]

ANSWERS = ("expected", "generated")
CONVENTIONS = ("text", "mask")
ALIGNER = find_spec("cite_right") is not None
MAX_NEW_TOKENS = 32  # the answers of these data sets are short; exact match fails if text follows them


def default_methods(aligner: bool = ALIGNER) -> tuple[str, ...]:
    """Return the default methods of a run.

    Args:
        aligner: whether cite-right is installed (it needs Python 3.11); if not, it is left out.
    """
    lexical = ("bm25", "bm25:title", "answer-string", *(("cite-right",) if aligner else ()))
    return ("flow", *lexical, "mean-attention", "max-attention", "length", "random")


def removal_methods(aligner: bool = ALIGNER) -> tuple[str, ...]:
    """Return the default methods of a run that removes documents; they include removal effects.

    Args:
        aligner: as in `default_methods`.
    """
    *methods, length, random = default_methods(aligner)
    return (*methods, "removal-gradient", "removal-gradient:8", length, random)


@dataclass(frozen=True)
class Config:
    """All settings that determine what a run computes. The run folder is not one of them.

    Attributes:
        dataset: a name of `attributor.eval.data.data_sets()`, such as "hotpotqa".
        source: a file of examples; None: the data set on the hub, or for "sample" the shipped examples.
        config: configuration of the hub's data set.
        split: split of the hub's data set.
        limit: read only the first `limit` examples; None: all.
        model: hub id, folder or .gguf file.
        dtype: dtype of the loaded model.
        device_map: devices of the model.
        revision: revision of the hub's model.
        trust_remote_code: whether code that comes with the model may run.
        methods: names as `attributor.methods.parse` takes them.
        max_tokens: prompts with more tokens are skipped; None: only those that do not fit the model's window.
        answer: "expected": the data set's answer is forced; "generated": the model's own is attributed.
        end_token: also attribute the token that ends an answer; the position that predicts it has read the whole
            answer.
        max_new_tokens: the longest answer that the model writes.
        check_answer: with "expected", have the model write its own answer too, for exact match and F1.
        faithfulness: measure log-probability drops and LDS by leaving segments out.
        ablation: how segments are left out, in the methods that ablate and in `faithfulness`: "text" or "mask".
        masks: number of random ablations for LDS.
        mask_seed: seed of these ablations, combined with the case's id.
        ablation_batch: how many ablations are read at once.
        save_flows: save the token-level flow of the first flow method for every case.
        verifier: base URL of an OpenAI-compatible endpoint that judges whether an answer is right, or None.
        verifier_model: the name of its model.
        cost_rows: on the first `cost_rows` examples, also time a forward pass without recording.
        rows: for a generated data set, the number of rows of each kind; None: its default.
        seed: for a generated data set, the seed of its rows; None: 0.
        kinds: for a generated data set, the kinds of rows; None: all.
        tokens: for a generated data set, the longest prompt, filled with distractors; None: its default.

    Raises:
        InputError: a setting out of its range.
    """

    dataset: str = "hotpotqa"
    source: str | None = None
    config: str | None = None
    split: str | None = None
    limit: int | None = None
    model: str = DEFAULT_MODEL
    dtype: str = "auto"
    device_map: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    methods: tuple[str, ...] = default_methods()
    max_tokens: int | None = None
    answer: str = "expected"
    end_token: bool = True
    max_new_tokens: int = MAX_NEW_TOKENS
    check_answer: bool = True
    faithfulness: bool = False
    ablation: str = "text"
    masks: int = 32
    mask_seed: int = 0
    ablation_batch: int = 8
    save_flows: bool = False
    verifier: str | None = None
    verifier_model: str | None = None
    cost_rows: int = 8
    rows: int | None = None
    seed: int | None = None
    kinds: tuple[str, ...] | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        """Check the settings before anything is loaded."""
        for name, known in (("answer", ANSWERS), ("ablation", CONVENTIONS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        least = {"limit": 1, "max_tokens": 1, "max_new_tokens": 1, "masks": 3, "ablation_batch": 1, "cost_rows": 0}
        least |= {"rows": 1, "tokens": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} must be at least {low}, got {value}")
        if not self.methods:
            raise InputError("no methods: name at least one")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as run.json stores them."""
        kinds = None if self.kinds is None else list(self.kinds)
        return asdict(self) | {"methods": list(self.methods), "kinds": kinds}

    @classmethod
    def from_json(cls, settings: Any) -> "Config":
        """Read what `to_json` returned; settings that were added later get their defaults.

        Raises:
            FileFormatError: not the settings of a run, or those of a newer version.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(settings, Mapping) or not set(settings) <= names:
            unknown = sorted(set(settings) - names) if isinstance(settings, Mapping) else []
            raise FileFormatError(
                f"the settings of the run are not readable ({', '.join(unknown) or type(settings).__name__}); was it "
                "written by a newer attributor?"
            )
        try:
            kinds = settings.get("kinds")
            sequences = {"methods": tuple(settings.get("methods", cls.methods))}
            return cls(**{**settings, **sequences, "kinds": None if kinds is None else tuple(kinds)})
        except TypeError as error:
            raise FileFormatError(f"the settings of the run are not readable: {error}") from None

    def differences(self, other: "Config") -> list[str]:
        """List the settings that differ, one line each, with this run's value first: "limit: 30 there, 60 now"."""
        mine, others = self.to_json(), other.to_json()
        return [
            f"{name}: {_shown(mine[name])} there, {_shown(others[name])} now"
            for name in mine
            if mine[name] != others[name]
        ]


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else json.dumps(value)
