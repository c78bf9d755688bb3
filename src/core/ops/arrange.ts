import type { DType } from '../dtype.js';
import { checkNumber, checkOptions, checkSize, outOfRange, wrongType } from '../errors.js';
import { normalizeAxes, normalizeAxis, sameShape } from '../shape.js';
import { checkTensor, type Tensor } from '../tensor.js';
import { broadcastTo, reshape } from './broadcast.js';
import { arange } from './constant.js';
import { add, mul } from './elementwise.js';
import { concat, sliceAxis } from './movement.js';
import { cast, equal, greaterEqual, lessEqual, where } from './select.js';

/**
 * `x` with a new axis of size 1.
 *
 * @param axis where it stands in the result, from `-rank - 1` to `rank`
 */
export function expandDims(x: Tensor, axis: number): Tensor {
  const { rank, shape } = checkTensor('expandDims', 'x', x);
  const at = normalizeAxis('expandDims', axis, rank + 1);
  return reshape(x, [...shape.slice(0, at), 1, ...shape.slice(at)]);
}

/**
 * `x` without axes of size 1.
 *
 * @param options.axis which of them; default: all
 * @throws if a named axis is not of size 1
 */
export function squeeze(x: Tensor, options: { axis?: number | readonly number[] } = {}): Tensor {
  const { rank, shape } = checkTensor('squeeze', 'x', x);
  checkOptions('squeeze', options, ['axis']);
  const ones = shape.flatMap((size, i) => (size === 1 ? [i] : []));
  const axes = options.axis === undefined ? ones : normalizeAxes('squeeze', options.axis, rank);
  if (!axes.every((axis) => shape[axis] === 1))
    throw outOfRange('squeeze', 'axis', `axes of size 1 of [${shape.join(', ')}]`, options.axis);
  return reshape(
    x,
    shape.filter((_, i) => !axes.includes(i)),
  );
}

/**
 * Joins Tensors of one shape along a new axis.
 *
 * @param options.axis where the new axis stands in the result, default 0
 */
export function stack(tensors: readonly Tensor[], options: { axis?: number } = {}): Tensor {
  checkOptions('stack', options, ['axis']);
  if (!Array.isArray(tensors) || tensors.length === 0) throw wrongType('stack', 'tensors', 'a list of Tensors', tensors);
  const [first] = tensors as [Tensor];
  const axis = normalizeAxis('stack', options.axis ?? 0, checkTensor('stack', 'tensors[0]', first).rank + 1);
  for (const [i, x] of (tensors as readonly Tensor[]).entries()) {
    if (!sameShape(checkTensor('stack', `tensors[${i}]`, x).shape, first.shape) || x.dtype !== first.dtype) {
      throw outOfRange('stack', `tensors[${i}]`, `${first.dtype}[${first.shape.join(', ')}], like the first`, x);
    }
  }
  return concat(
    tensors.map((x) => expandDims(x, axis)),
    { axis },
  );
}

/**
 * Moves elements along an axis by `shift` places; those that leave at one end come in at the other.
 *
 * @param shift an integer; positive ones move towards larger indices
 * @param options.axis default 0
 */
export function roll(x: Tensor, shift: number, options: { axis?: number } = {}): Tensor {
  checkOptions('roll', options, ['axis']);
  checkNumber('roll', 'shift', shift, 'an integer', Number.isInteger);
  const { shape, rank } = checkTensor('roll', 'x', x);
  const axis = normalizeAxis('roll', options.axis ?? 0, rank);
  const size = shape[axis] as number;
  if (size === 0) return x;
  const cut = (((-shift % size) + size) % size) as number;
  return cut === 0 ? x : concat([sliceAxis(x, axis, cut, size), sliceAxis(x, axis, 0, cut)], { axis });
}

/**
 * Repeats `x` as a whole, side by side.
 *
 * @param repeats how often along every axis, integers >= 0
 */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  const { shape, rank } = checkTensor('tile', 'x', x);
  if (!Array.isArray(repeats) || repeats.length !== rank || !repeats.every((n) => Number.isInteger(n) && n >= 0)) {
    throw wrongType('tile', 'repeats', `${rank} integers >= 0, one per axis of x`, repeats);
  }
  const apart = reshape(
    x,
    shape.flatMap((size) => [1, size]),
  );
  const repeated = broadcastTo(
    apart,
    shape.flatMap((size, i) => [repeats[i] as number, size]),
  );
  return reshape(
    repeated,
    shape.map((size, i) => size * (repeats[i] as number)),
  );
}

/**
 * The identity matrix: 1 where row and column agree, 0 elsewhere.
 *
 * @param rows number of rows
 * @param options.columns default: as many as rows
 * @param options.dtype default float32
 */
export function eye(rows: number, options: { columns?: number; dtype?: DType } = {}): Tensor {
  checkOptions('eye', options, ['columns', 'dtype']);
  const { columns = rows, dtype = 'float32' } = options;
  checkSize('eye', 'rows', rows);
  checkSize('eye', 'columns', columns);
  return cast(equal(expandDims(arange(rows), 1), arange(columns)), dtype);
}

/** Row and column numbers of the last two axes, shifted by a diagonal. */
function diagonalOf(fn: string, x: Tensor, options: { diagonal?: number }): [rows: Tensor, columns: Tensor] {
  checkOptions(fn, options, ['diagonal']);
  const { diagonal = 0 } = options;
  checkNumber(fn, 'diagonal', diagonal, 'an integer', Number.isInteger);
  if (checkTensor(fn, 'x', x).rank < 2) throw outOfRange(fn, 'x', 'at least two axes', x);
  if (x.dtype === 'bool') throw wrongType(fn, 'x', 'a numeric Tensor', x);
  return [add(expandDims(arange(x.shape.at(-2) as number), 1), diagonal), arange(x.shape.at(-1) as number)];
}

/**
 * The lower triangle of the last two axes, zeros elsewhere.
 *
 * @param options.diagonal the highest diagonal that is kept: 0 (default) the main one, positive ones above it
 */
export function tril(x: Tensor, options: { diagonal?: number } = {}): Tensor {
  const [rows, columns] = diagonalOf('tril', x, options);
  return where(lessEqual(columns, rows), x, 0);
}

/**
 * The upper triangle of the last two axes, zeros elsewhere.
 *
 * @param options.diagonal the lowest diagonal that is kept: 0 (default) the main one, positive ones above it
 */
export function triu(x: Tensor, options: { diagonal?: number } = {}): Tensor {
  const [rows, columns] = diagonalOf('triu', x, options);
  return where(greaterEqual(columns, rows), x, 0);
}

/** All products of two vectors: `[M]` and `[N]` to `[M, N]`. */
export function outer(a: Tensor, b: Tensor): Tensor {
  for (const [name, x] of Object.entries({ a, b })) {
    if (checkTensor('outer', name, x).rank !== 1) throw outOfRange('outer', name, 'a vector (one axis)', x);
  }
  return mul(expandDims(a, 1), b);
}
