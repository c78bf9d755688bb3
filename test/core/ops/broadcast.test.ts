import * as broadcast from '../../../src/core/ops/broadcast.js';
import { broadcastTo, reshape, sum } from '../../../src/index.js';
import { integers, mask, normal } from '../../support/draw.js';
import { reductions } from '../../support/reductions.js';
import { op, testOps } from '../../support/test-ops.js';

const cases = [
  op('reshape', [normal([2, 6])], (x) => reshape(x, [3, 4])),
  op('reshape with an inferred size', [normal([2, 6])], (x) => reshape(x, [2, -1, 3])),
  op('reshape of a reshape', [normal([2, 6])], (x) => [reshape(reshape(x, [12]), [4, 3]), reshape(reshape(x, [12]), [2, 6])]),
  op('reshape to and from a scalar', [normal([1, 1]), normal([])], (x, y) => [reshape(x, []), reshape(y, [1, -1])]),
  op('reshape without elements', [normal([0, 3])], (x) => [reshape(x, [3, 0]), reshape(x, [-1, 3]), reshape(x, [0, 5])]),
  op('reshape of integers and masks', [integers([2, 3], -9, 9), mask([2, 3])], (x, y) => [reshape(x, [6]), reshape(y, [3, 2])]),
  op('broadcastTo along an axis', [normal([2, 1, 3])], (x) => broadcastTo(x, [2, 4, 3])),
  op('broadcastTo a higher rank', [normal([3, 1])], (x) => broadcastTo(x, [2, 3, 4])),
  op('broadcastTo of a scalar', [normal([])], (x) => broadcastTo(x, [2, 3])),
  op('broadcastTo of an empty axis', [normal([0, 1])], (x) => broadcastTo(x, [2, 0, 3])),
  op('broadcastTo an empty axis', [normal([2, 1])], (x) => broadcastTo(x, [2, 0])),
  op('broadcastTo of integers and masks', [integers([3], -9, 9), mask([2, 1])], (x, y) => [broadcastTo(x, [2, 3]), broadcastTo(y, [2, 3])]),
  ...reductions('sum', sum),
  op('sum of integers', [integers([3, 4], -9, 9)], (x) => [sum(x), sum(x, { axis: 0 }), sum(x, { axis: [-1], keepDims: true })]),
  op('sum over a long axis in front', [normal([521, 3])], (x) => sum(x, { axis: 0 }), { order: 1 }),
  op('sum over a long axis inside', [normal([2, 521, 3])], (x) => sum(x, { axis: 1 }), { order: 1 }),
  op('sum over a long last axis', [normal([2, 4099])], (x) => sum(x, { axis: 1 }), { order: 1 }),
  op('sum over a long axis between axes of size 1', [normal([1, 4099, 1])], (x) => sum(x), { order: 1 }),
  op('sum over several long axes', [normal([70, 7, 20])], (x) => [sum(x), sum(x, { axis: [0, 2] }), sum(x, { axis: [0, 1] })], {
    order: 1,
  }),
  op('sum of many integers', [integers([1033, 3], -9, 9)], (x) => [sum(x, { axis: 0 }), sum(x)]),
];

const large = [
  op('reshape', [normal([317, 331])], (x) => reshape(x, [331, 317])),
  op('broadcastTo', [normal([331])], (x) => broadcastTo(x, [317, 331])),
  op('sum', [normal([331, 317])], (x) => [sum(x), sum(x, { axis: 0 }), sum(x, { axis: 1 })]),
  op('sum along a single axis', [normal([100003])], (x) => sum(x)),
  op('sum of integers', [integers([331, 317], -9, 9)], (x) => [sum(x), sum(x, { axis: 0 })]),
];

testOps(broadcast, cases, large);
