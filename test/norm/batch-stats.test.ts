import { describe, expect, it } from 'vitest';
import { array, createRng, type NDArray, type Shape, type Tensor, toNumbers } from '../../src/index.js';
import { type BatchStats, batchStats, mergeBatchStats } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { around, channelOf, check, checkDerivatives, imageShapes, moments } from './reference.js';

/** What of the samples `sizes` says, one after the other. */
function split(x: NDArray, sizes: readonly number[]): NDArray[] {
  const [values, rest] = [toNumbers(x), x.shape.slice(1)];
  const elements = values.length / (x.shape[0] as number);
  let start = 0;
  return sizes.map((size) => {
    const from = start;
    start += size;
    return array(values.slice(from * elements, start * elements), { shape: [size, ...rest] });
  });
}

/** Sizes of shards that add up to `samples`, some of them empty. */
function randomSizes(seed: number, samples: number): number[] {
  const rng = createRng(seed);
  const cuts = Array.from({ length: 1 + rng.int(5) }, () => rng.int(samples + 1)).sort((a, b) => a - b);
  return [...cuts, samples].map((cut, i) => cut - (cuts[i - 1] ?? 0));
}

const merged = (shards: Tensor[]): BatchStats => mergeBatchStats(shards.map(batchStats));

function expectStats(stats: { [key in keyof BatchStats]: NDArray }, values: readonly number[], shape: Shape, rtol: number): void {
  const { mean, variance, count } = moments(values, channelOf(shape));
  expect(toNumbers(stats.count)).toEqual([count[0]]);
  expectClose('mean', toNumbers(stats.mean), mean, rtol);
  expectClose(
    'm2',
    toNumbers(stats.m2),
    variance.map((v) => v * count[0]!),
    rtol,
  );
}

describe.each(await testDevices())('batch statistics on %s', (_, backend) => {
  it.each(imageShapes.map((shape) => ({ shape })))('are those of $shape, and differentiate', async ({ shape }) => {
    await check(backend, {
      inputs: { x: normalArray(1, shape) },
      layer: ({ x }) => ({ ...batchStats(x!) }),
      definition: ({ x }) => {
        const { mean, variance, count } = moments(x!, channelOf(shape));
        return { count: [count[0]!], mean, m2: variance.map((v) => v * count[0]!) };
      },
    });
  });

  it('are 0 without samples', async () => {
    const { count, mean, m2 } = await run(backend, (x: Tensor) => batchStats(x), array([], { shape: [0, 2, 3] }));
    expect([count, mean, m2].map(toNumbers)).toEqual([[0], [0, 0], [0, 0]]);
  });

  it.each([1, 2, 3, 4, 5, 6])('are merged to those of the whole batch: split %d', async (seed) => {
    const x = normalArray(seed, [17, 3, 2]);
    expectStats(await run(backend, merged, split(x, randomSizes(seed, 17))), toNumbers(x), x.shape, 1e-6);
  });

  it('are 0 where all shards are empty', async () => {
    const stats = await run(backend, merged, split(array([], { shape: [0, 2] }), [0, 0]));
    expect([stats.count, stats.mean, stats.m2].map(toNumbers)).toEqual([[0], [0, 0], [0, 0]]);
  });

  it('keep their digits where the mean is 2048', async () => {
    const x = around(2048, [40, 2, 5]);
    expectStats(await run(backend, merged, split(x, [1, 0, 20, 12, 7])), toNumbers(x), x.shape, 1e-5);
  });

  it('may be merged in any order, from arrays', async () => {
    const x = normalArray(1, [9, 2]);
    const [a, b, c] = split(x, [2, 3, 4]) as [NDArray, NDArray, NDArray];
    const stats = await run(backend, (shards: Tensor[]) => shards.map(batchStats), [b, a, c]);
    const [first, second, third] = stats as [(typeof stats)[0], (typeof stats)[0], (typeof stats)[0]];
    const merge = (...shards: (typeof stats)[0][]) => run(backend, (list: BatchStats[]) => mergeBatchStats(list), shards);
    expectStats(await merge(await merge(first, third), second), toNumbers(x), x.shape, 1e-6);
    expectStats(await merge(await merge(first), second, third), toNumbers(x), x.shape, 1e-6);
  });
});

describe('mergeBatchStats', () => {
  it('has first and second derivatives, with an empty shard as well', () => {
    const shards = (given: Record<string, Tensor>) => [batchStats(leaf([0, 2])), ...Object.values(given).map(batchStats)];
    checkDerivatives(
      (given) => {
        const { mean, m2 } = mergeBatchStats(shards(given));
        return { mean, m2 };
      },
      { a: normalArray(1, [3, 2]), b: normalArray(2, [1, 2]), c: array(normals(3, 4), { shape: [2, 2] }) },
    );
  });

  const stats = (channels: number): BatchStats => ({ count: leaf([]), mean: leaf([channels]), m2: leaf([channels]) });
  it.each<[string, () => unknown, string]>([
    ['no list', () => mergeBatchStats(stats(2) as never), 'shards: expected a list of statistics, received an object with keys '],
    ['an empty list', () => mergeBatchStats([]), 'shards: expected a list of statistics, received []'],
    ['something else', () => mergeBatchStats([stats(2), 3 as never]), 'shards[1]: expected { count, mean, m2 }, received 3'],
    ['other channels', () => mergeBatchStats([stats(2), stats(3)]), 'shards[1].mean: expected shape [2], received float32[3]'],
    [
      'statistics that do not fit each other',
      () => mergeBatchStats([{ ...stats(2), m2: leaf([3]) }]),
      'shards[0].m2: expected shape [2], one number per channel, received float32[3]',
    ],
    [
      'a count per channel',
      () => mergeBatchStats([{ ...stats(2), count: leaf([2]) }]),
      'shards[0].count: expected shape [], received float32[2]',
    ],
    [
      'a count that is no Tensor',
      () => mergeBatchStats([{ ...stats(2), count: 3 as never }]),
      'shards[0].count: expected a Tensor, received 3',
    ],
    [
      'means with axes',
      () => mergeBatchStats([{ ...stats(2), mean: leaf([2, 1]) }]),
      'shards[0].mean: expected shape [C], received float32[2, 1]',
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(`mergeBatchStats: ${message}`);
  });
});

describe('batchStats', () => {
  it('are float32 of float16', () => {
    expect(Object.values(batchStats(leaf([2, 3], 'float16'))).map(({ dtype }) => dtype)).toEqual(['float32', 'float32', 'float32']);
  });

  it.each<[string, () => unknown, string]>([
    ['integers', () => batchStats(leaf([2, 3], 'int32')), 'x: expected a float32 or float16 Tensor, received int32[2, 3]'],
    ['a vector', () => batchStats(leaf([2])), 'x: expected a Tensor [N, C, ...], received float32[2]'],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `batchStats: ${message}` }));
  });
});
