import { describe, expect, it } from 'vitest';
import { array, createRng, type NDArray, type Rng, type Tensor, toNumbers } from '../../../src/index.js';
import { type Metric, type RecallAtKOptions, recallAtK } from '../../../src/train/index.js';
import { leaf } from '../../support/leaves.js';
import { meter } from '../../support/metrics.js';
import { countSessions } from '../../support/sessions.js';
import { testDevices } from '../../support/test-devices.js';

type Distance = (a: readonly number[], b: readonly number[]) => number;

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((total, v, i) => total + v * (b[i] as number), 0);
const distances = {
  cosine: (a, b) => 1 - dot(a, b) / Math.sqrt((dot(a, a) || 1) * (dot(b, b) || 1)),
  euclidean: (a, b) => Math.hypot(...a.map((v, i) => v - (b[i] as number))),
} satisfies Record<string, Distance>;

/** Weights of the queries that found one of their kind among their k nearest, by sorting, and of all. */
function reference([embeddings, labels, mask]: readonly NDArray[], k: number, distance: Distance): [found: number, all: number] {
  const y = toNumbers(labels as NDArray);
  const d = (embeddings as NDArray).shape[1] as number;
  const x = y.map((_, i) => toNumbers(embeddings as NDArray).slice(i * d, (i + 1) * d));
  const weights = mask ? toNumbers(mask) : y.map(() => 1);
  let [found, all] = [0, 0];
  y.forEach((label, i) => {
    const others = [...y.keys()].filter((j) => j !== i && (weights[j] as number) > 0);
    if (!others.some((j) => y[j] === label)) return;
    const at = (j: number) => distance(x[i] as number[], x[j] as number[]);
    // Of those equally near the ones of another label come first.
    const nearest = others.sort((a, b) => at(a) - at(b) || Number(y[a] === label) - Number(y[b] === label)).slice(0, k);
    const weight = weights[i] as number;
    all += weight;
    if (nearest.some((j) => y[j] === label)) found += weight;
  });
  return [found, all];
}

const labelled = (rng: Rng, n: number, kinds: number) =>
  array(
    Array.from({ length: n }, () => rng.int(kinds) - 2),
    { dtype: 'int32' },
  );
const embedded = (rng: Rng, n: number, d: number, value = () => rng.normal()) =>
  array(
    Array.from({ length: n * d }, () => Math.fround(value())),
    { shape: [n, d] },
  );

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('recallAtK on %s', (_, backend) => {
  const measured = (options: RecallAtKOptions) => meter(backend, (x, y, mask) => recallAtK(x as Tensor, y as Tensor, { ...options, mask }));

  for (const distance of ['cosine', 'euclidean'] as const) {
    it.each([1, 2, 5])(`sums what sorting finds: ${distance}, k = %i`, async (k) => {
      await using found = measured({ k, distance });
      const shares: number[] = [];
      for (const seed of [1, 2, 3]) {
        const rng = createRng(seed);
        const batches = [24, 9].map((n) => [embedded(rng, n, 3), labelled(rng, n, 6)]);
        const each = batches.map((batch) => reference(batch, k, distances[distance]));
        for (const [i, batch] of batches.entries()) expect(await found.sums(batch)).toEqual(each[i]);
        // Over batches it is the mean over queries, each within its own batch.
        const [hits, all] = [each[0]![0] + each[1]![0], each[0]![1] + each[1]![1]];
        expect(await found.value(...batches)).toBeCloseTo(hits / all, 6);
        shares.push(hits / all);
      }
      expect(Math.min(...shares)).toBeGreaterThan(0);
      expect(Math.min(...shares)).toBeLessThan(1);
    });

    it(`leaves out rows without weight, as queries and as neighbours: ${distance}`, async () => {
      await using found = measured({ k: 2, distance });
      for (const seed of [4, 5, 6]) {
        const rng = createRng(seed);
        const mask = array(Array.from({ length: 20 }, () => rng.int(3) / 2));
        const batch = [embedded(rng, 20, 3), labelled(rng, 20, 4), mask];
        expect(await found.sums(batch)).toEqual(reference(batch, 2, distances[distance]));
        const x = toNumbers(batch[0] as NDArray);
        const spoilt = array(
          x.map((value, i) => (mask.data[Math.floor(i / 3)] === 0 ? Number.NaN : value)),
          { shape: [20, 3] },
        );
        expect(await found.sums([spoilt, ...batch.slice(1)])).toEqual(reference(batch, 2, distances[distance]));
      }
    });
  }

  it('tells near rows apart that are far from the origin', async () => {
    await using found = measured({ k: 1, distance: 'euclidean' });
    const rng = createRng(7);
    const batch = [embedded(rng, 30, 4, () => 1000 + rng.int(64) / 64), labelled(rng, 30, 5)];
    expect(await found.sums(batch)).toEqual(reference(batch, 1, distances.euclidean));
  });

  it('counts ties against the query', async () => {
    await using found = measured({ k: 1, distance: 'euclidean' });
    const labels = array([0, 0, 1, 1], { dtype: 'int32' });
    expect(await found.value([array([[2], [2], [2], [2]]), labels])).toBe(0);
    // Of 0: 1 and -1 are equally near.
    expect(await found.sums([array([[0], [1], [-1], [-2]]), labels])).toEqual([2, 4]);
  });

  it('finds nothing where embeddings are no numbers', async () => {
    await using found = measured({ k: 1 });
    const rows = array([Number.NaN, Number.NaN, Number.NaN, Number.NaN], { shape: [4, 1] });
    expect(await found.sums([rows, array([0, 0, 1, 1], { dtype: 'int32' })])).toEqual([0, 4]);
  });

  it('is 0 without queries', async () => {
    for (const distance of ['cosine', 'euclidean'] as const) {
      await using found = measured({ k: 1, distance });
      expect(await found.value([array([[1], [2]]), array([0, 1], { dtype: 'int32' })])).toBe(0);
      expect(await found.value([array([[1]]), array([0], { dtype: 'int32' })])).toBe(0);
      expect(await found.value([array([[0], [0]]), array([0, 0], { dtype: 'int32' }), array([false, false])])).toBe(0);
      expect(await found.value([array([], { shape: [0, 2] }), array([], { dtype: 'int32' })])).toBe(0);
    }
  });

  it('takes many rows', async () => {
    await using found = measured({ k: 3 });
    const rng = createRng(8);
    const batch = [embedded(rng, 400, 8), labelled(rng, 400, 20)];
    const [hits, all] = reference(batch, 3, distances.cosine);
    expect(await found.sums(batch)).toEqual([hits, all]);
    expect(hits).toBeGreaterThan(10);
  });

  it('one graph serves batches of all sizes', async () => {
    await using found = meter(backend, (x, y) => recallAtK(x as Tensor, y as Tensor, { k: 1, distance: 'euclidean' }), {
      axes: [['batch'], ['batch']],
    });
    const sessions = countSessions(backend);
    for (const n of [6, 9, 13]) {
      const rng = createRng(n);
      const batch = [embedded(rng, n, 3), labelled(rng, n, 3)];
      expect(await found.sums(batch)).toEqual(reference(batch, 1, distances.euclidean));
    }
    expect(sessions.created).toBe(1);
  });
});

describe('recallAtK', () => {
  const x = leaf([5, 3]);
  const y = leaf([5], 'int32');

  it('takes float16', async () => {
    await using found = meter(cpu, (e, labels) => recallAtK(e as Tensor, labels as Tensor, { k: 2 }));
    const rng = createRng(9);
    const half = array(toNumbers(embedded(rng, 40, 4)), { shape: [40, 4], dtype: 'float16' });
    const batch = [half, labelled(rng, 40, 6)];
    expect(await found.sums(batch)).toEqual(reference(batch, 2, distances.cosine));
  });

  it.each<[message: string, build: () => Metric]>([
    ['embeddings: expected a Tensor [N, D], received float32[5]', () => recallAtK(leaf([5]), y, { k: 1 })],
    ['embeddings: expected a float32 or float16 Tensor, received int32[5]', () => recallAtK(y, y, { k: 1 })],
    ['labels: expected int32 labels, received float32[5]', () => recallAtK(x, leaf([5]), { k: 1 })],
    ['labels: expected int32[5], one for every embedding, received int32[4]', () => recallAtK(x, leaf([4], 'int32'), { k: 1 })],
    ['options: expected an object, received undefined', () => recallAtK(x, y, undefined as never)],
    ['k: expected a positive integer, received undefined', () => recallAtK(x, y, {} as never)],
    ['k: expected a positive integer, received 0', () => recallAtK(x, y, { k: 0 })],
    ["distance: expected one of 'cosine', 'euclidean', received 'l1'", () => recallAtK(x, y, { k: 1, distance: 'l1' as 'cosine' })],
    [
      'mask: expected [5] (the shape of the labels) or its first axes, received bool[4]',
      () => recallAtK(x, y, { k: 1, mask: leaf([4], 'bool') }),
    ],
  ])('%s', (message, build) => {
    expect(build).toThrow(expect.objectContaining({ message: `recallAtK: ${message}` }));
  });
});
