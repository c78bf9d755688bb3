import { checkOptions, checkSize } from '../core/errors.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { type ChannelParams, checkEps, checkImage, checkVectors } from './channels.js';
import { normalizeGhosts } from './ghost-batch-norm.js';

export interface PatchBatchNormOptions {
  /** Consecutive patches that are of one image. */
  patchesPerImage: number;
  /** Added to the variance. Default 1e-5; with 0 a constant channel gives NaN. */
  eps?: number;
}

/**
 * Patch batch normalization: per image and channel, over the patches of the image and their positions. It takes the place of a trained
 * {@link batchNorm} at inference, with its `weight` and `bias` and without its running statistics, so that an image is judged by itself.
 * One patch per image is {@link instanceNorm}. No state.
 *
 * Source: DisCoPatch: Taming Adversarially-driven Batch Statistics for Improved Out-of-Distribution Detection (2501.08005). There an image's
 * score is 1 - the mean over its patches of `sigmoid(discriminator)`.
 *
 * @param x `[images * patchesPerImage, C, ...]`, float
 * @param params `weight` and `bias`, `[C]`, each optional; see {@link initBatchNorm}
 * @returns a Tensor like `x`
 * @throws if `patchesPerImage` does not divide the batch, an image has a single value per channel, a shape does not fit or eps is negative
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { type ChannelParams, patchBatchNorm } from 'tracegrad/norm';
 *
 * const normalise = (p: ChannelParams, patches: Tensor) => patchBatchNorm(patches, p, { patchesPerImage: 64 });
 * ```
 */
export function patchBatchNorm(x: Tensor, params: ChannelParams, options: PatchBatchNormOptions): Tensor {
  const fn = 'patchBatchNorm';
  const wide = checkImage(fn, x);
  const [samples, channels] = x.shape as [number, number];
  const affine = checkVectors(fn, params, ['weight', 'bias'], channels);
  checkOptions(fn, options, ['patchesPerImage', 'eps']);
  const { patchesPerImage, eps = 1e-5 } = options;
  checkSize(fn, 'patchesPerImage', patchesPerImage);
  checkEps(fn, eps);
  if (samples % patchesPerImage !== 0) {
    throw new RangeError(`${fn}: patchesPerImage: expected a divisor of the ${samples} patches of x, received ${patchesPerImage}`);
  }
  const sizes = Array<number>(samples / patchesPerImage).fill(patchesPerImage);
  return cast(normalizeGhosts(fn, wide, sizes, affine, eps, 'image').y, x.dtype);
}
