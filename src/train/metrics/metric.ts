import { outOfRange, wrongType } from '../../core/errors.js';
import { broadcastTo, reshape, sum } from '../../core/ops/broadcast.js';
import { toTensor } from '../../core/ops/constant.js';
import { mul } from '../../core/ops/elementwise.js';
import { concat } from '../../core/ops/movement.js';
import { cast, equal, type TensorOrNumber, where } from '../../core/ops/select.js';
import { broadcastShapes, sameShape } from '../../core/shape.js';
import { checkTensor, type Tensor } from '../../core/tensor.js';

/**
 * Statistics of a batch that add up over batches, and the number that they amount to.
 *
 * The metric of several batches is `compute` of the sum of their `sums`, added on the device: not the mean of the batches'
 * values, which is another number wherever batches differ in size or a metric is not a mean.
 *
 * Counts are exact as long as they are at most 2^24 (16.7 million): beyond that float32 skips integers.
 */
export interface Metric {
  /** float32 `[K]`: sums over the batch. */
  readonly sums: Tensor;
  /** The value, on the host, from the K sums. */
  readonly compute: (sums: readonly number[]) => number;
}

/** `numerator / denominator`; 0 where there is nothing to divide by. */
export const ratio = (numerator: number, denominator: number): number => (denominator === 0 ? 0 : numerator / denominator);

/**
 * The weighted mean of the elements: `sum(w x) / sum(w)`.
 *
 * An element of weight 0 does not count, whatever it is (NaN included). Where nothing counts, or no elements are there, the
 * value is 0. Its sums are `[sum(w x), sum(w)]`.
 *
 * @param values any shape and dtype; bool counts as 0 and 1
 * @param weights numbers >= 0: one for all, or a Tensor (bool or float) that broadcasts to the shape of `values`. Default 1: the
 *   mean over the elements of all batches. A mean that was taken already is weighted by the number of its elements
 * @example
 * ```ts
 * import { abs, mean, sub, type Tensor } from 'tracegrad';
 * import { meanOf } from 'tracegrad/train';
 *
 * const absoluteError = (x: Tensor, y: Tensor) => meanOf(abs(sub(x, y)));
 * const weightedByRows = (x: Tensor) => meanOf(mean(x), x.shape[0]);
 * ```
 */
export function meanOf(values: Tensor, weights: TensorOrNumber = 1): Metric {
  const fn = 'meanOf';
  const { shape } = checkTensor(fn, 'values', values);
  if (typeof weights === 'number' && !(weights >= 0 && weights < Infinity)) throw outOfRange(fn, 'weights', 'a number >= 0', weights);
  const given = toTensor(fn, 'weights', weights, 'float32');
  if (given.dtype === 'int32') throw wrongType(fn, 'weights', 'a bool or float Tensor, or a number', given);
  if (!sameShape(broadcastShapes(given.shape, shape) ?? [-1], shape)) {
    throw outOfRange(fn, 'weights', `a shape that broadcasts to that of values ([${shape.join(', ')}])`, given);
  }
  const w = broadcastTo(cast(given, 'float32'), shape);
  const weighted = where(equal(w, 0), 0, mul(cast(values, 'float32'), w));
  return {
    sums: concat([sum(weighted), sum(w)].map((total) => reshape(total, [1]))),
    compute: ([total = 0, weight = 0]) => ratio(total, weight),
  };
}
