"""What the scores of a row should say: which pieces are evidence, or what leaving pieces out does to the answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from attributor._errors import InputError
from attributor.eval.metrics import Ranking, average_precision, linear_datamodeling_score
from attributor.methods.contextcite import logit

__all__ = ["TARGETS", "Ablations", "Gold", "Target"]


class Target(Protocol):
    """One row's target."""

    measure: ClassVar[str]

    def loss(self, scores: Tensor) -> Tensor:
        """(S,) scores -> a number to be made small, which scaling all scores does not change."""

    def metric(self, scores: Tensor) -> float:
        """(S,) scores -> how good they are, by the measure that is reported."""


@dataclass(frozen=True)
class Gold:
    """The evidence should score above everything else.

    The loss is -log of s_g / (s_g + sum of all s that are no evidence), the mean over the pieces g of evidence; the
    metric average precision.

    Attributes:
        gold: (S,) bool.
    """

    gold: Tensor
    measure: ClassVar[str] = "AP"

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Gold | None":
        """None for a row without evidence, or with nothing else."""
        gold = torch.zeros(len(record["segments"]), dtype=torch.bool)
        gold[record["gold"]] = True
        return cls(gold) if bool(gold.any()) and not bool(gold.all()) else None

    def loss(self, scores: Tensor) -> Tensor:
        """-mean log s_g / (s_g + rest)."""
        found, rest = scores[self.gold], scores[~self.gold].sum()
        return -(found / (found + rest)).clamp(min=1e-12).log().mean()

    def metric(self, scores: Tensor) -> float:
        """Average precision."""
        return float(average_precision(Ranking.of(scores.detach().numpy(), self.gold.nonzero()[:, 0].tolist()))[0])


@dataclass(frozen=True)
class Ablations:
    """Sums of scores should go with what is left of the answer.

    The loss is 1 - the Pearson correlation, over the masks, of the kept pieces' summed scores with the logit of
    p(answer); the metric LDS, the Spearman correlation with log p. Masks with equal numbers of pieces have nearly equal
    sums of any flat scores, so both ask for the right pieces and not only for their number.

    Attributes:
        kept: (M, S) bool.
        log_probs: (M,) float64, log p of the answer with each.
    """

    kept: Tensor
    log_probs: Tensor
    measure: ClassVar[str] = "LDS"

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Ablations | None":
        """None for a row whose answer is as likely whatever is left out.

        Raises:
            InputError: the record holds no effects of ablations.
        """
        effects = (record.get("faithfulness") or {}).get("effects")
        if not effects:
            raise InputError(
                f"row {record['id']} holds no effects of ablations; make the run with --faithfulness, or learn "
                "--against gold"
            )
        kept = torch.tensor([[mark == "1" for mark in row] for row in effects["kept"]])
        log_probs = torch.tensor(effects["log_probs"], dtype=torch.float64)
        useful = len(log_probs) > 2 and bool((log_probs != log_probs[0]).any())
        return cls(kept, log_probs) if useful else None

    def loss(self, scores: Tensor) -> Tensor:
        """1 - Pearson."""
        told, true = self.kept.double() @ scores.double(), logit(self.log_probs)
        told, true = told - told.mean(), true - true.mean()
        both = torch.linalg.vector_norm(told) * torch.linalg.vector_norm(true)
        found: Tensor = 1 - (told @ true) / both.clamp(min=1e-30)
        return found

    def metric(self, scores: Tensor) -> float:
        """LDS."""
        found = linear_datamodeling_score(scores.detach().numpy(), self.kept.numpy(), self.log_probs.numpy())
        return 0.0 if found is None else found


TARGETS: Mapping[str, type[Gold] | type[Ablations]] = {"gold": Gold, "ablations": Ablations}
