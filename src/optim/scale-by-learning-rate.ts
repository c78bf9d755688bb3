import { checkNumber, wrongType } from '../core/errors.js';
import { hostInput } from '../core/leaf.js';
import { mul, neg } from '../core/ops/elementwise.js';
import { mapNamed, type Transform, transform, wide } from './transform.js';

/** A learning rate as a function of the step, which counts from 0. Computed on the host in float64. */
export type Schedule = (step: number) => number;

/** A fixed learning rate >= 0, or a schedule. */
export type LearningRate = number | Schedule;

function checkLearningRate(fn: string, learningRate: unknown): asserts learningRate is LearningRate {
  if (typeof learningRate === 'function') return;
  if (typeof learningRate !== 'number') throw wrongType(fn, 'learningRate', 'a number >= 0 or a function of the step', learningRate);
  checkNumber(fn, 'learningRate', learningRate, 'a number >= 0 or a function of the step', (lr) => lr >= 0);
}

/**
 * The last link of a chain: multiplies updates by `-learningRate`, so that adding them descends.
 *
 * @param learningRate a number, or a function of the step; a schedule that returns a negative or non-finite rate fails the step
 */
export function scaleByLearningRate(learningRate: LearningRate): Transform {
  return learningRateLink('scaleByLearningRate', learningRate);
}

/** {@link scaleByLearningRate} as a part of `fn`. */
export function learningRateLink(fn: string, learningRate: LearningRate): Transform {
  checkLearningRate(fn, learningRate);
  const rateAt = (step: number): number => {
    if (typeof learningRate === 'number') return learningRate;
    const rate = learningRate(step);
    checkNumber(fn, `learningRate(${step})`, rate, 'a number >= 0', (lr) => lr >= 0);
    return rate;
  };
  return transform(fn, {
    learningRates: [rateAt],
    update: (updates, _state, _params, extra) => {
      const rate = extra.learningRate ?? (typeof learningRate === 'number' ? learningRate : hostInput(({ step }) => rateAt(step)));
      const factor = typeof rate === 'number' ? -rate : neg(rate);
      return { updates: mapNamed(updates, (u) => mul(wide(u), factor)) };
    },
  });
}
