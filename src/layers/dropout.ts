import { checkBoolean, checkOptions } from '../core/errors.js';
import { zerosLike } from '../core/ops/constant.js';
import { normalizeAxes } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { checkRate, keepMask, keepOnly } from './dropout-mask.js';

export interface DropoutOptions {
  /** Share of the elements that become 0, from 0 to 1. */
  rate: number;
  /** False returns `x`. Default true. */
  training?: boolean;
  /** Axes along which elements share their fate: `[2, 3]` for channels of `[N, C, H, W]` (`Dropout2d` of PyTorch). Default none. */
  sharedAxes?: number | readonly number[];
}

/**
 * Sets elements to 0 at random, each with probability `rate`, and divides the others by `1 - rate`, so that expectations
 * stay. The mask is drawn on the host before every run, from the seed of the compiled function or trainer: every step and
 * every call of `dropout` has its own, and the same seed gives the same masks on every device. Rate 1 gives zeros.
 *
 * Source: Dropout: A Simple Way to Prevent Neural Networks from Overfitting (Srivastava et al., 2014); shared axes: 1411.4280.
 *
 * @param x float
 * @returns a Tensor like `x`
 * @example
 * ```ts
 * import { relu, type Tensor } from 'tracegrad';
 * import { dropout, type LinearParams, linear } from 'tracegrad/layers';
 *
 * const layer = (p: LinearParams, x: Tensor, training: boolean) => dropout(relu(linear(x, p)), { rate: 0.5, training });
 * ```
 */
export function dropout(x: Tensor, options: DropoutOptions): Tensor {
  checkFloat('dropout', 'x', x);
  checkOptions('dropout', options, ['rate', 'training', 'sharedAxes']);
  const { rate, training = true, sharedAxes = [] } = options;
  checkRate('dropout', 'rate', rate);
  checkBoolean('dropout', 'training', training);
  const shared = normalizeAxes('dropout', sharedAxes, x.rank, 'sharedAxes');
  if (!training || rate === 0) return x;
  if (rate === 1) return zerosLike(x);
  const shape = x.shape.map((size, axis) => (shared.includes(axis) ? 1 : size));
  return keepOnly(x, keepMask(shape, rate), rate);
}
