import { outOfRange, show, wrongType } from './errors.js';

/** The size of every axis, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements of a shape. */
export const sizeOf = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((size, axis) => size === b[axis]);

/** The shape that two shapes broadcast to (NumPy's rule), or undefined. */
export function broadcastShapes(a: Shape, b: Shape): number[] | undefined {
  const rank = Math.max(a.length, b.length);
  const result: number[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return undefined;
    result.push(x === 1 ? y : x);
  }
  return result;
}

/** `axis` counted from the front; throws unless it lies in `[-rank, rank)`. */
export function normalizeAxis(fn: string, axis: unknown, rank: number, argument = 'axis'): number {
  if (!Number.isInteger(axis)) throw wrongType(fn, argument, 'an integer', axis);
  const index = axis as number;
  if (index < -rank || index >= rank) throw outOfRange(fn, argument, `an axis of a rank-${rank} Tensor`, axis);
  return index < 0 ? index + rank : index;
}

/** Axes given as one number, a list, or nothing (all of them), in ascending order. */
export function normalizeAxes(fn: string, axis: number | readonly number[] | undefined, rank: number, argument = 'axis'): number[] {
  if (axis === undefined) return Array.from({ length: rank }, (_, i) => i);
  const axes = (Array.isArray(axis) ? axis : [axis]).map((a) => normalizeAxis(fn, a, rank, argument)).sort((a, b) => a - b);
  if (new Set(axes).size !== axes.length) throw outOfRange(fn, argument, 'axes without repetition', axis);
  return axes;
}

/** `value` as a shape; throws unless it is a list of integers >= 0. */
export function checkShape(fn: string, argument: string, value: unknown): asserts value is Shape {
  if (!Array.isArray(value) || value.some((size) => !Number.isInteger(size) || size < 0)) {
    throw new TypeError(`${fn}: ${argument}: expected a list of integers >= 0, received ${show(value)}`);
  }
}
