import * as elementwise from '../../../src/core/ops/elementwise.js';
import {
  abs,
  add,
  ceil,
  clip,
  cos,
  div,
  erf,
  exp,
  expm1,
  floor,
  gelu,
  grad,
  log,
  log1p,
  maximum,
  mean,
  minimum,
  mul,
  neg,
  pow,
  reciprocal,
  relu,
  round,
  rsqrt,
  sigmoid,
  sign,
  sin,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
} from '../../../src/index.js';
import { distinct, given, integers, normal, positive } from '../../support/draw.js';
import { type OpCase, type OpOptions, op, testOps } from '../../support/test-ops.js';

const binary = { add, sub, mul, div, maximum, minimum };
const unary = {
  neg,
  exp,
  log,
  sqrt,
  tanh,
  sigmoid,
  relu,
  erf,
  square,
  expm1,
  gelu,
  abs,
  sign,
  reciprocal,
  rsqrt,
  log1p,
  sin,
  cos,
  floor,
  ceil,
  round,
};

/** Functions whose arguments must be positive. */
const positiveOnly = new Set(['log', 'sqrt', 'rsqrt', 'log1p', 'reciprocal']);
/** Sines of GPUs have few digits. */
const rough = (name: string): OpOptions => (name === 'sin' || name === 'cos' ? { webgpu: 1e-3 } : {});

/** Shapes of two operands, and what is special about them. */
const pairs: readonly [string, readonly number[], readonly number[]][] = [
  ['equal shapes', [2, 3], [2, 3]],
  ['scalars', [], []],
  ['a scalar and a matrix', [], [3, 2]],
  ['a row and a matrix', [4], [3, 4]],
  ['a column and a row', [3, 1], [1, 4]],
  ['both repeated, unequal ranks', [4, 1, 3], [2, 1]],
  ['an empty axis', [0, 3], [3]],
  ['a repeated axis of size 0', [2, 0], [2, 1]],
];

const binaryCases = Object.entries(binary).flatMap(([name, f]): OpCase[] => [
  // Positive second operands keep a distance from the pole of div.
  ...pairs.map(([kind, a, b]) => op(`${name} of ${kind}`, [normal(a), positive(b)], f)),
  op(`${name} of a Tensor and a number`, [normal([3])], (x) => f(x, 1.5)),
  op(`${name} of a number and a Tensor`, [positive([3])], (x) => f(2, x)),
  op(`${name} of a Tensor with itself, broadcast`, [positive([3, 1])], (x) => f(mul(x, 1.25), mean(x, { axis: 0 }))),
  op(`${name} of integers`, [integers([2, 3], -9, 9), integers([3], 1, 4)], f),
  op(`${name} of an integer and a number`, [integers([2, 3], -9, 9)], (x) => f(x, 3)),
]);

const unaryCases = Object.entries(unary).flatMap(([name, f]): OpCase[] =>
  [[2, 3], [], [0, 3]].map((shape) =>
    op(`${name} of [${shape}]`, [positiveOnly.has(name) ? positive(shape) : distinct(shape)], (x) => f(x), rough(name)),
  ),
);

const cases = [
  ...binaryCases,
  ...unaryCases,
  op('neg of integers', [integers([2, 3], -9, 9)], neg),
  op('abs of integers', [integers([2, 3], -9, 9)], abs),
  op('sign of integers and of 0', [integers([2, 3], -1, 1), given([1], [0])], (i, x) => [sign(i), sign(x)], { order: 0 }),
  op('round of halves', [given([8], [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 1e6])], round, { order: 0 }),
  op('log1p near 0', [given([5], [-2e-6, -1e-7, 1e-7, 1.2345e-6, 3e-6])], log1p),
  op('log1p between', [given([7], [-0.9, -0.51, -0.49, 0.1, 0.49, 0.51, 30])], log1p),
  ...pairs.map(([kind, a, b]) => op(`pow of ${kind}`, [positive(a), normal(b)], pow)),
  ...[0, 1, 2, 3, -1, 0.5, -0.5, 1.7].map((b) => op(`pow of a Tensor and ${b}`, [positive([2, 3])], (x) => pow(x, b))),
  op('pow of a number and a Tensor', [normal([3])], (x) => pow(2, x)),
  op('pow of negative numbers', [given([3], [-2, -1.5, -0.5])], (x) => [pow(x, 2), pow(x, 3), pow(x, 4)]),
  op('pow of 0', [given([2], [0, 0])], (x) => [pow(x, 2), pow(x, 3)], { order: 1 }),
  op('clip to both sides', [distinct([9])], (x) => clip(x, { min: -0.21, max: 0.21 })),
  op('clip from below', [distinct([9])], (x) => clip(x, { min: 0 })),
  op('clip from above', [distinct([9])], (x) => clip(x, { max: 0.11 })),
  op('clip of integers', [integers([9], -9, 9)], (x) => clip(x, { min: -2, max: 3 })),
  op('gelu by tanh', [normal([4, 5])], (x) => gelu(x, { approximate: 'tanh' })),
  op(
    'gelu by tanh, its slope far from 0',
    [given([6], [-2e13, -1e5, -30, 30, 1e5, 2e13])],
    grad((x: Tensor) => sum(gelu(x, { approximate: 'tanh' }))),
    {
      order: 0,
    },
  ),
  op('expm1 near 0', [given([4], [-2e-6, 1e-6, 1.2345e-6, 3e-6])], expm1),
  op('expm1 between', [given([8], [-1, -0.51, -0.49, -0.1, 0.1, 0.49, 0.51, 1])], expm1),
  op('expm1 far from 0', [given([7], [-1000, -210, -190, -90, -20, 20, 80])], expm1, { order: 0 }),
];

const big = normal([317, 331]);
const large = [
  op('pow', [positive([317, 331]), normal([331])], pow),
  op('clip', [big], (x) => clip(x, { min: -1, max: 1 })),
  ...Object.entries(binary).map(([name, f]) => op(name, [big, positive([331])], f)),
  ...Object.entries(unary).map(([name, f]) =>
    op(name, [positiveOnly.has(name) ? positive([317, 331]) : big], (x: Tensor) => f(x), rough(name)),
  ),
];

testOps(elementwise, cases, large);
