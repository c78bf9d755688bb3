import * as arrange from '../../../src/core/ops/arrange.js';
import { expandDims, eye, outer, roll, squeeze, stack, tile, tril, triu } from '../../../src/index.js';
import { integers, mask, normal } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const cases = [
  op('expandDims in front, within and behind', [normal([2, 3])], (x) => [expandDims(x, 0), expandDims(x, 1), expandDims(x, -1)]),
  op('expandDims of a scalar', [normal([])], (x) => expandDims(x, 0)),
  op('squeeze of all axes', [normal([1, 2, 1])], (x) => squeeze(x)),
  op('squeeze of one axis', [normal([1, 2, 1])], (x) => squeeze(x, { axis: -1 })),
  op('stack in front', [normal([2, 3]), normal([2, 3])], (a, b) => stack([a, b])),
  op('stack behind, of one Tensor twice', [normal([2])], (a) => stack([a, a], { axis: -1 })),
  op('stack of masks', [mask([3]), mask([3])], (a, b) => stack([a, b])),
  op('roll', [normal([5, 2])], (x) => [roll(x, 2), roll(x, -1), roll(x, 7), roll(x, 0)]),
  op('roll of columns of integers', [integers([2, 3], -9, 9)], (x) => roll(x, 1, { axis: 1 })),
  op('roll of nothing', [normal([0, 2])], (x) => roll(x, 3)),
  op('tile', [normal([2, 3])], (x) => tile(x, [2, 3])),
  op('tile to nothing', [normal([2, 3])], (x) => tile(x, [0, 1])),
  op('eye', [], () => [eye(3), eye(2, { columns: 4, dtype: 'int32' })]),
  ...[tril, triu].flatMap((f) => [
    op(`${f.name} of a batch`, [normal([2, 3, 4])], (x) => f(x)),
    op(`${f.name} along other diagonals`, [normal([3, 3])], (x) => [f(x, { diagonal: 1 }), f(x, { diagonal: -2 })]),
  ]),
  op('outer', [normal([3]), normal([4])], outer),
];

const big = normal([317, 331]);
const large = [
  op('expandDims', [big], (x) => expandDims(x, 1)),
  op('squeeze', [normal([317, 1, 331])], (x) => squeeze(x)),
  op('stack', [big, big], (a, b) => stack([a, b], { axis: 1 })),
  op('roll', [big], (x) => roll(x, 100, { axis: 1 })),
  op('tile', [big], (x) => tile(x, [2, 1])),
  op('eye', [], () => eye(400)),
  op('tril', [big], (x) => tril(x)),
  op('triu', [big], (x) => triu(x)),
  op('outer', [normal([317]), normal([331])], outer),
];

testOps(arrange, cases, large);
