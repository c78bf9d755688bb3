import { type Dimension, type Initializer, type OnnxGraph, sameInitializer, sameStructure, type ValueInfo } from './graph.js';

/** A graph for many sizes: what depends on the sizes are inputs, named dimensions and computed shapes. */
export interface Unified {
  readonly graph: OnnxGraph;
  /** Groups of initializers of the static graphs, equal within a group, that depend on the sizes: now inputs, named by the first. */
  readonly varying: readonly (readonly string[])[];
}

/** A size that differs between the graphs gets a name: that of the axis where one fits, else a new one. */
function unifyInfo(a: ValueInfo, b: ValueInfo, axes: ReadonlyMap<string, readonly [number, number]>): ValueInfo {
  const shape = a.shape.map((size, axis): Dimension => {
    const other = b.shape[axis] as Dimension;
    if (size === other) return size;
    const named = [...axes].find(([, [x, y]]) => x === size && y === other);
    return named ? named[0] : `${a.name}_${axis}`;
  });
  return { ...a, shape };
}

/**
 * One graph from two traces of a program at different sizes. They must agree in every node and attribute; initializers
 * that differ (target shapes, reciprocals of counts) become inputs.
 *
 * @param axes the sizes of the named axes in `a` and `b`
 * @returns undefined where the two do not agree
 */
export function unify(a: OnnxGraph, b: OnnxGraph, axes: ReadonlyMap<string, readonly [number, number]>): Unified | undefined {
  if (!sameStructure(a, b)) return undefined;
  const groups: string[][] = [];
  const initializers = new Map<string, Initializer>();
  const groupOf = new Map<string, string>();
  for (const [name, value] of a.initializers) {
    const other = b.initializers.get(name) as Initializer;
    if (sameInitializer(value, other)) {
      initializers.set(name, value);
      continue;
    }
    // Data whose shape depends on the sizes, or that is no small vector, is not a computed size.
    if (value.shape.length > 1 || value.shape[0] !== other.shape[0]) return undefined;
    const group = groups.find(
      ([first]) =>
        sameInitializer(a.initializers.get(first as string) as Initializer, value) &&
        sameInitializer(b.initializers.get(first as string) as Initializer, other),
    );
    if (group) group.push(name);
    else groups.push([name]);
    groupOf.set(name, group?.[0] ?? name);
  }
  const info = (x: ValueInfo, i: number, list: readonly ValueInfo[]) => unifyInfo(x, list[i] as ValueInfo, axes);
  const extra = groups.map(([first]): ValueInfo => {
    const { dtype, shape } = a.initializers.get(first as string) as Initializer;
    return { name: first as string, dtype, shape };
  });
  const graph: OnnxGraph = {
    nodes: a.nodes.map((node) => ({ ...node, inputs: node.inputs.map((name) => groupOf.get(name) ?? name) })),
    initializers,
    inputs: [...a.inputs.map((x, i) => info(x, i, b.inputs)), ...extra],
    outputs: a.outputs.map((x, i) => info(x, i, b.outputs)),
  };
  return { graph, varying: groups };
}
