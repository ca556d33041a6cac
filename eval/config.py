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
MAX_NEW_TOKENS = 32  # the answers of these data sets are short, and exact match fails on anything behind them


def default_methods(aligner: bool = ALIGNER) -> tuple[str, ...]:
    """The methods of a run that names none.

    Args:
        aligner: whether cite-right is installed, which needs Python 3.11; it is left out elsewhere.
    """
    lexical = ("bm25", "bm25:title", "answer-string", *(("cite-right",) if aligner else ()))
    return ("flow", *lexical, "mean-attention", "max-attention", "length", "random")


def removal_methods(aligner: bool = ALIGNER) -> tuple[str, ...]:
    """The methods of a run that removes documents and names none: removal effects as well.

    Args:
        aligner: as in `default_methods`.
    """
    *methods, length, random = default_methods(aligner)
    return (*methods, "removal-gradient", "removal-gradient:8", length, random)


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes; where it is written to is no part of it.

    Attributes:
        dataset: a name of `attributor.eval.data.data_sets()`, such as "hotpotqa".
        source: a file of examples; None: the data set on the hub, or for "sample" the shipped examples.
        config: of the hub's data set.
        split: of the hub's data set.
        limit: at most so many examples, the first ones.
        model: hub id, folder or .gguf file.
        dtype: what it is loaded as.
        device_map: where it is put.
        revision: of the hub's model.
        trust_remote_code: whether code that comes with the model may run.
        methods: names as `attributor.methods.parse` takes them.
        max_tokens: prompts with more tokens are skipped; None: only those that do not fit the model's window.
        answer: "expected": the data set's answer is forced; "generated": the model's own is attributed.
        end_token: attribute the token that ends an answer, too: what its row looked up is the answer, read whole.
        max_new_tokens: the longest answer that the model writes.
        check_answer: with "expected", have the model write its own answer too, for exact match and F1.
        faithfulness: measure log-probability drops and LDS by leaving segments out.
        ablation: how segments are left out, in the methods that ablate and in `faithfulness`: "text" or "mask".
        masks: how many random ablations LDS is measured with.
        mask_seed: what they are drawn from, together with the case's id.
        ablation_batch: how many ablations are read at once.
        save_flows: keep the token-level flow of the first flow method of every case.
        verifier: base URL of an OpenAI-compatible endpoint that judges whether an answer is right, or None.
        verifier_model: the name of its model.
        cost_rows: on so many examples, the first ones, a plain forward pass is timed too.
        rows: of a data set that is generated: how many rows of each kind; None for its default.
        seed: of a data set that is generated: what its rows follow from; None for 0.
        kinds: of a data set that is generated: which kinds; None for all.
        tokens: of a data set that is generated: the longest prompt, to which distractors are added; None for its
            default.

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
        """Refuse what cannot be run, before anything is loaded."""
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
        """As run.json holds it."""
        kinds = None if self.kinds is None else list(self.kinds)
        return asdict(self) | {"methods": list(self.methods), "kinds": kinds}

    @classmethod
    def from_json(cls, settings: Any) -> "Config":
        """What `to_json` made; settings that were added later take their defaults.

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
        """What differs, a line each, with this run's value first: "limit: 30 there, 60 now"."""
        mine, others = self.to_json(), other.to_json()
        return [
            f"{name}: {_shown(mine[name])} there, {_shown(others[name])} now"
            for name in mine
            if mine[name] != others[name]
        ]


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else json.dumps(value)
