import { describe, expect, it, vi } from 'vitest';
import {
  array,
  type Backend,
  compile,
  filled,
  gradients,
  matmul,
  mean,
  type NDArray,
  reshape,
  square,
  sum,
  type Tensor,
  toNumbers,
  toScalar,
} from '../../src/index.js';
import { dropout, type MultiSampleDropoutOptions, multiSampleDropout } from '../../src/layers/index.js';
import { integers, mask, normal } from '../support/draw.js';
import { leaf } from '../support/leaves.js';
import { normalArray } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { op, testOps } from '../support/test-ops.js';

const loss = (y: Tensor) => mean(square(y));
const withMasks = (options: MultiSampleDropoutOptions) => (x: Tensor, w: Tensor, masks: Tensor) =>
  multiSampleDropout(x, (h) => matmul(h, w), loss, { ...options, masks });

testOps(
  {},
  [
    op('multiSampleDropout with bool masks', [normal([3, 4]), normal([4, 2]), mask([6, 3, 4])], withMasks({}) as never),
    op(
      'multiSampleDropout with masks and rate 0',
      [normal([3, 4]), normal([4, 2]), mask([2, 3, 4])],
      withMasks({ rate: 0, numSamples: 2 }) as never,
    ),
    op('multiSampleDropout with rate 1', [normal([3, 4]), normal([4, 2]), mask([2, 3, 4])], withMasks({ rate: 1 }) as never),
    op('multiSampleDropout of images', [normal([2, 3, 2, 2]), normal([12, 2]), integers([2, 2, 3, 2, 2], 0, 2)], (x, w, masks) =>
      multiSampleDropout(x!, (h) => matmul(reshape(h, [-1, 12]), w!), loss, { rate: 0.3, masks: masks! }),
    ),
    op('multiSampleDropout outside of training', [normal([3, 4]), normal([4, 2])], (x, w) =>
      multiSampleDropout(x!, (h) => matmul(h, w!), loss, { training: false }),
    ),
  ],
  [op('multiSampleDropout', [normal([50, 300]), normal([300, 2]), mask([8, 50, 300])], withMasks({}) as never)],
);

const devices = await testDevices();

/** The losses of two steps. */
async function losses(backend: Backend, fn: (x: Tensor) => Tensor, x: NDArray): Promise<number[]> {
  await using compiled = compile(backend, fn, { seed: 5 });
  return [toScalar(await compiled(x)), toScalar(await compiled(x))];
}

describe.each(devices)('multiSampleDropout on %s', (_, backend) => {
  it('has a mask of its own for every sample and step', async () => {
    const x = filled([40, 50], 1);
    const dropped = await run(
      backend,
      (h: Tensor) => {
        const samples: Tensor[] = [];
        const value = multiSampleDropout(
          h,
          (z) => z,
          (y) => sum(samples[samples.push(y) - 1]!),
          { numSamples: 6, rate: 0.25 },
        );
        return { samples, value };
      },
      x,
    );
    const shares = dropped.samples.map(({ data }) => data.filter((v) => v === 0).length / 2000);
    for (const share of shares) expect(Math.abs(share - 0.25)).toBeLessThan(4 * Math.sqrt((0.25 * 0.75) / 2000));
    expect(new Set(dropped.samples.map(({ data }) => data.join())).size).toBe(6);
    for (const { data } of dropped.samples) expect(new Set(data)).toEqual(new Set([0, Math.fround(4 / 3)]));
    const [first, second] = await losses(
      backend,
      (h) =>
        multiSampleDropout(
          h,
          (z) => z,
          (y) => sum(y),
        ),
      x,
    );
    expect(first).not.toBe(second);
  });

  it('is dropout with one sample', async () => {
    const x = normalArray(1, [30, 40]);
    const one = await losses(backend, (h) => multiSampleDropout(h, (z) => z, loss, { numSamples: 1, rate: 0.4 }), x);
    expect(one).toEqual(await losses(backend, (h) => loss(dropout(h, { rate: 0.4 })), x));
  });

  it('serves batches of any size with one session', async () => {
    const warn = vi.spyOn(console, 'warn');
    const slope = (h: Tensor) =>
      gradients(
        multiSampleDropout(
          h,
          (z) => z,
          (y) => mean(y),
        ),
        [h],
      )[0]!;
    await using compiled = compile(backend, slope, { axes: [['batch']] });
    for (const size of [3, 5, 2]) {
      const values = toNumbers(await compiled(filled([size, 64], 1)));
      expect(values.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 0);
    }
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });
});

describe('multiSampleDropout', () => {
  const h = leaf([3, 4]);
  const same = (x: Tensor) => x;

  it('calls the head once, and the loss once per sample', () => {
    const [head, each] = [vi.fn((x: Tensor) => x), vi.fn((y: Tensor) => sum(y))];
    multiSampleDropout(h, head, each);
    expect(head.mock.calls.map(([x]) => x.shape)).toEqual([[24, 4]]);
    expect(each.mock.calls.map(([y]) => y.shape)).toEqual(Array(8).fill([3, 4]));
    for (const options of [{ training: false }, { rate: 0 }]) {
      head.mockClear();
      multiSampleDropout(h, head, each, options);
      expect(head).toHaveBeenCalledExactlyOnceWith(h);
    }
  });

  it('keeps float16', async () => {
    const x = array([[1, 2]], { dtype: 'float16' });
    const value = await run(
      devices[0]![1],
      (z: Tensor, masks: Tensor) => multiSampleDropout(z, same, (y) => sum(y), { masks }),
      x,
      array([[[1, 0]], [[1, 1]]]),
    );
    expect([value.dtype, toNumbers(value)]).toEqual(['float16', [4]]);
  });

  it.each<[string, () => unknown, string]>([
    ['a scalar', () => multiSampleDropout(leaf([]), same, loss), 'multiSampleDropout: h: expected features [B, ...], received float32[]'],
    ['no head', () => multiSampleDropout(h, undefined as never, loss), 'multiSampleDropout: head: expected a function, received undefined'],
    ['no loss', () => multiSampleDropout(h, same, 3 as never), 'multiSampleDropout: loss: expected a function, received 3'],
    [
      'a head that changes the batch',
      () => multiSampleDropout(h, (x) => reshape(x, [-1]), loss),
      'multiSampleDropout: the value of head: expected a first axis of size 24, like its input, received float32[96]',
    ],
    [
      'a loss that is no scalar',
      () => multiSampleDropout(h, same, square),
      'multiSampleDropout: the loss: expected a float scalar (shape []; reduce it with mean() or sum()), received float32[3, 4]',
    ],
    [
      'masks of another shape',
      () => multiSampleDropout(h, same, loss, { masks: leaf([2, 3, 5], 'bool') }),
      'multiSampleDropout: masks: expected shape [2, 3, 4], received bool[2, 3, 5]',
    ],
    [
      'another number of masks',
      () => multiSampleDropout(h, same, loss, { masks: leaf([2, 3, 4], 'bool'), numSamples: 3 }),
      'multiSampleDropout: masks: expected shape [3, 3, 4], received bool[2, 3, 4]',
    ],
    [
      'no samples',
      () => multiSampleDropout(h, same, loss, { numSamples: 0 }),
      'multiSampleDropout: numSamples: expected a positive integer, received 0',
    ],
    [
      'a rate above 1',
      () => multiSampleDropout(h, same, loss, { rate: 2 }),
      'multiSampleDropout: rate: expected a number from 0 to 1, received 2',
    ],
    [
      'training that is no boolean',
      () => multiSampleDropout(h, same, loss, { training: 1 as never }),
      'multiSampleDropout: training: expected true or false, received 1',
    ],
    [
      'an unknown option',
      () => multiSampleDropout(h, same, loss, { samples: 3 } as never),
      "multiSampleDropout: unknown option 'samples'; the options are numSamples, rate, training, masks",
    ],
  ])('refuses %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
