import { describe, expect, it } from 'vitest';
import * as pool from '../../../src/core/ops/pool.js';
import { type MaxPoolOptions, maxPool2d, reshape } from '../../../src/index.js';
import { gradientAt } from '../../support/differences.js';
import { distinct } from '../../support/draw.js';
import { type OpCase, type OpOptions, op, testOps } from '../../support/test-ops.js';

const row = (what: string, shape: readonly number[], options: MaxPoolOptions, test: OpOptions = {}): OpCase =>
  op(`maxPool2d ${what}`, [distinct(shape)], (x) => maxPool2d(x, options), test);

const cases = [
  row('of windows side by side', [2, 2, 4, 6], { kernelSize: 2 }),
  row('of unequal windows side by side', [1, 2, 6, 6], { kernelSize: [2, 3] }),
  row('that leaves rows and columns unused', [1, 2, 5, 8], { kernelSize: [2, 3] }),
  row('of windows side by side with padding', [1, 2, 5, 6], { kernelSize: 2, padding: 1 }),
  row('of overlapping windows', [2, 2, 7, 5], { kernelSize: 3, stride: 2 }),
  row('of overlapping windows with stride 1', [1, 2, 4, 5], { kernelSize: [3, 2], stride: 1 }),
  row('of overlapping windows with padding', [1, 2, 6, 6], { kernelSize: 3, stride: 2, padding: 1 }),
  row('of overlapping windows with padding per side', [1, 1, 5, 6], {
    kernelSize: [3, 4],
    stride: [1, 2],
    padding: [
      [1, 0],
      [0, 2],
    ],
  }),
  row("with padding 'same'", [1, 2, 5, 7], { kernelSize: 3, stride: 2, padding: 'same' }),
  row("with padding 'valid'", [1, 2, 5, 7], { kernelSize: 3, stride: 2, padding: 'valid' }),
  row('with gaps between windows', [1, 2, 7, 8], { kernelSize: 2, stride: 3 }),
  row('that only skips', [1, 2, 5, 4], { kernelSize: 1, stride: 2 }),
  row('that does nothing', [1, 2, 2, 2], { kernelSize: 1 }),
  row('over the whole image', [2, 3, 3, 4], { kernelSize: [3, 4] }),
  row('with a stride of the kernel in one direction', [1, 2, 4, 6], { kernelSize: 2, stride: [2, 1] }),
  row('of no images', [0, 2, 4, 4], { kernelSize: 2 }),
];

const large = [
  row('of windows side by side', [2, 8, 80, 80], { kernelSize: 2 }),
  row('of overlapping windows', [2, 8, 80, 80], { kernelSize: 3, stride: 2, padding: 1 }),
];

testOps(pool, cases, large);

describe('maxPool2d', () => {
  const pooled = (options: MaxPoolOptions) => (x: Parameters<typeof maxPool2d>[0]) => maxPool2d(reshape(x, [1, 1, 2, 3]), options);

  it('gives the gradient to the first of the elements that tie', () => {
    expect(gradientAt(pooled({ kernelSize: [2, 3] }), [0, 5, 5, 5, 1, 5])).toEqual([0, 1, 0, 0, 0, 0]);
  });

  it('adds up the gradients of overlapping windows', () => {
    expect(gradientAt(pooled({ kernelSize: 2, stride: 1 }), [0, 5, 0, 0, 5, 0])).toEqual([0, 2, 0, 0, 0, 0]);
  });

  it('never lets padding win', () => {
    expect(gradientAt(pooled({ kernelSize: 2, padding: 1 }), [-1, -2, -3, -4, -5, -6])).toEqual([1, 1, 0, 1, 1, 0]);
  });
});
