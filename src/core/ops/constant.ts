import { type ArrayLike, array, type NDArray, type Nested } from '../array.js';
import { type DType, isDType } from '../dtype.js';
import { checkNumber, outOfRange, wrongType } from '../errors.js';
import { checkShape, type Shape } from '../shape.js';
import { apply, type Emitter, isTensor, type Op, type Spec, type Tensor } from '../tensor.js';
import { broadcastOp, broadcastTo, reshapeOp } from './broadcast.js';

const scalarOp: Op<[], { value: number; dtype: DType }> = {
  name: 'scalar',
  infer: (_, { dtype }) => [{ shape: [], dtype }],
  emit: (graph, _, { attributes: { value, dtype } }) => [graph.scalar(value, dtype)],
};

/** Whether `x` is the number 1, repeated or not. */
export function isOne(x: Tensor): boolean {
  const { op, inputs, attributes } = x.node;
  if (op === scalarOp) return (attributes as { value: number }).value === 1;
  return (op === reshapeOp || op === broadcastOp) && isOne(inputs[0] as Tensor);
}

export const constantOp: Op<[], NDArray> = {
  name: 'constant',
  infer: (_, { shape, dtype }) => [{ shape, dtype }],
  emit: (graph, _, { attributes: { data, shape, dtype } }) => [graph.initializer(data, shape, dtype)],
};

/** Writes 0, 1, ..., `length - 1`. Counted in float32, where Range runs on every device; integers are exact there up to 2^24. */
export function emitRange(graph: Emitter, length: number, dtype: DType): string {
  const count = graph.node('Range', [graph.scalar(0, 'float32'), graph.scalar(length, 'float32'), graph.scalar(1, 'float32')]);
  return dtype === 'float32' ? count : graph.node('Cast', [count], { to: 6 });
}

/** int64 positions along an axis of `size`, as ONNX returns them, as int32. WebGPU cannot convert them but looks them up. */
export const emitPositions = (graph: Emitter, positions: string, size: number): string =>
  graph.device === 'webgpu'
    ? graph.node('Gather', [emitRange(graph, size, 'int32'), positions], { axis: 0 })
    : graph.node('Cast', [positions], { to: 6 });

const arangeOp: Op<[], { length: number; dtype: DType }> = {
  name: 'arange',
  infer: (_, { length, dtype }) => [{ shape: [length], dtype }],
  emit: (graph, _, { attributes: { length, dtype } }) => [emitRange(graph, length, dtype)],
};

/** A number as a scalar Tensor of `dtype`; Tensors stay what they are. */
export function toTensor(fn: string, argument: string, value: unknown, dtype: DType): Tensor {
  if (isTensor(value)) return value;
  if (value === undefined) throw wrongType(fn, argument, 'a Tensor or a number (is a parameter missing?)', value);
  if (typeof value !== 'number') throw wrongType(fn, argument, 'a Tensor or a number', value);
  if (dtype === 'int32' && (!Number.isInteger(value) || Math.abs(value + 0.5) > 2 ** 31)) {
    throw outOfRange(fn, argument, 'a 32-bit integer, as the dtype is int32', value);
  }
  if (dtype === 'bool') throw wrongType(fn, argument, 'a bool Tensor, as the dtype is bool', value);
  return apply(scalarOp, [], { value, dtype })[0];
}

/**
 * A Tensor with fixed values, which become part of the graph. Values that change from run to run are arguments of the traced
 * function instead.
 *
 * @param value a number, nested numbers, or an array; see {@link array} for the dtypes
 * @example
 * ```ts
 * import { constant } from 'tracegrad';
 *
 * const kernel = constant([[0, 1, 0], [1, -4, 1], [0, 1, 0]]); // float32[3, 3]
 * ```
 */
export function constant(value: Nested | ArrayLike, options: { dtype?: DType } = {}): Tensor {
  return apply(constantOp, [], array(value, options))[0];
}

/** A Tensor in which every element is `value`. Default dtype float32. */
export function full(shape: Shape, value: number, dtype: DType = 'float32'): Tensor {
  checkShape('full', 'shape', shape);
  if (typeof value !== 'number') throw wrongType('full', 'value', 'a number', value);
  if (!isDType(dtype)) throw outOfRange('full', 'dtype', "'float32', 'float16', 'int32' or 'bool'", dtype);
  if (dtype === 'bool') return broadcastTo(constant(value !== 0), shape);
  return broadcastTo(toTensor('full', 'value', value, dtype), shape);
}

/** A Tensor of zeros. Default dtype float32. */
export const zeros = (shape: Shape, dtype?: DType): Tensor => full(shape, 0, dtype);

/** A Tensor of ones. Default dtype float32. */
export const ones = (shape: Shape, dtype?: DType): Tensor => full(shape, 1, dtype);

/** Zeros with the shape and dtype of `x`. */
export const zerosLike = (x: Spec): Tensor => full(x.shape, 0, x.dtype);

/**
 * The numbers 0, 1, ..., `length - 1`.
 *
 * @param length an integer from 0 to 2^24
 * @param dtype `'int32'` (default) or `'float32'`
 */
export function arange(length: number, dtype: DType = 'int32'): Tensor {
  checkNumber('arange', 'length', length, 'an integer from 0 to 2^24', (n) => Number.isInteger(n) && n >= 0 && n <= 2 ** 24);
  if (dtype !== 'int32' && dtype !== 'float32') throw outOfRange('arange', 'dtype', "'int32' or 'float32'", dtype);
  return apply(arangeOp, [], { length, dtype })[0];
}
