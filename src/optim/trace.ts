import { checkBoolean, checkNumber, checkOptions } from '../core/errors.js';
import { zeros } from '../core/ops/constant.js';
import { add, mul } from '../core/ops/elementwise.js';
import { equal, where } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import { checkDecayRate, mapNamed, slot, stateOf, type Transform, transform, wide } from './transform.js';

export interface TraceOptions {
  /** Weight of the old momentum, in [0, 1). */
  decay: number;
  /** Share of the new update that is held back, from 0 (default) to 1; nothing is in the first step. */
  dampening?: number;
  /** Nesterov's momentum; needs dampening 0. Default false. */
  nesterov?: boolean;
}

/**
 * Momentum in PyTorch's convention: `b <- decay b + (1 - dampening) u`, and the update is `b`, or `u + decay b` with Nesterov. In the
 * first step `b <- u`.
 *
 * State, float32: `momentum.<name>`, and with dampening the int32 `step`.
 */
export function trace(options: TraceOptions): Transform {
  checkOptions('trace', options, ['decay', 'dampening', 'nesterov']);
  return traceLink('trace', options, 'decay');
}

/** {@link trace} as a part of `fn`, which calls the decay `decayName`. */
export function traceLink(fn: string, options: TraceOptions, decayName = 'momentum'): Transform {
  const { decay, dampening = 0, nesterov = false } = options;
  checkDecayRate(fn, decayName, decay);
  checkNumber(fn, 'dampening', dampening, 'a number from 0 to 1', (d) => d >= 0 && d <= 1);
  checkBoolean(fn, 'nesterov', nesterov);
  if (nesterov && (decay === 0 || dampening !== 0)) {
    throw new RangeError(
      `${fn}: nesterov needs ${decayName} > 0 and dampening 0, received ${decayName} ${decay} and dampening ${dampening}`,
    );
  }
  const counts = dampening !== 0; // without it the first step is like any other, as momentum starts at 0
  return transform(fn, {
    slots: ['momentum', ...(counts ? ['step'] : [])],
    init: (params) => ({
      ...slot(
        'momentum',
        mapNamed(params, (p) => zeros(p.shape)),
      ),
      ...(counts ? { step: zeros([], 'int32') } : {}),
    }),
    update: (updates, state) => {
      const next: Record<string, Tensor> = {};
      const share = counts ? where(equal(stateOf(fn, state, 'step'), 0), 1, 1 - dampening) : 1;
      if (counts) next.step = add(stateOf(fn, state, 'step'), 1);
      const result = mapNamed(updates, (u, name) => {
        const key = `momentum.${name}`;
        const fresh = wide(u);
        const momentum = add(mul(stateOf(fn, state, key), decay), counts ? mul(fresh, share) : fresh);
        next[key] = momentum;
        return nesterov ? add(fresh, mul(momentum, decay)) : momentum;
      });
      return { updates: result, state: next };
    },
  });
}
