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
  const fn = 'addDecayedWeights';
  checkOptions(fn, options, ['weightDecay', 'mask']);
  const { weightDecay = 0, mask } = options;
  checkNonNegative(fn, 'weightDecay', weightDecay);
  checkMask(fn, 'mask', mask);
  return transform(fn, {
    update: (updates, _, params) => {
      const decays = maskFor(fn, 'mask', mask, params);
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
