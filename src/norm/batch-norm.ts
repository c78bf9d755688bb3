import type { NDArray } from '../core/array.js';
import { checkOneOf, checkOptions, outOfRange } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { mul } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { alongAxis, axesBut, type ChannelParams, checkEps, checkImage, checkRate, checkState, checkVectors } from './channels.js';
import {
  type BatchNormState,
  foldRunning,
  initChannels,
  initRunning,
  multiplyAdd,
  type RunningVarEstimator,
  updateRunning,
} from './running-stats.js';
import { type Centered, center, groupSize, rstdOf, scaled } from './standardize.js';

/**
 * `'train'`: normalise by the statistics of the batch and update the running ones. `'eval'`: normalise by the running ones. `'batch'`:
 * normalise by the batch; running statistics are neither read nor written.
 */
export type BatchNormMode = 'train' | 'eval' | 'batch';

export interface RunningStatsOptions {
  /**
   * Whose defaults hold, and what `momentum` weighs. `'torch'` (default): the new value, 0.1, and running variances are unbiased.
   * `'onnx'`: the old value, 0.9, and running variances are biased (flax is the same with 0.99).
   */
  convention?: 'torch' | 'onnx';
  /** Weight from 0 to 1 in the running statistics, see `convention`. null: the plain average over all batches. */
  momentum?: number | null;
  /** The variance that is stored: over `m - 1` (`'unbiased'`) or `m` (`'biased'`). Default: see `convention`. */
  runningVarEstimator?: RunningVarEstimator;
}

export interface BatchNormOptions extends RunningStatsOptions {
  mode: BatchNormMode;
  /** Added to the variance. Default 1e-5; with 0 a constant channel gives NaN. */
  eps?: number;
}

export const runningStatsOptions = ['convention', 'momentum', 'runningVarEstimator'];

/** The options of running statistics in one form. */
export interface RunningStatsRule {
  /** The weight of the new value; null for the average over all batches. */
  readonly factor: number | null;
  /** Whether the variance that is stored is over one element less. */
  readonly unbiased: boolean;
}

export function readRunningStats(fn: string, options: RunningStatsOptions): RunningStatsRule {
  const { convention = 'torch' } = options;
  checkOneOf(fn, 'convention', convention, ['torch', 'onnx']);
  const torch = convention === 'torch';
  const { momentum = torch ? 0.1 : 0.9, runningVarEstimator = torch ? 'unbiased' : 'biased' } = options;
  if (momentum !== null) checkRate(fn, 'momentum', momentum, 'a number from 0 to 1, or null');
  checkOneOf(fn, 'runningVarEstimator', runningVarEstimator, ['unbiased', 'biased']);
  return {
    factor: momentum === null || torch ? momentum : 1 - momentum,
    unbiased: runningVarEstimator === 'unbiased',
  };
}

/** Throws if a channel has a single value. */
export function checkSpread(fn: string, x: Tensor, count: number): void {
  if (count === 1) throw outOfRange(fn, 'x', 'more than one value per channel in a batch that is normalised by its own statistics', x);
}

/** `(x - mean) / sqrt(variance + eps) * weight + bias` per channel. */
export function normalizeChannels(centered: Centered, { weight, bias }: ChannelParams, eps: number, axis = 1): Tensor {
  const { rank } = centered.values;
  const rstd = rstdOf(centered.variance, eps);
  return scaled(centered, weight ? mul(rstd, alongAxis(weight, rank, axis)) : rstd, bias && alongAxis(bias, rank, axis));
}

/** The layer on float32, with checked arguments. */
export function normalizeByBatch<S extends BatchNormState | undefined>(
  fn: string,
  x: Tensor,
  affine: ChannelParams,
  state: S,
  { mode, eps, factor, unbiased }: { mode: BatchNormMode; eps: number } & RunningStatsRule,
): { y: Tensor; state: S } {
  const channels = x.shape[1] as number;
  if (mode === 'eval') return { y: multiplyAdd(x, foldRunning(fn, affine, state as BatchNormState, eps, channels)), state };
  const axes = axesBut(x, 1);
  const count = groupSize(x, axes);
  checkSpread(fn, x, count);
  const centered = center(x, axes);
  const y = normalizeChannels(centered, affine, eps);
  if (mode === 'batch') return { y, state };
  checkState(fn, state, ['runningMean', 'runningVar'], channels);
  const variance = reshape(centered.variance, [channels]);
  const observed = {
    mean: reshape(centered.mean, [channels]),
    variance: unbiased ? mul(variance, count / (count - 1)) : variance,
  };
  return { y, state: updateRunning(fn, state as BatchNormState, observed, factor) as S };
}

/**
 * Batch normalization: `(x - mean) / sqrt(variance + eps) * weight + bias`, per channel over batch and positions. In `'train'` and
 * `'batch'` with mean and population variance of the batch, in `'eval'` with the running ones, as one multiply-add.
 *
 * Running statistics become `(1 - f) old + f new` with `f = momentum`. What is stored and what `momentum` means differs: PyTorch weighs
 * the new value and stores the unbiased variance, ONNX and flax weigh the old one and store the biased variance; see `convention`.
 * The variance that normalises is biased everywhere. It is taken in two passes (flax: one). float16 is normalised in float32.
 *
 * A constant channel gives `bias`, with finite gradients. With the option `padTo` of a trainer the padding counts as data.
 *
 * Source: Batch Normalization (1502.03167); `torch.nn.functional.batch_norm`. Weights of running statistics: ONNX operator
 * BatchNormalization.
 *
 * @param x `[N, C, ...]`, float
 * @param params `weight` and `bias`, `[C]`, each optional; see {@link initBatchNorm}
 * @param state running statistics, float `[C]`; in mode `'batch'` whatever it is comes back
 * @returns `y` like `x`, and the next state: in `'eval'` and `'batch'` the one given
 * @throws if a channel has a single value in `'train'` or `'batch'`, a shape does not fit or eps is negative
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type BatchNormState, batchNorm, type ChannelParams } from 'tracegrad/norm';
 *
 * const block = (p: ChannelParams, state: BatchNormState, x: Tensor, training: boolean) => {
 *   const normal = batchNorm(x, p, state, { mode: training ? 'train' : 'eval' });
 *   return { y: relu(normal.y), state: normal.state };
 * };
 * ```
 */
export function batchNorm<S extends BatchNormState | undefined>(
  x: Tensor,
  params: ChannelParams,
  state: S,
  options: BatchNormOptions,
): { y: Tensor; state: S } {
  const fn = 'batchNorm';
  const wide = checkImage(fn, x);
  const affine = checkVectors(fn, params, ['weight', 'bias'], x.shape[1] as number);
  checkOptions(fn, options, ['mode', 'eps', ...runningStatsOptions]);
  const { mode, eps = 1e-5 } = options;
  checkOneOf(fn, 'mode', mode, ['train', 'eval', 'batch']);
  checkEps(fn, eps);
  const result = normalizeByBatch(fn, wide, affine, state, { mode, eps, ...readRunningStats(fn, options) });
  return { y: cast(result.y, x.dtype), state: result.state };
}

/**
 * Initial parameters and state of {@link batchNorm}, {@link ghostBatchNorm}, {@link syncBatchNorm} and {@link estimatedBatchNorm}: weight 1,
 * bias 0, running mean 0, running variance 1.
 */
export function initBatchNorm(channels: number): {
  params: { weight: NDArray; bias: NDArray };
  state: { runningMean: NDArray; runningVar: NDArray; numBatchesTracked: NDArray };
} {
  return { params: initChannels('initBatchNorm', channels), state: initRunning('initBatchNorm', channels) };
}
