import { filled, type NDArray } from '../core/array.js';
import { checkBoolean, checkOneOf, checkOptions, checkParams } from '../core/errors.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { normalizeByBatch, readRunningStats } from './batch-norm.js';
import { checkEps, checkImage, checkRate, checkVector } from './channels.js';
import { normalizeByEstimates } from './estimated-batch-norm.js';
import { groupedShape, normalizeGroups } from './group-norm.js';
import { type BatchNormState, initChannels, initRunning } from './running-stats.js';

export interface BatchChannelNormParams {
  /** Scale of the batch stage, `[C]`. */
  bnWeight?: Tensor;
  /** Offset of the batch stage, `[C]`. */
  bnBias?: Tensor;
  /** Scale of the channel stage, one per group, `[numGroups]`. */
  weight?: Tensor;
  /** Offset of the channel stage, one per group, `[numGroups]`. */
  bias?: Tensor;
}

export interface BatchChannelNormOptions {
  mode: 'train' | 'eval';
  /** Must divide the channels. Default 32. */
  numGroups?: number;
  /** Added to the variance of the channel stage. Default 1e-5; with 0 a constant group gives NaN. */
  eps?: number;
  /** Added to the variance of the batch stage. Default 1e-5; with 0 a constant channel gives NaN. */
  bnEps?: number;
  /** True: the batch stage is {@link estimatedBatchNorm}, for batches of few samples. False (default): {@link batchNorm}. */
  estimate?: boolean;
  /** With `estimate`: weight of the new value in the estimates, from 0 to 1. Default 0.1. */
  updateRate?: number;
  /** Without `estimate`: weight of the new value in the running statistics, from 0 to 1. Default 0.1. */
  momentum?: number;
}

/**
 * Batch-channel normalization: batch normalization with scale and offset per channel, then normalization of groups of channels within every
 * sample with scale and offset per group, `2 C + 2 numGroups` parameters. The first stage keeps every channel active for a share of the
 * data, which group normalization alone does not; the second works whatever the batch.
 *
 * In `'eval'` the batch stage is one multiply-add by the running statistics. float16 is normalised in float32.
 *
 * Source: Micro-Batch Training with Batch-Channel Normalization and Weight Standardization (1903.10520); the authors' repository, whose
 * published update rate of estimates is 0, see {@link estimatedBatchNorm}. Together with {@link weightStandardization} it was no better than
 * group normalization in our experiments, without it was at high learning rates: see the guide.
 *
 * @param x `[N, C, ...]`, float
 * @param params each optional; see {@link initBatchChannelNorm}. Of the last layer of a residual branch the authors start `weight` at 0
 * @param state running statistics, float `[C]`
 * @returns `y` like `x`, and the next state
 * @throws if `numGroups` does not divide the channels, a channel has a single value in training without `estimate`, an option is out of
 *   range, or a shape does not fit
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type BatchChannelNormParams, type BatchNormState, batchChannelNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: BatchChannelNormParams, state: BatchNormState, x: Tensor, training: boolean) =>
 *   batchChannelNorm(x, p, state, { numGroups: 4, estimate: true, mode: training ? 'train' : 'eval' });
 * ```
 */
export function batchChannelNorm<S extends BatchNormState>(
  x: Tensor,
  params: BatchChannelNormParams,
  state: S,
  options: BatchChannelNormOptions,
): { y: Tensor; state: S } {
  const fn = 'batchChannelNorm';
  const wide = checkImage(fn, x);
  const channels = x.shape[1] as number;
  checkParams(fn, params, ['bnWeight', 'bnBias', 'weight', 'bias']);
  checkOptions(fn, options, ['mode', 'numGroups', 'eps', 'bnEps', 'estimate', 'updateRate', 'momentum']);
  const { mode, numGroups = 32, eps = 1e-5, bnEps = 1e-5, estimate = false, updateRate = 0.1, momentum = 0.1 } = options;
  checkOneOf(fn, 'mode', mode, ['train', 'eval']);
  checkBoolean(fn, 'estimate', estimate);
  checkEps(fn, eps);
  checkEps(fn, bnEps, 'bnEps');
  checkRate(fn, 'updateRate', updateRate);
  checkRate(fn, 'momentum', momentum);
  groupedShape(fn, x.shape, numGroups);
  const vector = (name: keyof BatchChannelNormParams, size: number, what: string) => {
    const value = params[name];
    return value && checkVector(fn, name, value, size, what);
  };
  const [bnWeight, bnBias] = [vector('bnWeight', channels, 'channel'), vector('bnBias', channels, 'channel')];
  const [weight, bias] = [vector('weight', numGroups, 'group'), vector('bias', numGroups, 'group')];
  const affine = { ...(bnWeight && { weight: bnWeight }), ...(bnBias && { bias: bnBias }) };
  const first = estimate
    ? normalizeByEstimates(fn, wide, affine, state, { mode, updateRate, eps: bnEps })
    : normalizeByBatch(fn, wide, affine, state, { mode, eps: bnEps, ...readRunningStats(fn, { momentum }) });
  const y = normalizeGroups(fn, first.y, numGroups, { ...(weight && { weight }), ...(bias && { bias }) }, eps);
  return { y: cast(y, x.dtype), state: first.state };
}

/** Initial parameters and state of {@link batchChannelNorm}: scales 1, offsets 0, running mean 0, running variance 1. */
export function initBatchChannelNorm(
  channels: number,
  options: { numGroups?: number } = {},
): {
  params: { bnWeight: NDArray; bnBias: NDArray; weight: NDArray; bias: NDArray };
  state: { runningMean: NDArray; runningVar: NDArray; numBatchesTracked: NDArray };
} {
  const fn = 'initBatchChannelNorm';
  checkOptions(fn, options, ['numGroups']);
  const { numGroups = 32 } = options;
  const { weight: bnWeight, bias: bnBias } = initChannels(fn, channels);
  groupedShape(fn, [1, channels], numGroups);
  return {
    params: { bnWeight, bnBias, weight: filled([numGroups], 1), bias: filled([numGroups], 0) },
    state: initRunning(fn, channels),
  };
}
