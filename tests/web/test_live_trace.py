"""The routes of a flow agree with all routes through the model's own attention matrices."""

import itertools

import numpy as np
import pytest
import torch
from dense_attention import FAMILIES, K, recorded, weights_of

from attributor import InputError, RecordingError
from attributor._record.head_weights import HeadWeights
from attributor.kernels.flow_step.definition import adjoint
from attributor.web.live.layered_network import Network, find_best_paths
from attributor.web.live.sparse_sweep import SparseSweep
from attributor.web.live.trace import Extent, mean_start_row, trace

MEAN = torch.full((4, 4), 0.25)
EVERY = {"keep": 1.0, "nodes": 1000, "edges": 10**9}
TARGET = np.arange(20, 29)


def powered(case, weights):
    A = case.attentions**weights.power
    if weights.sink == "drop":
        A[..., 0] = 0
    return A


def exact_rows(case, rows, weights):
    """Return R_l by the definition from the last layer to the first: [(N,), ...], including layers without heads."""
    A, w = powered(case, weights), weights.heads.double()
    found = [torch.from_numpy(rows)[None]]
    for layer in reversed(range(A.shape[0])):
        found.append(adjoint(A[layer : layer + 1], w[layer : layer + 1], found[-1]))
    return [one[0].numpy() for one in found]


def exact(case, rows, target, weights):
    return float(exact_rows(case, rows, weights)[-1][target].sum())


def start(case, rows=(0, 1, 5)):
    return mean_start_row([K - 1 + row for row in rows], case.length, None, 0.0)


def run(case, target=TARGET, weights=None, rows=(0, 1, 5), **options):
    weights = HeadWeights(MEAN) if weights is None else weights
    given = start(case, rows)
    return trace(
        case.recording, given, target, weights, exact=exact(case, given, target, weights), extent=Extent(**options)
    )


def network_of(found):
    """Return the mass of every pair of nodes, summed over the edges of the result."""
    steps = {}
    for edge in found.edges:
        steps[edge.start, edge.stop] = steps.get((edge.start, edge.stop), 0.0) + edge.mass
    return steps


VARIANTS = {
    "mean": HeadWeights(MEAN),
    "some heads": HeadWeights(weights_of()),
    "sharpened": HeadWeights(weights_of(), power=2.0),
    "no sink": HeadWeights(weights_of(), sink="drop"),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_paths_add_up_to_the_flow(family, name):
    weights = VARIANTS[name]
    case = recorded(family)
    for target in (TARGET, np.arange(K), np.array([0])):
        found = run(case, target, weights, **EVERY)
        assert found.mass == pytest.approx(found.exact, abs=2e-6)
        for level in found.levels:
            assert sum(node.mass for node in level) == pytest.approx(found.mass, abs=2e-6)
        for top, bottom in itertools.pairwise(found.levels):
            ids = {node.id for node in top}
            assert ids.isdisjoint({node.id for node in bottom})
            between = sum(edge.mass for edge in found.edges if edge.start in ids)
            assert between == pytest.approx(found.mass, abs=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mass_of_a_node_is_the_flow_through_it(family):
    """The mass is R_l[i] by the sweep's definition times the part of position i that reaches the target."""
    case, weights = recorded(family), VARIANTS["some heads"]
    found = run(case, TARGET, weights, **EVERY)
    assert found.layers == (4, 2, 1, 0)  # through layers 3, 1 and 0: layer 2 has no selected head
    A, w = powered(case, weights), weights.heads.double()
    above = exact_rows(case, start(case), weights)  # [0] is above layer 3, [4] the prompt
    for level, depth in zip(found.levels, (0, 1, 3, 4), strict=True):
        reach = torch.zeros(case.length, dtype=torch.float64)
        reach[TARGET] = 1
        for layer in range(4 - depth):
            reach = (reach + torch.einsum("h,hij,j->i", w[layer], A[layer], reach)) / (1 + w[layer].sum())
        wanted = above[depth] * reach.numpy()
        got = np.zeros(case.length)
        for node in level:
            got[node.position] = node.mass
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_agree_with_the_sweep(family):
    case, weights = recorded(family), HeadWeights(weights_of(), power=1.5)
    sweep = SparseSweep(case.recording, weights)
    A, w = powered(case, weights), weights.heads.double()
    positions, below = np.array([3, 40, K, K + 5]), np.array([0, 3, 7, 40, 41, K])
    for depth, layer in enumerate(sweep.layers):
        matrix = (torch.eye(case.length) + torch.einsum("h,hij->ij", w[layer], A[layer])) / (1 + w[layer].sum())
        matrix = matrix.numpy()
        mass, values = np.array([0.1, 0.4, 0.2, 0.3]), np.array([0.2, 1.0, 0.0, 0.5, 0.3, 0.7])
        np.testing.assert_allclose(sweep.push_down(depth, positions, mass), mass @ matrix[positions], rtol=0, atol=2e-6)
        got = sweep.pull_up(depth, positions, below, values)
        np.testing.assert_allclose(got, matrix[np.ix_(positions, below)] @ values, rtol=0, atol=2e-6)
        split, heads = sweep.split_links(depth, positions, below)
        np.testing.assert_allclose(split.sum(0), matrix[np.ix_(positions, below)], rtol=0, atol=2e-6)
        for part, head in zip(split[1:], heads, strict=True):
            alone = w[layer, head] * A[layer, head] / (1 + w[layer].sum())
            np.testing.assert_allclose(part, alone.numpy()[np.ix_(positions, below)], rtol=0, atol=2e-6)


def test_value_norms_count_as_in_the_flow():
    weights = HeadWeights(weights_of(), value_norms=True, power=1.3)
    case = recorded("llama", heads=weights)
    flow = case.recording.flow(case.ids, weights=weights)
    rows = (2, 3)
    wanted = float(flow.scores[list(rows)].double().mean(0)[TARGET].sum())
    given = start(case, rows)
    found = trace(case.recording, given, TARGET, weights, exact=wanted, extent=Extent(**EVERY))
    assert found.mass == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("weights", [HeadWeights(weights_of(), question=0.5)], ids=["question"])
def test_the_question_share_starts_on_the_question(weights):
    case = recorded("llama", heads=weights)
    question = np.array([50, 51, 53])
    flow = case.recording.flow(case.ids, weights=weights, question=torch.from_numpy(question))
    wanted = float(flow.scores[[1, 4]].double().mean(0)[TARGET].sum())
    given = mean_start_row([K, K + 3], case.length, question, 0.5)
    found = trace(case.recording, given, TARGET, weights, exact=wanted, extent=Extent(**EVERY))
    assert found.mass == pytest.approx(wanted, abs=2e-6)
    assert {node.position for node in found.levels[0]} == {50, 51, 53, K, K + 3}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_masses_of_the_network_are_exact(family):
    """Every route through the returned edges, multiplied with the model's own attention."""
    case = recorded(family)
    weights = HeadWeights(MEAN)
    found = run(case, nodes=5, keep=0.8)
    assert 0 < found.mass <= found.exact + 2e-6
    assert max(len(level) for level in found.levels) <= 5
    position = {node.id: node.position for level in found.levels for node in level}
    drawn = network_of(found)
    matrices = [
        (torch.eye(case.length) + weights.heads[layer, 0].double() * A.sum(0)).numpy() / 2
        for layer, A in enumerate(case.attentions)
    ]
    routes = {}
    for node in found.levels[0]:
        routes[(node.id,)] = start(case)[node.position]
    for layer in (3, 2, 1, 0):
        onward = {}
        for route, mass in routes.items():
            for a, b in drawn:
                if a == route[-1]:
                    onward[(*route, b)] = mass * matrices[layer][position[a], position[b]]
        routes = onward
    assert found.mass == pytest.approx(sum(routes.values()), abs=2e-6)
    for (a, b), mass in drawn.items():
        along = sum(m for route, m in routes.items() if (a, b) in itertools.pairwise(route))
        assert mass == pytest.approx(along, abs=2e-6)
    best = sorted(routes.values(), reverse=True)[:20]
    assert len(found.paths) == len(best)
    for (mass, ids), wanted in zip(found.paths, best, strict=True):
        assert mass == pytest.approx(wanted, abs=1e-6)
        assert mass == pytest.approx(routes[ids], abs=1e-6)


def test_the_requested_share_is_reached_with_enough_nodes():
    case = recorded("llama")
    sizes = []
    for keep in (0.3, 0.6, 0.9, 0.99):
        found = run(case, nodes=1000, keep=keep, edges=10**9)
        assert found.mass >= keep * found.exact * (1 - 0.02 * (1 - keep)) - 2e-6
        sizes.append(sum(len(level) for level in found.levels))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrow_search_still_finds_paths_to_a_far_sentence(family):
    case = recorded(family)
    exactly = run(case, nodes=8, keep=0.9)
    narrow = run(case, nodes=8, keep=0.9, wide=16)
    assert 0 < narrow.mass <= narrow.exact + 2e-6
    assert narrow.mass > 0.5 * exactly.mass


def test_edges_have_the_shares_of_their_heads():
    case = recorded("llama")
    found = run(case, weights=HeadWeights(weights_of()), nodes=6)
    kinds = {bool(edge.heads) for edge in found.edges}
    assert kinds == {True, False}
    position = {node.id: node.position for level in found.levels for node in level}
    for edge in found.edges:
        if edge.heads:
            shares = [share for _, share in edge.heads]
            assert shares == sorted(shares, reverse=True)
            assert sum(shares) == pytest.approx(1)
        else:
            assert position[edge.start] == position[edge.stop]
    depth = {node.id: level for level, nodes in enumerate(found.levels) for node in nodes}
    named = {head for edge in found.edges if depth[edge.start] == 1 for head, _ in edge.heads}
    assert named == {0, 1, 3}  # head 2 of layer 1 has no weight


def test_the_best_paths_agree_with_brute_force():
    rng = np.random.default_rng(0)
    sizes = [3, 4, 1, 5, 4]
    links = [rng.random((a, b)) * (rng.random((a, b)) > 0.3) for a, b in itertools.pairwise(sizes)]
    network = Network([np.arange(n) for n in sizes], rng.random(3), links)
    routes = {}
    for ids in itertools.product(*(range(n) for n in sizes)):
        mass = network.mass[ids[0]] * np.prod([link[a, b] for link, (a, b) in zip(links, itertools.pairwise(ids))])  # noqa: B905
        if mass > 0:
            routes[ids] = mass
    first = np.cumsum([0, *sizes])
    for count in (1, 7, 1000):
        found = find_best_paths(network, first, count)
        assert [mass for mass, _ in found] == pytest.approx(sorted(routes.values(), reverse=True)[:count])
        for mass, ids in found:
            assert routes[tuple(i - start for i, start in zip(ids, first))] == pytest.approx(mass)  # noqa: B905
    assert network.total == pytest.approx(sum(routes.values()))
    thinner = network.prune(0.2, 1000)
    assert (1 - 0.2) * network.total <= thinner.total < network.total
    for most in (1, 9):
        few = network.prune(0, most)
        assert max(routes.values()) <= few.total * (1 + 1e-12) < network.total
        assert sum(int((link > 0).sum()) for link in few.links) <= most + len(links)  # plus the best path


def test_the_heaviest_edges_are_kept():
    case = recorded("llama")
    every, some = run(case, nodes=20, keep=1.0), run(case, nodes=20, keep=1.0, edges=60)
    assert len({(edge.start, edge.stop) for edge in some.edges}) <= 64 < len(every.edges)
    assert 0 < some.mass < every.mass
    for level in some.levels:
        assert sum(node.mass for node in level) == pytest.approx(some.mass)


def test_an_unreachable_target_has_no_paths():
    """A chunk of llama4 that the chunk of the rows does not attend to; all selected layers use chunks."""
    weights = torch.zeros(4, 4)
    case = recorded("llama4_text")
    chunked = [layer for layer in range(4) if not case.attentions[layer, :, K, :16].any()]
    assert chunked
    weights[chunked] = 0.5
    found = run(case, np.arange(16), HeadWeights(weights))
    assert found.exact == 0 == found.mass
    assert not found.paths
    assert not found.edges
    assert len(found.levels) == len(found.layers) == len(chunked) + 1


def test_invalid_arguments_are_refused():
    case = recorded("llama", heads=weights_of())
    given, mine = start(case), HeadWeights(weights_of())

    def ask(rows=given, target=TARGET, weights=mine, **options):
        return trace(case.recording, rows, target, weights, exact=1.0, extent=Extent(**options))

    for wrong in (np.r_[given, 0], -given, given * 0, given[None]):
        with pytest.raises(InputError, match="rows must be"):
            ask(rows=wrong)
    for target in ([], [3, 2], [-1], [case.length]):
        with pytest.raises(InputError, match="target"):
            ask(target=np.array(target, dtype=np.int64))
    for options in ({"keep": 0}, {"keep": 1.1}, {"nodes": 0}, {"edges": 0}):
        with pytest.raises(InputError, match="keep must"):
            ask(**options)
    with pytest.raises(InputError, match="weights must be numbers"):
        ask(weights=HeadWeights(torch.ones(3, 4)))
    with pytest.raises(RecordingError, match=r"heads \[2\] of layer 1|layer 2"):
        ask(weights=HeadWeights(MEAN))
