import { allocate, type DType, fromFloat16Bits, isDType, isStorageOf, type TypedArray, toFloat16Bits } from './dtype.js';
import { checkOptions, outOfRange, wrongType } from './errors.js';
import { checkShape, type Shape, sizeOf } from './shape.js';

/** A dense array on the host, row-major: what goes into compiled functions and comes out of them. */
export interface NDArray {
  readonly data: TypedArray;
  readonly shape: Shape;
  readonly dtype: DType;
}

/**
 * What is accepted where an array is expected: an {@link NDArray}, or any object with `data` and `shape`
 * (and `stride` and `offset` in elements, as the package `ndarray` has them). Without a `dtype` that
 * is one of ours, integer data become int32 and everything else float32.
 */
export interface ArrayLike {
  readonly data: TypedArray | Float64Array | BigInt64Array | Iterable<number | bigint | boolean>;
  readonly shape: readonly number[];
  readonly dtype?: string;
  readonly stride?: readonly number[];
  readonly offset?: number;
}

/** Numbers or booleans nested to any depth. */
export type Nested = number | boolean | readonly Nested[];

export const isArrayLike = (value: unknown): value is ArrayLike =>
  typeof value === 'object' && value !== null && 'data' in value && Array.isArray((value as ArrayLike).shape);

const isInteger = (data: unknown): boolean =>
  ArrayBuffer.isView(data) && !(data instanceof Float32Array || data instanceof Float64Array || data instanceof DataView);

function inferDType(value: ArrayLike): DType {
  if (isDType(value.dtype)) return value.dtype;
  return isInteger(value.data) ? 'int32' : 'float32';
}

function write(fn: string, name: string, target: TypedArray, dtype: DType, index: number, value: unknown): void {
  const number = Number(value);
  if (dtype === 'int32' && (!Number.isInteger(number) || Math.abs(number + 0.5) > 2 ** 31)) {
    throw outOfRange(fn, name, 'integers within 32 bits', value);
  }
  target[index] = dtype === 'float16' ? toFloat16Bits(number) : dtype === 'bool' ? (number ? 1 : 0) : number;
}

/**
 * Any {@link ArrayLike} as an {@link NDArray}. Data already in the right form are not copied.
 * `fn` and `name` are for error messages.
 */
export function toNDArray(fn: string, name: string, value: unknown): NDArray {
  if (!isArrayLike(value)) throw wrongType(fn, name, 'an array { data, shape }', value);
  const { shape, data, stride, offset = 0 } = value;
  checkShape(fn, `${name}.shape`, shape);
  const dtype = inferDType(value);
  const size = sizeOf(shape);
  const dense = rowMajorStrides(shape);
  const contiguous = offset === 0 && (!stride || stride.every((s, axis) => s === dense[axis] || (shape[axis] ?? 0) < 2));
  if (typeof (data as Iterable<unknown>)?.[Symbol.iterator] !== 'function') throw wrongType(fn, `${name}.data`, 'a list of numbers', data);
  const source = ArrayBuffer.isView(data) || Array.isArray(data) ? (data as unknown as Float64Array) : [...data];
  // With strides or an offset the array may be a part of its data, or repeat it.
  if (!stride && offset === 0 && source.length !== size) {
    throw outOfRange(fn, `${name}.data`, `${size} elements for shape [${shape.join(', ')}]`, source.length);
  }
  if (contiguous && source.length === size && isStorageOf(dtype, data)) {
    return value.dtype === dtype ? (value as NDArray) : { data, shape: [...shape], dtype };
  }
  // The same float16 patterns in, the same out; elsewhere numbers are converted.
  const raw = dtype === 'float16' && source instanceof Uint16Array;
  const target = allocate(dtype, size);
  const strides = stride ?? dense;
  const position = new Array<number>(shape.length).fill(0);
  for (let i = 0, from = offset; i < size; i++) {
    const element = source[from];
    if (element === undefined) throw outOfRange(fn, `${name}.data`, 'elements at every stride', from);
    if (raw) target[i] = element as number;
    else write(fn, name, target, dtype, i, element);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis] as number;
      position[axis] = (position[axis] as number) + 1;
      if (position[axis] !== shape[axis]) break;
      from -= (strides[axis] as number) * (shape[axis] as number);
      position[axis] = 0;
    }
  }
  return { data: target, shape: [...shape], dtype };
}

function rowMajorStrides(shape: Shape): number[] {
  const strides: number[] = [];
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis] as number;
  }
  return strides;
}

/**
 * An array from nested numbers or booleans, from a typed array with a shape, or from an object with `data` and `shape`.
 *
 * Booleans become bool; numbers and Float64Array become float32, other integer typed arrays int32, unless
 * `dtype` says otherwise. A Uint16Array given with dtype `'float16'` is taken as bit patterns.
 *
 * @throws if rows differ in length, the shape does not fit, or an int32 element is not a 32-bit integer
 * @example
 * ```ts
 * import { array } from 'tracegrad';
 *
 * const weights = array([[1, 2], [3, 4]]); // float32[2, 2]
 * const labels = array([7, 2, 1], { dtype: 'int32' });
 * const image = array(new Float32Array(784), { shape: [1, 28, 28] });
 * ```
 */
export function array(
  value: Nested | ArrayLike | TypedArray | Float64Array | BigInt64Array,
  options: { dtype?: DType; shape?: Shape } = {},
): NDArray {
  checkOptions('array', options, ['dtype', 'shape']);
  const { dtype } = options;
  if (dtype !== undefined && !isDType(dtype)) throw outOfRange('array', 'dtype', "'float32', 'float16', 'int32' or 'bool'", dtype);
  const typed = dtype === undefined ? {} : { dtype };
  if (isArrayLike(value))
    return toNDArray('array', 'value', { ...(options.shape ? toNDArray('array', 'value', value) : value), ...options });
  if (ArrayBuffer.isView(value)) {
    return toNDArray('array', 'value', { data: value, shape: options.shape ?? [(value as TypedArray).length], ...typed });
  }
  const shape: number[] = [];
  for (let row: unknown = value; Array.isArray(row); row = row[0]) shape.push(row.length);
  const flat: (number | boolean)[] = [];
  const collect = (item: unknown, depth: number): void => {
    if (depth === shape.length) {
      if (typeof item !== 'number' && typeof item !== 'boolean') throw wrongType('array', 'value', `numbers nested ${depth} deep`, item);
      flat.push(item);
    } else {
      if (!Array.isArray(item) || item.length !== shape[depth]) {
        throw wrongType('array', 'value', `rows of length ${shape[depth]} at depth ${depth}`, item);
      }
      for (const child of item) collect(child, depth + 1);
    }
  };
  collect(value, 0);
  const inferred: DType = flat.length > 0 && flat.every((item) => typeof item === 'boolean') ? 'bool' : 'float32';
  return toNDArray('array', 'value', { data: flat, shape: options.shape ?? shape, dtype: dtype ?? inferred });
}

/** The elements of an array as plain numbers; float16 patterns are decoded. Row-major. */
export const toNumbers = (value: NDArray): number[] =>
  value.dtype === 'float16' ? Array.from(value.data, fromFloat16Bits) : Array.from(value.data);

/** The one element of an array of size 1, as a number. */
export function toScalar(value: NDArray): number {
  if (value.data.length !== 1) throw outOfRange('toScalar', 'value', 'an array of one element', value);
  return toNumbers(value)[0] as number;
}

/** An array in which every element is `value`. */
export function filled(shape: Shape, value: number, dtype: DType = 'float32'): NDArray {
  checkShape('filled', 'shape', shape);
  const data = allocate(dtype, sizeOf(shape));
  const one = allocate(dtype, 1);
  write('filled', 'value', one, dtype, 0, value);
  return { data: data.fill(one[0] as number), shape: [...shape], dtype };
}
