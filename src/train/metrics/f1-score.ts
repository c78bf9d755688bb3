import { checkNumber, checkOneOf, checkOptions } from '../../core/errors.js';
import type { Tensor } from '../../core/tensor.js';
import { type ClassCount, type ClassOptions, classCounts, classOptions, countsOf } from './class-counts.js';
import { type Metric, ratio } from './metric.js';

export interface F1ScoreOptions extends ClassOptions {
  /**
   * How the scores of the classes become one. `'macro'` (default): their mean. `'weighted'`: their mean, weighted by the number of
   * labels of each. `'micro'`: the score of the counts of all classes together, which is the accuracy. `'binary'`: the score of
   * `positiveClass` alone.
   */
  average?: 'macro' | 'micro' | 'weighted' | 'binary';
  /** The class that `average: 'binary'` is about. Default 1. */
  positiveClass?: number;
}

const f1 = ({ both, predicted, labelled }: ClassCount): number => ratio(2 * both, predicted + labelled);

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const averages = {
  // What was neither predicted nor to be predicted is no class of the data.
  macro: (counts) => {
    const present = counts.filter(({ predicted, labelled }) => predicted + labelled > 0);
    return ratio(total(present.map(f1)), present.length);
  },
  weighted: (counts) => ratio(total(counts.map((count) => f1(count) * count.labelled)), total(counts.map(({ labelled }) => labelled))),
  micro: (counts) => ratio(total(counts.map(({ both }) => both)), total(counts.map(({ labelled }) => labelled))),
  binary: (counts, positive) => f1(counts[positive] as ClassCount),
} satisfies Record<string, (counts: readonly ClassCount[], positive: number) => number>;

/**
 * F1 score, the harmonic mean of precision and recall: `2 tp / (2 tp + fp + fn)` per class.
 *
 * As with scikit-learn's defaults, a class that is neither predicted nor among the labels is left out of the mean, and the score of
 * one that is only predicted, or only among the labels, is 0. So are that of a `positiveClass` that is in neither, and that of no
 * labels at all. Of scores that tie the first class is predicted.
 *
 * Takes C numbers of memory per element. Its sums are `[3 C]`.
 *
 * Source: `sklearn.metrics.f1_score`.
 *
 * @param predictions scores of classes `[..., C]`, float, logits or probabilities; or predicted classes `[...]`, int32, with `numClasses`
 * @param labels `[...]` int32, each in `[0, C)` or `ignoreIndex`; like predicted classes they are checked before every run where they are
 *   an argument of the compiled function
 * @example
 * ```ts
 * import { cast, greater, type Tensor } from 'tracegrad';
 * import { f1Score } from 'tracegrad/train';
 *
 * const macro = (logits: Tensor, labels: Tensor) => f1Score(logits, labels); // [N, C], [N]
 * const ofYesOrNo = (logits: Tensor, labels: Tensor) =>
 *   f1Score(cast(greater(logits, 0), 'int32'), labels, { average: 'binary', numClasses: 2 }); // [N], [N]
 * ```
 */
export function f1Score(predictions: Tensor, labels: Tensor, options: F1ScoreOptions = {}): Metric {
  const fn = 'f1Score';
  checkOptions(fn, options, [...classOptions, 'average', 'positiveClass']);
  const { average = 'macro', positiveClass, ...rest } = options;
  checkOneOf(fn, 'average', average, ['macro', 'micro', 'weighted', 'binary']);
  const { sums, classes } = classCounts(fn, predictions, labels, rest);
  if (positiveClass !== undefined && average !== 'binary') {
    throw new TypeError(`${fn}: positiveClass: goes with average: 'binary' only, which here is '${average}'`);
  }
  const positive = positiveClass ?? 1;
  if (average === 'binary') {
    checkNumber(fn, 'positiveClass', positive, `a class from 0 to ${classes - 1}`, (c) => Number.isInteger(c) && c >= 0 && c < classes);
  }
  return { sums, compute: (values) => averages[average](countsOf(values), positive) };
}
