import { expect } from 'vitest';
import { inputLeaf } from '../../src/core/leaf.js';
import { gradients, type Rng, sum, type Tensor } from '../../src/index.js';
import { evaluate, type RefArray } from './reference.js';

/** Elements compared per Tensor; of larger ones this many are drawn. */
const SAMPLED = 40;
const STEP = 1e-5;

/**
 * Compares the gradient of a scalar with central differences, all of it computed by the reference in float64. Values must
 * keep some distance from kinks.
 *
 * @param values of the leaves, those in `wrt` among them
 */
export function checkGradient(
  loss: Tensor,
  gradient: readonly Tensor[],
  wrt: readonly Tensor[],
  values: ReadonlyMap<Tensor, RefArray>,
  rng: Rng,
): void {
  const analytic = evaluate(gradient, values);
  wrt.forEach((x, i) => {
    const { shape, data } = values.get(x) as RefArray;
    const lossAt = (element: number, shift: number): number => {
      const moved = data.slice();
      moved[element] = (moved[element] as number) + shift;
      return evaluate([loss], new Map([...values, [x, { shape, data: moved }]]))[0]?.data[0] as number;
    };
    expect(analytic[i]?.shape).toEqual(shape);
    for (const element of rng.shuffle([...data.keys()]).slice(0, SAMPLED)) {
      const numeric = (lossAt(element, STEP) - lossAt(element, -STEP)) / (2 * STEP);
      const found = analytic[i]?.data[element] as number;
      const what = `gradient at element ${element} of argument ${i}: ${found}, by differences ${numeric}`;
      expect(Math.abs(found - numeric), what).toBeLessThan(1e-6 * Math.max(Math.abs(numeric), 0.05));
    }
  });
}

/** The gradient of the sum of `f(x)` at a vector, for spot checks, by the reference. */
export function gradientAt(f: (x: Tensor) => Tensor, at: readonly number[]): number[] {
  const x = inputLeaf({ shape: [at.length], dtype: 'float32' }, 'x');
  const values = new Map([[x, { shape: [at.length], data: Float64Array.from(at) }]]);
  return [...(evaluate(gradients(sum(f(x)), [x]), values)[0] as RefArray).data];
}
