import * as select from '../../../src/core/ops/select.js';
import {
  cast,
  equal,
  greater,
  greaterEqual,
  isFinite as isFiniteTensor,
  less,
  lessEqual,
  logicalAnd,
  logicalNot,
  logicalOr,
  logicalXor,
  notEqual,
  where,
} from '../../../src/index.js';
import { distinct, given, integers, mask, normal } from '../../support/draw.js';
import { type OpCase, op, testOps } from '../../support/test-ops.js';

const comparisons = { equal, notEqual, greater, greaterEqual, less, lessEqual };

const cases = [
  ...Object.entries(comparisons).flatMap(([name, f]): OpCase[] => [
    op(`${name} of floats`, [given([3], [1, 2, 3]), given([3], [2, 2, 2])], f),
    op(`${name} of integers, repeated`, [integers([4, 1], 0, 3), integers([3], 0, 3)], f),
    op(`${name} of a Tensor and a number`, [given([3], [1, 2, 3])], (x) => f(x, 2)),
    op(`${name} of a number and a Tensor`, [integers([5], 0, 3)], (x) => f(2, x)),
    op(`${name} of scalars`, [normal([]), normal([])], f),
    op(`${name} of nothing`, [normal([0, 3]), normal([3])], f),
  ]),
  op('logicalNot', [mask([2, 3]), mask([]), mask([0])], (...x) => x.map(logicalNot)),
  op('logicalAnd', [mask([4, 1]), mask([5])], logicalAnd),
  op('logicalOr', [mask([4, 1]), mask([5])], logicalOr),
  op('logicalXor', [mask([4, 1]), mask([5])], logicalXor),
  op('isFinite', [given([5], [0, -3e38, Infinity, -Infinity, NaN])], isFiniteTensor, { order: 0 }),
  op('logicalAnd of scalars and of nothing', [mask([]), mask([0, 2])], (a, b) => [logicalAnd(a, a), logicalAnd(a, b)]),
  op('where', [mask([2, 3]), normal([2, 3]), normal([2, 3])], where),
  op('where with a repeated condition', [mask([3]), normal([2, 3]), normal([2, 1])], where),
  op('where with repeated values', [mask([2, 3]), normal([3]), normal([])], where),
  op('where of scalars', [mask([]), normal([]), normal([])], where),
  op('where with a scalar condition', [mask([]), normal([2]), normal([3, 1])], where),
  op('where with an empty axis', [mask([0, 1]), normal([3]), normal([])], where),
  op('where of a Tensor and a number', [mask([4]), normal([4])], (c, x) => [where(c, x, 0), where(c, 2, x)]),
  op('where of two numbers', [mask([4])], (c) => where(c, 1, -1)),
  op('where of integers', [mask([4]), integers([4], -9, 9)], (c, x) => where(c, x, -1)),
  op('where of a Tensor with itself', [mask([4]), normal([4])], (c, x) => where(c, x, x)),
  op('cast of floats', [distinct([7])], (x) => [cast(x, 'int32'), cast(x, 'bool'), cast(x, 'float32')]),
  op('cast of floats to integers', [given([6], [-2.7, -1, -0.5, 0.5, 1.99, 3])], (x) => cast(x, 'int32')),
  op('cast of integers', [integers([5], -2, 2)], (x) => [cast(x, 'float32'), cast(x, 'bool')]),
  op('cast of masks', [mask([5])], (x) => [cast(x, 'float32'), cast(x, 'int32')]),
  op('cast to float16 and back', [given([4], [1, -0.5, 2048, 0])], (x) => cast(cast(x, 'float16'), 'float32'), {
    rtol: 1e-4,
    webgpu: false,
  }),
  op('cast to float16', [normal([3])], (x) => cast(x, 'float16'), { rtol: 1e-3, webgpu: false }),
  op('cast of scalars and of nothing', [normal([]), normal([0, 2])], (x, y) => [cast(x, 'int32'), cast(y, 'bool')]),
];

const shape = [317, 331];
const large = [
  ...Object.entries(comparisons).map(([name, f]) => op(name, [normal(shape), normal([331])], f)),
  op('equal of integers', [integers(shape, 0, 9), integers([331], 0, 9)], equal),
  op('logicalNot', [mask(shape)], logicalNot),
  op('logicalAnd', [mask(shape), mask([331])], logicalAnd),
  op('logicalOr', [mask(shape), mask([331])], logicalOr),
  op('logicalXor', [mask(shape), mask([331])], logicalXor),
  op('isFinite', [normal(shape)], isFiniteTensor),
  op('where', [mask(shape), normal(shape), normal([331])], where),
  op('where of integers', [mask(shape), integers(shape, -9, 9)], (c, x) => where(c, x, -1)),
  op('cast of floats', [distinct(shape)], (x) => [cast(x, 'int32'), cast(x, 'bool')]),
  op('cast of integers', [integers(shape, -2, 2)], (x) => [cast(x, 'float32'), cast(x, 'bool')]),
  op('cast of masks', [mask(shape)], (x) => [cast(x, 'float32'), cast(x, 'int32')]),
];

testOps(select, cases, large);
