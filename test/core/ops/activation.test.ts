import * as activation from '../../../src/core/ops/activation.js';
import { elu, grad, leakyRelu, silu, softplus, sum, type Tensor } from '../../../src/index.js';
import { distinct, given, normal } from '../../support/draw.js';
import { type OpCase, op, testOps } from '../../support/test-ops.js';

const functions = { softplus, silu, leakyRelu, elu };

const cases = [
  ...Object.entries(functions).flatMap(([name, f]): OpCase[] =>
    [[2, 3], [], [0, 3]].map((shape) => op(`${name} of [${shape}]`, [distinct(shape)], (x) => f(x))),
  ),
  // Neither values nor slopes may overflow.
  ...Object.entries(functions).map(([name, f]) =>
    op(`${name} far from 0`, [given([4], [-1000, -100, 100, 1000])], (x) => [f(x), grad((y: Tensor) => sum(f(y)))(x)], { order: 0 }),
  ),
  op('leakyRelu with a slope', [distinct([5])], (x) => leakyRelu(x, { negativeSlope: 0.3 })),
  op('elu with an alpha', [distinct([5])], (x) => elu(x, { alpha: 1.7 })),
];

testOps(
  activation,
  cases,
  Object.entries(functions).map(([name, f]) => op(name, [normal([317, 331])], (x: Tensor) => f(x))),
);
