import type { NDArray } from '../core/array.js';
import { checkOptions, checkParams, checkSize } from '../core/errors.js';
import { conv2d as convolve, type Pair, pairOf, type Window2d } from '../core/ops/conv.js';
import type { Rng } from '../core/rng.js';
import type { Tensor } from '../core/tensor.js';
import { uniform } from './init.js';

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
export function initConv2d(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: Pair,
  options: { bias?: true },
): { weight: NDArray; bias: NDArray };
export function initConv2d(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: Pair,
  options: { bias: false },
): { weight: NDArray };
export function initConv2d(rng: Rng, inChannels: number, outChannels: number, kernelSize: Pair): { weight: NDArray; bias: NDArray };
export function initConv2d(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: Pair,
  options: { bias?: boolean } = {},
): { weight: NDArray; bias?: NDArray } {
  checkOptions('initConv2d', options, ['bias']);
  for (const [name, size] of Object.entries({ inChannels, outChannels })) checkSize('initConv2d', name, size);
  const [height, width] = pairOf('initConv2d', 'kernelSize', kernelSize);
  const bound = 1 / Math.sqrt(inChannels * height * width);
  const range = { low: -bound, high: bound };
  const weight = uniform(rng, [outChannels, inChannels, height, width], range);
  return options.bias === false ? { weight } : { weight, bias: uniform(rng, [outChannels], range) };
}
