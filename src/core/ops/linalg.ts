import { broadcastShapes, type Shape, sizeOf } from '../shape.js';
import { apply, checkFloat, type Emitter, type Op, type Tensor } from '../tensor.js';
import { reshape, sumTo } from './broadcast.js';
import { transpose, transposeOp } from './movement.js';

const matmulOp: Op<[Tensor, Tensor], null> = {
  name: 'matmul',
  infer: ([a, b]) => {
    const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2)) as number[];
    return [{ shape: [...batch, a.shape.at(-2) as number, b.shape.at(-1) as number], dtype: a.dtype }];
  },
  emit: (graph, [a, b], { inputs: [x, y], outputs: [product] }) => {
    // Sums of nothing: WebGPU's kernel crashes.
    if (x.shape.at(-1) === 0) return [graph.node('Expand', [graph.scalar(0, x.dtype), graph.ints(product.shape)])];
    if (x.rank > 2 || y.rank > 2) return [graph.node('MatMul', [a, b])];
    // Gemm reads transposed operands in place.
    const left = transposedSource(graph, x);
    const right = transposedSource(graph, y);
    if (!left && !right) return [graph.node('MatMul', [a, b])];
    return [graph.node('Gemm', [left ?? a, right ?? b], { transA: left ? 1 : 0, transB: right ? 1 : 0 })];
  },
  vjp: ([g], { inputs: [a, b] }) => [sumTo(matmul(g, transpose(b)), a.shape), sumTo(matmul(transpose(a), g), b.shape)],
  flops: ({ inputs: [a], outputs: [y] }) => 2 * sizeOf(y.shape) * (a.shape.at(-1) as number),
};

const transposedSource = (graph: Emitter, x: Tensor): string | undefined =>
  x.node.op === transposeOp ? graph.value(x.node.inputs[0] as Tensor) : undefined;

/**
 * Matrix product over the last two axes; the axes before them broadcast. A one-dimensional operand is a row on
 * the left and a column on the right, and its axis is dropped from the result (NumPy's and PyTorch's rule).
 *
 * @param a `[..., M, K]` or `[K]`, float
 * @param b `[..., K, N]` or `[K]`, of the same dtype
 * @returns `[..., M, N]`
 * @example
 * ```ts
 * import { matmul, transpose, type Tensor } from 'tracegrad';
 *
 * const gram = (x: Tensor) => matmul(x, transpose(x));
 * ```
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  checkFloat('matmul', 'a', a);
  checkFloat('matmul', 'b', b);
  if (a.dtype !== b.dtype) throw new TypeError(`matmul: a is ${a.dtype} and b is ${b.dtype}; convert one of them with cast()`);
  const shapes = `a [${a.shape.join(', ')}] and b [${b.shape.join(', ')}]`;
  if (a.rank === 0 || b.rank === 0) throw new RangeError(`matmul: expected at least one axis each, received ${shapes}`);
  const x = a.rank === 1 ? reshape(a, [1, -1]) : a;
  const y = b.rank === 1 ? reshape(b, [-1, 1]) : b;
  if (x.shape.at(-1) !== y.shape.at(-2)) {
    throw new RangeError(`matmul: the inner sizes of ${shapes} differ: ${x.shape.at(-1)} and ${y.shape.at(-2)}`);
  }
  if (!broadcastShapes(x.shape.slice(0, -2), y.shape.slice(0, -2))) {
    throw new RangeError(`matmul: the batch axes of ${shapes} do not broadcast`);
  }
  const product = y.rank === 2 && x.rank > 2 ? rows(x, y) : apply(matmulOp, [x, y], null)[0];
  const drop = (shape: Shape, axis: number) => shape.filter((_, i) => i !== shape.length + axis);
  let { shape } = product;
  if (a.rank === 1) shape = drop(shape, -2);
  if (b.rank === 1) shape = drop(shape, -1);
  return reshape(product, shape);
}

/** All rows of `x` times one matrix, as a single two-dimensional product. */
const rows = (x: Tensor, y: Tensor): Tensor =>
  reshape(apply(matmulOp, [reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1) as number]), y], null)[0], [
    ...x.shape.slice(0, -1),
    y.shape[1] as number,
  ]);
