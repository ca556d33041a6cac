import { describe, expect, test } from "vitest";

import { Network } from "../../src/canvas/routes";
import type { TraceAnswer, TraceEdge } from "../../src/canvas/routes";

/** All paths of a network by brute force, each with the product of its parts. */
function allPaths(trace: TraceAnswer): { nodes: number[]; mass: number }[] {
  const mass = new Map(trace.levels.flatMap((level) => level.nodes.map((node) => [node.id, node.mass] as const)));
  let paths = trace.levels[0].nodes.map((node) => ({ nodes: [node.id], mass: node.mass }));
  for (let i = 1; i < trace.levels.length; i++) {
    paths = paths.flatMap((path) => {
      const at = path.nodes[path.nodes.length - 1], sums = new Map<number, number>();
      for (const edge of trace.edges) if (edge.from === at) sums.set(edge.to, (sums.get(edge.to) ?? 0) + edge.mass);
      return [...sums].map(([to, m]) => ({ nodes: [...path.nodes, to], mass: (path.mass * m) / (mass.get(at) ?? 1) }));
    });
  }
  return paths.sort((a, b) => b.mass - a.mass);
}

/** A network that conserves mass: a node's outgoing mass equals its incoming mass. */
function network(levels: number, wide: number, seed = 1): TraceAnswer {
  const random = () => ((seed = (seed * 16807) % 2147483647) / 2147483647);
  let id = 0;
  const nodes = Array.from({ length: levels }, (_, l) => Array.from({ length: l ? wide : 2 }, (_, p) => ({ id: id++, position: p, unit: p, row: null, mass: l ? 0 : 0.3 + 0.2 * p })));
  const edges: TraceEdge[] = [];
  for (let l = 0; l + 1 < levels; l++) {
    for (const a of nodes[l]) {
      const parts = nodes[l + 1].map(() => random()), sum = parts.reduce((x, y) => x + y, 0);
      nodes[l + 1].forEach((b, i) => {
        const mass = (a.mass * parts[i]) / sum, stays = b.position === a.position;
        b.mass += mass;
        if (stays) edges.push({ from: a.id, to: b.id, mass: mass / 3, head: null, heads: [] }, { from: a.id, to: b.id, mass: (2 * mass) / 3, head: 1, heads: [[1, 1]] });
        else edges.push({ from: a.id, to: b.id, mass, head: 0, heads: [[0, 0.8], [2, 0.2]] });
      });
    }
  }
  return { levels: nodes.map((level, i) => ({ layer: levels - 1 - i, nodes: level })), edges, shown: 1, exact: 0.8, paths: [] };
}

describe("routes", () => {
  const trace = network(5, 4), it = new Network(trace), every = allPaths(trace);

  test("through a node are exactly the heaviest paths that contain it", () => {
    for (const id of [0, 3, 9, trace.levels[4].nodes[2].id]) {
      const expected = every.filter((path) => path.nodes.includes(id)).slice(0, 8), found = it.through([id], 8);
      found.forEach((route, i) => expect(route.mass).toBeCloseTo(expected[i].mass, 10));
      expect(found[0].nodes).toEqual(expected[0].nodes);
      expect(found).toHaveLength(8);
    }
  });

  test("along an edge are exact too; residual and attention edges are added", () => {
    const { from, to } = trace.edges.find((edge) => edge.head === null) as TraceEdge;
    const expected = every.filter(({ nodes }) => nodes[nodes.indexOf(from) + 1] === to), found = it.through([from, to], 5);
    found.forEach((route, i) => expect(route.mass).toBeCloseTo(expected[i].mass, 10));
  });

  test("add up to the mass of the node", () => {
    const node = trace.levels[2].nodes[1];
    expect(it.through([node.id], 1e6).reduce((sum, route) => sum + route.mass, 0)).toBeCloseTo(node.mass, 10);
  });

  test("of a network of 81 levels with 24 nodes each are found fast", () => {
    const deep = new Network(network(81, 24)), started = performance.now();
    expect(deep.through([30], 8)).toHaveLength(8);
    expect(performance.now() - started).toBeLessThan(1500);
  });

  test("that stay and that move are separate, and together they are all paths", () => {
    const positions = (path: { nodes: number[] }) => new Set(path.nodes.map((id) => it.node.get(id)?.position)).size;
    const still = every.filter((path) => positions(path) === 1), moving = every.filter((path) => positions(path) > 1);
    expect(it.staying().mass).toBeCloseTo(still.reduce((sum, path) => sum + path.mass, 0), 10);
    expect(it.staying().count).toBe(2);
    it.moving(6).forEach((route, i) => expect(route.mass).toBeCloseTo(moving[i].mass, 10));
    const told = new Network({ ...trace, paths: [{ nodes: moving[0].nodes, mass: moving[0].mass, share: 1 }] });
    expect(told.moving(6)).toHaveLength(6); // no route occurs twice
    expect(new Set(told.moving(6).map((route) => route.nodes.join())).size).toBe(6);
    expect(new Network({ levels: [], edges: [], shown: 0, exact: 0, paths: [] }).moving()).toEqual([]);
  });

  test("a step is described by its heaviest edge", () => {
    const stays = trace.edges.find((edge) => edge.head === null) as TraceEdge;
    expect(it.step(stays.from, stays.to)?.head).toBe(1);
    expect(it.step(stays.to, stays.from)).toBeNull();
  });

  test("the layer between two levels is right even if layers without heads are left out", () => {
    expect([0, 1, 2, 3].map((level) => it.layerBelow(level))).toEqual([3, 2, 1, 0]);
    const skipping = new Network({ ...trace, levels: trace.levels.map((level, i) => ({ ...level, layer: [21, 13, 8, 4, 0][i] })) });
    expect([0, 1, 3].map((level) => skipping.layerBelow(level))).toEqual([20, 12, 3]);
  });
});
