/** The strongest routes through a drawn network: through a node, along an edge, or anywhere. Pure functions. */

/** A position. It reads a token of the prompt (`unit`) or of the answer, and may predict a row of the answer. */
export interface TraceNode {
  id: number;
  position: number;
  unit: number | null;
  row: number | null;
  mass: number;
}

export interface TraceEdge {
  from: number;
  to: number;
  mass: number;
  /** The head that carries most of it; null for the residual connection, which stays at its position. */
  head: number | null;
  /** Heads of one layer and their shares of this edge. Small shares may be missing. */
  heads: readonly (readonly [number, number])[];
}

export interface TraceLevel {
  /** The number of layers below this level, 0 for the last level. The heads of layer - 1 lead to the next level. */
  layer: number;
  nodes: readonly TraceNode[];
}

export interface TraceAnswer {
  /** From the answer (first) to the prompt (last). */
  levels: readonly TraceLevel[];
  edges: readonly TraceEdge[];
  shown: number;
  exact: number;
  /** The averaged rows. If there are many, they are an even selection. */
  rows?: readonly number[];
  paths: readonly { nodes: readonly number[]; mass: number; share: number }[];
}

export interface Route {
  /** Node ids from the answer to the prompt. */
  nodes: number[];
  mass: number;
}

interface Way {
  part: number;
  nodes: number[];
}

/** The network with its edges by node. Parallel edges (residual and attention) are added. */
export class Network {
  readonly levelOf = new Map<number, number>();
  readonly node = new Map<number, TraceNode>();
  /** Upper node -> lower node -> mass. */
  private readonly down = new Map<number, Map<number, number>>();
  private readonly up = new Map<number, Map<number, number>>();

  constructor(readonly trace: TraceAnswer) {
    trace.levels.forEach((level, i) => level.nodes.forEach((node) => {
      this.levelOf.set(node.id, i);
      this.node.set(node.id, node);
    }));
    for (const edge of trace.edges) {
      const add = (map: Map<number, Map<number, number>>, a: number, b: number) => {
        const ends = map.get(a) ?? new Map<number, number>();
        ends.set(b, (ends.get(b) ?? 0) + edge.mass);
        map.set(a, ends);
      };
      add(this.down, edge.from, edge.to);
      add(this.up, edge.to, edge.from);
    }
  }

  /** The heaviest routes through these nodes (one, or the two ends of an edge from above to below), heaviest first.
   *
   * An edge's mass is the sum over all routes along it. So an edge carries the part mass / (sum of the node's edges) of its node's mass,
   * and the mass of a route is the product of these parts.
   */
  through(nodes: readonly [number, ...number[]], count = 8): Route[] {
    const first = nodes[0], last = nodes[nodes.length - 1];
    const above = this.ways(first, this.up, count), below = this.ways(last, this.down, count);
    let mass = this.node.get(first)?.mass ?? 0;
    if (last !== first) mass = this.down.get(first)?.get(last) ?? 0;
    const found: Route[] = [];
    for (const a of above) {
      for (const b of below) {
        const middle = last === first ? [first] : [first, last];
        found.push({ mass: mass * a.part * b.part, nodes: [...[...a.nodes].reverse(), ...middle, ...b.nodes] });
      }
    }
    return found.sort((a, b) => b.mass - a.mass).slice(0, count);
  }

  /** The mass that stays at one position through all levels, and the number of such routes. */
  staying(): { mass: number; count: number } {
    let total = 0, count = 0;
    for (const start of this.trace.levels[0]?.nodes ?? []) {
      let mass = start.mass, at: number | undefined = start.id;
      for (let level = 1; level < this.trace.levels.length && at !== undefined; level++) {
        const ends: Map<number, number> = this.down.get(at) ?? new Map<number, number>();
        let sum = 0, next: number | undefined;
        for (const [to, m] of ends) {
          sum += m;
          if (this.node.get(to)?.position === start.position) next = to;
        }
        mass *= next === undefined ? 0 : (ends.get(next) ?? 0) / sum;
        at = next;
      }
      if (at === undefined) continue;
      total += mass;
      count++;
    }
    return { mass: total, count };
  }

  /** The heaviest routes that change position, heaviest first: those of the server, and the best routes to the heaviest end nodes. */
  moving(count = 8): Route[] {
    const last = [...(this.trace.levels[this.trace.levels.length - 1]?.nodes ?? [])].sort((a, b) => b.mass - a.mass);
    const found = new Map<string, Route>();
    const add = (route: Route): void => {
      const moves = route.nodes.some((id) => this.node.get(id)?.position !== this.node.get(route.nodes[0])?.position);
      if (moves) found.set(route.nodes.join(), route);
    };
    for (const { nodes, mass } of this.trace.paths) add({ nodes: [...nodes], mass });
    for (const node of last.slice(0, 12)) this.through([node.id], count).forEach(add);
    return [...found.values()].sort((a, b) => b.mass - a.mass).slice(0, count);
  }

  /** The layer whose attention leads from this level to the next. */
  layerBelow(level: number): number {
    return this.trace.levels[level].layer - 1;
  }

  /** The heaviest edge between two nodes: the residual connection or attention. */
  step(from: number, to: number): TraceEdge | null {
    let best: TraceEdge | null = null;
    for (const edge of this.trace.edges) if (edge.from === from && edge.to === to && (!best || edge.mass > best.mass)) best = edge;
    return best;
  }

  /** The `count` heaviest ways from a node to the end in one direction, without the node itself. */
  private ways(from: number, next: Map<number, Map<number, number>>, count: number, known = new Map<number, Way[]>()): Way[] {
    const have = known.get(from);
    if (have) return have;
    const ends = next.get(from);
    let found: Way[] = [{ part: 1, nodes: [] }];
    if (ends?.size) {
      let sum = 0;
      for (const mass of ends.values()) sum += mass;
      found = [];
      for (const [to, mass] of ends) {
        for (const way of this.ways(to, next, count, known)) found.push({ part: (mass / sum) * way.part, nodes: [to, ...way.nodes] });
      }
      found = found.sort((a, b) => b.part - a.part).slice(0, count);
    }
    known.set(from, found);
    return found;
  }
}
