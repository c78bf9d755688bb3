import type { NDArray } from '../core/array.js';
import { filled } from '../core/array.js';
import { checkNumber, checkOneOf, checkOptions, checkSize, outOfRange } from '../core/errors.js';
import { stopGradient } from '../core/grad.js';
import { reshape } from '../core/ops/broadcast.js';
import { add, div, maximum, minimum, mul, neg, sqrt, sub } from '../core/ops/elementwise.js';
import { cast, type TensorOrNumber } from '../core/ops/select.js';
import { checkFloat, isTensor, type Tensor } from '../core/tensor.js';
import { checkSpread } from './batch-norm.js';
import { alongAxis, axesBut, type ChannelParams, checkEps, checkImage, checkRate, checkState, checkVectors } from './channels.js';
import { initChannels, multiplyAdd, towards } from './running-stats.js';
import { center, groupSize, rstdOf, scaled } from './standardize.js';

/** What a batch renormalization has learned about its input. The standard deviation is kept, not the variance. */
export interface BatchRenormState {
  /** `[C]` */
  runningMean: Tensor;
  /** `[C]` */
  runningStd: Tensor;
}

export interface BatchRenormOptions {
  mode: 'train' | 'eval';
  /** Largest correction of the scale, >= 1; a scalar Tensor if it changes from step to step. Default 3. */
  rMax?: TensorOrNumber;
  /** Largest correction of the offset, >= 0; a scalar Tensor if it changes from step to step. Default 5. */
  dMax?: TensorOrNumber;
  /** Weight of the new value in the running statistics, from 0 to 1. Default 0.1. */
  momentum?: number;
  /** Added to the variance of the batch. Default 1e-5; with 0 a constant channel gives NaN. */
  eps?: number;
}

function limit(fn: string, name: string, value: TensorOrNumber, least: number): TensorOrNumber {
  if (!isTensor(value)) {
    checkNumber(fn, name, value, `a number >= ${least} or a scalar Tensor`, (v) => v >= least);
    return value;
  }
  if (checkFloat(fn, name, value).rank !== 0) throw outOfRange(fn, name, `a number >= ${least} or a Tensor of shape []`, value);
  return cast(value, 'float32');
}

/**
 * Batch renormalization: batch normalization, corrected towards what evaluation will compute. In `'train'` with `s = sqrt(variance + eps)` of
 * the batch:
 *
 * `y = weight ((x - mean) / s * r + d) + bias`, `r = clip(s / runningStd, 1 / rMax, rMax)`, `d = clip((mean - runningMean) / runningStd,
 * -dMax, dMax)`
 *
 * where r and d are constants for the gradient; then `running <- (1 - momentum) running + momentum new` for mean and s. In `'eval'`
 * `weight (x - runningMean) / runningStd + bias`, as one multiply-add. `rMax: 1, dMax: 0` is batch normalization. The paper raises rMax from 1 to 3
 * and dMax from 0 to 5 after 5,000 steps: pass them as Tensors, of `hostInput` for example. float16 is normalised in float32.
 *
 * Source: Batch Renormalization (1702.03275).
 *
 * @param x `[N, C, ...]`, float
 * @param params `weight` and `bias`, `[C]`, each optional; see {@link initBatchRenorm}
 * @param state running statistics, float `[C]`, standard deviations above 0
 * @returns `y` like `x`, and the next state
 * @throws if a channel has a single value in `'train'`, an option is out of range or a shape does not fit
 * @example
 * ```ts
 * import { hostInput, type Tensor } from 'tracegrad';
 * import { type BatchRenormState, batchRenorm, type ChannelParams } from 'tracegrad/norm';
 *
 * const ramp = (step: number) => Math.min(1, Math.max(0, (step - 5000) / 20000));
 * const normalise = (p: ChannelParams, state: BatchRenormState, x: Tensor) =>
 *   batchRenorm(x, p, state, {
 *     mode: 'train',
 *     rMax: hostInput(({ step }) => 1 + 2 * ramp(step)),
 *     dMax: hostInput(({ step }) => 5 * ramp(step)),
 *   });
 * ```
 */
export function batchRenorm<S extends BatchRenormState>(
  x: Tensor,
  params: ChannelParams,
  state: S,
  options: BatchRenormOptions,
): { y: Tensor; state: S } {
  const fn = 'batchRenorm';
  const wide = checkImage(fn, x);
  const channels = x.shape[1] as number;
  const { weight, bias } = checkVectors(fn, params, ['weight', 'bias'], channels);
  checkOptions(fn, options, ['mode', 'rMax', 'dMax', 'momentum', 'eps']);
  const { mode, momentum = 0.1, eps = 1e-5 } = options;
  checkOneOf(fn, 'mode', mode, ['train', 'eval']);
  const rMax = limit(fn, 'rMax', options.rMax ?? 3, 1);
  const dMax = limit(fn, 'dMax', options.dMax ?? 5, 0);
  checkRate(fn, 'momentum', momentum);
  checkEps(fn, eps);
  const running = checkState(fn, state, ['runningMean', 'runningStd'], channels);
  const [runningMean, runningStd] = [stopGradient(running.runningMean), stopGradient(running.runningStd)];
  if (mode === 'eval') {
    const scale = weight ? div(weight, runningStd) : div(1, runningStd);
    const shift = mul(runningMean, scale);
    return { y: cast(multiplyAdd(wide, { scale, shift: bias ? sub(bias, shift) : neg(shift) }), x.dtype), state };
  }
  const axes = axesBut(x, 1);
  checkSpread(fn, x, groupSize(x, axes));
  const centered = center(wide, axes);
  const mean = stopGradient(reshape(centered.mean, [channels]));
  const std = stopGradient(sqrt(add(reshape(centered.variance, [channels]), eps)));
  const r = minimum(maximum(div(std, runningStd), div(1, rMax as Tensor)), rMax);
  const d = minimum(maximum(div(sub(mean, runningMean), runningStd), mul(-1, dMax)), dMax);
  const along = (vector: Tensor) => alongAxis(vector, x.rank);
  const offset = weight ? mul(weight, d) : d;
  const factor = mul(rstdOf(centered.variance, eps), along(weight ? mul(weight, r) : r));
  const y = scaled(centered, factor, along(bias ? add(offset, bias) : offset));
  return {
    y: cast(y, x.dtype),
    state: {
      ...state,
      runningMean: towards(state.runningMean, mean, momentum),
      runningStd: towards(state.runningStd, std, momentum),
    },
  };
}

/** Initial parameters and state of {@link batchRenorm}: weight 1, bias 0, running mean 0, running standard deviation 1. */
export function initBatchRenorm(channels: number): {
  params: { weight: NDArray; bias: NDArray };
  state: { runningMean: NDArray; runningStd: NDArray };
} {
  checkSize('initBatchRenorm', 'channels', channels);
  return {
    params: initChannels('initBatchRenorm', channels),
    state: { runningMean: filled([channels], 0), runningStd: filled([channels], 1) },
  };
}
