import * as movement from '../../../src/core/ops/movement.js';
import { add, concat, flip, mul, pad, slice, split, type Tensor, transpose } from '../../../src/index.js';
import { integers, mask, normal } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const first = (parts: readonly Tensor[]): Tensor => parts[0] as Tensor;

// biome-ignore format: one pair per axis
const paddings = {
  cube: [[2, 1], [0, 0], [0, 3]],
  rows: [[1, 2], [0, 0]],
  far: [[0, 3], [4, 0]],
  image: [[3, 4], [0, 5]],
} as const;

const cases = [
  op('transpose', [normal([2, 3])], (x) => transpose(x)),
  op('transpose of a batch', [normal([2, 3, 4])], (x) => transpose(x)),
  op('transpose by a permutation', [normal([2, 3, 1, 2])], (x) => transpose(x, [2, 0, 3, 1])),
  op('transpose by a permutation with negative axes', [normal([2, 3, 4])], (x) => transpose(x, [-1, 0, -2])),
  op('transpose of a transpose', [normal([2, 3, 4])], (x) => [
    transpose(transpose(x, [2, 0, 1]), [1, 2, 0]),
    transpose(transpose(x, [2, 0, 1]), [2, 0, 1]),
  ]),
  op('transpose that changes nothing', [normal([3]), normal([])], (x, y) => [transpose(x, [0]), transpose(y, [])]),
  op('transpose with an empty axis', [normal([0, 3])], (x) => transpose(x)),
  op('transpose of integers', [integers([2, 3], -9, 9)], (x) => transpose(x)),
  op('transpose of a mask', [mask([2, 3])], (x) => transpose(x)),
  op('concat', [normal([2, 3]), normal([1, 3])], (...x) => concat(x)),
  op('concat along the last axis', [normal([2, 1]), normal([2, 3]), normal([2, 2])], (...x) => concat(x, { axis: -1 })),
  op('concat along a middle axis', [normal([2, 1, 2]), normal([2, 2, 2])], (...x) => concat(x, { axis: 1 })),
  op('concat of a Tensor with itself', [normal([2, 2])], (x) => concat([x, x, x], { axis: 1 })),
  op('concat of one Tensor', [normal([2, 2])], (x) => concat([x])),
  op('concat with an empty part', [normal([2, 3]), normal([0, 3]), normal([1, 3])], (...x) => concat(x)),
  op('concat with an empty axis', [normal([2, 0]), normal([1, 0])], (...x) => concat(x)),
  op('concat of integers', [integers([2], -9, 9), integers([3], -9, 9)], (...x) => concat(x)),
  op('concat of masks', [mask([2]), mask([3])], (...x) => concat(x)),
  op('split into equal parts', [normal([6, 2])], (x) => split(x, 3)),
  op('split into unequal parts', [normal([2, 6])], (x) => split(x, [1, 3, 2], { axis: 1 })),
  op('split along the last axis', [normal([2, 2, 4])], (x) => split(x, 2, { axis: -1 })),
  op('split with an empty part', [normal([4, 2])], (x) => split(x, [1, 0, 3])),
  op('split with unused parts', [normal([4, 2])], (x) => first(split(x, [1, 2, 1]).slice(1))),
  op('split into one part', [normal([4])], (x) => split(x, 1)),
  op('split of integers', [integers([4], -9, 9)], (x) => split(x, 2)),
  op('split of masks', [mask([4])], (x) => split(x, 2)),
  op('slice', [normal([4, 5])], (x) => slice(x, [1, 0], [3, 4])),
  op('slice with strides', [normal([7, 5])], (x) => slice(x, [1, 0], [7, 5], [2, 3])),
  op('slice with strides that leave a rest', [normal([8])], (x) => slice(x, [1], [7], [4])),
  op('slice with strides over one element', [normal([3, 3])], (x) => slice(x, [0, 2], [1, 3], [5, 2])),
  op('slice counted from the end', [normal([4, 5])], (x) => slice(x, [-3, 0], [-1, -2])),
  op('slice of everything', [normal([2, 3])], (x) => slice(x, [0, 0], [2, 3])),
  op('slice of nothing', [normal([4, 5])], (x) => slice(x, [2, 0], [2, 5])),
  op('slice of nothing with strides', [normal([4, 5])], (x) => slice(x, [2, 0], [2, 5], [2, 2])),
  op('slice with an empty axis', [normal([0, 5])], (x) => slice(x, [0, 1], [0, 3])),
  op('slice of integers', [integers([6], -9, 9)], (x) => slice(x, [1], [6], [2])),
  op('slice of a mask', [mask([6])], (x) => slice(x, [1], [6], [2])),
  op('slice of overlapping parts', [normal([5])], (x) => mul(slice(x, [0], [4]), slice(x, [1], [5]))),
  op('slice backwards', [normal([4, 5])], (x) => slice(x, [3, 0], [0, 5], [-1, 2])),
  op('slice backwards with strides that leave a rest', [normal([8, 3])], (x) => slice(x, [6, 1], [0, -4], [-4, -1])),
  op('slice backwards of one element', [normal([3])], (x) => slice(x, [1], [0], [-5])),
  op('slice backwards of nothing', [normal([4, 5])], (x) => slice(x, [2, 4], [2, 0], [-2, -1])),
  op('slice backwards of an empty axis', [normal([0, 5])], (x) => slice(x, [-1, 3], [-1, 0], [-1, -1])),
  op('slice backwards of integers', [integers([6], -9, 9)], (x) => slice(x, [-1], [-7], [-2])),
  op('slice backwards of a mask', [mask([6])], (x) => slice(x, [5], [0], [-2])),
  op('flip', [normal([3, 4])], (x) => [flip(x), flip(x, { axis: 0 }), flip(x, { axis: [-1] }), flip(x, { axis: [] })]),
  op('flip of little', [normal([]), normal([1, 1]), normal([0, 2])], (...x) => x.map((y) => flip(y))),
  op('flip of integers and of a mask', [integers([2, 3], -9, 9), mask([2, 3])], (...x) => x.map((y) => flip(y))),
  ...(['reflect', 'edge'] as const).flatMap((mode) => [
    op(`pad, mode ${mode}`, [normal([3, 2, 4])], (x) => pad(x, paddings.cube, { mode })),
    op(`pad of integers, mode ${mode}`, [integers([3, 2, 4], -9, 9)], (x) => pad(x, paddings.cube, { mode })),
    op(`pad of a mask, mode ${mode}`, [mask([3, 2, 4])], (x) => pad(x, paddings.cube, { mode })),
    op(`pad with an empty axis, mode ${mode}`, [normal([3, 0])], (x) => pad(x, paddings.rows, { mode })),
  ]),
  op('pad far beyond the edge', [normal([1, 2])], (x) => pad(x, paddings.far, { mode: 'edge' })),
  op('pad', [normal([2, 3])], (x) =>
    pad(x, [
      [1, 0],
      [0, 2],
    ]),
  ),
  op('pad with a value', [normal([2])], (x) => pad(x, [[2, 1]], { value: -1.5 })),
  op('pad with nothing', [normal([2]), normal([])], (x, y) => [pad(x, [[0, 0]]), pad(y, [])]),
  op('pad of an empty axis', [normal([0, 2])], (x) =>
    pad(
      x,
      [
        [1, 2],
        [0, 0],
      ],
      { value: 3 },
    ),
  ),
  op('pad of integers', [integers([3], -9, 9)], (x) => pad(x, [[1, 1]], { value: 7 })),
  op('pad of a mask', [mask([3])], (x) => pad(x, [[1, 1]], { value: 1 })),
];

/** 64 parts of at least 10^5 elements together. */
const many = 64;
const parts = Array.from({ length: many }, () => normal([40, 40]));
const shape = [317, 331];

const large = [
  op('transpose', [normal(shape)], (x) => transpose(x)),
  op('transpose of integers', [integers(shape, -9, 9)], (x) => transpose(x)),
  op('concat of 64 parts', parts, (...x) => concat(x)),
  op('concat of 64 parts along the last axis', parts, (...x) => concat(x, { axis: 1 })),
  op('split into 64 parts', [normal([many * 40, 40])], (x) => split(x, many)),
  op('split into 64 parts along the last axis', [normal([40, many * 40])], (x) => split(x, many, { axis: 1 })),
  op('split into 64 parts that are added up', [normal([many * 40, 40])], (x) => split(x, many).reduce(add)),
  op('split of integers', [integers([many * 40, 40], -9, 9)], (x) => split(x, many)),
  op('slice', [normal([400, 331])], (x) => slice(x, [1, 2], [399, 331], [1, 2])),
  op('slice backwards', [normal([400, 331])], (x) => slice(x, [398, 330], [0, 1], [-1, -2])),
  op('flip', [normal(shape)], (x) => flip(x)),
  op('flip of integers', [integers(shape, -9, 9)], (x) => flip(x, { axis: 1 })),
  ...(['reflect', 'edge'] as const).map((mode) => op(`pad, mode ${mode}`, [normal(shape)], (x) => pad(x, paddings.image, { mode }))),
  op(
    'pad',
    [normal(shape)],
    (x) =>
      pad(
        x,
        [
          [3, 4],
          [0, 5],
        ],
        { value: 2 },
      ),
    { order: 1 },
  ),
];

testOps(movement, cases, large);
