import { checkOptions, checkParams, checkSize, outOfRange } from '../core/errors.js';
import * as ops from '../core/ops/conv.js';
import { type PerAxis, perAxis, type SpatialRank } from '../core/ops/window.js';
import type { Rng } from '../core/rng.js';
import type { Tensor } from '../core/tensor.js';
import { type WeightAndBias, weightAndBias } from './init.js';

/** Parameters of a convolution, or of a transposed one. */
export interface ConvParams {
  /** `[out, in / groups, ...kernel]`; of a transposed convolution `[in, out / groups, ...kernel]` */
  weight: Tensor;
  /** `[out]` */
  bias?: Tensor;
}

export interface InitConvOptions<B extends boolean = boolean> {
  /** Default true. */
  bias?: B;
  /** As of the layer. Default 1. */
  groups?: number;
}

function layer<O extends object>(
  fn: string,
  op: (x: Tensor, weight: Tensor, options: O & { bias?: Tensor }) => Tensor,
  x: Tensor,
  params: ConvParams,
  options: O,
): Tensor {
  checkParams(fn, params, ['weight', 'bias']);
  const { weight, bias } = params;
  return op(x, weight, bias ? { ...options, bias } : options);
}

function initial<B extends boolean>(
  fn: string,
  rng: Rng,
  channels: { in: number; out: number; transposed?: true },
  kernelSize: PerAxis<SpatialRank>,
  rank: SpatialRank,
  options: InitConvOptions<B>,
): WeightAndBias<B> {
  checkSize(fn, 'inChannels', channels.in);
  checkSize(fn, 'outChannels', channels.out);
  checkOptions(fn, options, ['bias', 'groups']);
  const { groups = 1, ...rest } = options;
  checkSize(fn, 'groups', groups);
  if (channels.in % groups !== 0 || channels.out % groups !== 0) {
    throw outOfRange(fn, 'groups', `a divisor of the ${channels.in} and ${channels.out} channels`, groups);
  }
  const [first, second] = channels.transposed ? [channels.in, channels.out] : [channels.out, channels.in];
  const shape = [first, second / groups, ...perAxis(fn, 'kernelSize', kernelSize, rank)];
  return weightAndBias(fn, rng, shape, rest, channels.out);
}

/**
 * One-dimensional convolution with bias.
 *
 * @param x `[N, in, L]`, float
 * @param params see {@link initConv1d}
 * @param options stride, padding, dilation and groups, as of the op `conv1d`
 * @returns `[N, out, length]`
 * @throws if the sizes do not fit
 */
export const conv1d = (x: Tensor, params: ConvParams, options: Omit<ops.ConvOptions<1>, 'bias'> = {}): Tensor =>
  layer('conv1d', ops.conv1d, x, params, options);

/**
 * Initial parameters of {@link conv1d}: weight and bias uniform within `1 / sqrt(in / groups * kernel length)`, as in PyTorch.
 *
 * @param kernelSize a number
 */
export const initConv1d = <B extends boolean = true>(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: PerAxis<1>,
  options: InitConvOptions<B> = {},
): WeightAndBias<B> => initial('initConv1d', rng, { in: inChannels, out: outChannels }, kernelSize, 1, options);

/**
 * Two-dimensional convolution with bias.
 *
 * @param x `[N, in, H, W]`, float
 * @param params see {@link initConv2d}
 * @param options stride, padding, dilation and groups, as of the op `conv2d`
 * @returns `[N, out, height, width]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type ConvParams, conv2d } from 'tracegrad/layers';
 *
 * const block = (p: ConvParams, x: Tensor) => relu(conv2d(x, p, { padding: 'same' }));
 * ```
 */
export const conv2d = (x: Tensor, params: ConvParams, options: Omit<ops.ConvOptions<2>, 'bias'> = {}): Tensor =>
  layer('conv2d', ops.conv2d, x, params, options);

/**
 * Initial parameters of {@link conv2d}: weight and bias uniform within `1 / sqrt(in / groups * kernel height * kernel width)`, as in PyTorch.
 *
 * @param kernelSize a number, or height and width
 */
export const initConv2d = <B extends boolean = true>(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: PerAxis<2>,
  options: InitConvOptions<B> = {},
): WeightAndBias<B> => initial('initConv2d', rng, { in: inChannels, out: outChannels }, kernelSize, 2, options);

/**
 * Three-dimensional convolution with bias.
 *
 * @param x `[N, in, D, H, W]`, float
 * @param params see {@link initConv3d}
 * @param options stride, padding, dilation and groups, as of the op `conv3d`
 * @returns `[N, out, depth, height, width]`
 * @throws if the sizes do not fit
 */
export const conv3d = (x: Tensor, params: ConvParams, options: Omit<ops.ConvOptions<3>, 'bias'> = {}): Tensor =>
  layer('conv3d', ops.conv3d, x, params, options);

/**
 * Initial parameters of {@link conv3d}: weight and bias uniform within `1 / sqrt(in / groups * kernel depth * kernel height * kernel width)`, as in PyTorch.
 *
 * @param kernelSize a number, or depth, height and width
 */
export const initConv3d = <B extends boolean = true>(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: PerAxis<3>,
  options: InitConvOptions<B> = {},
): WeightAndBias<B> => initial('initConv3d', rng, { in: inChannels, out: outChannels }, kernelSize, 3, options);

/**
 * One-dimensional transposed convolution with bias.
 *
 * @param x `[N, in, L]`, float
 * @param params see {@link initConvTranspose1d}
 * @param options stride, padding, outputPadding, dilation and groups, as of the op `convTranspose1d`
 * @returns `[N, out, length]`
 * @throws if the sizes do not fit
 */
export const convTranspose1d = (x: Tensor, params: ConvParams, options: Omit<ops.ConvTransposeOptions<1>, 'bias'> = {}): Tensor =>
  layer('convTranspose1d', ops.convTranspose1d, x, params, options);

/**
 * Initial parameters of {@link convTranspose1d}: weight and bias uniform within `1 / sqrt(out / groups * kernel length)`, as in PyTorch.
 *
 * @param kernelSize a number
 */
export const initConvTranspose1d = <B extends boolean = true>(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: PerAxis<1>,
  options: InitConvOptions<B> = {},
): WeightAndBias<B> => initial('initConvTranspose1d', rng, { in: inChannels, out: outChannels, transposed: true }, kernelSize, 1, options);

/**
 * Two-dimensional transposed convolution with bias.
 *
 * @param x `[N, in, H, W]`, float
 * @param params see {@link initConvTranspose2d}
 * @param options stride, padding, outputPadding, dilation and groups, as of the op `convTranspose2d`
 * @returns `[N, out, height, width]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type ConvParams, convTranspose2d } from 'tracegrad/layers';
 *
 * const twice = (p: ConvParams, x: Tensor) => relu(convTranspose2d(x, p, { stride: 2, padding: 'same' }));
 * ```
 */
export const convTranspose2d = (x: Tensor, params: ConvParams, options: Omit<ops.ConvTransposeOptions<2>, 'bias'> = {}): Tensor =>
  layer('convTranspose2d', ops.convTranspose2d, x, params, options);

/**
 * Initial parameters of {@link convTranspose2d}: weight and bias uniform within `1 / sqrt(out / groups * kernel height * kernel width)`, as in PyTorch.
 *
 * @param kernelSize a number, or height and width
 */
export const initConvTranspose2d = <B extends boolean = true>(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: PerAxis<2>,
  options: InitConvOptions<B> = {},
): WeightAndBias<B> => initial('initConvTranspose2d', rng, { in: inChannels, out: outChannels, transposed: true }, kernelSize, 2, options);

/**
 * Three-dimensional transposed convolution with bias.
 *
 * @param x `[N, in, D, H, W]`, float
 * @param params see {@link initConvTranspose3d}
 * @param options stride, padding, outputPadding, dilation and groups, as of the op `convTranspose3d`
 * @returns `[N, out, depth, height, width]`
 * @throws if the sizes do not fit
 */
export const convTranspose3d = (x: Tensor, params: ConvParams, options: Omit<ops.ConvTransposeOptions<3>, 'bias'> = {}): Tensor =>
  layer('convTranspose3d', ops.convTranspose3d, x, params, options);

/**
 * Initial parameters of {@link convTranspose3d}: weight and bias uniform within `1 / sqrt(out / groups * kernel depth * kernel height * kernel width)`, as in PyTorch.
 *
 * @param kernelSize a number, or depth, height and width
 */
export const initConvTranspose3d = <B extends boolean = true>(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: PerAxis<3>,
  options: InitConvOptions<B> = {},
): WeightAndBias<B> => initial('initConvTranspose3d', rng, { in: inChannels, out: outChannels, transposed: true }, kernelSize, 3, options);
