import { filled, type NDArray } from '../core/array.js';
import { checkOptions, checkParams, checkSize, outOfRange } from '../core/errors.js';
import { add, mul } from '../core/ops/elementwise.js';
import { transpose } from '../core/ops/movement.js';
import type { Rng } from '../core/rng.js';
import type { Tensor } from '../core/tensor.js';
import { embedding } from './embedding.js';
import { normal } from './init.js';
import { linear } from './linear.js';
import { frozen, type InitLoraOptions, type LoraOptions, loraFactors, rankOf } from './lora.js';

/** Parameters of {@link loraEmbedding}: that of `embedding`, which is not trained, and the factors, which are. */
export interface LoraEmbeddingParams {
  /** `[vocabulary, features]` */
  weight: Tensor;
  /** `[rank, vocabulary]` */
  loraA: Tensor;
  /** `[features, rank]` */
  loraB: Tensor;
}

/**
 * Low-rank adaptation of an embedding: rows of `W + (alpha / rank) (B A)^T`, of which only the rows that are asked for are computed. `W`
 * gets no gradient; see `loraLinear`.
 *
 * Source: LoRA (2106.09685), as in the official code.
 *
 * @param indices as of `embedding`
 * @param params the `weight` of a trained embedding and what {@link initLoraEmbedding} gives
 * @returns `[...indices.shape, features]`
 * @throws if the sizes do not fit
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type LoraEmbeddingParams, loraEmbedding } from 'tracegrad/layers';
 *
 * const embed = (p: LoraEmbeddingParams, tokens: Tensor) => loraEmbedding(tokens, p, { alpha: 16 });
 * ```
 */
export function loraEmbedding(indices: Tensor, params: LoraEmbeddingParams, options: LoraOptions = {}): Tensor {
  const fn = 'loraEmbedding';
  checkParams(fn, params, ['weight', 'loraA', 'loraB']);
  checkOptions(fn, options, ['alpha']);
  const weight = frozen(fn, 'weight', params.weight);
  const [columns, rows] = weight.shape;
  if (weight.rank !== 2 || rows === undefined || columns === undefined)
    throw outOfRange(fn, 'weight', 'shape [vocabulary, features]', weight);
  const { loraA, loraB, scale } = loraFactors(fn, params, options.alpha ?? 1, { rows, columns });
  const low = embedding(indices, { weight: transpose(loraA) });
  return add(embedding(indices, { weight }), linear(mul(low, scale), { weight: loraB }));
}

/** Initial factors of {@link loraEmbedding}: `loraA` zero, `loraB` standard normal, so that the layer begins as it was. */
export function initLoraEmbedding(
  rng: Rng,
  vocabulary: number,
  features: number,
  options: InitLoraOptions,
): { loraA: NDArray; loraB: NDArray } {
  const fn = 'initLoraEmbedding';
  checkSize(fn, 'vocabulary', vocabulary);
  checkSize(fn, 'features', features);
  const rank = rankOf(fn, options);
  return { loraA: filled([rank, vocabulary], 0), loraB: normal(rng, [features, rank]) };
}
