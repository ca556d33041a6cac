"""Arguments of removal_step, its value in float64, and the sizes of its terms."""

import torch

from attributor.kernels.removal_step import definition

FLOOR = 3e-7  # relative to the size of the terms
LETTERS = ("query", "key", "value", "d_output", "lse", "delta", "stops")


def make_stops(N, g, longest=40):
    """Return the ends of random segments of one or more tokens; a third of the tokens are in none (stop j + 1)."""
    stops, j = torch.arange(1, N + 1), 0
    while j < N:
        length = int(torch.randint(1, longest + 1, (), generator=g))
        if torch.rand((), generator=g) < 2 / 3:
            stops[j : j + length] = min(j + length, N)
        j += length
    return stops


def case(N, Q=None, *, D=64, Dv=None, H=4, G=2, dtype=torch.float32, window=None, softcap=None, stops=None, seed=0):
    """Return arguments with sharp attention, and the log-sum-exp and dO . o of the exact output."""
    Q, Dv = Q or N, Dv or D
    g = torch.Generator().manual_seed(seed)
    # the sharper half of the heads has logits of up to about 30
    query = (torch.randn(H, Q, D, generator=g) * torch.linspace(1, 4, H)[:, None, None]).to(dtype)
    key, value = (torch.randn(G, N, size, generator=g).to(dtype) for size in (D, Dv))
    d_output = torch.randn(H, Q, Dv, generator=g).to(dtype)
    options = {"scale": D**-0.5, "window": window, "softcap": softcap}
    logit = dense_logits(query.double(), key.double(), options)
    attention = logit.softmax(-1)
    output = attention @ value.double().repeat_interleave(H // G, 0)
    lse, delta = logit.logsumexp(-1).float(), (d_output.double() * output).sum(-1).float()
    stops = make_stops(N, g) if stops is None else stops
    return (query, key, value, d_output, lse, delta, stops), options


def dense_logits(query, key, options):
    """Return (H, Q, N) logits, minus infinity where a row does not attend."""
    (H, Q, _), (G, N, _) = query.shape, key.shape
    logit = options["scale"] * query @ key.repeat_interleave(H // G, 0).mT
    if options["softcap"] is not None:
        logit = options["softcap"] * torch.tanh(logit / options["softcap"])
    gap = torch.arange(N - Q, N)[:, None] - torch.arange(N)[None, :]
    return logit.masked_fill((gap < 0) | (gap >= (options["window"] or N)), float("-inf"))


def truth(args, options):
    """Compute the definition in float64."""
    return definition.removal_step(*(x.double() for x in args[:-1]), args[-1], **options)


def term_sizes(args, options):
    """Return (N,) float64: the sum of |P| |dO . v - delta| per key. Errors are relative to it, as terms of c cancel."""
    query, key, value, d_output, lse, delta, stops = (x.double() for x in args)
    (H, Q, _), (G, N, _) = query.shape, key.shape
    attention = (dense_logits(query, key, options) - lse[:, :, None]).exp()
    change = d_output @ value.repeat_interleave(H // G, 0).mT - delta[:, :, None]
    later = torch.arange(N - Q, N)[:, None] >= stops
    return (attention * change.abs()).masked_fill(~later, 0).sum((0, 1))


def error(got, true, sizes):
    """Return the sum of errors relative to the sum of the terms' sizes."""
    return float((got.double() - true).abs().sum() / sizes.sum().clamp(min=1e-30))
