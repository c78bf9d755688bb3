import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  array,
  type Backend,
  compile,
  createRng,
  cumsum,
  filled,
  mean,
  type ReduceOptions,
  sum,
  type Tensor,
  toScalar,
  variance,
} from '../../../src/index.js';
import { createBackend } from '../../../src/node.js';
import { expectClose } from '../../support/close.js';
import { webgpuBackend } from '../../support/devices.js';

/** Around the limits where a sum changes from one stage to two and on to three, and sizes that have no divisors. */
const sizes = [1, 2, 255, 256, 257, 511, 512, 513, 521, 4095, 4096, 4097, 4099, 65537, 100003, 262145];

const sums = (options: ReduceOptions) => (x: Tensor) => sum(x, options);

describe.each(['cpu', 'webgpu'] as const)('on %s', (device) => {
  let backend: Backend | undefined;
  beforeAll(async () => {
    backend = device === 'cpu' ? await createBackend({ device }) : await webgpuBackend();
  });
  afterAll(() => backend?.close());

  /** Sums 0.1, which drifts most: one running sum of 10^5 elements is off by 10^-4. */
  async function expectSums(shape: readonly number[], options: ReduceOptions, count: number, skip: (why: string) => void): Promise<void> {
    if (!backend) return skip('there is no device');
    const f = compile(backend, sums(options));
    const { data } = await f(filled(shape, 0.1));
    expectClose(`sums over ${count} elements`, data, Array(data.length).fill(Math.fround(0.1) * count), 5e-6);
    await f.close();
  }

  it.for(sizes)('sums %i elements along the first axis', (size, { skip }) => expectSums([size, 3], { axis: 0 }, size, skip));

  it.for(sizes)('sums %i elements along a middle axis', (size, { skip }) => expectSums([2, size, 2], { axis: 1 }, size, skip));

  it.for(sizes)('sums %i elements along the last axis', (size, { skip }) => expectSums([2, size], { axis: -1 }, size, skip));

  it.for([0, 1])('sums 10^5 elements one after the other along axis %i', async (axis, { skip }) => {
    if (!backend) return skip('there is no device');
    const f = compile(backend, (x: Tensor) => cumsum(x, { axis }));
    const { data } = await f(filled(axis === 0 ? [1e5, 1] : [1, 1e5], 0.1));
    const exact = Array.from({ length: 1e5 }, (_, i) => Math.fround(0.1) * (i + 1));
    data.forEach((value, i) => {
      expect(Math.abs(value / (exact[i] as number) - 1), `element ${i}`).toBeLessThan(5e-6);
    });
    await f.close();
  });

  it('sums over several axes', ({ skip }) => expectSums([60, 70, 80], {}, 336000, skip));

  it('sums over several outer axes', ({ skip }) => expectSums([60, 70, 8], { axis: [0, 1] }, 4200, skip));

  it('takes the variance of numbers far from 0', async ({ skip }) => {
    if (!backend) return skip('there is no device');
    const rng = createRng(1);
    const x = Float32Array.from({ length: 40000 }, () => 2048 + rng.normal());
    const center = x.reduce((a, b) => a + b, 0) / x.length;
    const exact = x.reduce((a, b) => a + (b - center) ** 2, 0) / x.length;
    const f = compile(backend, (t: Tensor) => [variance(t), variance(t, { correction: 1 })]);
    const [population, unbiased] = (await f(array(x))).map(toScalar);
    expect(exact).toBeGreaterThan(0.9);
    expectClose('variance', [population as number, unbiased as number], [exact, (exact * 40000) / 39999], 1e-4);
  });
});

describe('on cpu', () => {
  it('takes the mean of 10^7 elements', async () => {
    await using backend = await createBackend({ device: 'cpu' });
    const f = compile(backend, (x: Tensor) => mean(x));
    expectClose('mean', [toScalar(await f(filled([1e7], 0.1)))], [Math.fround(0.1)], 1e-6);
  });
});
