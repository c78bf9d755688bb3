import type { DType } from '../core/dtype.js';
import { type Shape, sameShape } from '../core/shape.js';
import type { Attribute } from '../core/tensor.js';

/** Element types as ONNX numbers them. */
export const onnxTypes: Record<DType | 'int64', number> = { float32: 1, float16: 10, int32: 6, int64: 7, bool: 9 };

/** A size, or the name of one that is only known when the graph runs. */
export type Dimension = number | string;

export interface ValueInfo {
  readonly name: string;
  readonly dtype: DType | 'int64';
  readonly shape: readonly Dimension[];
}

export interface Initializer {
  readonly dtype: DType | 'int64';
  readonly shape: Shape;
  readonly data: ArrayBufferView;
}

export interface OnnxNode {
  readonly type: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** An ONNX graph as data, before it is encoded. */
export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, Initializer>;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
}

const bytesOf = ({ data }: Initializer): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

export function sameInitializer(a: Initializer, b: Initializer): boolean {
  if (a.data === b.data && sameShape(a.shape, b.shape)) return true;
  if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  const [x, y] = [bytesOf(a), bytesOf(b)];
  return x.length === y.length && x.every((byte, i) => byte === y[i]);
}

/** Whether two graphs are the same but for the values of initializers and the sizes of inputs and outputs. */
export function sameStructure(a: OnnxGraph, b: OnnxGraph): boolean {
  if (a.nodes.length !== b.nodes.length || a.initializers.size !== b.initializers.size) return false;
  return a.nodes.every((node, i) => JSON.stringify(node) === JSON.stringify(b.nodes[i]));
}

/**
 * Whether inputs and outputs have the dtypes and sizes that a graph with named dimensions declares; a name stands for one size
 * everywhere. The runtime plans its memory by what outputs declare, too.
 */
export function fits(declared: OnnxGraph, actual: OnnxGraph): boolean {
  const sizes = new Map<string, Dimension>();
  const agree = (a: ValueInfo | undefined, b: ValueInfo): boolean =>
    a?.dtype === b.dtype &&
    a.shape.length === b.shape.length &&
    a.shape.every((dimension, axis) => {
      const size = b.shape[axis] as Dimension;
      if (typeof dimension === 'number') return dimension === size;
      if (!sizes.has(dimension)) sizes.set(dimension, size);
      return sizes.get(dimension) === size;
    });
  return actual.inputs.every((b, i) => agree(declared.inputs[i], b)) && actual.outputs.every((b, i) => agree(declared.outputs[i], b));
}
