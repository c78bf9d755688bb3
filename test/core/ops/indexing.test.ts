import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as indexing from '../../../src/core/ops/indexing.js';
import {
  array,
  type Backend,
  compile,
  gather,
  gatherElements,
  matmul,
  oneHot,
  reshape,
  scatterAdd,
  square,
  type Tensor,
  takeAlongAxis,
  transpose,
} from '../../../src/index.js';
import { createBackend } from '../../../src/node.js';
import { given, integers, mask, normal, positive } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const rows = (x: Tensor, indices: Tensor): Tensor => gather(x, indices);

const cases = [
  op('gather rows', [normal([4, 3]), integers([5], 0, 3)], rows),
  op('gather one row again and again', [normal([4, 2]), given([4], [2, 2, 2, 2], 'int32')], rows),
  op('gather by a matrix of indices', [normal([4, 2]), integers([2, 3], 0, 3)], rows),
  op('gather by one index', [normal([4, 2]), integers([], 0, 3)], rows),
  op('gather from a vector', [normal([5]), integers([2, 3], 0, 4)], rows),
  op('gather columns', [normal([3, 4]), integers([6], 0, 3)], (x, i) => gather(x, i, { axis: 1 })),
  op('gather along a middle axis', [normal([2, 3, 4]), integers([2, 2], 0, 2)], (x, i) => gather(x, i, { axis: -2 })),
  op('gather nothing', [normal([4, 2]), integers([0], 0, 3)], rows),
  op('gather empty rows', [normal([4, 0]), integers([3], 0, 3)], rows),
  op('gather integers', [integers([4, 2], -9, 9), integers([3], 0, 3)], rows),
  op('gather from a mask', [mask([4, 2]), integers([3], 0, 3)], rows),
  op('gather by gathered indices', [normal([4, 2]), integers([5], 0, 3), integers([3], 0, 4)], (x, i, j) => gather(x, gather(i, j))),
  op('gather, then use', [normal([4, 3]), integers([2, 5], 0, 3), normal([3, 2])], (x, i, w) => matmul(gather(x, i), w)),
  op('takeAlongAxis last', [normal([3, 4]), integers([3, 2], 0, 3)], (x, i) => takeAlongAxis(x, i)),
  op('takeAlongAxis first', [normal([3, 4]), integers([5, 4], 0, 2)], (x, i) => takeAlongAxis(x, i, { axis: 0 })),
  op('takeAlongAxis in the middle', [normal([2, 3, 2]), integers([2, 4, 2], 0, 2)], (x, i) => takeAlongAxis(x, i, { axis: 1 })),
  op('takeAlongAxis with repetition', [normal([1, 3]), given([1, 4], [1, 1, 1, 0], 'int32')], (x, i) => takeAlongAxis(x, i)),
  op('takeAlongAxis of nothing', [normal([3, 4]), integers([3, 0], 0, 3)], (x, i) => takeAlongAxis(x, i)),
  op('takeAlongAxis of integers', [integers([3, 4], -9, 9), integers([3, 2], 0, 3)], (x, i) => takeAlongAxis(x, i)),
  op('takeAlongAxis of integers in the middle', [integers([2, 3, 2], -9, 9), integers([2, 4, 2], 0, 2)], (x, i) =>
    takeAlongAxis(x, i, { axis: 1 }),
  ),
  op('gatherElements of fewer rows', [normal([4, 3]), integers([2, 5], 0, 2)], (x, i) => gatherElements(x, i)),
  op('gatherElements of fewer columns', [normal([3, 4]), integers([5, 2], 0, 2)], (x, i) => gatherElements(x, i, { axis: 0 })),
  op('gatherElements of as many', [normal([3, 4]), integers([3, 2], 0, 3)], (x, i) => gatherElements(x, i)),
  op('scatterAdd of fewer rows', [normal([4, 3]), integers([2, 5], 0, 2), normal([2, 5])], (x, i, u) => scatterAdd(x, i, u)),
  op('takeAlongAxis of a mask', [mask([3, 4]), integers([2, 4], 0, 2)], (x, i) => takeAlongAxis(x, i, { axis: 0 })),
  op('scatterAdd last', [normal([3, 4]), integers([3, 6], 0, 3), normal([3, 6])], (x, i, u) => scatterAdd(x, i, u)),
  op('scatterAdd first', [normal([3, 4]), integers([2, 4], 0, 2), normal([2, 4])], (x, i, u) => scatterAdd(x, i, u, { axis: 0 })),
  op('scatterAdd in the middle', [normal([2, 3, 2]), integers([2, 4, 2], 0, 2), normal([2, 4, 2])], (x, i, u) =>
    scatterAdd(square(x), i, square(u), { axis: 1 }),
  ),
  op('scatterAdd with repetition', [normal([1, 3]), given([1, 4], [1, 1, 1, 0], 'int32'), normal([1, 4])], (x, i, u) =>
    scatterAdd(x, i, u),
  ),
  op('scatterAdd of nothing', [normal([3, 4]), integers([3, 0], 0, 3), normal([3, 0])], (x, i, u) => scatterAdd(x, i, u)),
  op('scatterAdd of integers', [integers([3, 4], -9, 9), integers([3, 6], 0, 3), integers([3, 6], -9, 9)], (x, i, u) =>
    scatterAdd(x, i, u),
  ),
  op('oneHot', [integers([2, 3], 0, 4)], (i) => oneHot(i, 5)),
  op('oneHot of one index', [integers([], 0, 4)], (i) => oneHot(i, 5)),
  op('oneHot outside of the range', [given([3], [-1, 0, 3], 'int32')], (i) => oneHot(i, 3)),
  op('oneHot of other dtypes', [integers([3], 0, 2)], (i) => [oneHot(i, 3, { dtype: 'int32' }), oneHot(i, 3, { dtype: 'bool' })]),
];

const large = [
  op('gather', [normal([5000, 24]), integers([50, 100], 0, 4999)], rows),
  op('gather few rows very often', [normal([7, 20]), integers([6000], 0, 6)], rows),
  op('gather along the last axis', [normal([24, 5000]), integers([5000], 0, 4999)], (x, i) => gather(x, i, { axis: 1 })),
  op('gatherElements', [normal([331, 317]), integers([300, 310], 0, 316)], (x, i) => gatherElements(x, i)),
  op('takeAlongAxis', [normal([331, 317]), integers([331, 310], 0, 316)], (x, i) => takeAlongAxis(x, i)),
  op('scatterAdd', [normal([331, 317]), integers([331, 310], 0, 316), normal([331, 310])], (x, i, u) => scatterAdd(x, i, u)),
  op('scatterAdd to few places', [normal([3]), integers([100003], 0, 2), positive([100003])], (x, i, u) => scatterAdd(x, i, u)),
  op('scatterAdd of integers', [integers([317], -9, 9), integers([100003], 0, 316), integers([100003], -9, 9)], (x, i, u) =>
    scatterAdd(x, i, u),
  ),
  op('oneHot', [integers([1000], 0, 99)], (i) => oneHot(i, 100)),
];

testOps(indexing, cases, large);

describe('indices that are arguments', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await createBackend({ device: 'cpu' });
  });
  afterAll(() => backend.close());

  const table = array([
    [1, 2],
    [3, 4],
    [5, 6],
  ]);
  const indices = (...values: number[]) => array(values, { dtype: 'int32' });

  it('are checked before every run', async () => {
    const pick = compile(backend, (x: Tensor, i: Tensor) => gather(x, i));
    expect((await pick(table, indices(2, 0))).data).toEqual(Float32Array.of(5, 6, 1, 2));
    await expect(pick(table, indices(2, 3))).rejects.toThrow(
      new RangeError('gather: indices: expected integers from 0 to 2, received 3 at index 1'),
    );
    await expect(pick(table, indices(-1, 0))).rejects.toThrow(
      new RangeError('gather: indices: expected integers from 0 to 2, received -1 at index 0'),
    );
  });

  it('are checked where they say where to add', async () => {
    const put = compile(backend, (x: Tensor, i: Tensor, u: Tensor) => scatterAdd(x, i, u));
    await expect(put(array([0, 0, 0]), indices(0, 3), array([1, 1]))).rejects.toThrow(
      new RangeError('scatterAdd: indices: expected integers from 0 to 2, received 3 at index 1'),
    );
  });

  it('are checked through reshape and transpose', async () => {
    const pick = compile(backend, (x: Tensor, i: Tensor) => takeAlongAxis(x, transpose(reshape(i, [1, 3]))));
    await expect(pick(table, indices(0, 1, 2))).rejects.toThrow(
      new RangeError('takeAlongAxis: indices: expected integers from 0 to 1, received 2 at index 2'),
    );
  });
});
