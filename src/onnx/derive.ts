import { fits, type Initializer, type OnnxGraph, type OnnxNode, onnxTypes, sameInitializer, sameStructure } from './graph.js';
import type { Unified } from './unify.js';

/** A number as a function of a size: `(factor * size + offset)`, or one over it. */
interface Formula {
  readonly factor: number;
  readonly offset: number;
  readonly inverse: boolean;
}

const evaluate = ({ factor, offset, inverse }: Formula, size: number): number =>
  inverse ? 1 / (factor * size + offset) : factor * size + offset;

/** The formula through two values that also gives the third, exactly if they are integers. */
function formulaOf(values: readonly number[], sizes: readonly number[], exact: boolean): Formula | undefined {
  const tolerance = exact ? 0 : 1e-6;
  const close = (a: number, b: number): boolean => Math.abs(a - b) <= tolerance * Math.abs(b);
  const [n0, n1] = sizes as [number, number];
  for (const inverse of [false, true]) {
    const [v0, v1] = values.map((value) => (inverse ? 1 / value : value)) as [number, number];
    const factor = Math.round((v1 - v0) / (n1 - n0));
    const formula = { factor, offset: Math.round(v0 - factor * n0), inverse };
    if (sizes.every((size, i) => close(evaluate(formula, size), values[i] as number))) return formula;
  }
  return undefined;
}

const numbersOf = ({ data }: Initializer): number[] => Array.from(data as Float32Array, Number);

/**
 * A unified graph as a model of its own: what depends on the batch size is computed in the graph, from the shape of the first input.
 *
 * @param graphs static graphs at `sizes`
 * @returns undefined where something is no simple function of the size
 */
export function derive({ graph, varying }: Unified, graphs: readonly OnnxGraph[], sizes: readonly number[]): OnnxGraph | undefined {
  if (!graphs.every((other) => sameStructure(other, graphs[0] as OnnxGraph))) return undefined;
  // The two traces that were unified may agree by chance (half of 12 and of 13): the others must, too.
  const same = (other: OnnxGraph, name: string, expected: Initializer) =>
    sameInitializer(other.initializers.get(name) as Initializer, expected);
  const agrees = (other: OnnxGraph): boolean =>
    fits(graph, other) &&
    [...graph.initializers].every(([name, value]) => same(other, name, value)) &&
    varying.every(([first, ...rest]) => rest.every((name) => same(other, name, other.initializers.get(first as string) as Initializer)));
  if (!graphs.every(agrees)) return undefined;
  const computed = new Set(varying.map(([first]) => first));
  const inputs = graph.inputs.filter(({ name }) => !computed.has(name));
  const source = inputs.find(({ shape }) => shape[0] === 'batch');
  if (varying.length > 0 && !source) return undefined;
  const nodes: OnnxNode[] = [];
  const initializers = new Map(graph.initializers);
  const given = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
  let count = 0;
  const fresh = (): string => {
    const name = `d${count++}`;
    return given.has(name) ? fresh() : name;
  };
  const node = (type: string, from: readonly string[], attributes: OnnxNode['attributes'] = {}): string => {
    const to = fresh();
    nodes.push({ type, inputs: from, outputs: [to], attributes });
    return to;
  };
  const ints = (values: readonly number[]): string => {
    const name = fresh();
    initializers.set(name, { dtype: 'int64', shape: [values.length], data: BigInt64Array.from(values, BigInt) });
    return name;
  };
  let batch = '';
  const batchSize = (): string => {
    batch ||= node('Slice', [node('Shape', [(source as { name: string }).name]), ints([0]), ints([1])]);
    return batch;
  };
  for (const [first] of varying as readonly [string][]) {
    const own = graphs.map((other) => other.initializers.get(first) as Initializer);
    const [{ dtype, shape }] = own as [Initializer];
    if (dtype !== 'int64' && dtype !== 'int32' && dtype !== 'float32') return undefined;
    const table = own.map(numbersOf);
    const elements = (table[0] as number[]).map((_, i) =>
      formulaOf(
        table.map((row) => row[i] as number),
        sizes,
        dtype !== 'float32',
      ),
    );
    if (!elements.every((formula) => formula !== undefined)) return undefined;
    // A target shape with one size that depends on the batch is what -1 stands for.
    const shapeOnly = graph.nodes.every(({ type, inputs: from }) => !from.includes(first) || (type === 'Reshape' && from[1] === first));
    if (dtype === 'int64' && shapeOnly && elements.filter(({ factor }) => factor !== 0).length === 1) {
      const values = elements.map(({ factor, offset }) => (factor !== 0 ? -1 : offset));
      if (!values.includes(0)) {
        initializers.set(first, { dtype, shape, data: BigInt64Array.from(values, BigInt) });
        continue;
      }
    }
    const parts = elements.map(({ factor, offset, inverse }) => {
      let value = factor === 0 ? ints([offset]) : batchSize();
      if (factor !== 0 && factor !== 1) value = node('Mul', [value, ints([factor])]);
      if (factor !== 0 && offset !== 0) value = node('Add', [value, ints([offset])]);
      if (dtype === 'int64') return value;
      const number = node('Cast', [value], { to: onnxTypes[dtype] });
      return inverse ? node('Reciprocal', [number]) : number;
    });
    const vector = parts.length === 1 ? (parts[0] as string) : node('Concat', parts, { axis: 0 });
    const outputs = [first];
    nodes.push(
      shape.length === 0
        ? { type: 'Squeeze', inputs: [vector], outputs, attributes: {} }
        : { type: 'Identity', inputs: [vector], outputs, attributes: {} },
    );
  }
  return { ...graph, inputs, initializers, nodes: [...nodes, ...graph.nodes] };
}
