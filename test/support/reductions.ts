import type { ReduceOptions, Tensor } from '../../src/index.js';
import { normal } from './draw.js';
import { type OpCase, type OpOptions, op } from './test-ops.js';

/**
 * The rows that every reduction has.
 *
 * @param empty whether the reduction of no elements is defined
 */
export function reductions(name: string, reduce: (x: Tensor, options: ReduceOptions) => Tensor, empty = true): OpCase[] {
  const row = (what: string, shape: readonly number[], options: ReduceOptions, test: OpOptions = {}) =>
    op(`${name} ${what}`, [normal(shape)], (x) => reduce(x, options), test);
  return [
    row('over all axes', [2, 3, 4], {}),
    row('over all axes, kept', [2, 3], { keepDims: true }),
    row('over the first axis', [4, 3], { axis: 0 }),
    row('over a negative axis', [2, 4, 3], { axis: -2 }),
    row('over the last axis, kept', [2, 3], { axis: -1, keepDims: true }),
    row('over outer axes, out of order', [2, 3, 4], { axis: [2, 0] }),
    row('over axes given from both ends', [2, 3, 4], { axis: [-1, 1], keepDims: true }),
    row('over no axis', [2, 3], { axis: [] }),
    row('over an axis of size 1', [3, 1, 2], { axis: 1 }),
    row('of a scalar', [], {}),
    row('of no groups', [0, 3], { axis: 1 }),
    ...(empty ? [row('over an empty axis', [0, 3], { axis: 0 }), row('of nothing', [2, 0], {})] : []),
  ];
}
