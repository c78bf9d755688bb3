import { describe, expect, it } from 'vitest';
import * as reduce from '../../../src/core/ops/reduce.js';
import {
  argMax,
  argMin,
  exp,
  grad,
  log,
  logSumExp,
  max,
  mean,
  min,
  mul,
  norm,
  prod,
  sum,
  type Tensor,
  variance,
} from '../../../src/index.js';
import { gradientAt } from '../../support/differences.js';
import { distinct, given, integers, normal, positive } from '../../support/draw.js';
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
  ...reductions('min', min, false),
  ...reductions('prod', prod, true),
  op('prod of zeros', [given([3, 3], [0, 2, 3, 0, 0, 4, 5, 6, 7])], (x) => prod(x, { axis: 1 }), { order: 1 }),
  // The second derivative of the norm of one number is 0.
  ...reductions('norm', norm, true).map((c) => ({ ...c, order: 1 as const })),
  op('norm of zeros', [given([2, 2], [0, 0, 3, 4])], (x) => [norm(x, { axis: 1 }), grad((y: Tensor) => sum(norm(y, { axis: 1 })))(x)], {
    order: 0,
  }),
  ...[argMax, argMin].flatMap((f) => [
    op(`${f.name} along the last axis`, [distinct([3, 4])], (x) => f(x)),
    op(`${f.name} along an outer axis, kept`, [distinct([3, 4, 2])], (x) => f(x, { axis: -2, keepDims: true })),
    op(`${f.name} of ties`, [given([2, 3], [1, 2, 2, 0, 0, 0])], (x) => f(x), { order: 0 }),
  ]),
  ...reductions('logSumExp', logSumExp, false),
  op('logSumExp of large numbers', [given([2, 3], [1000, 1001, 1002, -1000, -1001, -1002])], (x) => logSumExp(x, { axis: 1 })),
  // On WebGPU the logarithm of 0 may be finite.
  op('logSumExp of -Infinity', [given([2, 2], [-Infinity, -Infinity, 0, -Infinity])], (x) => logSumExp(x, { axis: 1 }), {
    order: 0,
    webgpu: false,
  }),
];

const large = [mean, variance, logSumExp, max, min, norm].flatMap((f) => [
  op(`${f.name} by rows`, [distinct([331, 317])], (x) => f(x, { axis: 1 })),
  op(`${f.name} by columns`, [distinct([331, 317])], (x) => f(x, { axis: 0 })),
  op(`${f.name} of all`, [distinct([331, 317])], (x) => f(x)),
]);

const ones = positive([331, 317]);
large.push(
  // Products of many numbers stay within float32 if these are near 1.
  op('prod by rows', [ones], (x) => prod(exp(mul(log(x), 0.01)), { axis: 1 })),
  ...[argMax, argMin].map((f) => op(f.name, [distinct([331, 317])], (x) => f(x))),
);

testOps(reduce, cases, large);

describe('max', () => {
  it('shares the gradient among elements that tie', () => {
    expect(gradientAt((x) => max(x), [1, 3, 2, 3, 3])).toEqual([0, 1 / 3, 0, 1 / 3, 1 / 3]);
  });
});
