import { checkBoolean, checkOptions, outOfRange, wrongType } from '../errors.js';
import { broadcastShapes, checkShape, normalizeAxes, type Shape, sameShape, sizeOf } from '../shape.js';
import { apply, checkTensor, type Emitter, type Node, type Op, type Tensor } from '../tensor.js';

export const reshapeOp: Op<[Tensor], { shape: Shape }> = {
  name: 'reshape',
  infer: ([x], { shape }) => [{ shape, dtype: x.dtype }],
  emit: (graph, [x], { attributes }) => [graph.node('Reshape', [x, graph.ints(attributes.shape)], { allowzero: 1 })],
  vjp: ([g], { inputs: [x] }) => [reshape(g, x.shape)],
  // A reshape of a reshape needs only the last.
  rewrite: ({ inputs: [x], attributes: { shape } }) => (x.node.op === reshapeOp ? [reshape(x.node.inputs[0] as Tensor, shape)] : undefined),
};

/**
 * The same elements, row-major, in another shape.
 *
 * @param shape the new shape; one size may be -1 and is inferred
 * @throws if the number of elements differs
 * @example
 * ```ts
 * import { reshape, type Tensor } from 'tracegrad';
 *
 * const flatten = (x: Tensor) => reshape(x, [x.shape[0]!, -1]);
 * ```
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  checkTensor('reshape', 'x', x);
  const free = Array.isArray(shape) ? shape.indexOf(-1) : -1;
  const known = free < 0 ? shape : shape.filter((_, axis) => axis !== free);
  checkShape('reshape', 'shape', known);
  const target = free < 0 ? known : shape.map((size, axis) => (axis === free ? sizeOf(x.shape) / (sizeOf(known) || 1) : size));
  if (sizeOf(target) !== sizeOf(x.shape) || !target.every(Number.isInteger)) {
    throw outOfRange('reshape', 'shape', `${sizeOf(x.shape)} elements, as x has with shape [${x.shape.join(', ')}]`, shape);
  }
  return sameShape(target, x.shape) ? x : apply(reshapeOp, [x], { shape: target })[0];
}

export const broadcastOp: Op<[Tensor], { shape: Shape }> = {
  name: 'broadcastTo',
  infer: ([x], { shape }) => [{ shape, dtype: x.dtype }],
  emit: (graph, [x], { attributes }) => [graph.node('Expand', [x, graph.ints(attributes.shape)])],
  vjp: ([g], { inputs: [x] }) => [sumTo(g, x.shape)],
};

/**
 * Repeats `x` along axes of size 1, and along new axes in front, to `shape` (NumPy's broadcasting).
 *
 * @throws if `x.shape` does not broadcast to `shape`
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  checkTensor('broadcastTo', 'x', x);
  checkShape('broadcastTo', 'shape', shape);
  if (!sameShape(broadcastShapes(x.shape, shape) ?? [-1], shape)) {
    throw outOfRange('broadcastTo', 'shape', `a shape to which x ([${x.shape.join(', ')}]) broadcasts`, shape);
  }
  return sameShape(x.shape, shape) ? x : apply(broadcastOp, [x], { shape: [...shape] })[0];
}

/**
 * The rewriting of elementwise ops. Operands that were only repeated are used before the repetition, and the result is repeated
 * instead, so gradients of sums and means are not spread out in memory before they have to be.
 */
export function beforeBroadcast({ op, inputs, attributes }: Omit<Node, 'outputs'>): [Tensor] | undefined {
  const sources = inputs.map((x) => (x.node.op === broadcastOp ? (x.node.inputs[0] as Tensor) : x));
  if (sources.every((x, i) => x === inputs[i])) return undefined;
  const shape = inputs.reduce<Shape>((a, x) => broadcastShapes(a, x.shape) as number[], []);
  return [broadcastTo(apply<readonly Tensor[], unknown, [Tensor]>(op, sources, attributes)[0], shape)];
}

/**
 * How many elements are added up in one go. ONNX Runtime adds neighbouring elements in several lanes, which is accurate
 * for longer than the one running sum per column that it uses along outer axes.
 */
const INNER_LIMIT = 4096;
const OUTER_LIMIT = 512;

/** Cuts `count` elements into equal blocks of at most half a limit; a count without a fitting divisor is padded. */
export function blocksOf(count: number, limit: number): { blocks: number; block: number } {
  const largest = limit / 2;
  for (let blocks = Math.ceil(count / largest); blocks <= (8 * count) / largest; blocks++) {
    if (count % blocks === 0) return { blocks, block: count / blocks };
  }
  return { blocks: Math.ceil(count / largest), block: largest };
}

/**
 * Writes an accurate sum over `axes`, keeping them as size 1. A plain ReduceSum over many elements drifts (the mean of 10^7
 * times 0.1 comes out as 0.1011), so long sums are sums of short ones, and float16 is summed in float32.
 */
export function emitSum(graph: Emitter, x: string, shape: Shape, axes: readonly number[], dtype: string): string {
  if (dtype === 'float16') {
    const wide = emitSum(graph, graph.node('Cast', [x], { to: 1 }), shape, axes, 'float32');
    return graph.node('Cast', [wide], { to: 10 });
  }
  const sizes = [...shape];
  const left = [...axes];
  let value = x;
  while (left.length > 0) {
    // Axes of size 1 that follow are reduced along, so that neighbours are seen as such.
    const after = sizes.slice((left.at(-1) as number) + 1);
    const inner = after.every((size) => size === 1);
    const limit = inner ? INNER_LIMIT : OUTER_LIMIT;
    const stage: number[] = inner ? after.map((_, i) => sizes.length - after.length + i) : [];
    let count = 1;
    // The innermost axes together, as long as they are few elements.
    while (left.length > 0 && (count === 1 || count * (sizes[left.at(-1) as number] as number) <= limit)) {
      const axis = left.pop() as number;
      count *= sizes[axis] as number;
      stage.unshift(axis);
    }
    const [axis] = stage as [number];
    if (count > limit) {
      // One long axis: blocks first, then their sums.
      const { blocks, block } = blocksOf(count, limit);
      const padding = blocks * block - count;
      if (padding > 0) {
        const pads = [...sizes.map(() => 0), ...sizes.map((_, i) => (i === axis ? padding : 0))];
        value = graph.node('Pad', [value, graph.ints(pads)]);
      }
      const split = [...sizes.slice(0, axis), blocks, block, ...sizes.slice(axis + 1)];
      value = graph.node('Reshape', [value, graph.ints(split)], { allowzero: 1 });
      value = graph.node('ReduceSum', [value, graph.ints([axis + 1])], { keepdims: 0 });
      sizes[axis] = blocks;
      left.push(axis);
    } else {
      value = graph.node('ReduceSum', [value, graph.ints(stage)], { keepdims: 1 });
      for (const done of stage) sizes[done] = 1;
    }
  }
  return value;
}

export interface ReduceOptions {
  /** Axis or axes to reduce; negative ones count from the end. Default: all. */
  axis?: number | readonly number[] | undefined;
  /** Keep reduced axes with size 1. Default false. */
  keepDims?: boolean | undefined;
}

/** `shape` with `axes` of size 1. */
export const keptShape = (shape: Shape, axes: readonly number[]): number[] => shape.map((size, axis) => (axes.includes(axis) ? 1 : size));

/** `shape` without `axes`. */
export const droppedShape = (shape: Shape, axes: readonly number[]): number[] => shape.filter((_, axis) => !axes.includes(axis));

/** A reduction. The op keeps the axes with size 1. */
export type ReduceOp = Op<[Tensor], { axes: readonly number[] }>;

/** The shape rule of reductions. */
export const inferReduced: ReduceOp['infer'] = ([x], { axes }) => [{ shape: keptShape(x.shape, axes), dtype: x.dtype }];

/** Applies a reduction with the options that all of them have. */
export function reduceBy(op: ReduceOp, x: Tensor, options: ReduceOptions): Tensor {
  checkOptions(op.name, options, ['axis', 'keepDims']);
  checkBoolean(op.name, 'keepDims', options.keepDims ?? false);
  const axes = normalizeAxes(op.name, options.axis, x.rank);
  const kept = axes.length === 0 ? x : apply(op, [x], { axes })[0];
  return options.keepDims ? kept : reshape(kept, droppedShape(x.shape, axes));
}

const sumOp: ReduceOp = {
  name: 'sum',
  infer: inferReduced,
  emit: (graph, [x], { inputs, attributes: { axes } }) => [emitSum(graph, x, inputs[0].shape, axes, inputs[0].dtype)],
  vjp: ([g], { inputs: [x] }) => [broadcastTo(g, x.shape)],
};

/**
 * Sum of the elements over `axis`. Accurate in float32 for any number of elements (summed in blocks); float16 is
 * summed in float32. The sum over no elements is 0.
 *
 * @param x float or int32
 * @example
 * ```ts
 * import { sum, type Tensor } from 'tracegrad';
 *
 * const rowSums = (x: Tensor) => sum(x, { axis: -1 });
 * ```
 */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  checkTensor('sum', 'x', x);
  if (x.dtype === 'bool') throw wrongType('sum', 'x', 'a numeric Tensor (cast a mask first)', x);
  return reduceBy(sumOp, x, options);
}

/** Undoes broadcasting: sums `x` over the axes along which a Tensor of `shape` was repeated. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  const extra = x.rank - shape.length;
  const axes = x.shape.flatMap((size, axis) => (axis < extra || (shape[axis - extra] === 1 && size !== 1) ? [axis] : []));
  return axes.length === 0 ? x : reshape(sum(x, { axis: axes, keepDims: true }), shape);
}
