import { checkBoolean, checkOneOf, checkOptions, checkParams, outOfRange } from '../core/errors.js';
import { type ConvOptions, conv1d, conv2d, conv3d } from '../core/ops/conv.js';
import { add, div, mul, sqrt } from '../core/ops/elementwise.js';
import { cast, greater, where } from '../core/ops/select.js';
import type { SpatialRank } from '../core/ops/window.js';
import { normalizeAxis } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { alongAxis, axesBut, checkEps, checkVector } from './channels.js';
import { center, groupSize, rstdOf, scaled } from './standardize.js';

export interface WeightStandardizationOptions {
  /** Where the variance is taken over m, the fan-in (`'biased'`, default), or over `m - 1`. */
  variance?: 'biased' | 'unbiased';
  /**
   * `'variance'` (default): divide by `sqrt(variance + eps)`; `'std'`: by `sqrt(variance) + eps`; `'clampFanIn'`: by
   * `sqrt(max(m variance, eps))`, which is scaled already.
   */
  epsPlacement?: 'variance' | 'std' | 'clampFanIn';
  /** Default 1e-5; with `scaled` 1e-6, with `'clampFanIn'` 1e-4. With 0 a constant filter gives NaN. */
  eps?: number;
  /** Divide by the square root of the fan-in as well. Default: true with `'clampFanIn'`, otherwise false. */
  scaled?: boolean;
  /** Axis of the output channels: 1 for transposed convolutions without groups. Default 0. */
  outAxis?: number;
  /** A factor for every output channel, `[O]`. */
  gain?: Tensor;
}

const weightOptions = ['variance', 'epsPlacement', 'eps', 'scaled', 'outAxis', 'gain'];

function standardize(fn: string, weight: Tensor, options: WeightStandardizationOptions): Tensor {
  checkFloat(fn, 'weight', weight);
  const { variance = 'biased', epsPlacement = 'variance', gain } = options;
  checkOneOf(fn, 'variance', variance, ['biased', 'unbiased']);
  checkOneOf(fn, 'epsPlacement', epsPlacement, ['variance', 'std', 'clampFanIn']);
  const clamped = epsPlacement === 'clampFanIn';
  const { scaled: fanIn = clamped } = options;
  checkBoolean(fn, 'scaled', fanIn);
  const { eps = clamped ? 1e-4 : fanIn ? 1e-6 : 1e-5 } = options;
  checkEps(fn, eps);
  if (clamped && !fanIn) throw outOfRange(fn, 'scaled', "true with epsPlacement 'clampFanIn', which is scaled", fanIn);
  if (fanIn && variance !== 'biased') throw outOfRange(fn, 'variance', "'biased' in the scaled form", variance);
  if (fanIn && epsPlacement === 'std') throw outOfRange(fn, 'epsPlacement', "'variance' or 'clampFanIn' in the scaled form", epsPlacement);
  const axis = normalizeAxis(fn, options.outAxis ?? 0, weight.rank, 'outAxis');
  const axes = axesBut(weight, axis);
  const count = groupSize(weight, axes);
  if (weight.rank < 2 || count < 2) {
    throw outOfRange(fn, 'weight', 'more than one element per output channel, as a single one would always become 0', weight);
  }
  const centered = center(cast(weight, 'float32'), axes);
  const spread = variance === 'unbiased' ? mul(centered.variance, count / (count - 1)) : centered.variance;
  let factor: Tensor;
  if (epsPlacement === 'std') {
    const some = greater(spread, 0);
    factor = div(1, add(where(some, sqrt(where(some, spread, 1)), 0), eps));
  } else if (clamped) {
    const total = mul(spread, count);
    factor = div(1, sqrt(where(greater(total, eps), total, eps)));
  } else {
    factor = mul(rstdOf(spread, eps), fanIn ? count ** -0.5 : 1);
  }
  if (gain)
    factor = mul(factor, alongAxis(checkVector(fn, 'gain', gain, weight.shape[axis] as number, 'output channel'), weight.rank, axis));
  return cast(scaled(centered, factor), weight.dtype);
}

/**
 * Weight standardization: the weight of a convolution or linear layer with mean 0 and variance 1 over the fan-in of every output channel, to
 * be used in place of it. The weight itself is what is trained; the gradient passes through. A constant filter becomes 0.
 *
 * Who divides by what, with v the variance and m the fan-in: the paper, timm and the default `sqrt(v + eps)`; the authors' weights need
 * `{ variance: 'unbiased', epsPlacement: 'std' }`; scaled weight standardization `gain / sqrt(m (v + eps))` (timm: eps 1e-6) or, as published with
 * NFNets, `{ epsPlacement: 'clampFanIn' }`. The constants of activations (1.7139588594436646 for relu) belong into activation or gain. Leave
 * out the classifier and layers that no normalization follows. For deployment compute it once and keep the result.
 *
 * Source: Micro-Batch Training with Batch-Channel Normalization and Weight Standardization (1903.10520); scaled: Characterizing Signal
 * Propagation to Close the Performance Gap in Unnormalized ResNets (2101.08692).
 *
 * @param weight `[O, I / groups, ...kernel]` or `[O, I]`, float
 * @returns a Tensor like `weight`
 * @throws if an output channel has a single element, the scaled form is asked for with `'unbiased'` or `'std'`, or eps is negative
 * @example
 * ```ts
 * import { matmul, type Tensor, transpose } from 'tracegrad';
 * import { weightStandardization } from 'tracegrad/norm';
 *
 * const linear = (x: Tensor, weight: Tensor) => matmul(x, transpose(weightStandardization(weight)));
 * ```
 */
export function weightStandardization(weight: Tensor, options: WeightStandardizationOptions = {}): Tensor {
  const fn = 'weightStandardization';
  checkOptions(fn, options, weightOptions);
  return standardize(fn, weight, options);
}

export interface StandardizedConvParams {
  /** `[O, I / groups, ...kernel]` */
  weight: Tensor;
  /** `[O]` */
  bias?: Tensor;
  /** `[O]`, see {@link weightStandardization} */
  gain?: Tensor;
}

export interface StandardizedConvOptions<R extends SpatialRank = SpatialRank>
  extends Omit<ConvOptions<R>, 'bias'>,
    Omit<WeightStandardizationOptions, 'gain' | 'outAxis'> {}

const convOps = [conv1d, conv2d, conv3d] as const;

/**
 * A convolution of one to three dimensions with {@link weightStandardization | standardized weight}. Start from the parameters of a convolution
 * of as many dimensions, such as `initConv2d(rng, 3, 16, 3, { bias: false })`; the scale of the weight does not matter, a normalization should follow.
 *
 * @param x `[N, I, ...]` with one to three further axes, float
 * @param params as of the convolution, and optionally `gain`
 * @param options of the convolution (stride, padding, dilation, groups) and of the standardization
 * @returns `[N, O, ...]`
 * @throws if the sizes do not fit, or as {@link weightStandardization}
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type ChannelParams, groupNorm, type StandardizedConvParams, standardizedConv } from 'tracegrad/norm';
 *
 * const block = (p: { conv: StandardizedConvParams; norm: ChannelParams }, x: Tensor) =>
 *   relu(groupNorm(standardizedConv(x, p.conv, { padding: 'same' }), p.norm, { numGroups: 4 }));
 * ```
 */
export function standardizedConv<R extends SpatialRank = SpatialRank>(
  x: Tensor,
  params: StandardizedConvParams,
  options: StandardizedConvOptions<R> = {},
): Tensor {
  const fn = 'standardizedConv';
  checkFloat(fn, 'x', x);
  checkParams(fn, params, ['weight', 'bias', 'gain']);
  checkOptions(fn, options, ['stride', 'padding', 'dilation', 'groups', 'variance', 'epsPlacement', 'eps', 'scaled']);
  const conv = convOps[x.rank - 3];
  if (!conv) throw outOfRange(fn, 'x', 'a Tensor [N, C, ...] with one to three further axes', x);
  const { variance, epsPlacement, eps, scaled: fanIn, ...window } = options;
  const given = Object.fromEntries(
    Object.entries({ variance, epsPlacement, eps, scaled: fanIn, gain: params.gain }).filter(([, value]) => value !== undefined),
  );
  const weight = standardize(fn, params.weight, given);
  return conv(x, weight, { ...window, ...(params.bias && { bias: params.bias }) } as never);
}
