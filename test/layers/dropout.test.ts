import { describe, expect, it, vi } from 'vitest';
import { array, type Backend, compile, filled, grad, type NDArray, square, sum, type Tensor } from '../../src/index.js';
import { type DropoutOptions, dropout } from '../../src/layers/index.js';
import { leaf } from '../support/leaves.js';
import { testDevices } from '../support/test-devices.js';

const ones = filled([1000, 100], 1);
const dropped = ({ data }: NDArray) => data.filter((value) => value === 0).length / data.length;
const devices = await testDevices();

/** The results of `steps` runs. */
async function runs(backend: Backend, fn: (x: Tensor) => Tensor, x: NDArray, steps: number, seed = 0): Promise<NDArray[]> {
  await using compiled = compile(backend, fn, { seed });
  const results: NDArray[] = [];
  for (let i = 0; i < steps; i++) results.push(await compiled(x));
  return results;
}

describe.each(devices)('dropout on %s', (_, backend) => {
  it.each([0.1, 0.5, 0.9])('drops a share of %d and keeps the mean', async (rate) => {
    const [result] = (await runs(backend, (x) => dropout(x, { rate }), ones, 1)) as [NDArray];
    const error = Math.sqrt((rate * (1 - rate)) / result.data.length);
    expect(Math.abs(dropped(result) - rate)).toBeLessThan(4 * error);
    expect([...new Set(result.data)].sort()).toEqual([0, Math.fround(1 / (1 - rate))]);
    const mean = (result.data as Float32Array).reduce((a, b) => a + b, 0) / result.data.length;
    expect(Math.abs(mean - 1)).toBeLessThan((4 * error) / (1 - rate));
  });

  it('has the same masks for the same seed, other ones in every step, in every call and for other seeds', async () => {
    const twice = (x: Tensor) => dropout(dropout(x, { rate: 0.5 }), { rate: 0.5 });
    const [first, second] = (await runs(backend, twice, ones, 2, 3)) as [NDArray, NDArray];
    expect(await runs(backend, twice, ones, 2, 3)).toEqual([first, second]);
    expect(second).not.toEqual(first);
    expect((await runs(backend, twice, ones, 1, 4))[0]).not.toEqual(first);
    // Two masks that were equal would drop one half.
    expect(dropped(first)).toBeCloseTo(0.75, 1);
  });

  it('has the mask of the value in the gradient', async () => {
    const of = compile(backend, (x: Tensor) => {
      let value: Tensor = x;
      const slope = grad((z: Tensor) => {
        value = dropout(z, { rate: 0.4 });
        return sum(square(value));
      })(x);
      return { value, slope };
    });
    const x = array(Float32Array.from({ length: 1000 }, (_value, i) => 1 + i / 100));
    const { value, slope } = await of(x);
    // d/dx of (m x)^2 is 2 m^2 x, with m the value over x.
    slope.data.forEach((found, i) => {
      const m = (value.data[i] as number) / (x.data[i] as number);
      expect(found).toBeCloseTo(2 * m * m * (x.data[i] as number), 2);
    });
    expect(dropped(slope)).toBe(dropped(value));
    await of.close();
  });

  it('drops whole channels', async () => {
    const images = filled([40, 50, 3, 2], 1);
    const [{ data }] = (await runs(backend, (x) => dropout(x, { rate: 0.3, sharedAxes: [2, -1] }), images, 1)) as [NDArray];
    const channels = Array.from({ length: 2000 }, (_value, i) => new Set(data.slice(6 * i, 6 * i + 6)));
    expect(channels.every((values) => values.size === 1)).toBe(true);
    const share = channels.filter((values) => values.has(0)).length / 2000;
    expect(Math.abs(share - 0.3)).toBeLessThan(4 * Math.sqrt((0.3 * 0.7) / 2000));
  });

  it('gives zeros with rate 1', async () => {
    const [result] = (await runs(backend, (x) => dropout(x, { rate: 1 }), ones, 1)) as [NDArray];
    expect(result).toEqual(filled([1000, 100], 0));
    const [slope] = (await runs(
      backend,
      grad((x: Tensor) => sum(dropout(x, { rate: 1 }))),
      ones,
      1,
    )) as [NDArray];
    expect(slope).toEqual(filled([1000, 100], 0));
  });

  it('serves batches of any size with one session', async () => {
    const warn = vi.spyOn(console, 'warn');
    await using f = compile(backend, (x: Tensor) => dropout(x, { rate: 0.5 }), { axes: [['batch']] });
    for (const size of [300, 500, 200]) expect(dropped(await f(filled([size, 100], 1)))).toBeCloseTo(0.5, 1);
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });
});

describe('dropout', () => {
  it('is the same on every device', async () => {
    const results = await Promise.all(devices.map(([, backend]) => runs(backend, (x) => dropout(x, { rate: 0.3 }), ones, 2, 5)));
    for (const result of results) expect(result).toEqual(results[0]);
  });

  const x = leaf([2, 3]);
  it('returns x with rate 0 and outside of training', () => {
    expect(dropout(x, { rate: 0 })).toBe(x);
    expect(dropout(x, { rate: 0.5, training: false })).toBe(x);
  });

  it.each<[DropoutOptions, string]>([
    [{ rate: -0.1 }, 'RangeError: dropout: rate: expected a number from 0 to 1, received -0.1'],
    [{ rate: 1.5 }, 'RangeError: dropout: rate: expected a number from 0 to 1, received 1.5'],
    [{} as DropoutOptions, 'TypeError: dropout: rate: expected a number from 0 to 1, received undefined'],
    [{ rate: 0.5, training: 1 as never }, 'TypeError: dropout: training: expected true or false, received 1'],
    [{ rate: 0.5, sharedAxes: [2] }, 'RangeError: dropout: sharedAxes: expected an axis of a rank-2 Tensor, received 2'],
    [{ rate: 0.5, p: 1 } as DropoutOptions, "TypeError: dropout: unknown option 'p'; the options are rate, training, sharedAxes"],
  ])('refuses %j', (options, message) => {
    let thrown: unknown;
    try {
      dropout(x, options);
    } catch (error) {
      thrown = error;
    }
    expect(String(thrown)).toBe(message);
  });

  it('refuses integers', () => {
    expect(() => dropout(leaf([2], 'int32'), { rate: 0.5 })).toThrow('dropout: x: expected a float32 or float16 Tensor, received int32[2]');
  });
});
