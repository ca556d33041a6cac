"""Check that rows of recorded attention sum to 1, head by head."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attributor._errors import NumericsError
from attributor._record.tape import Layer

__all__ = ["RowSumCheck"]

SAMPLE = 64  # prompt rows in addition to those that the flow starts from
BLOCK = 1 << 23  # logits at once
ROWS = 16  # rows at once, with the keys up to the last of them
# |sum - 1| of a row from rounding alone: a fixed part, and a part that grows with the size of the row's large logits.
# In 16 bits the kernels round the weights, and capped logits as well.
FIXED = {torch.float64: 1e-9, torch.float32: 2e-4}
FIXED_16 = 2e-2
ROUNDINGS = 64  # times eps of the dtype in which logits and log-sum-exp are computed


@dataclass(frozen=True, eq=False)
class RowSumCheck:
    """Sums the attention of some rows again, from the recorded queries, keys and log-sum-exps.

        | sum_j exp(logit_ij - lse_i) (+ exp(sink - lse_i)) - 1 | <= fixed + 64 eps |lse_i|

    A wrong sum means that the model attended to other keys than the recorded ones, as with a quantised cache. The check
    does not detect keys that changed places.

    Attributes:
        positions: (R,) int64, ascending, of one sequence.
        sinks: (H,) per layer, the learned logits of all heads.
    """

    positions: Tensor
    sinks: dict[int, Tensor]

    @classmethod
    def of(cls, starts: Tensor, prompt_length: int, sinks: dict[int, Tensor]) -> "RowSumCheck":
        """The rows that a flow starts from, and up to 64 rows of the prompt, drawn with a fixed seed.

        Args:
            starts: (R,) positions of the rows that the flow starts from.
            prompt_length: k.
            sinks: as above.
        """
        order = torch.randperm(prompt_length, generator=torch.Generator().manual_seed(0))[:SAMPLE]
        return cls(torch.unique(torch.cat([starts, order])), sinks)

    def check(self, index: int, layer: Layer, heads: list[int]) -> None:
        """Check one layer.

        Args:
            index: its number.
            layer: its recorded tensors.
            heads: the model's heads to which its queries belong.

        Raises:
            NumericsError: a row that does not sum to 1.
        """
        sink = self.sinks.get(index)
        H, (G, N, _) = len(heads), layer.key.shape
        every, place = layer.key.to(layer.lse.dtype), torch.arange(N, device=layer.key.device)
        for positions in torch.split(self.positions, max(1, min(ROWS, BLOCK // (H * N)))):
            rows, stop = positions.to(every.device), int(positions[-1]) + 1  # no row sees later keys
            query, keys, seen = layer.query[:, rows].to(every.dtype) * layer.scale, every[:, :stop], place[:stop]
            logit = torch.empty(H, rows.numel(), stop, dtype=keys.dtype, device=keys.device)
            for group in range(G):
                of_group = layer.kv_index == group
                logit[of_group] = query[of_group] @ keys[group].T
            if layer.softcap is not None:
                logit.div_(layer.softcap).tanh_().mul_(layer.softcap)
            hidden = (seen > rows[:, None]) | (seen < layer.first[rows, None])
            lse = layer.lse[:, rows]
            sums = logit.sub_(lse[..., None]).masked_fill_(hidden, -torch.inf).exp_().sum(-1)
            if sink is not None:
                sums += (sink.to(lse)[heads, None] - lse).exp()
            over = (sums - 1).abs() - self._budget(layer, lse)
            worst = int(over.argmax())
            if not bool(over.flatten()[worst] <= 0):
                head, row = divmod(worst, rows.numel())
                raise NumericsError(
                    f"layer {index}, head {heads[head]}: the attention of position {int(rows[row])} sums to "
                    f"{float(sums[head, row]):.4g} instead of 1, so the recorded queries and keys are not those that "
                    "the model's attention used (is its cache quantised or compressed?)"
                )

    @staticmethod
    def _budget(layer: Layer, lse: Tensor) -> Tensor:
        dtype = layer.query.dtype
        coarse = layer.softcap is not None and dtype not in FIXED
        eps = torch.finfo(dtype).eps / ROUNDINGS if coarse else torch.finfo(layer.lse.dtype).eps
        return FIXED.get(dtype, FIXED_16) + ROUNDINGS * eps * lse.abs()
