import { checkBoolean, checkNumber, checkOptions } from '../core/errors.js';
import { zeros } from '../core/ops/constant.js';
import { add, div, expm1, maximum, mul, neg, sqrt, square } from '../core/ops/elementwise.js';
import { cast } from '../core/ops/select.js';
import type { Tensor } from '../core/tensor.js';
import type { Named } from './gradients.js';
import { checkDecayRate, mapNamed, slot, stateOf, type Transform, transform, wide } from './transform.js';

export interface ScaleByAdamOptions {
  /** Decay rate of the first moment, in [0, 1). Default 0.9. */
  beta1?: number;
  /** Decay rate of the second moment, in [0, 1). Default 0.999. */
  beta2?: number;
  /** Added to the root of the second moment, > 0. Default 1e-8. */
  eps?: number;
  /** Divide by the largest second moment so far (1904.09237). Default false. */
  amsgrad?: boolean;
}

/** `1 - beta^t` for t >= 1, without cancellation; `t` counts applied updates on the device. */
const biasCorrection = (beta: number, t: Tensor): Tensor | number => (beta === 0 ? 1 : neg(expm1(mul(cast(t, 'float32'), Math.log(beta)))));

/**
 * Adam's step without its learning rate: `(m / (1 - beta1^t)) / (sqrt(v) / sqrt(1 - beta2^t) + eps)`.
 *
 * State, float32: `m.<name>`, `v.<name>` (with amsgrad `vMax.<name>`), and the int32 `step`, which counts applied updates.
 *
 * Source: Adam (1412.6980); the order of operations is PyTorch's.
 */
export function scaleByAdam(options: ScaleByAdamOptions = {}): Transform {
  checkOptions('scaleByAdam', options, ['beta1', 'beta2', 'eps', 'amsgrad']);
  return adamLink('scaleByAdam', options);
}

/** {@link scaleByAdam} as a part of `fn`. */
export function adamLink(fn: string, options: ScaleByAdamOptions): Transform {
  const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, amsgrad = false } = options;
  checkDecayRate(fn, 'beta1', beta1);
  checkDecayRate(fn, 'beta2', beta2);
  checkNumber(fn, 'eps', eps, 'a number > 0', (e) => e > 0);
  checkBoolean(fn, 'amsgrad', amsgrad);
  const perParameter = ['m', 'v', ...(amsgrad ? ['vMax'] : [])];
  return transform(fn, {
    slots: [...perParameter, 'step'],
    init: (params) => {
      const blank = mapNamed(params, (p) => zeros(p.shape));
      return { ...Object.assign({}, ...perParameter.map((name) => slot(name, blank))), step: zeros([], 'int32') };
    },
    update: (updates, state) => {
      const step = add(stateOf(fn, state, 'step'), 1);
      const rate = biasCorrection(beta1, step);
      const variance = biasCorrection(beta2, step);
      const root = typeof variance === 'number' ? Math.sqrt(variance) : sqrt(variance);
      const next: Record<string, Tensor> = { step };
      const blend = (name: string, value: Tensor, beta: number): Tensor => {
        const moment = add(mul(stateOf(fn, state, name), beta), mul(value, 1 - beta));
        next[name] = moment;
        return moment;
      };
      const scaled = mapNamed(updates, (u, name) => {
        const g = wide(u);
        const m = blend(`m.${name}`, g, beta1);
        let v = blend(`v.${name}`, square(g), beta2);
        if (amsgrad) {
          v = maximum(stateOf(fn, state, `vMax.${name}`), v);
          next[`vMax.${name}`] = v;
        }
        return div(div(m, rate), add(div(sqrt(v), root), eps));
      });
      return { updates: scaled, state: next as Named };
    },
  });
}
