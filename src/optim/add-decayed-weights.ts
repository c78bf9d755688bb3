import { checkOptions } from '../core/errors.js';
import { add, mul } from '../core/ops/elementwise.js';
import { checkMask, checkNonNegative, type Mask, mapNamed, maskFor, type Transform, transform, wide } from './transform.js';

export interface AddDecayedWeightsOptions {
  /** The factor of the parameters, >= 0. Default 0. */
  weightDecay?: number;
  /** Which parameters decay. Default: all. */
  mask?: Mask;
}

/**
 * Adds `weightDecay * parameter` to the updates: before the moments it is L2 regularisation (coupled decay), after them decoupled
 * decay as in AdamW.
 *
 * @throws if `mask` names a parameter that is not there
 */
export function addDecayedWeights(options: AddDecayedWeightsOptions = {}): Transform {
  checkOptions('addDecayedWeights', options, ['weightDecay', 'mask']);
  return weightDecayLink('addDecayedWeights', options.weightDecay ?? 0, options.mask, 'mask');
}

/** {@link addDecayedWeights} as a part of `fn`, which calls the mask `maskName`. */
export function weightDecayLink(fn: string, weightDecay: number, mask: Mask | undefined, maskName = 'weightDecayMask'): Transform {
  checkNonNegative(fn, 'weightDecay', weightDecay);
  checkMask(fn, maskName, mask);
  return transform(fn, {
    update: (updates, _, params) => {
      const decays = maskFor(fn, maskName, mask, params);
      if (weightDecay === 0) return { updates };
      return {
        updates: mapNamed(updates, (u, name) => {
          const param = params[name];
          return param && decays(name) ? add(wide(u), mul(wide(param), weightDecay)) : u;
        }),
      };
    },
  });
}
