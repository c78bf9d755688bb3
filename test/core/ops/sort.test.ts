import * as sorting from '../../../src/core/ops/sort.js';
import { argsort, cast, sort, square, type Tensor, topK } from '../../../src/index.js';
import { distinct, given, integers } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const largest = (x: Tensor, k: number, axis?: number) => topK(x, k, axis === undefined ? {} : { axis });
const both = (x: Tensor, axis = -1) => [false, true].map((descending) => sort(square(x), { axis, descending }));

const cases = [
  op('topK', [distinct([3, 5])], (x) => [...largest(x, 2), ...topK(x, 3, { largest: false })]),
  op('topK along outer axes', [distinct([3, 4, 2])], (x) => [
    ...largest(x, 2, 0),
    ...largest(x, 3, 1),
    ...topK(x, 1, { axis: 0, largest: false }),
  ]),
  op('topK of everything', [distinct([2, 3])], (x) => largest(x, 3)),
  op('topK of one element', [distinct([1])], (x) => largest(x, 1)),
  op('topK of no rows', [distinct([0, 3])], (x) => largest(x, 2)),
  op('topK of ties', [given([2, 5], [1, 2, 2, 0, 2, 0, 0, 0, 0, 0])], (x) => [...largest(x, 3), ...topK(x, 3, { largest: false })], {
    order: 0,
  }),
  // WebGPU's kernel fills rows up to a power of two.
  op(
    'topK of infinities',
    [given([2, 5], [-Infinity, 1, -Infinity, -3.4e38, 0, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity])],
    (x) => largest(x, 5),
    { order: 0 },
  ),
  op('topK of infinities, smallest', [given([5], [Infinity, 1, Infinity, 3.4e38, Infinity])], (x) => topK(x, 5, { largest: false }), {
    order: 0,
  }),
  op('sort', [distinct([3, 5])], (x) => both(x)),
  op('sort along outer axes', [distinct([3, 4, 2])], (x) => [...both(x, 0), ...both(x, 1)]),
  op('sort of little', [distinct([0, 2]), distinct([2, 0]), distinct([1])], (...x) => x.flatMap((y) => both(y))),
  op('argsort', [distinct([3, 5])], (x) => [argsort(x), argsort(x, { axis: 0, descending: true })]),
  op('argsort of ties', [integers([4, 50], 0, 5)], (x) => [false, true].map((descending) => argsort(cast(x, 'float32'), { descending }))),
];

const large = [
  op('topK', [distinct([331, 317])], (x) => largest(x, 10)),
  op('topK of columns', [distinct([331, 317])], (x) => largest(x, 10, 0)),
  op('topK of one long axis', [distinct([100003])], (x) => topK(x, 1000, { largest: false })),
  op('sort', [distinct([331, 317])], (x) => sort(x)),
  op('sort of one long axis', [distinct([100003])], (x) => sort(x, { descending: true })),
  op('argsort of ties', [integers([331, 317], 0, 9)], (x) => argsort(cast(x, 'float32'), { axis: 0 })),
  op('argsort of ties along one long axis', [integers([100003], 0, 9)], (x) => argsort(cast(x, 'float32'), { descending: true })),
];

testOps(sorting, cases, large);
