import type { NDArray } from '../core/array.js';
import { checkOptions } from '../core/errors.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { type ChannelParams, checkEps, checkImage, checkVectors } from './channels.js';
import { normalizeGroups } from './group-norm.js';
import { initChannels } from './running-stats.js';

export interface InstanceNormOptions {
  /** Added to the variance. Default 1e-5; with 0 a constant channel gives NaN. */
  eps?: number;
}

/**
 * Instance normalization: every channel of every sample by its own mean and population variance over the positions. The same in training
 * and evaluation; no state (PyTorch's `track_running_stats` is not offered).
 *
 * A constant channel gives `bias`, with finite gradients. float16 is normalised in float32.
 *
 * Source: Instance Normalization (1607.08022); `torch.nn.functional.instance_norm`, where parameters are off by default as well. flax has
 * eps 1e-6 and channels last.
 *
 * @param x `[N, C, ...]` with more than one position, float
 * @param params `weight` and `bias`, `[C]`, each optional; default none; see {@link initInstanceNorm}
 * @returns a Tensor like `x`
 * @throws if there is a single position, a shape does not fit or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { instanceNorm } from 'tracegrad/norm';
 *
 * const styleless = (x: Tensor) => instanceNorm(x);
 * ```
 */
export function instanceNorm(x: Tensor, params: ChannelParams = {}, options: InstanceNormOptions = {}): Tensor {
  const fn = 'instanceNorm';
  const wide = checkImage(fn, x);
  const channels = x.shape[1] as number;
  const affine = checkVectors(fn, params, ['weight', 'bias'], channels);
  checkOptions(fn, options, ['eps']);
  const { eps = 1e-5 } = options;
  checkEps(fn, eps);
  return cast(normalizeGroups(fn, wide, channels, affine, eps), x.dtype);
}

/** Initial parameters of {@link instanceNorm}: weight 1, bias 0. */
export const initInstanceNorm = (channels: number): { weight: NDArray; bias: NDArray } => initChannels('initInstanceNorm', channels);
