import { checkOneOf } from '../core/errors.js';
import { sum } from '../core/ops/broadcast.js';
import { mean } from '../core/ops/reduce.js';
import type { Tensor } from '../core/tensor.js';

/** How the values of a loss become one: their mean, their sum, or not at all. */
export type Reduction = 'mean' | 'sum' | 'none';

export function checkReduction(fn: string, reduction: unknown): asserts reduction is Reduction {
  checkOneOf(fn, 'reduction', reduction, ['mean', 'sum', 'none']);
}

/** Reduces all elements. The mean of no elements is 0. */
export function reduce(values: Tensor, reduction: Reduction): Tensor {
  if (reduction === 'none') return values;
  return reduction === 'sum' ? sum(values) : mean(values);
}
