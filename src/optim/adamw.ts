import { checkOptions } from '../core/errors.js';
import { type AdamOptions, adamOptions } from './adam.js';
import { weightDecayLink } from './add-decayed-weights.js';
import { chain } from './chain.js';
import { adamLink } from './scale-by-adam.js';
import { learningRateLink } from './scale-by-learning-rate.js';
import type { Optimizer } from './transform.js';

export interface AdamwOptions extends Omit<AdamOptions, 'weightDecay'> {
  /** Decoupled decay: every step shrinks parameters by `learningRate * weightDecay`. Default 0.01, as in PyTorch (optax: 1e-4). */
  weightDecay?: number;
}

/**
 * Adam with decoupled weight decay.
 *
 * State, float32: `m.<name>`, `v.<name>`, with amsgrad `vMax.<name>`; int32 `step`.
 *
 * Source: Decoupled Weight Decay Regularization (1711.05101), in PyTorch's form (the decay is scaled by the learning rate).
 *
 * @throws on a negative learning rate or decay, a beta outside [0, 1), or eps that is not positive
 * @example
 * ```ts
 * import { adamw } from 'tracegrad/optim';
 *
 * const optimizer = adamw({ learningRate: 3e-4, weightDecayMask: (name) => !name.endsWith('bias') });
 * ```
 */
export function adamw(options: AdamwOptions = {}): Optimizer {
  checkOptions('adamw', options, adamOptions);
  const { learningRate = 1e-3, weightDecay = 0.01, weightDecayMask: mask, ...moments } = options;
  return chain(adamLink('adamw', moments), weightDecayLink('adamw', weightDecay, mask), learningRateLink('adamw', learningRate));
}
