import * as linalg from '../../../src/core/ops/linalg.js';
import { matmul, transpose } from '../../../src/index.js';
import { normal } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

/** Shapes of the operands, and what is special about them. */
const pairs: readonly [string, readonly number[], readonly number[]][] = [
  ['two matrices', [2, 3], [3, 4]],
  ['a row and a column', [1, 3], [3, 1]],
  ['a column and a row', [3, 1], [1, 2]],
  ['a vector and a matrix', [3], [3, 4]],
  ['a matrix and a vector', [2, 3], [3]],
  ['two vectors', [3], [3]],
  ['batches', [2, 2, 3], [2, 3, 4]],
  ['a batch and a matrix', [2, 2, 3], [3, 4]],
  ['a matrix and a batch', [2, 3], [2, 3, 2]],
  ['a vector and a batch', [3], [2, 3, 2]],
  ['a batch and a vector', [2, 2, 3], [3]],
  ['batches that are both repeated', [2, 1, 2, 3], [3, 3, 1]],
  ['no rows', [0, 3], [3, 2]],
  ['no columns', [2, 3], [3, 0]],
  ['no inner elements', [2, 0], [0, 3]],
  ['no batches', [0, 2, 3], [0, 3, 2]],
  ['no batches and a matrix', [0, 2, 3], [3, 2]],
];

const cases = [
  ...pairs.map(([kind, a, b]) => op(`matmul of ${kind}`, [normal(a), normal(b)], matmul)),
  op('matmul with the left transposed', [normal([3, 2]), normal([3, 4])], (a, b) => matmul(transpose(a), b)),
  op('matmul with the right transposed', [normal([2, 3]), normal([4, 3])], (a, b) => matmul(a, transpose(b))),
  op('matmul with both transposed', [normal([3, 2]), normal([4, 3])], (a, b) => matmul(transpose(a), transpose(b))),
  op('matmul of a matrix with itself', [normal([3, 3])], (a) => [matmul(a, a), matmul(a, transpose(a)), matmul(transpose(a), a)]),
  op('matmul of transposed batches', [normal([2, 3, 2]), normal([2, 4, 3])], (a, b) => matmul(transpose(a), transpose(b))),
];

const large = [
  op('matmul of two matrices', [normal([331, 317]), normal([317, 40])], matmul),
  op('matmul of batches', [normal([64, 40, 50]), normal([64, 50, 30])], matmul),
  op('matmul of a batch and a matrix', [normal([64, 40, 50]), normal([50, 30])], matmul),
];

testOps(linalg, cases, large);
