import { checkOptions } from '../core/errors.js';
import { weightDecayLink } from './add-decayed-weights.js';
import { chain } from './chain.js';
import { type LearningRate, learningRateLink } from './scale-by-learning-rate.js';
import { traceLink } from './trace.js';
import type { Mask, Optimizer } from './transform.js';

export interface SgdOptions {
  learningRate: LearningRate;
  /** In [0, 1). Default 0: no momentum and no state. */
  momentum?: number;
  /** Share of the gradient held back from the momentum, from 0 (default) to 1; nothing is in the first step. */
  dampening?: number;
  /** Default false. */
  nesterov?: boolean;
  /** L2 regularisation: `weightDecay * parameter` is added to the gradient. Default 0. */
  weightDecay?: number;
  /** Which parameters decay. Default: all. */
  weightDecayMask?: Mask;
}

/**
 * Stochastic gradient descent with momentum, in PyTorch's convention: the learning rate stays outside the momentum, and weight
 * decay is added to the gradient before it. (optax has no dampening and no decay here.)
 *
 * State: `momentum.<name>` where momentum is used.
 *
 * @throws on a negative learning rate or decay, momentum outside [0, 1), or Nesterov without momentum or with dampening
 * @example
 * ```ts
 * import { sgd } from 'tracegrad/optim';
 *
 * const optimizer = sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true });
 * ```
 */
export function sgd(options: SgdOptions): Optimizer {
  const fn = 'sgd';
  checkOptions(fn, options, ['learningRate', 'momentum', 'dampening', 'nesterov', 'weightDecay', 'weightDecayMask']);
  const { learningRate, momentum = 0, dampening = 0, nesterov = false, weightDecay = 0, weightDecayMask: mask } = options;
  if (momentum === 0 && dampening !== 0) throw new RangeError(`${fn}: dampening needs momentum > 0, received dampening ${dampening}`);
  return chain(
    weightDecayLink(fn, weightDecay, mask),
    ...(momentum === 0 && !nesterov ? [] : [traceLink(fn, { decay: momentum, dampening, nesterov })]),
    learningRateLink(fn, learningRate),
  );
}
