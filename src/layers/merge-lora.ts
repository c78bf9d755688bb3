import { checkBoolean, checkOptions, checkParams, outOfRange } from '../core/errors.js';
import { checkFloat } from '../core/tensor.js';
import { type LoraOptions, type LoraParams, mergedWeight } from './lora.js';

export interface MergeLoraOptions extends LoraOptions {
  /** The parameters are those of `loraEmbedding`. Default false: of `loraLinear` or `loraConv2d`, by the rank of the weight. */
  embedding?: boolean;
}

/**
 * The parameters of the plain layer that computes what a low-rank adapted one does outside of training: the weight is
 * `W + (alpha / rank) B A`. To have the update separate again keep `W`; subtracting it would leave rounding errors.
 *
 * @param params of `loraLinear`, `loraConv2d` or `loraEmbedding`
 * @param options.alpha as of the layer
 * @returns `weight`, and `bias` where there is one, for `linear`, `conv2d` or `embedding`; `W` gets no gradient
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type LoraLinearParams, linear, mergeLora } from 'tracegrad/layers';
 *
 * const merged = (p: LoraLinearParams, x: Tensor) => linear(x, mergeLora(p, { alpha: 16 }));
 * ```
 */
export function mergeLora<P extends LoraParams>(params: P, options: MergeLoraOptions = {}): Omit<P, 'loraA' | 'loraB'> {
  const fn = 'mergeLora';
  checkParams(fn, params, ['weight', 'bias', 'loraA', 'loraB']);
  checkOptions(fn, options, ['alpha', 'embedding']);
  const { alpha = 1, embedding = false } = options;
  checkBoolean(fn, 'embedding', embedding);
  const { loraA, loraB, ...layer } = params;
  const [, inputs = 0, k = 1] = checkFloat(fn, 'weight', params.weight).shape;
  const convolution = params.weight.rank === 4 && !embedding;
  const groups = convolution ? (checkFloat(fn, 'loraA', loraA).shape[1] ?? 0) / (inputs * k) : 1;
  if (convolution && !(Number.isInteger(groups) && groups > 0)) throw outOfRange(fn, 'loraA', `shape [${k} * rank, in * ${k}]`, loraA);
  return { ...layer, weight: mergedWeight(fn, params, alpha, embedding ? 'embedding' : convolution ? { groups } : 'linear') };
}
