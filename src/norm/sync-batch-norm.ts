import { checkOptions, outOfRange, wrongType } from '../core/errors.js';
import { div, maximum, sub } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import { sizeOf } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { normalizeChannels, type RunningStatsOptions, readRunningStats, runningStatsOptions } from './batch-norm.js';
import { type BatchStats, batchStats, checkStats, mergeBatchStats } from './batch-stats.js';
import { alongAxis, type ChannelParams, checkEps, checkState, checkVectors } from './channels.js';
import { type BatchNormState, updateRunning } from './running-stats.js';
import { centerOn } from './standardize.js';

export interface BatchNormWithStatsOptions {
  /** Added to the variance. Default 1e-5; with 0 a constant channel gives NaN. */
  eps?: number;
}

/** The layer on one shard, with checked parameters. */
function normalizeShard(fn: string, name: string, x: Tensor, affine: ChannelParams, stats: BatchStats, eps: number): Tensor {
  checkFloat(fn, name, x);
  const channels = stats.mean.shape[0] as number;
  if (x.rank < 2 || x.shape[1] !== channels) throw outOfRange(fn, name, `a Tensor [N, ${channels}, ...], as the statistics have`, x);
  if (sizeOf(x.shape) === 0) return x;
  const along = (vector: Tensor) => alongAxis(vector, x.rank);
  const centered = centerOn(cast(x, 'float32'), along(stats.mean), along(varianceOf(stats)));
  return cast(normalizeChannels(centered, affine, eps), x.dtype);
}

const varianceOf = ({ m2, count }: BatchStats): Tensor => div(m2, maximum(count, 1));

/**
 * Batch normalization by given statistics: `(x - mean) / sqrt(m2 / count + eps) * weight + bias`. Gradients pass to the statistics as well, so
 * with those of {@link mergeBatchStats} the gradient is that of the whole batch.
 *
 * @param x `[N, C, ...]`, float; N may be 0
 * @param stats of the whole batch
 * @param params `weight` and `bias`, `[C]`, each optional
 * @returns a Tensor like `x`
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type BatchStats, batchNormWithStats, type ChannelParams } from 'tracegrad/norm';
 *
 * // One replica's part, with the merged statistics of all of them.
 * const normalise = (x: Tensor, whole: BatchStats, p: ChannelParams) => batchNormWithStats(x, whole, p);
 * ```
 */
export function batchNormWithStats(
  x: Tensor,
  stats: BatchStats,
  params: ChannelParams = {},
  options: BatchNormWithStatsOptions = {},
): Tensor {
  const fn = 'batchNormWithStats';
  const whole = checkStats(fn, 'stats', stats);
  const affine = checkVectors(fn, params, ['weight', 'bias'], whole.mean.shape[0] as number);
  checkOptions(fn, options, ['eps']);
  const { eps = 1e-5 } = options;
  checkEps(fn, eps);
  return normalizeShard(fn, 'x', x, affine, whole, eps);
}

/**
 * The running statistics after a batch with the statistics `stats`, to be updated once per batch and not per shard.
 *
 * @param state running statistics, float `[C]`
 * @param options as of {@link batchNorm}
 */
export function updateRunningStats<S extends BatchNormState>(state: S, stats: BatchStats, options: RunningStatsOptions = {}): S {
  const fn = 'updateRunningStats';
  const whole = checkStats(fn, 'stats', stats);
  checkOptions(fn, options, runningStatsOptions);
  return updated(fn, state, whole, options);
}

function updated<S extends BatchNormState>(fn: string, state: S, whole: BatchStats, options: RunningStatsOptions): S {
  const { factor, unbiased } = readRunningStats(fn, options);
  checkState(fn, state, ['runningMean', 'runningVar'], whole.mean.shape[0] as number);
  const variance = unbiased ? div(whole.m2, maximum(sub(whole.count, 1), 1)) : varianceOf(whole);
  return updateRunning(fn, state, { mean: whole.mean, variance }, factor);
}

export interface SyncBatchNormOptions extends RunningStatsOptions, BatchNormWithStatsOptions {}

/**
 * Synchronised batch normalization: shards of a batch, normalised by the statistics of all of them, as {@link batchNorm} would do with the
 * whole batch. For shards that are computed in different runs, on other devices or one after the other to save memory, use its parts:
 * {@link batchStats} per shard, {@link mergeBatchStats}, {@link batchNormWithStats} per shard and {@link updateRunningStats} once. Every shard has to pass a layer
 * before any of them can enter the next one; accumulating the gradients of separate passes is {@link ghostBatchNorm} instead.
 *
 * The loss must be a mean over the whole batch: one that is a mean over its shard is to be weighed with the shard's share of the samples.
 * Gradients of `weight` and `bias` are those of all shards together. For evaluation use {@link batchNorm}.
 *
 * Source: as `torch.nn.SyncBatchNorm`. flax averages means and mean squares of equal shards.
 *
 * @param shards `[N_i, C, ...]`, float; N_i may be 0
 * @param params `weight` and `bias`, `[C]`, each optional; see {@link initBatchNorm}
 * @param state running statistics, float `[C]`
 * @returns the shards normalised, the statistics of all, and the next state
 * @throws if a channel has a single value in all shards together, a shape does not fit or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type BatchNormState, type ChannelParams, syncBatchNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: ChannelParams, state: BatchNormState, halves: Tensor[]) => syncBatchNorm(halves, p, state);
 * ```
 */
export function syncBatchNorm<S extends BatchNormState>(
  shards: readonly Tensor[],
  params: ChannelParams,
  state: S,
  options: SyncBatchNormOptions = {},
): { ys: Tensor[]; stats: BatchStats; state: S } {
  const fn = 'syncBatchNorm';
  if (!Array.isArray(shards) || shards.length === 0) throw wrongType(fn, 'shards', 'a list of Tensors', shards);
  const [first] = shards as [Tensor];
  shards.forEach((x: Tensor, i) => {
    checkFloat(fn, `shards[${i}]`, x);
    if (x.rank < 2 || x.shape[1] !== first.shape[1]) throw outOfRange(fn, `shards[${i}]`, `a Tensor [N, ${first.shape[1] ?? 'C'}, ...]`, x);
  });
  const channels = first.shape[1] as number;
  const affine = checkVectors(fn, params, ['weight', 'bias'], channels);
  checkOptions(fn, options, ['eps', ...runningStatsOptions]);
  const { eps = 1e-5 } = options;
  checkEps(fn, eps);
  const count = channels && shards.reduce((total: number, x: Tensor) => total + sizeOf(x.shape), 0) / channels;
  if (count < 2) {
    throw new RangeError(`${fn}: shards: expected more than one value per channel in all of them together, received ${count}`);
  }
  const stats = mergeBatchStats(shards.map(batchStats));
  return {
    ys: shards.map((x: Tensor, i) => normalizeShard(fn, `shards[${i}]`, x, affine, stats, eps)),
    stats,
    state: updated(fn, state, stats, options),
  };
}
