import { filled, type NDArray } from '../core/array.js';
import { checkBoolean, checkOptions, checkParams, checkSize, outOfRange } from '../core/errors.js';
import { add, mul } from '../core/ops/elementwise.js';
import type { Rng } from '../core/rng.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { dropout } from './dropout.js';
import { checkRate } from './dropout-mask.js';
import { uniform } from './init.js';
import { linear } from './linear.js';
import { frozen, type InitLoraOptions, type LoraOptions, loraFactors, rankOf } from './lora.js';

/** Parameters of {@link loraLinear}: those of `linear`, which are not trained, and the factors, which are. */
export interface LoraLinearParams {
  /** `[out, in]` */
  weight: Tensor;
  /** `[out]` */
  bias?: Tensor;
  /** `[rank, in]` */
  loraA: Tensor;
  /** `[out, rank]` */
  loraB: Tensor;
}

export interface LoraLinearOptions extends LoraOptions {
  /** Rate of the dropout on the input of the low-rank branch. Default 0. */
  dropout?: number;
  /** False switches dropout off. Default true. */
  training?: boolean;
}

/**
 * Low-rank adaptation of a linear layer: `x W^T + b + (alpha / rank) dropout(x) A^T B^T`. `W` and `b` are those of a trained layer and
 * get no gradient; only `A` and `B` are trained, `rank (in + out)` numbers. {@link mergeLora} gives the layer without the branch.
 *
 * A gradient of 0 is still a gradient to an optimizer with weight decay: keep `W` and `b` out of the training by `trainable` of the
 * trainer, which also saves their optimizer state.
 *
 * Source: LoRA: Low-Rank Adaptation of Large Language Models (2106.09685), with the initialisation of the official code.
 *
 * @param x `[..., in]`, float
 * @param params a layer's `weight` and `bias` and what {@link initLoraLinear} gives
 * @returns `[..., out]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { createRng, type Tensor, type Tensors } from 'tracegrad';
 * import { initLinear, initLoraLinear, loraLinear } from 'tracegrad/layers';
 *
 * const rng = createRng(0);
 * const trained = initLinear(rng, 512, 512); // or from a file
 * const params = { ...trained, ...initLoraLinear(rng, 512, 512, { rank: 8 }) };
 * const layer = (p: Tensors<typeof params>, x: Tensor) => loraLinear(x, p, { alpha: 16 });
 * const trainable = (name: string) => /\.?lora[AB]$/.test(name);
 * ```
 */
export function loraLinear(x: Tensor, params: LoraLinearParams, options: LoraLinearOptions = {}): Tensor {
  const fn = 'loraLinear';
  checkFloat(fn, 'x', x);
  checkParams(fn, params, ['weight', 'bias', 'loraA', 'loraB']);
  checkOptions(fn, options, ['alpha', 'dropout', 'training']);
  const { alpha = 1, dropout: rate = 0, training = true } = options;
  checkRate(fn, 'dropout', rate);
  checkBoolean(fn, 'training', training);
  const weight = frozen(fn, 'weight', params.weight);
  const [rows, columns] = weight.shape;
  if (weight.rank !== 2 || rows === undefined || columns === undefined) throw outOfRange(fn, 'weight', 'shape [out, in]', weight);
  const { loraA, loraB, scale } = loraFactors(fn, params, alpha, { rows, columns });
  const y = linear(x, params.bias ? { weight, bias: frozen(fn, 'bias', params.bias) } : { weight });
  const low = linear(dropout(x, { rate, training }), { weight: loraA });
  return add(y, linear(mul(low, scale), { weight: loraB }));
}

/**
 * Initial factors of {@link loraLinear}: `loraA` uniform within `1 / sqrt(in)` (the paper: normal), `loraB` zero, so that the layer
 * begins as it was.
 */
export function initLoraLinear(
  rng: Rng,
  inFeatures: number,
  outFeatures: number,
  options: InitLoraOptions,
): { loraA: NDArray; loraB: NDArray } {
  const fn = 'initLoraLinear';
  checkSize(fn, 'inFeatures', inFeatures);
  checkSize(fn, 'outFeatures', outFeatures);
  const rank = rankOf(fn, options);
  const bound = 1 / Math.sqrt(inFeatures);
  return { loraA: uniform(rng, [rank, inFeatures], { low: -bound, high: bound }), loraB: filled([outFeatures, rank], 0) };
}
