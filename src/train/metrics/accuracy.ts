import { checkOptions } from '../../core/errors.js';
import { equal } from '../../core/ops/select.js';
import type { Tensor } from '../../core/tensor.js';
import { checkPredictions, type ScoreOptions, scoreOptions } from './labels.js';
import { type Metric, meanOf } from './metric.js';

/**
 * Share of the labels that are predicted. Of scores that tie the first counts, as in `argMax`. 0 without labels that count.
 *
 * Source: `sklearn.metrics.accuracy_score`.
 *
 * @param predictions scores of classes `[..., C]`, float, logits or probabilities; or predicted classes `[...]`, int32
 * @param labels `[...]` int32; with scores each in `[0, C)` or `ignoreIndex`, checked before every run where they are an argument
 *   of the compiled function
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { crossEntropyLoss } from 'tracegrad/losses';
 * import { accuracy } from 'tracegrad/train';
 *
 * const evaluate = (logits: Tensor, labels: Tensor) => ({
 *   loss: crossEntropyLoss(logits, labels),
 *   metrics: { accuracy: accuracy(logits, labels) },
 * });
 * ```
 */
export function accuracy(predictions: Tensor, labels: Tensor, options: ScoreOptions = {}): Metric {
  checkOptions('accuracy', options, scoreOptions);
  const { predicted, labels: target, weights } = checkPredictions('accuracy', predictions, labels, options);
  return meanOf(equal(predicted, target), weights);
}
