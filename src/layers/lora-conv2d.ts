import { filled, type NDArray } from '../core/array.js';
import { checkOptions, checkParams, checkSize, outOfRange } from '../core/errors.js';
import type { ConvOptions } from '../core/ops/conv.js';
import type { Rng } from '../core/rng.js';
import type { Tensor } from '../core/tensor.js';
import { conv2d } from './conv.js';
import { uniform } from './init.js';
import { frozen, type InitLoraOptions, type LoraOptions, mergedWeight } from './lora.js';

/** Parameters of {@link loraConv2d}: those of `conv2d`, which are not trained, and the factors, which are. */
export interface LoraConv2dParams {
  /** `[out, in / groups, k, k]` */
  weight: Tensor;
  /** `[out]` */
  bias?: Tensor;
  /** `[rank * k, in * k]` */
  loraA: Tensor;
  /** `[out / groups * k, rank * k]` */
  loraB: Tensor;
}

export interface LoraConv2dOptions extends LoraOptions, Omit<ConvOptions<2>, 'bias'> {}

/**
 * Low-rank adaptation of a two-dimensional convolution with a square kernel: the kernel is `W + (alpha / rank) B A`, with the product
 * read row by row in the shape of `W`. `W` and the bias get no gradient; see `loraLinear`.
 *
 * Source: LoRA (2106.09685), as in the official code, which has no dropout here either.
 *
 * @param x `[N, in, H, W]`, float
 * @param params the `weight` and `bias` of a trained convolution and what {@link initLoraConv2d} gives
 * @param options alpha; stride, padding, dilation and groups as of `conv2d`
 * @returns `[N, out, height, width]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type LoraConv2dParams, loraConv2d } from 'tracegrad/layers';
 *
 * const layer = (p: LoraConv2dParams, x: Tensor) => loraConv2d(x, p, { alpha: 16, padding: 'same' });
 * ```
 */
export function loraConv2d(x: Tensor, params: LoraConv2dParams, options: LoraConv2dOptions = {}): Tensor {
  const fn = 'loraConv2d';
  checkParams(fn, params, ['weight', 'bias', 'loraA', 'loraB']);
  checkOptions(fn, options, ['alpha', 'stride', 'padding', 'dilation', 'groups']);
  const { alpha = 1, ...window } = options;
  const { groups = 1 } = window;
  checkSize(fn, 'groups', groups);
  const weight = mergedWeight(fn, params, alpha, { groups });
  return conv2d(x, params.bias ? { weight, bias: frozen(fn, 'bias', params.bias) } : { weight }, window);
}

/**
 * Initial factors of {@link loraConv2d}: `loraA` uniform within `1 / sqrt(in * k)`, `loraB` zero, so that the layer begins as it was.
 *
 * @param kernelSize `k`, both height and width
 * @param options.groups as of the convolution. Default 1
 */
export function initLoraConv2d(
  rng: Rng,
  inChannels: number,
  outChannels: number,
  kernelSize: number,
  options: InitLoraOptions & { groups?: number },
): { loraA: NDArray; loraB: NDArray } {
  const fn = 'initLoraConv2d';
  checkSize(fn, 'inChannels', inChannels);
  checkSize(fn, 'outChannels', outChannels);
  checkSize(fn, 'kernelSize', kernelSize);
  checkOptions(fn, options, ['rank', 'groups']);
  const { rank, groups = 1 } = options;
  checkSize(fn, 'rank', rank);
  checkSize(fn, 'groups', groups);
  if (inChannels % groups !== 0 || outChannels % groups !== 0) {
    throw outOfRange(fn, 'groups', `a divisor of the ${inChannels} and ${outChannels} channels`, groups);
  }
  const bound = 1 / Math.sqrt(inChannels * kernelSize);
  return {
    loraA: uniform(rng, [rank * kernelSize, inChannels * kernelSize], { low: -bound, high: bound }),
    loraB: filled([(outChannels / groups) * kernelSize, rank * kernelSize], 0),
  };
}
