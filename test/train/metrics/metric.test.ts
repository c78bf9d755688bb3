import { describe, expect, it } from 'vitest';
import { array, mean, type Tensor } from '../../../src/index.js';
import { meanOf } from '../../../src/train/index.js';
import { leaf } from '../../support/leaves.js';
import { meter } from '../../support/metrics.js';
import { testDevices } from '../../support/test-devices.js';

const devices = await testDevices();

describe.each(devices)('meanOf on %s', (_, backend) => {
  it('is the mean over the elements of all batches', async () => {
    await using found = meter(backend, (x) => meanOf(x as Tensor));
    expect(await found.value([array([1, 2, 3])], [array([10])])).toBe(4);
  });

  it('weighs means by the number of their elements', async () => {
    await using found = meter(backend, (x) => meanOf(mean(x as Tensor), (x as Tensor).shape[0]));
    expect(await found.value([array([1, 2, 3])], [array([10])])).toBe(4);
    expect(await found.sums([array([1, 2, 3])])).toEqual([6, 3]);
  });

  it('weighs elements, and skips those without weight', async () => {
    await using found = meter(backend, (x, w) => meanOf(x as Tensor, w));
    expect(await found.value([array([1, 2, Number.NaN]), array([3, 1, 0])])).toBe(1.25);
    expect(await found.value([array([1, 2, Infinity]), array([true, true, false])])).toBe(1.5);
    expect(
      await found.value([
        array([
          [1, 2],
          [3, 5],
        ]),
        array([[0], [1]]),
      ]),
    ).toBe(4);
  });

  it('counts bool and int32', async () => {
    await using found = meter(backend, (x) => meanOf(x as Tensor));
    expect(await found.value([array([true, false, true, true])])).toBe(0.75);
    expect(await found.value([array([1, 2], { dtype: 'int32' })])).toBe(1.5);
  });

  it('is 0 where nothing counts', async () => {
    await using found = meter(backend, (x, w) => meanOf(x as Tensor, w));
    expect(await found.value([array([Number.NaN, 2]), array([0, 0])])).toBe(0);
    expect(await found.value([array([]), array([])])).toBe(0);
  });
});

describe('meanOf', () => {
  it.each([
    ['values: expected a Tensor, received 3', () => meanOf(3 as never)],
    ['weights: expected a number >= 0, received -1', () => meanOf(leaf([3]), -1)],
    ['weights: expected a number >= 0, received NaN', () => meanOf(leaf([3]), Number.NaN)],
    ['weights: expected a bool or float Tensor, or a number, received int32[3]', () => meanOf(leaf([3]), leaf([3], 'int32'))],
    ['weights: expected a shape that broadcasts to that of values ([3]), received float32[2, 3]', () => meanOf(leaf([3]), leaf([2, 3]))],
  ])('%s', (message, build) => {
    expect(build).toThrow(expect.objectContaining({ message: `meanOf: ${message}` }));
  });
});
