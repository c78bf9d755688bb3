import type { NDArray } from '../core/array.js';
import { checkOptions, checkSize, outOfRange } from '../core/errors.js';
import { reshape } from '../core/ops/broadcast.js';
import { mul } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import type { Shape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import { axesBut, type ChannelParams, checkEps, checkImage, checkVectors } from './channels.js';
import { initChannels } from './running-stats.js';
import { center, groupSize, rstdOf, scaled } from './standardize.js';

export interface GroupNormOptions {
  /** Must divide the channels. Default 32. */
  numGroups?: number;
  /** Added to the variance. Default 1e-5; with 0 a constant group gives NaN. */
  eps?: number;
}

/** `[N, G, C / G, ...]`: the channels of `shape` in groups. Throws if they cannot be cut into so many. */
export function groupedShape(fn: string, [n, channels, ...rest]: Shape, numGroups: number): number[] {
  checkSize(fn, 'numGroups', numGroups);
  const size = (channels as number) / numGroups;
  if (!Number.isInteger(size)) {
    throw new RangeError(`${fn}: numGroups: expected a divisor of the ${channels} channels, received ${numGroups}`);
  }
  return [n as number, numGroups, size, ...rest];
}

/** Normalises every group of channels of every sample by itself. `weight` and `bias` have one number per channel, or per group. */
export function normalizeGroups(fn: string, x: Tensor, numGroups: number, { weight, bias }: ChannelParams, eps: number): Tensor {
  const shape = groupedShape(fn, x.shape, numGroups);
  const grouped = reshape(x, shape);
  const axes = axesBut(grouped, 0, 1);
  if (groupSize(grouped, axes) === 1) {
    const what = fn === 'instanceNorm' ? 'more than one position per channel' : `more than one value in each of ${numGroups} groups`;
    throw outOfRange(fn, 'x', `${what}, as a single one always becomes 0`, x);
  }
  const centered = center(grouped, axes);
  const along = (vector: Tensor) => reshape(vector, [numGroups, (vector.shape[0] as number) / numGroups, ...shape.slice(3).map(() => 1)]);
  const rstd = rstdOf(centered.variance, eps);
  return reshape(scaled(centered, weight ? mul(rstd, along(weight)) : rstd, bias && along(bias)), x.shape);
}

/**
 * Group normalization: the channels of every sample are cut into groups of neighbours; each group is normalised by its own mean and
 * population variance over channels and positions, then scaled and shifted per channel. The same in training and evaluation; no state.
 *
 * One group normalises over channels and positions together, which is not {@link layerNorm} of the last axis; as many groups as channels
 * is {@link instanceNorm}. A constant group gives `bias`, with finite gradients. float16 is normalised in float32.
 *
 * Source: Group Normalization (1803.08494); `torch.nn.functional.group_norm`. flax has eps 1e-6 and channels last; ONNX's operator before
 * opset 21 scales per group.
 *
 * @param x `[N, C, ...]`, float
 * @param params `weight` and `bias`, `[C]`, each optional; see {@link initGroupNorm}
 * @returns a Tensor like `x`
 * @throws if `numGroups` does not divide the channels, a group has a single value, a shape does not fit or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type ChannelParams, groupNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: ChannelParams, x: Tensor) => groupNorm(x, p, { numGroups: 8 });
 * ```
 */
export function groupNorm(x: Tensor, params: ChannelParams = {}, options: GroupNormOptions = {}): Tensor {
  const fn = 'groupNorm';
  const wide = checkImage(fn, x);
  const affine = checkVectors(fn, params, ['weight', 'bias'], x.shape[1] as number);
  checkOptions(fn, options, ['numGroups', 'eps']);
  const { numGroups = 32, eps = 1e-5 } = options;
  checkEps(fn, eps);
  return cast(normalizeGroups(fn, wide, numGroups, affine, eps), x.dtype);
}

/** Initial parameters of {@link groupNorm}: weight 1, bias 0. */
export const initGroupNorm = (channels: number): { weight: NDArray; bias: NDArray } => initChannels('initGroupNorm', channels);
