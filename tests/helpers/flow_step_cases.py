"""Arguments of flow_step, its value in float64, and the floor of the allowed error."""

import torch

from attributor.kernels.flow_step import definition

FLOOR = 1e-6
# Tensor cores truncate the last bits of float32 sums where other units round: the effect on a logit of 30.
TENSOR_CORE_FLOOR = 1e-5


def case(N, D=64, H=4, G=2, O=5, dtype=torch.float32, *, window=None, softcap=None, power=1.0, key_bias=False, seed=0):
    """Return arguments with sharp attention and the log-sum-exp in the row bias, so that sums are of order 1."""
    g = torch.Generator().manual_seed(seed)
    # the sharper half of the heads has logits of up to about 30
    query = (torch.randn(H, N, D, generator=g) * torch.linspace(1, 4, H)[:, None, None]).to(dtype)
    key = torch.randn(G, N, D, generator=g).to(dtype)
    rows = torch.rand(O, N, generator=g)
    scale = D**-0.5
    kv_index = torch.randint(0, G, (H,), generator=g) if H % G else None
    index = torch.arange(H) // (H // G) if kv_index is None else kv_index
    logit = scale * query.double() @ key.double()[index].mT
    if softcap is not None:
        logit = softcap * torch.tanh(logit / softcap)
    position = torch.arange(N)
    gap = position[:, None] - position[None, :]
    hidden = (gap < 0) | (gap >= (window or N))
    row_bias = -power * logit.masked_fill(hidden, float("-inf")).logsumexp(-1) - torch.log(torch.tensor(float(H)))
    bias = torch.randn(H, N, generator=g) if key_bias else None
    options = {"scale": scale, "kv_index": kv_index, "power": power, "window": window, "softcap": softcap}
    return (rows, query, key, row_bias.float(), bias), options


def truth(args, options):
    """Compute the definition in float64."""
    H, G = args[1].shape[0], args[2].shape[0]
    kv_index = options["kv_index"]
    if kv_index is None:
        kv_index = torch.arange(H) // (H // G)
    doubled = (None if x is None else x.double() for x in args)
    return definition.flow_step(*doubled, **options | {"kv_index": kv_index})


def error(got, true):
    return float((got.double() - true).abs().sum() / true.abs().sum().clamp(min=1e-30))
