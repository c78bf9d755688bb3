import { checkOptions } from '../core/errors.js';
import { weightDecayLink } from './add-decayed-weights.js';
import { chain } from './chain.js';
import { adamLink, type ScaleByAdamOptions } from './scale-by-adam.js';
import { type LearningRate, learningRateLink } from './scale-by-learning-rate.js';
import type { Mask, Optimizer } from './transform.js';

export interface AdamOptions extends ScaleByAdamOptions {
  /** Default 1e-3. */
  learningRate?: LearningRate;
  /** L2 regularisation: `weightDecay * parameter` is added to the gradient, before the moments. Default 0. */
  weightDecay?: number;
  /** Which parameters decay. Default: all. */
  weightDecayMask?: Mask;
}

export const adamOptions = ['learningRate', 'beta1', 'beta2', 'eps', 'amsgrad', 'weightDecay', 'weightDecayMask'];

/**
 * Adam, with the coupled weight decay of PyTorch's `Adam` (for the decoupled one use `adamw`).
 *
 * State, float32: `m.<name>`, `v.<name>`, with amsgrad `vMax.<name>`; int32 `step`.
 *
 * Source: Adam: A Method for Stochastic Optimization (1412.6980).
 *
 * @throws on a negative learning rate or decay, a beta outside [0, 1), or eps that is not positive
 * @example
 * ```ts
 * import { adam } from 'tracegrad/optim';
 *
 * const optimizer = adam({ learningRate: (step) => 1e-3 * 0.99 ** step });
 * ```
 */
export function adam(options: AdamOptions = {}): Optimizer {
  checkOptions('adam', options, adamOptions);
  const { learningRate = 1e-3, weightDecay = 0, weightDecayMask: mask, ...moments } = options;
  return chain(weightDecayLink('adam', weightDecay, mask), adamLink('adam', moments), learningRateLink('adam', learningRate));
}
