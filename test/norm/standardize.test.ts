import { describe, expect, it } from 'vitest';
import { mul, type Tensor, toNumbers } from '../../src/index.js';
import { center, centerOn, rstdOf, scaled } from '../../src/norm/standardize.js';
import { normalArray } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { check, checkDerivatives, flat, moments } from './reference.js';

type Traced = Readonly<Record<string, Tensor>>;

/** Rows of `[3, 5]`: every output that has a gradient. */
const outputs = {
  both: ({ x }: Traced) => {
    const { mean, variance } = center(x!, [1]);
    return { mean, variance };
  },
  mean: ({ x }: Traced) => ({ mean: center(x!, [1]).mean }),
  variance: ({ x }: Traced) => ({ variance: center(x!, [1]).variance }),
  normal: ({ x, factor, shift }: Traced) => {
    const centered = center(x!, [1]);
    return { y: scaled(centered, mul(factor!, rstdOf(centered.variance, 0.1)), shift) };
  },
  'about another mean': ({ x, factor }: Traced) => {
    const { mean, variance } = center(mul(x!, factor!), [1]);
    return { y: scaled(centerOn(x!, mean, variance), rstdOf(variance, 0.1)) };
  },
};

describe('center', () => {
  it.each(Object.entries(outputs))('has first and second derivatives: %s', (_, layer) => {
    checkDerivatives(layer, { x: normalArray(1, [3, 5]), factor: normalArray(2, [3, 1]), shift: normalArray(3, [3, 1]) });
  });
});

describe.each(await testDevices())('center on %s', (_, backend) => {
  it.each([['mean'], ['variance'], ['both']] as const)('has the gradient of %s', async (name) => {
    await check(backend, {
      inputs: { x: normalArray(1, [3, 5]) },
      layer: outputs[name],
      definition: ({ x }) => {
        const { mean, variance } = moments(x!, (i) => Math.floor(i / 5));
        return { ...(name === 'variance' ? {} : { mean }), ...(name === 'mean' ? {} : { variance }) };
      },
    });
  });

  it.each([0.1, -12345.678, 1e6 + 0.5])('finds that equal numbers %d have no variance', async (value) => {
    const { variance, y } = await run(
      backend,
      (x: Tensor) => {
        const centered = center(x, [1]);
        return { variance: centered.variance, y: scaled(centered, rstdOf(centered.variance, 1e-5)) };
      },
      flat(value, [4, 997]),
    );
    // Not a millionth of the usual eps, and so nothing that it could blow up.
    expect(Math.max(...toNumbers(variance))).toBeLessThan(1e-11);
    expect(Math.max(...toNumbers(y).map(Math.abs))).toBeLessThan(1e-4);
  });
});
