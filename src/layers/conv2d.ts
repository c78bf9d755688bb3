import { checkParams, checkSize } from '../core/errors.js';
import { conv2d as convolve, type Pair, pairOf, type Window2d } from '../core/ops/conv.js';
import type { Rng } from '../core/rng.js';
import type { Tensor } from '../core/tensor.js';
import { type WeightAndBias, weightAndBias } from './init.js';

export interface Conv2dParams {
  /** `[out, in, kernel height, kernel width]` */
  weight: Tensor;
  /** `[out]` */
  bias?: Tensor;
}

/**
 * Two-dimensional convolution with bias.
 *
 * @param x `[N, in, H, W]`, float
 * @param params see {@link initConv2d}
 * @param options stride, padding and dilation, as of the op `conv2d`
 * @returns `[N, out, height, width]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { type Conv2dParams, conv2d } from 'tracegrad/layers';
 *
 * const block = (p: Conv2dParams, x: Tensor) => relu(conv2d(x, p, { padding: 'same' }));
 * ```
 */
export function conv2d(x: Tensor, params: Conv2dParams, options: Window2d = {}): Tensor {
  checkParams('conv2d', params, ['weight', 'bias']);
  const { weight, bias } = params;
  return convolve(x, weight, bias ? { ...options, bias } : options);
}

/**
 * Initial parameters of {@link conv2d}: weight and bias uniform within `1 / sqrt(in * kernel height * kernel width)`, as in PyTorch.
 *
 * @param kernelSize a number, or height and width
 */
export function initConv2d<B extends boolean = true>(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: Pair,
  options: { bias?: B } = {},
): WeightAndBias<B> {
  checkSize('initConv2d', 'inChannels', inChannels);
  checkSize('initConv2d', 'outChannels', outChannels);
  return weightAndBias('initConv2d', rng, [outChannels, inChannels, ...pairOf('initConv2d', 'kernelSize', kernelSize)], options);
}
