import { checkNumber, checkOptions } from '../../core/errors.js';
import { expandDims } from '../../core/ops/arrange.js';
import { reshape, sum } from '../../core/ops/broadcast.js';
import { arange } from '../../core/ops/constant.js';
import { takeAlongAxis } from '../../core/ops/indexing.js';
import { cast, equal, less, lessEqual, logicalAnd, logicalNot, logicalOr } from '../../core/ops/select.js';
import type { Tensor } from '../../core/tensor.js';
import { checkScores, type ScoreOptions, scoreOptions } from './labels.js';
import { type Metric, meanOf } from './metric.js';

export interface TopKAccuracyOptions extends ScoreOptions {
  /** How many classes with the highest scores are looked at: from 1 to C. */
  k: number;
}

/**
 * Share of the labels that are among the k classes with the highest scores. 0 without labels that count.
 *
 * Found by counting the classes ahead of the label, without sorting. Of scores that tie the class with the lower index is ahead, so
 * that k = 1 is {@link accuracy} where no score is NaN, and scores that are all equal gain nothing. (scikit-learn puts the higher index
 * ahead; PyTorch's `topk` leaves it open.) A label whose score is NaN is never among them.
 *
 * Source: ImageNet Large Scale Visual Recognition Challenge (arXiv:1409.0575); `sklearn.metrics.top_k_accuracy_score`.
 *
 * @param scores `[..., C]`, float, logits or probabilities
 * @param labels `[...]` int32, each in `[0, C)` or `ignoreIndex`, checked before every run where they are an argument of the compiled
 *   function
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { topKAccuracy } from 'tracegrad/train';
 *
 * const top5 = (logits: Tensor, labels: Tensor) => topKAccuracy(logits, labels, { k: 5 });
 * ```
 */
export function topKAccuracy(scores: Tensor, labels: Tensor, options: TopKAccuracyOptions): Metric {
  const fn = 'topKAccuracy';
  checkOptions(fn, options, [...scoreOptions, 'k']);
  const { k, ...rest } = options;
  const { scores: x, axis, classes, labels: target, weights } = checkScores(fn, 'scores', scores, labels, rest);
  checkNumber(fn, 'k', k, `an integer from 1 to ${classes}, the number of classes`, (n) => Number.isInteger(n) && n >= 1 && n <= classes);
  const label = expandDims(target, axis);
  const own = takeAlongAxis(x, label, { axis });
  const index = reshape(
    arange(classes),
    x.shape.map((size, i) => (i === axis ? size : 1)),
  );
  // Not greater: what does not compare, NaN, is ahead.
  const ahead = logicalOr(logicalNot(lessEqual(x, own)), logicalAnd(equal(x, own), less(index, label)));
  return meanOf(less(sum(cast(ahead, 'float32'), { axis }), k), weights);
}
