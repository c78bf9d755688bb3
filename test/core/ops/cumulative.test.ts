import * as cumulative from '../../../src/core/ops/cumulative.js';
import { add, type CumulativeOptions, cumprod, cumsum, mul } from '../../../src/index.js';
import { given, integers, normal } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const kinds: readonly CumulativeOptions[] = [{}, { exclusive: true }, { reverse: true }, { exclusive: true, reverse: true }];

const cases = [cumsum, cumprod].flatMap((f) => [
  ...kinds.map((kind) => op(`${f.name} ${JSON.stringify(kind)}`, [normal([3, 5])], (x) => [f(x, kind), f(x, { ...kind, axis: 0 })])),
  op(`${f.name} along a middle axis`, [normal([2, 3, 2])], (x) => f(x, { axis: -2 })),
  op(`${f.name} of one element`, [normal([1, 2])], (x) => kinds.map((kind) => f(x, { ...kind, axis: 0 }))),
  op(`${f.name} of nothing`, [normal([0, 2])], (x) => kinds.flatMap((kind) => [f(x, { ...kind, axis: 0 }), f(x, { ...kind, axis: 1 })])),
]);

cases.push(
  // Around the lengths at which one block becomes two and two levels three, with and without a rest.
  ...[64, 65, 97, 600, 2501].flatMap((size) =>
    kinds.map((kind) =>
      op(`cumsum of ${size} elements ${JSON.stringify(kind)}`, [normal([2, size])], (x) => cumsum(x, kind), { order: size < 100 ? 1 : 0 }),
    ),
  ),
  op('cumsum of many integers', [integers([601, 2], -9, 9)], (x) => cumsum(x, { axis: 0, reverse: true })),
  op('cumprod of zeros', [given([2, 4], [2, 0, 3, 4, 0, 5, 0, -1])], (x) => cumprod(x)),
);

const large = [
  ...kinds.flatMap((kind) => [
    op(`cumsum ${JSON.stringify(kind)}`, [normal([331, 317])], (x) => cumsum(x, kind)),
    op(`cumsum of columns ${JSON.stringify(kind)}`, [normal([331, 317])], (x) => cumsum(x, { ...kind, axis: 0 })),
  ]),
  op('cumsum of one long axis', [normal([100003])], (x) => cumsum(x)),
  op('cumsum of integers', [integers([100003], -9, 9)], (x) => cumsum(x)),
  op('cumprod', [normal([331, 317])], (x) => cumprod(add(mul(x, 0.05), 1))),
];

testOps(cumulative, cases, large);
