import { checkOptions } from '../core/errors.js';
import { square, sub } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import { sameShape } from '../core/shape.js';
import { checkFloat, type Tensor } from '../core/tensor.js';
import { checkReduction, type Reduction, reduce } from './reduction.js';

export interface MseLossOptions {
  /** Default `'mean'`: over all elements. */
  reduction?: Reduction;
}

/**
 * Mean squared error, `(input - target)^2`. Both arguments get gradients.
 *
 * float16 is computed in float32. Without elements the mean is 0.
 *
 * @param input float, any shape
 * @param target the same shape; unlike in PyTorch it does not broadcast, which is nearly always a mistake
 * @returns a scalar, or with `reduction: 'none'` the shape of `input`
 * @throws if the shapes differ
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { mseLoss } from 'tracegrad/losses';
 *
 * const loss = (prediction: Tensor, target: Tensor) => mseLoss(prediction, target);
 * ```
 */
export function mseLoss(input: Tensor, target: Tensor, options: MseLossOptions = {}): Tensor {
  checkFloat('mseLoss', 'input', input);
  checkFloat('mseLoss', 'target', target);
  checkOptions('mseLoss', options, ['reduction']);
  const { reduction = 'mean' } = options;
  checkReduction('mseLoss', reduction);
  if (!sameShape(input.shape, target.shape)) {
    throw new RangeError(`mseLoss: input [${input.shape.join(', ')}] and target [${target.shape.join(', ')}] differ in shape`);
  }
  return reduce(square(sub(cast(input, 'float32'), cast(target, 'float32'))), reduction);
}
