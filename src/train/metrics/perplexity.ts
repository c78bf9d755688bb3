import { checkOptions } from '../../core/errors.js';
import { expandDims } from '../../core/ops/arrange.js';
import { reshape } from '../../core/ops/broadcast.js';
import { sub } from '../../core/ops/elementwise.js';
import { takeAlongAxis } from '../../core/ops/indexing.js';
import { logSumExp } from '../../core/ops/reduce.js';
import type { Tensor } from '../../core/tensor.js';
import { checkScores, type ScoreOptions, scoreOptions } from './labels.js';
import { type Metric, meanOf } from './metric.js';

/**
 * Perplexity of a language model: `exp` of the mean negative log-likelihood per token, over the tokens of all batches. 0 without tokens
 * that count. float16 is computed in float32.
 *
 * Source: Jelinek, Mercer, Bahl and Baker, "Perplexity: a measure of the difficulty of speech recognition tasks" (1977).
 *
 * @param logits `[..., V]`, float
 * @param labels the tokens that follow, `[...]` int32, each in `[0, V)` or `ignoreIndex`, checked before every run where they are an argument
 *   of the compiled function
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { perplexity } from 'tracegrad/train';
 *
 * // logits [B, T, V], next tokens [B, T], mask [B, T]
 * const ofText = (logits: Tensor, next: Tensor, mask: Tensor) => perplexity(logits, next, { mask });
 * ```
 */
export function perplexity(logits: Tensor, labels: Tensor, options: ScoreOptions = {}): Metric {
  checkOptions('perplexity', options, scoreOptions);
  const { scores, axis, labels: target, weights } = checkScores('perplexity', 'logits', logits, labels, options);
  const own = takeAlongAxis(scores, expandDims(target, axis), { axis });
  const { sums, compute } = meanOf(reshape(sub(logSumExp(scores, { axis, keepDims: true }), own), target.shape), weights);
  return { sums, compute: (values) => (values[1] === 0 ? 0 : Math.exp(compute(values))) };
}
