import { checkOneOf, checkOptions } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { add, square, sub } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { axesBut, type ChannelParams, checkEps, checkImage, checkRate, checkState, checkVectors } from './channels.js';
import { type BatchNormState, foldRunning, multiplyAdd, updateRunning } from './running-stats.js';
import { center } from './standardize.js';

export interface EstimatedBatchNormOptions {
  /** `'train'` updates the estimates, `'eval'` only uses them. */
  mode: 'train' | 'eval';
  /** Weight of the new value in the estimates, from 0 to 1. 0 freezes them. Default 0.1. */
  updateRate?: number;
  /** Added to the variance. Default 1e-5. */
  eps?: number;
}

/** The layer on float32, with checked arguments. */
export function normalizeByEstimates<S extends BatchNormState>(
  fn: string,
  x: Tensor,
  affine: ChannelParams,
  state: S,
  { mode, updateRate, eps }: { mode: 'train' | 'eval'; updateRate: number; eps: number },
): { y: Tensor; state: S } {
  const channels = x.shape[1] as number;
  const { runningMean } = checkState(fn, state, ['runningMean', 'runningVar'], channels);
  if (mode === 'eval') return { y: multiplyAdd(x, foldRunning(fn, affine, state, eps, channels)), state };
  const centered = center(x, axesBut(x, 1));
  const mean = reshape(centered.mean, [channels]);
  // The mean of (x - runningMean)^2, about the old mean.
  const spread = add(reshape(centered.variance, [channels]), square(sub(mean, runningMean)));
  const next = updateRunning(fn, state, { mean, variance: spread }, updateRate);
  // About the mean of the batch, where the numbers are small.
  const { origin } = centered;
  const shifted = { ...next, runningMean: sub(cast(next.runningMean, 'float32'), reshape(origin, [channels])) };
  return { y: multiplyAdd(sub(x, origin), foldRunning(fn, affine, shifted, eps, channels)), state: next };
}

/**
 * Estimated batch normalization: batch normalization by running estimates in training as well, so that a batch may be one sample and
 * training and evaluation compute the same function. In `'train'`, before `y = weight (x - mean) / sqrt(var + eps) + bias` is computed from
 * the new estimates, with `r = updateRate`:
 *
 * `mean <- (1 - r) mean + r mean(x)` and `var <- (1 - r) var + r mean((x - old mean)^2)`
 *
 * The second one is about the old mean on purpose: as long as the mean is off, the variance makes up for it. Estimates are constants for
 * the gradient: `dx = weight g / sqrt(var + eps)`.
 *
 * Source: Micro-Batch Training with Batch-Channel Normalization and Weight Standardization (1903.10520); class EstBN of the authors'
 * repository. There the update rate is a buffer of 0 that nothing sets, so the estimates stay 0 and 1 for ever; the rate of the paper is
 * unknown, the default here kept all channels alive in our experiments. Everything in float32.
 *
 * @param x `[N, C, ...]`, float; N may be 1
 * @param params `weight` and `bias`, `[C]`, each optional; see {@link initBatchNorm}
 * @param state running statistics, float `[C]`
 * @returns `y` like `x`, and the next state
 * @throws if a shape does not fit, `updateRate` is outside [0, 1] or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type BatchNormState, type ChannelParams, estimatedBatchNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: ChannelParams, state: BatchNormState, x: Tensor, training: boolean) =>
 *   estimatedBatchNorm(x, p, state, { mode: training ? 'train' : 'eval', updateRate: 0.01 });
 * ```
 */
export function estimatedBatchNorm<S extends BatchNormState>(
  x: Tensor,
  params: ChannelParams,
  state: S,
  options: EstimatedBatchNormOptions,
): { y: Tensor; state: S } {
  const fn = 'estimatedBatchNorm';
  const wide = checkImage(fn, x);
  const affine = checkVectors(fn, params, ['weight', 'bias'], x.shape[1] as number);
  checkOptions(fn, options, ['mode', 'updateRate', 'eps']);
  const { mode, updateRate = 0.1, eps = 1e-5 } = options;
  checkOneOf(fn, 'mode', mode, ['train', 'eval']);
  checkRate(fn, 'updateRate', updateRate);
  checkEps(fn, eps);
  const result = normalizeByEstimates(fn, wide, affine, state, { mode, updateRate, eps });
  return { y: cast(result.y, x.dtype), state: result.state };
}
