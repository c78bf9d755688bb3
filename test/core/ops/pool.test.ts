import { describe, expect, it } from 'vitest';
import * as pool from '../../../src/core/ops/pool.js';
import {
  type AdaptivePoolOptions,
  type AvgPoolOptions,
  adaptiveMaxPool2d,
  globalMaxPool,
  type MaxPoolOptions,
  maxPool2d,
  reshape,
  type SpatialRank,
  type Tensor,
} from '../../../src/index.js';
import { gradientAt } from '../../support/differences.js';
import { distinct, normal } from '../../support/draw.js';
import { type OpCase, op, testOps } from '../../support/test-ops.js';

type Options = Partial<MaxPoolOptions<SpatialRank> & AvgPoolOptions<SpatialRank> & AdaptivePoolOptions<SpatialRank>> & {
  keepDims?: boolean;
};

const functions = pool as unknown as Record<string, (x: Tensor, options: Options) => Tensor>;

const row = (name: string, shape: readonly number[], options: Options = {}): OpCase => {
  const run = functions[name.split(' ')[0] as string] as (typeof functions)[string];
  return op(name, [/max/i.test(name) ? distinct(shape) : normal(shape)], (x) => run(x, options));
};

const cases = [
  row('maxPool2d of windows side by side', [2, 2, 4, 6], { kernelSize: 2 }),
  row('maxPool2d of unequal windows side by side', [1, 2, 6, 6], { kernelSize: [2, 3] }),
  row('maxPool2d that leaves rows and columns unused', [1, 2, 5, 8], { kernelSize: [2, 3] }),
  row('maxPool2d of windows side by side with padding', [1, 2, 5, 6], { kernelSize: 2, padding: 1 }),
  row('maxPool2d of overlapping windows', [2, 2, 7, 5], { kernelSize: 3, stride: 2 }),
  row('maxPool2d of overlapping windows with stride 1', [1, 2, 4, 5], { kernelSize: [3, 2], stride: 1 }),
  row('maxPool2d of overlapping windows with padding', [1, 2, 6, 6], { kernelSize: 3, stride: 2, padding: 1 }),
  row('maxPool2d of overlapping windows with padding per side', [1, 1, 5, 6], {
    kernelSize: [3, 4],
    stride: [1, 2],
    padding: [
      [1, 0],
      [0, 2],
    ],
  }),
  row("maxPool2d with padding 'same'", [1, 2, 5, 7], { kernelSize: 3, stride: 2, padding: 'same' }),
  row("maxPool2d with padding 'valid'", [1, 2, 5, 7], { kernelSize: 3, stride: 2, padding: 'valid' }),
  row('maxPool2d with gaps between windows', [1, 2, 7, 8], { kernelSize: 2, stride: 3 }),
  row('maxPool2d that only skips', [1, 2, 5, 4], { kernelSize: 1, stride: 2 }),
  row('maxPool2d that does nothing', [1, 2, 2, 2], { kernelSize: 1 }),
  row('maxPool2d over the whole image', [2, 3, 3, 4], { kernelSize: [3, 4] }),
  row('maxPool2d with a stride of the kernel in one direction', [1, 2, 4, 6], { kernelSize: 2, stride: [2, 1] }),
  row('maxPool2d of no images', [0, 2, 4, 4], { kernelSize: 2 }),
  row('maxPool2d with dilation', [1, 2, 6, 7], { kernelSize: [2, 3], stride: 1, dilation: [3, 2] }),
  row('maxPool2d with dilation, stride and padding', [1, 2, 7, 8], { kernelSize: 3, stride: [2, 3], dilation: 2, padding: 1 }),
  row("maxPool2d with dilation and padding 'same'", [1, 2, 6, 5], { kernelSize: 2, stride: 1, dilation: 3, padding: 'same' }),
  row('maxPool1d of windows side by side', [2, 2, 7], { kernelSize: 3 }),
  row('maxPool1d of overlapping windows', [2, 2, 9], { kernelSize: 3, stride: 2, padding: [[1, 0]] }),
  row('maxPool3d of windows side by side', [1, 2, 4, 2, 6], { kernelSize: 2 }),
  row('maxPool3d of overlapping windows', [1, 2, 3, 4, 5], { kernelSize: [2, 3, 2], stride: [1, 2, 1], padding: [0, 1, 1] }),
  // Means.
  row('avgPool2d of windows side by side', [2, 2, 4, 6], { kernelSize: 2 }),
  row('avgPool2d of overlapping windows with padding', [1, 2, 6, 5], { kernelSize: 3, stride: 2, padding: 1 }),
  row('avgPool2d that leaves padding out', [1, 2, 6, 5], { kernelSize: [3, 2], stride: 2, padding: 1, countIncludePad: false }),
  row("avgPool2d with padding 'same' that leaves padding out", [2, 1, 4, 5], {
    kernelSize: 3,
    stride: 1,
    padding: 'same',
    countIncludePad: false,
  }),
  row('avgPool2d with gaps between windows', [1, 2, 7, 8], { kernelSize: 2, stride: 3 }),
  row('avgPool2d over the whole image', [2, 3, 3, 4], { kernelSize: [3, 4] }),
  row('avgPool1d of windows side by side', [2, 3, 7], { kernelSize: 3 }),
  row('avgPool1d of overlapping windows that leaves padding out', [1, 2, 7], {
    kernelSize: 3,
    stride: 1,
    padding: 1,
    countIncludePad: false,
  }),
  row('avgPool3d of windows side by side', [1, 2, 4, 2, 3], { kernelSize: [2, 2, 3] }),
  row('avgPool3d of overlapping windows with padding', [1, 2, 3, 4, 3], { kernelSize: 2, stride: [1, 2, 1], padding: [1, 0, 1] }),
  // All of the image.
  row('globalAvgPool of an image', [2, 3, 3, 4]),
  row('globalAvgPool of a sequence, kept', [2, 3, 4], { keepDims: true }),
  row('globalAvgPool of a volume, kept', [1, 2, 2, 3, 2], { keepDims: true }),
  row('globalMaxPool of an image, kept', [2, 3, 3, 4], { keepDims: true }),
  row('globalMaxPool of a volume', [1, 2, 2, 3, 2]),
  // Bins.
  row('adaptiveAvgPool1d', [2, 3, 7], { outputSize: 3 }),
  row('adaptiveAvgPool2d of bins that overlap', [1, 2, 5, 7], { outputSize: [3, 4] }),
  row('adaptiveAvgPool2d of bins side by side', [2, 2, 4, 6], { outputSize: 2 }),
  row('adaptiveAvgPool2d of more bins than elements', [1, 2, 2, 3], { outputSize: [3, 5] }),
  row('adaptiveAvgPool2d of one axis', [1, 2, 4, 5], { outputSize: [4, 2] }),
  row('adaptiveAvgPool2d of one bin', [1, 2, 3, 4], { outputSize: 1 }),
  row('adaptiveAvgPool3d', [1, 2, 3, 4, 5], { outputSize: [2, 4, 3] }),
  row('adaptiveMaxPool1d', [2, 3, 7], { outputSize: 3 }),
  row('adaptiveMaxPool2d of bins that overlap', [1, 2, 5, 7], { outputSize: [3, 4] }),
  row('adaptiveMaxPool2d of bins side by side', [2, 2, 4, 6], { outputSize: 2 }),
  row('adaptiveMaxPool2d of more bins than elements', [1, 2, 2, 3], { outputSize: [3, 5] }),
  row('adaptiveMaxPool3d', [1, 2, 3, 4, 5], { outputSize: [2, 4, 3] }),
];

const large = [
  row('maxPool2d of windows side by side', [2, 8, 80, 80], { kernelSize: 2 }),
  row('maxPool2d of overlapping windows', [2, 8, 80, 80], { kernelSize: 3, stride: 2, padding: 1 }),
  row('maxPool1d of overlapping windows', [8, 16, 900], { kernelSize: 3, stride: 2 }),
  row('maxPool3d of windows side by side', [2, 4, 24, 24, 24], { kernelSize: 2 }),
  row('avgPool1d of overlapping windows', [8, 16, 900], { kernelSize: 3, stride: 1, padding: 1 }),
  row('avgPool2d of overlapping windows', [2, 8, 80, 80], { kernelSize: 3, stride: 2, padding: 1, countIncludePad: false }),
  row('avgPool3d of windows side by side', [2, 4, 24, 24, 24], { kernelSize: 2 }),
  row('globalAvgPool', [4, 8, 64, 64]),
  row('globalMaxPool', [4, 8, 64, 64]),
  row('adaptiveAvgPool1d', [8, 16, 900], { outputSize: 7 }),
  row('adaptiveAvgPool2d', [2, 8, 80, 80], { outputSize: 7 }),
  row('adaptiveAvgPool3d', [2, 4, 24, 24, 24], { outputSize: [5, 7, 6] }),
  row('adaptiveMaxPool1d', [8, 16, 900], { outputSize: 7 }),
  row('adaptiveMaxPool2d', [2, 8, 80, 80], { outputSize: 7 }),
  row('adaptiveMaxPool3d', [2, 4, 24, 24, 24], { outputSize: [5, 7, 6] }),
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

describe('globalMaxPool and adaptiveMaxPool2d', () => {
  it('give the gradient to the first of the elements that tie', () => {
    const image = (x: Tensor) => reshape(x, [1, 1, 3, 3]);
    expect(gradientAt((x) => globalMaxPool(image(x)), [0, 0, 5, 0, 5, 5, 5, 0, 0])).toEqual([0, 0, 1, 0, 0, 0, 0, 0, 0]);
    // Rows and columns 0 and 1, then 1 and 2.
    expect(gradientAt((x) => adaptiveMaxPool2d(image(x), { outputSize: 2 }), [0, 5, 0, 5, 5, 5, 0, 5, 0])).toEqual([
      0, 2, 0, 1, 1, 0, 0, 0, 0,
    ]);
  });
});
