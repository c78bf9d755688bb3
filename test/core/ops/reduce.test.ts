import { describe, expect, it } from 'vitest';
import * as reduce from '../../../src/core/ops/reduce.js';
import { logSumExp, max, mean, variance } from '../../../src/index.js';
import { gradientAt } from '../../support/differences.js';
import { distinct, given, integers, normal } from '../../support/draw.js';
import { reductions } from '../../support/reductions.js';
import { op, testOps } from '../../support/test-ops.js';

const cases = [
  ...reductions('mean', mean),
  ...reductions('max', max, false),
  op('max of integers', [integers([3, 4], -9, 9)], (x) => [max(x), max(x, { axis: 0 }), max(x, { axis: -1, keepDims: true })]),
  ...reductions('variance', variance, false),
  op('variance, unbiased', [normal([3, 4])], (x) => [
    variance(x, { correction: 1 }),
    variance(x, { axis: 0, correction: 1.5, keepDims: true }),
  ]),
  ...reductions('logSumExp', logSumExp, false),
  op('logSumExp of large numbers', [given([2, 3], [1000, 1001, 1002, -1000, -1001, -1002])], (x) => logSumExp(x, { axis: 1 })),
  // On WebGPU the logarithm of 0 may be finite.
  op('logSumExp of -Infinity', [given([2, 2], [-Infinity, -Infinity, 0, -Infinity])], (x) => logSumExp(x, { axis: 1 }), {
    order: 0,
    webgpu: false,
  }),
];

const large = [mean, variance, logSumExp, max].flatMap((f) => [
  op(`${f.name} by rows`, [distinct([331, 317])], (x) => f(x, { axis: 1 })),
  op(`${f.name} by columns`, [distinct([331, 317])], (x) => f(x, { axis: 0 })),
  op(`${f.name} of all`, [distinct([331, 317])], (x) => f(x)),
]);

testOps(reduce, cases, large);

describe('max', () => {
  it('shares the gradient among elements that tie', () => {
    expect(gradientAt((x) => max(x), [1, 3, 2, 3, 3])).toEqual([0, 1 / 3, 0, 1 / 3, 1 / 3]);
  });
});
