import { checkSize } from '../../core/errors.js';
import { reshape, sum } from '../../core/ops/broadcast.js';
import { arange } from '../../core/ops/constant.js';
import { concat } from '../../core/ops/movement.js';
import { equal, where } from '../../core/ops/select.js';
import type { Tensor } from '../../core/tensor.js';
import { checkPredictions, type ScoreOptions } from './labels.js';

/** Options of metrics that compare classes. */
export interface ClassOptions extends ScoreOptions {
  /** Number of classes. Needed with predictions that are classes (int32); scores have it. */
  numClasses?: number;
}

export const classOptions = ['mask', 'ignoreIndex', 'classAxis', 'numClasses'];

/** What there is of one class: elements that are predicted and labelled so, that are predicted so, and that are labelled so. */
export interface ClassCount {
  readonly both: number;
  readonly predicted: number;
  readonly labelled: number;
}

/**
 * The sums of a metric, `[3 C]`: of every class those of {@link ClassCount}, one kind after the other; and the number of classes.
 *
 * @param classAxis the default
 */
export function classCounts(
  fn: string,
  predictions: unknown,
  labels: unknown,
  options: ClassOptions,
  classAxis?: number,
): { sums: Tensor; classes: number } {
  if (options.numClasses !== undefined) checkSize(fn, 'numClasses', options.numClasses);
  const { predicted, labels: target, weights, classes } = checkPredictions(fn, predictions, labels, options, classAxis);
  if (classes === undefined) throw new TypeError(`${fn}: numClasses: expected their number, as the predictions are classes (int32)`);
  // Elements along the last axis, where long sums are fastest.
  const row = (x: Tensor) => reshape(x, [1, -1]);
  const each = reshape(arange(classes), [classes, 1]);
  const count = (indices: Tensor, amounts: Tensor) => sum(where(equal(row(indices), each), row(amounts), 0), { axis: 1 });
  const right = where(equal(predicted, target), weights, 0);
  return { sums: concat([count(target, right), count(predicted, weights), count(target, weights)]), classes };
}

/** The counts of every class from those sums. */
export function countsOf(sums: readonly number[]): ClassCount[] {
  const classes = sums.length / 3;
  const at = (i: number) => sums[i] ?? 0;
  return Array.from({ length: classes }, (_, c) => ({ both: at(c), predicted: at(classes + c), labelled: at(2 * classes + c) }));
}
