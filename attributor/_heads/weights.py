"""`Weights`: how much each head counts in the flow, its presets and its file format."""

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from attributor._checks import check_number, check_path, shorten_value
from attributor._errors import FileFormatError, InputError
from attributor._heads.presets import PRESETS
from attributor._io import FileKind, read_safetensors, write_atomically
from attributor._record import HeadWeights, Transform

__all__ = ["Weights", "shipped_file", "shipped_models"]

KIND = FileKind("weights", "attributor.weights", 1, "Weights.save(path)")
MOST_LAYERS = 10_000  # layers, or heads per layer: far more than any model has
EXPECTED = f"weights are a preset ({', '.join(PRESETS)}), a file, an (L, H) tensor of numbers, or a Weights"


@dataclass(frozen=True, eq=False)
class Weights:
    """How much every head counts against the residual's 1, and how its attention is read.

        X_l = (X_(l-1) + sum_h w[l, h] P[l, h]^power c_h X_(l-1)) / (1 + sum_h w[l, h])

    Heads with weight 0 are neither recorded nor computed; a layer without heads is skipped.

    Attributes:
        heads: (L, H) float, finite and >= 0, w above; or the name of a rule that is resolved for each model: "mean"
            (1/H: the plain definition), "output_norm" (in proportion to the Frobenius norm of each head's slice of the
            output projection; each layer sums to 1), "retrieval" (retrieval heads, shipped for the model or found in it
            once).
        power: the exponent of every attention weight, > 0; above 1 it favours heads with concentrated attention.
        value_norms: multiply the attention on key j by c_h[j] = ||W_O^h v_j^h|| (Kobayashi et al. 2020). This reduces
            the attention sink, whose values have small norms.
        sink: "keep", or "drop": attention to the first position is not followed, in any layer. Rows are not
            renormalised; the dropped share is part of `missing_mass`.
        question: 0 to 1, the share of every answer token's row that starts on the question's tokens, if
            `attributor.flow(question=...)` locates them. A model retrieves facts already while it reads the question
            after its documents, not only while it writes.
        note: where the weights come from, one line.
        rule: the name of the rule that computed the numbers; "" for others.
        source: the model in which the heads were found; "" if they were not found in a model.
        digests: of that model's weights; "retrieval" uses shipped heads only for these.
        meta: other facts in the file, for people to read.

    Raises:
        InputError: a field that is out of its range.
    """

    heads: Tensor | str = "mean"
    power: float = 1.0
    value_norms: bool = False
    sink: str = "keep"
    question: float = 0.0
    note: str = ""
    rule: str = ""
    source: str = ""
    digests: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field."""
        if isinstance(self.heads, str):
            if self.heads not in PRESETS:
                raise InputError(f"{EXPECTED}, got {shorten_value(self.heads)}")
        else:
            heads = _parse_numbers(self.heads)
            if not bool(torch.isfinite(heads).all()) or bool((heads < 0).any()):
                raise InputError(f"head weights must be finite and >= 0, got {heads.min():g} to {heads.max():g}")
            if not bool((heads > 0).any()):
                raise InputError("every head weight is 0, so nothing could flow; give at least one head a weight > 0")
            object.__setattr__(self, "heads", heads)
        object.__setattr__(self, "power", Transform(self.power, self.value_norms, self.sink).power)
        object.__setattr__(self, "question", check_number("question", self.question))
        if not 0 <= self.question < 1:
            raise InputError(f"question is a share, 0 or more and less than 1, got {self.question:g}")
        if not isinstance(self.note, str):
            raise InputError(f"note must be a str, got {shorten_value(self.note)}")
        if not isinstance(self.meta, Mapping):
            raise InputError(f"meta must be a dict of strings, got {shorten_value(self.meta)}")

    @property
    def name(self) -> str:
        """The rule's name, or "custom" for a tensor, for people to read."""
        return self.heads if isinstance(self.heads, str) else self.rule or "custom"

    @classmethod
    def of(cls, given: "Weights | HeadWeights | Tensor | str | Path") -> "Weights":
        """Parse what a user may pass as ``weights=``: a Weights, an (L, H) tensor, the name of a preset, or a file.

        Raises:
            InputError: none of these, or numbers that cannot be weights.
            FileFormatError: the file is not a weights file.
        """
        if isinstance(given, Weights):
            return given
        if isinstance(given, HeadWeights):
            return cls(
                given.heads,
                power=given.power,
                value_norms=given.value_norms,
                sink=given.sink,
                question=given.question,
                note=given.note,
                rule=given.name,
                source=given.source,
                meta=given.meta,
            )
        if isinstance(given, str) and given in PRESETS:
            return cls(given)
        if isinstance(given, (str, Path)):
            try:
                return cls.load(given)
            except FileNotFoundError:
                name = shorten_value(str(given), 80)
                raise InputError(
                    f"unknown weights {name}: neither a preset ({', '.join(PRESETS)}) nor a file"
                ) from None
        return cls(given)

    @classmethod
    def of_heads(cls, shape: tuple[int, int], heads: Mapping[tuple[int, int], float], **fields: Any) -> "Weights":
        """Weights of a few heads, ``{(layer, head): weight}`` counted from 0, of a model with `shape` (L, H).

        Raises:
            InputError: arguments of another form, heads that are not the model's, numbers that cannot be weights.
        """
        L, H = _parse_pair("shape", shape)
        if not (0 < L <= MOST_LAYERS and 0 < H <= MOST_LAYERS):
            raise InputError(f"shape must be (layers, heads) of a model, got {shorten_value(shape)}")
        if not isinstance(heads, Mapping):
            raise InputError(f"heads must be a dict {{(layer, head): weight}}, got {shorten_value(heads)}")
        tensor = torch.zeros((L, H), dtype=torch.float32, device="cpu")
        for head, weight in heads.items():
            layer, index = _parse_pair("a head", head)
            if not (0 <= layer < L and 0 <= index < H):
                raise InputError(f"head ({layer}, {index}) is not one of a model with {L} layers of {H} heads")
            tensor[layer, index] = check_number(f"the weight of head ({layer}, {index})", weight)
        return cls(tensor, **fields)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: tensor ``heads`` (L, H) float32, the other fields in the metadata.

        Raises:
            InputError: the weights are a rule, which needs no file; or the path is neither a str nor a Path.
            OutputError: the file cannot be written.
        """
        if isinstance(self.heads, str):
            raise InputError(f"weights {self.heads!r} are a rule, not numbers; pass the name itself as weights=")
        names = ("power", "value_norms", "sink", "question", "note", "rule", "source", "digests")
        fields = {**{name: getattr(self, name) for name in names}, "meta": dict(self.meta)}
        metadata = {"format": KIND.format, "version": str(KIND.version), "fields": json.dumps(fields)}
        write_atomically(check_path(path), to_bytes({"heads": self.heads}, metadata), what="weights")

    @classmethod
    def load(cls, path: str | Path) -> "Weights":
        """Read a file written by `save`.

        Raises:
            FileNotFoundError: there is no such file.
            FileFormatError: it is not a weights file, is damaged, or comes from a newer version.
        """
        path = check_path(path)
        tensors, metadata = read_safetensors(path, KIND)
        try:
            fields = json.loads(metadata["fields"])
            if not isinstance(fields, dict):
                raise TypeError(f"fields must be an object, got {shorten_value(fields)}")
            fields["digests"] = tuple(fields.get("digests", ()))
            return cls(tensors["heads"], **fields)  # type: ignore[arg-type]  # any array will do
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise FileFormatError(f"{path} holds weights that cannot be used: {reason}") from error

    def load_shipped(self, model_id: str) -> "Weights":
        """The weights file that comes with attributor for `model_id`.

        The rule "retrieval" uses it for any model with exactly the weights that it was made from, whatever its name.

        Args:
            model_id: the full hub id that the file was made for. Pass the object that this returns as ``weights=`` to
                use these heads in a model with other weights, such as a fine-tune.

        Raises:
            InputError: no file is shipped for this model; the message names the models that have one.
        """
        shipped = shipped_models()
        path = shipped.get(model_id) if isinstance(model_id, str) else None
        if path is None:
            unnamed = isinstance(model_id, str) and not model_id
            name = "a model without a name" if unnamed else shorten_value(model_id, 100).strip("'")
            raise InputError(
                f"no retrieval heads are shipped for {name} (there are: "
                f"{', '.join(shipped)}); weights='retrieval' finds those of any model, once; or, for a copy of a model "
                f"that there are some for, weights=Weights('retrieval').load_shipped({next(iter(shipped))!r})"
            )
        weights = Weights.load(path)
        return self.apply_to(weights)

    def apply_to(self, weights: "Weights") -> "Weights":
        """`weights`, with those fields of this rule that differ from the defaults."""
        changed = {"power": 1.0, "value_norms": False, "sink": "keep", "question": 0.0}
        return replace(
            weights, **{name: getattr(self, name) for name, value in changed.items() if getattr(self, name) != value}
        )

    def __repr__(self) -> str:
        """The rule or the counts, and the fields that differ from the defaults."""
        if isinstance(self.heads, str):
            what = repr(self.heads)
        else:
            L, H = self.heads.shape
            what = f"{int((self.heads > 0).sum())} of {L} x {H} heads"
        extra = [f"power={self.power:g}"] * (self.power != 1) + ["value_norms"] * self.value_norms
        extra += ["sink='drop'"] * (self.sink == "drop") + [f"question={self.question:g}"] * (self.question > 0)
        extra += [repr(self.note)] * bool(self.note)
        return f"Weights({', '.join([what, *extra])})"


def shipped_models() -> dict[str, Path]:
    """The weights files that come with attributor, by the full id of the model."""
    paths = {}
    for path in sorted((Path(__file__).parent / "shipped").glob("*.safetensors")):
        paths[Weights.load(path).source] = path
    return paths


def shipped_file(digest: str) -> Path | None:
    """The file whose heads were found in the model with this `weights_digest`; None if there is no such file."""
    for path in shipped_models().values():
        if digest in Weights.load(path).digests:
            return path
    return None


def _parse_pair(name: str, pair: Any) -> tuple[int, int]:
    """Two whole numbers.

    Raises:
        InputError: anything else.
    """
    try:
        first, second = (operator.index(number) for number in pair)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} must be a pair of whole numbers, got {shorten_value(pair)}") from None
    return first, second


def _parse_numbers(heads: Any) -> Tensor:
    """Copy to (L, H) float32 on the CPU; the range of the numbers is not checked here.

    Raises:
        InputError: not a matrix of real numbers.
    """
    if not (isinstance(heads, (Tensor, list, tuple)) or hasattr(heads, "__array__")):
        raise InputError(f"{EXPECTED}, got {type(heads).__name__}")
    try:
        numbers = torch.as_tensor(heads).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{EXPECTED}, got a {type(heads).__name__} that holds no numbers ({error})") from error
    is_dense = numbers.layout == torch.strided and not numbers.is_quantized and numbers.device.type != "meta"
    if numbers.is_complex() or not is_dense:
        raise InputError(f"{EXPECTED}, got a tensor of {numbers.dtype}, {numbers.layout}, on {numbers.device}")
    if numbers.ndim != 2 or not numbers.numel():
        raise InputError(f"head weights must be (L, H), got {tuple(numbers.shape)}")
    return numbers.to("cpu", torch.float32).clone()
