import { checkBoolean, checkNumber, checkOptions } from '../errors.js';
import { normalizeAxis } from '../shape.js';
import { apply, checkFloat, type Op, type Tensor } from '../tensor.js';
import { emitPositions } from './constant.js';
import { takeAlongAxis } from './indexing.js';

/** The finite number next to the largest of float32. */
const NEAR_LARGEST = 3.4028232635611926e38;

/** Positions of the `k` largest or smallest elements along an axis, in order; of equal ones the first comes first. */
const topIndicesOp: Op<[Tensor], { k: number; axis: number; largest: boolean }> = {
  name: 'topIndices',
  infer: ([x], { k, axis }) => [{ shape: x.shape.map((size, i) => (i === axis ? k : size)), dtype: 'int32' }],
  emit: (graph, [x], { inputs: [{ shape, dtype }], attributes: { k, axis, largest } }) => {
    const top = (values: string) => graph.nodes('TopK', [values, graph.ints([k])], 2, { axis, largest: largest ? 1 : 0 })[1] as string;
    if (graph.device !== 'webgpu') return [graph.node('Cast', [top(x)], { to: 6 })];
    // There the kernel fills up with the lowest (highest) finite number, which must not come before what is infinite.
    const wide = dtype === 'float32' ? x : graph.node('Cast', [x], { to: 1 });
    const bounded = largest
      ? graph.node('Max', [wide, graph.scalar(-NEAR_LARGEST, 'float32')])
      : graph.node('Min', [wide, graph.scalar(NEAR_LARGEST, 'float32')]);
    return [emitPositions(graph, top(bounded), shape[axis] as number)];
  },
};

export interface TopKOptions {
  /** Default -1. */
  axis?: number;
  /** The largest elements (default), or the smallest. */
  largest?: boolean;
}

/**
 * The `k` largest (or smallest) elements along an axis, sorted, and where they are. Of equal elements the first comes first.
 * The gradient goes to the elements that were taken. Where NaN stands is left open; on WebGPU infinities count as the largest floats.
 *
 * @param x float, rank >= 1
 * @param k from 1 to the size of the axis
 * @returns `[values, indices]`, both with size `k` along the axis; indices are int32
 * @example
 * ```ts
 * import { equal, expandDims, max, mean, cast, type Tensor, topK } from 'tracegrad';
 *
 * const topFiveAccuracy = (logits: Tensor, labels: Tensor) => {
 *   const [, best] = topK(logits, 5); // [B, 5]
 *   return mean(max(cast(equal(best, expandDims(labels, 1)), 'float32'), { axis: 1 }));
 * };
 * ```
 */
export function topK(x: Tensor, k: number, options: TopKOptions = {}): [values: Tensor, indices: Tensor] {
  checkFloat('topK', 'x', x);
  checkOptions('topK', options, ['axis', 'largest']);
  const { largest = true } = options;
  const axis = normalizeAxis('topK', options.axis ?? -1, x.rank);
  const size = x.shape[axis] as number;
  checkNumber('topK', 'k', k, `an integer from 1 to the size of axis ${axis}, ${size}`, (n) => Number.isInteger(n) && n >= 1 && n <= size);
  checkBoolean('topK', 'largest', largest);
  const [indices] = apply(topIndicesOp, [x], { k, axis, largest });
  return [takeAlongAxis(x, indices, { axis }), indices];
}

export interface SortOptions {
  /** Default -1. */
  axis?: number;
  /** From the largest to the smallest. Default false. */
  descending?: boolean;
}

/**
 * The elements of `x` in order along an axis. The gradient goes back to where they came from.
 *
 * @param x float, rank >= 1
 */
export function sort(x: Tensor, options: SortOptions = {}): Tensor {
  const indices = order('sort', x, options);
  return takeAlongAxis(x, indices, { axis: options.axis ?? -1 });
}

/**
 * The indices, int32, that put `x` in order along an axis; equal elements keep their order. Where NaN stands is left open. No gradient.
 *
 * @param x float, rank >= 1
 */
export function argsort(x: Tensor, options: SortOptions = {}): Tensor {
  return order('argsort', x, options);
}

function order(fn: string, x: Tensor, options: SortOptions): Tensor {
  checkFloat(fn, 'x', x);
  checkOptions(fn, options, ['axis', 'descending']);
  const { descending = false } = options;
  const axis = normalizeAxis(fn, options.axis ?? -1, x.rank);
  checkBoolean(fn, 'descending', descending);
  return apply(topIndicesOp, [x], { k: x.shape[axis] as number, axis, largest: descending })[0];
}
