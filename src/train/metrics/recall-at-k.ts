import { checkOneOf, checkOptions, checkSize, outOfRange, wrongType } from '../../core/errors.js';
import { expandDims, eye } from '../../core/ops/arrange.js';
import { sum } from '../../core/ops/broadcast.js';
import { zeros } from '../../core/ops/constant.js';
import { div, mul, square, sub } from '../../core/ops/elementwise.js';
import { matmul } from '../../core/ops/linalg.js';
import { transpose } from '../../core/ops/movement.js';
import { max, mean, norm } from '../../core/ops/reduce.js';
import { cast, equal, greater, less, logicalAnd, logicalNot, where } from '../../core/ops/select.js';
import { sameShape } from '../../core/shape.js';
import { checkFloat, checkTensor, type Tensor } from '../../core/tensor.js';
import { maskWeights } from './labels.js';
import { type Metric, meanOf } from './metric.js';

export interface RecallAtKOptions {
  /** How many nearest neighbours are looked at: a positive integer. */
  k: number;
  /** What nearest means. Default `'cosine'`: the smallest angle; a row of zeros is at a right angle to all. */
  distance?: 'cosine' | 'euclidean';
  /** Which rows count, `[N]`: bool, or float weights >= 0 of the queries. A row of weight 0 is nobody's neighbour. Default: all. */
  mask?: Tensor | undefined;
}

/** Below every similarity. */
const NONE = -3e38;

/** Rows by rows: larger is nearer. Rows compare within a line only. */
const similarities = {
  cosine: (x) => {
    const length = norm(x, { axis: 1, keepDims: true });
    const unit = div(x, where(greater(length, 0), length, 1));
    return matmul(unit, transpose(unit));
  },
  euclidean: (x) => {
    // 2 a.b - b.b, the squared distance negated and without what the line has in common. Distances stay when the mean is taken off,
    // and digits are not lost to it.
    const centred = sub(x, mean(x, { axis: 0, keepDims: true }));
    return sub(mul(matmul(centred, transpose(centred)), 2), sum(square(centred), { axis: 1 }));
  },
} satisfies Record<string, (x: Tensor) => Tensor>;

/**
 * Recall@k of embeddings: the share of queries for which one of the k nearest neighbours has the label of the query. Every row is a
 * query against the other rows of its batch; of several batches it is the mean over all queries.
 *
 * Queries without another row of their label are left out; 0 without queries. Found by counting the rows of other labels that are at least
 * as near as the nearest one of the query's label, so a tie counts against it: embeddings that are all equal recall nothing
 * (unless fewer than k rows are others).
 *
 * Takes N^2 numbers of memory.
 *
 * Source: Deep Metric Learning via Lifted Structured Feature Embedding (arXiv:1511.06452).
 *
 * @param embeddings `[N, D]`, float; need not be normalised
 * @param labels `[N]` int32, any integers
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { recallAtK } from 'tracegrad/train';
 *
 * const metrics = (embeddings: Tensor, labels: Tensor) => ({ 'recall@1': recallAtK(embeddings, labels, { k: 1 }) });
 * ```
 */
export function recallAtK(embeddings: Tensor, labels: Tensor, options: RecallAtKOptions): Metric {
  const fn = 'recallAtK';
  if (checkFloat(fn, 'embeddings', embeddings).rank !== 2) throw outOfRange(fn, 'embeddings', 'a Tensor [N, D]', embeddings);
  const [n] = embeddings.shape as [number, number];
  if (checkTensor(fn, 'labels', labels).dtype !== 'int32') throw wrongType(fn, 'labels', 'int32 labels', labels);
  if (!sameShape(labels.shape, [n])) throw outOfRange(fn, 'labels', `int32[${n}], one for every embedding`, labels);
  checkOptions(fn, options, ['k', 'distance', 'mask']);
  const { k, distance = 'cosine', mask } = options;
  checkSize(fn, 'k', k);
  checkOneOf(fn, 'distance', distance, ['cosine', 'euclidean']);
  const weights = maskWeights(fn, mask, [n]);
  const counts = greater(weights, 0);
  if (n === 0) return meanOf(zeros([0]));
  // Rows that do not count may be anything, NaN included.
  const near = similarities[distance](where(expandDims(counts, 1), cast(embeddings, 'float32'), 0));
  const same = equal(expandDims(labels, 1), labels);
  const positive = logicalAnd(logicalAnd(same, counts), logicalNot(eye(n, { dtype: 'bool' })));
  const negative = logicalAnd(logicalNot(same), counts);
  const best = max(where(positive, near, NONE), { axis: 1, keepDims: true });
  // Not less: what does not compare, NaN, is ahead.
  const ahead = logicalAnd(negative, logicalNot(less(near, best)));
  const rank = sum(cast(ahead, 'float32'), { axis: 1 });
  const hasPositive = greater(sum(cast(positive, 'float32'), { axis: 1 }), 0);
  return meanOf(less(rank, k), where(hasPositive, weights, 0));
}
