import { createRng } from 'tracegrad';
import { afterEach, expect, test, vi } from 'vitest';
import { imageAt, loadSmallDigits, shuffled } from '../../examples/support/digits.js';
import { cosine, expectEffect, overSeeds, printTable, summary } from '../../examples/support/experiment.js';
import { tables } from '../support/example.js';

afterEach(() => {
  vi.restoreAllMocks();
});

test('an effect that does not show fails the program', () => {
  const before = process.exitCode;
  const log = vi.spyOn(console, 'log').mockReturnValue();
  const error = vi.spyOn(console, 'error').mockReturnValue();
  try {
    expectEffect('more is more', true);
    expect(process.exitCode).toBe(before);
    expectEffect('less is more', false);
    expect(process.exitCode).toBe(1);
  } finally {
    process.exitCode = before;
  }
  expect(log.mock.calls).toEqual([['as expected: more is more']]);
  expect(error.mock.calls).toEqual([[expect.stringContaining('not as expected: less is more')]]);
});

test('runs of several seeds are summed up', async () => {
  const found = await overSeeds([1, 2, 3], async (seed) => ({ score: 10 * seed, constant: 5 }));
  expect(found).toEqual({ score: [10, 20, 30], constant: [5, 5, 5] });
  expect([summary(found.score), summary(found.constant), summary([1.25])]).toEqual(['20.0 ± 10.0', '5.0 ± 0.0', '1.3']);
});

test('a table has a head, a rule and columns of one width', () => {
  const log = vi.spyOn(console, 'log').mockReturnValue();
  printTable([
    ['method', '%'],
    ['a', '12.5 ± 0.1'],
  ]);
  const text = log.mock.calls[0]![0] as string;
  expect(text).toBe('| method |          % |\n| ------ | ---------: |\n| a      | 12.5 ± 0.1 |\n');
  expect(tables(text)).toEqual([{ title: 'method', rows: { a: [12.5] } }]);
});

test('a cosine leads from the rate to 0', () => {
  const rate = cosine(0.4, 10);
  expect([0, 5, 10].map(rate)).toEqual([0.4, expect.closeTo(0.2), expect.closeTo(0)]);
});

test('small digits are means of the large ones, centred', () => {
  const { train, test } = loadSmallDigits();
  expect([train, test].map(({ size, labels, pixels }) => [size, labels.length, pixels.length])).toEqual([
    [8, 1347, 1347 * 64],
    [8, 450, 450 * 64],
  ]);
  expect(Math.abs(train.pixels.reduce((sum, pixel) => sum + pixel, 0) / train.pixels.length)).toBeLessThan(0.05);
  expect(new Set(train.labels).size).toBe(10);
});

test('images keep their labels when they are shuffled', () => {
  const digits = { size: 1, pixels: Float32Array.of(0, 1, 2, 3), labels: Int32Array.of(0, 1, 2, 3) };
  const mixed = shuffled(digits, createRng(1));
  expect([...mixed.labels].sort()).toEqual([0, 1, 2, 3]);
  expect([...mixed.labels]).not.toEqual([0, 1, 2, 3]);
  expect([0, 1, 2, 3].map((i) => imageAt(mixed, i)[0])).toEqual([...mixed.labels]);
});
