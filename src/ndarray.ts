import ndarray, { type NdArray } from 'ndarray';
import { type ArrayLike, toNDArray } from './core/array.js';
import type { TypedArray } from './core/dtype.js';

/**
 * An array as an object of the package `ndarray`, sharing its data. (The other way needs no function: ndarray objects are
 * accepted wherever arrays are.) That package builds code from strings, so it fails under a content-security policy without
 * `unsafe-eval`; nothing else of tracegrad imports it.
 *
 * @example
 * ```ts
 * import { array } from 'tracegrad';
 * import { toNdarray } from 'tracegrad/ndarray';
 *
 * const second = toNdarray(array([[1, 2], [3, 4]])).get(0, 1); // 2
 * ```
 */
export function toNdarray(value: ArrayLike): NdArray<TypedArray> {
  const { data, shape } = toNDArray('toNdarray', 'value', value);
  return ndarray(data, [...shape]);
}
