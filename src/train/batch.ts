import type { NDArray } from '../core/array.js';
import { allocate } from '../core/dtype.js';
import { outOfRange } from '../core/errors.js';
import { slice } from '../core/ops/movement.js';
import { sizeOf } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { ArrayLeaf } from '../runtime/edge.js';
import type { Leaf } from '../runtime/program.js';

/** The name of the axis along which a batch is cut and padded. */
const BATCH = 'batch';

/** The first axis of every array, where they agree on its size. */
export function defaultAxes(leaves: readonly ArrayLeaf[]): readonly ArrayLeaf[] {
  const agree = leaves.every(({ shape }) => shape.length > 0 && shape[0] === leaves[0]?.shape[0]);
  return agree ? leaves.map((leaf) => ({ ...leaf, axes: [BATCH] })) : leaves;
}

/** Which axis of every array counts the rows of the batch: the one called so, or where none is the first, if all arrays agree. */
function batchAxes(leaves: readonly Leaf[]): readonly (number | undefined)[] {
  const named = leaves.map(({ axes }) => axes?.indexOf(BATCH) ?? -1);
  if (named.some((axis) => axis >= 0)) return named.map((axis) => (axis >= 0 ? axis : undefined));
  const agree = leaves.every(({ shape }) => shape.length > 0 && shape[0] === leaves[0]?.shape[0]);
  return leaves.map(() => (agree ? 0 : undefined));
}

/** How many rows a batch has; undefined if nobody knows. */
export function rowsOf(leaves: readonly Leaf[]): number | undefined {
  const axes = batchAxes(leaves);
  const first = axes.findIndex((axis) => axis !== undefined);
  return leaves[first]?.shape[axes[first] as number];
}

/** The leaves of a batch as they are traced, which may be at another size than they came in. */
export const tracedLeaves = (leaves: readonly Leaf[], tensors: readonly Tensor[]): Leaf[] =>
  leaves.map((leaf, i) => ({ ...leaf, shape: (tensors[i] as Tensor).shape }));

/** Part `index` of `count` of every Tensor of a batch; the sizes of the parts differ by at most one. */
export function partOf(
  fn: string,
  given: readonly Leaf[],
  tensors: readonly Tensor[],
  [index, count]: readonly [number, number],
): Tensor[] {
  if (count === 1) return [...tensors];
  const leaves = tracedLeaves(given, tensors);
  const rows = rowsOf(leaves);
  if (rows === undefined) throw new Error(`${fn}: a batch is cut along the axis called '${BATCH}' in axes, and there is none`);
  if (rows < count) throw outOfRange(fn, 'batch', `at least ${count} rows, as many as the gradient strategy cuts it into`, rows);
  const [from, to] = [index, index + 1].map((i) => Math.floor((i * rows) / count)) as [number, number];
  const axes = batchAxes(leaves);
  return tensors.map((tensor, i) => {
    const cut = (end: number, otherwise: (axis: number) => number) =>
      tensor.shape.map((_, axis) => (axis === axes[i] ? end : otherwise(axis)));
    return axes[i] === undefined
      ? tensor
      : slice(
          tensor,
          cut(from, () => 0),
          cut(to, (axis) => tensor.shape[axis] as number),
        );
  });
}

/** Fills a batch up to `size` rows with zeros, and adds a mask that tells the rows from them. */
export function padBatch(fn: string, leaves: readonly ArrayLeaf[], size: number): ArrayLeaf[] {
  const rows = rowsOf(leaves);
  const axes = batchAxes(leaves);
  if (rows === undefined || axes.some((axis) => axis !== 0)) {
    throw new Error(`${fn}: padTo needs a batch whose arrays have the rows as their first axis`);
  }
  if (rows > size) throw outOfRange(fn, 'batch', `at most ${size} rows, as padTo says`, rows);
  const fill = ({ data, shape, dtype }: NDArray): NDArray => {
    const padded = { data, shape: [size, ...shape.slice(1)], dtype };
    if (rows === size) return padded;
    const longer = allocate(dtype, sizeOf(padded.shape));
    longer.set(data);
    return { ...padded, data: longer };
  };
  const mask: NDArray = { data: Float32Array.from({ length: size }, (_, i) => (i < rows ? 1 : 0)), shape: [size], dtype: 'float32' };
  const filled = leaves.map((leaf) => {
    const array = fill(leaf.array);
    return { ...leaf, array, shape: array.shape };
  });
  return [...filled, { path: 'mask', shape: mask.shape, dtype: mask.dtype, array: mask, axes: leaves[0]?.axes?.slice(0, 1) }];
}

/** The first `rows` rows of an array. */
export const firstRows = ({ data, shape, dtype }: NDArray, rows: number): NDArray => {
  const kept = [rows, ...shape.slice(1)];
  return { data: data.slice(0, sizeOf(kept)), shape: kept, dtype };
};
