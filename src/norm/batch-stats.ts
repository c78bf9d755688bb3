import { outOfRange, wrongType } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { full } from '../core/ops/constant.js';
import { add, div, mul, square, sub } from '../core/ops/elementwise.js';
import { cast, greater, where } from '../core/ops/select.js';
import { sameShape, sizeOf } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { axesBut, checkVector } from './channels.js';
import { center } from './standardize.js';

/** Mean and spread of some values per channel, from which those of several shards are found. */
export interface BatchStats {
  /** How many values per channel, float32 `[]`. */
  count: Tensor;
  /** Their mean, `[C]`. */
  mean: Tensor;
  /** The sum of their squared distances from it, `[C]`; over `count` it is the variance. */
  m2: Tensor;
}

/**
 * The statistics of a shard of a batch, per channel over samples and positions, in float32. They are merged by {@link mergeBatchStats} and
 * differentiate.
 *
 * @param x `[N, C, ...]`, float; N may be 0
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { batchStats, mergeBatchStats } from 'tracegrad/norm';
 *
 * const ofBoth = (a: Tensor, b: Tensor) => mergeBatchStats([batchStats(a), batchStats(b)]);
 * ```
 */
export function batchStats(x: Tensor): BatchStats {
  const fn = 'batchStats';
  checkFloat(fn, 'x', x);
  const [n, channels, ...rest] = x.shape as [number, number, ...number[]];
  if (x.rank < 2) throw outOfRange(fn, 'x', 'a Tensor [N, C, ...]', x);
  const count = n * sizeOf(rest);
  const total = full([], count);
  if (count === 0) return { count: total, mean: full([channels], 0), m2: full([channels], 0) };
  const { mean, variance } = center(cast(x, 'float32'), axesBut(x, 1));
  return { count: total, mean: reshape(mean, [channels]), m2: mul(reshape(variance, [channels]), count) };
}

/** Statistics, checked and in float32. */
export function checkStats(fn: string, name: string, stats: BatchStats): BatchStats {
  if (typeof stats !== 'object' || stats === null) throw wrongType(fn, name, '{ count, mean, m2 }', stats);
  const mean = checkFloat(fn, `${name}.mean`, stats.mean);
  const count = checkFloat(fn, `${name}.count`, stats.count);
  if (mean.rank !== 1) throw outOfRange(fn, `${name}.mean`, 'shape [C]', mean);
  if (count.rank !== 0) throw outOfRange(fn, `${name}.count`, 'shape []', count);
  return {
    count: cast(count, 'float32'),
    mean: cast(mean, 'float32'),
    m2: checkVector(fn, `${name}.m2`, stats.m2, mean.shape[0] as number),
  };
}

/** `a / b`, and 0 where b is 0. */
const ratio = (a: Tensor, b: Tensor): Tensor => {
  const some = greater(b, 0);
  return where(some, div(a, where(some, b, 1)), 0);
};

/**
 * The statistics of several shards together: equal to those of the whole batch, whatever the sizes of the shards. A shard without values
 * adds nothing. Merges of merges are merges.
 *
 * Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979).
 *
 * @param shards of the same channels, at least one
 * @throws if the channels differ
 * @example
 * ```ts
 * import { type Backend, compile } from 'tracegrad';
 * import { type BatchStats, mergeBatchStats } from 'tracegrad/norm';
 *
 * // What comes from replicas as arrays is merged by a compiled function.
 * const merger = (backend: Backend) => compile(backend, (shards: BatchStats[]) => mergeBatchStats(shards));
 * ```
 */
export function mergeBatchStats(shards: readonly BatchStats[]): BatchStats {
  const fn = 'mergeBatchStats';
  if (!Array.isArray(shards) || shards.length === 0) throw wrongType(fn, 'shards', 'a list of statistics', shards);
  const checked = shards.map((shard, i) => checkStats(fn, `shards[${i}]`, shard));
  const [first] = checked as [BatchStats];
  checked.forEach(({ mean }, i) => {
    if (!sameShape(mean.shape, first.mean.shape)) throw outOfRange(fn, `shards[${i}].mean`, `shape [${first.mean.shape}]`, mean);
  });
  return checked.reduce((a, b) => {
    const count = add(a.count, b.count);
    const share = ratio(b.count, count);
    const distance = sub(b.mean, a.mean);
    return {
      count,
      mean: add(a.mean, mul(distance, share)),
      m2: add(add(a.m2, b.m2), mul(square(distance), mul(a.count, share))),
    };
  });
}
