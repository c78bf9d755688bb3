import * as constants from '../../../src/core/ops/constant.js';
import { arange, array, constant, full, ones, zeros, zerosLike } from '../../../src/index.js';
import { integers, normal } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const cases = [
  op('constant of nested numbers', [], () =>
    constant([
      [1, 2],
      [3, 4],
    ]),
  ),
  op('constant number', [], () => constant(0.1)),
  op('constant of booleans', [], () => constant([true, false])),
  op('constant without elements', [], () => constant(array(new Float32Array(0), { shape: [0, 3] }))),
  op('constant of float16 bit patterns', [], () => constant(array([1, -2, 0.5], { dtype: 'float16' })), { webgpu: false }),
  op('constant of integers', [], () => constant([1, -2], { dtype: 'int32' })),
  op('full float', [], () => full([2, 3], 0.1)),
  op('full scalar', [], () => full([], -7, 'int32')),
  op('full bool', [], () => [full([2], 1, 'bool'), full([2], 0, 'bool')]),
  op('full with an empty axis', [], () => full([2, 0], 3)),
  op('zeros', [], () => [zeros([3]), zeros([2, 2], 'int32'), zeros([2], 'bool')]),
  op('ones', [], () => [ones([3]), ones([2, 2], 'int32'), ones([2], 'bool')]),
  op('zerosLike float', [normal([2, 3])], (x) => zerosLike(x)),
  op('zerosLike integers', [integers([2], 1, 9)], (x) => zerosLike(x)),
  op('arange', [], () => [arange(5), arange(5, 'float32'), arange(0)]),
];

const large = [
  op('constant', [], () => constant(array(Float32Array.from({ length: 1e5 }, (_, i) => Math.sin(i))))),
  op('full', [], () => full([317, 331], 0.1)),
  op('zeros', [], () => zeros([317, 331])),
  op('ones', [], () => ones([317, 331], 'int32')),
  op('zerosLike', [normal([317, 331])], (x) => zerosLike(x)),
  op('arange', [], () => [arange(1e6), arange(1e5, 'float32')]),
];

testOps(constants, cases, large);
