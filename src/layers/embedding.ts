import type { NDArray } from '../core/array.js';
import { checkParams, checkSize, outOfRange } from '../core/errors.js';
import { expectRange, gather } from '../core/ops/indexing.js';
import type { Rng } from '../core/rng.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { normal } from './init.js';

export interface EmbeddingParams {
  /** `[vocabulary, features]` */
  weight: Tensor;
}

/**
 * Rows of a table by index.
 *
 * @param indices int32 of any shape, in `[0, vocabulary)`; checked before every run where they are an argument of the compiled function
 * @param params see {@link initEmbedding}
 * @returns `[...indices.shape, features]`
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type EmbeddingParams, embedding } from 'tracegrad/layers';
 *
 * const embed = (p: EmbeddingParams, tokens: Tensor) => embedding(tokens, p); // [B, T] -> [B, T, features]
 * ```
 */
export function embedding(indices: Tensor, params: EmbeddingParams): Tensor {
  checkParams('embedding', params, ['weight']);
  const weight = checkFloat('embedding', 'weight', params.weight);
  if (weight.rank !== 2) throw outOfRange('embedding', 'weight', 'a Tensor [vocabulary, features]', weight);
  return gather(weight, expectRange(indices, { fn: 'embedding', argument: 'indices', min: 0, max: (weight.shape[0] as number) - 1 }));
}

/** Initial parameters of {@link embedding}: standard normal, as in PyTorch. */
export function initEmbedding(rng: Rng, vocabulary: number, features: number): { weight: NDArray } {
  checkSize('initEmbedding', 'vocabulary', vocabulary);
  checkSize('initEmbedding', 'features', features);
  return { weight: normal(rng, [vocabulary, features]) };
}
