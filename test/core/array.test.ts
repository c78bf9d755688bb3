import ndarray from 'ndarray';
import { describe, expect, it } from 'vitest';
import { toNDArray } from '../../src/core/array.js';
import { array, filled, type Nested, toNumbers, toScalar } from '../../src/index.js';

describe('array', () => {
  it.each<[Nested, number[], string, number[]]>([
    [5, [], 'float32', [5]],
    [[1, 2, 3], [3], 'float32', [1, 2, 3]],
    [
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      [3, 2],
      'float32',
      [1, 2, 3, 4, 5, 6],
    ],
    [[[[7]]], [1, 1, 1], 'float32', [7]],
    [true, [], 'bool', [1]],
    [[[true, false]], [1, 2], 'bool', [1, 0]],
    [[true, 3], [2], 'float32', [1, 3]],
    [[], [0], 'float32', []],
    [[[], []], [2, 0], 'float32', []],
  ])('takes %j', (value, shape, dtype, numbers) => {
    const result = array(value);
    expect(result.shape).toEqual(shape);
    expect(result.dtype).toBe(dtype);
    expect(toNumbers(result)).toEqual(numbers);
  });

  it('takes typed arrays', () => {
    expect(array(Float32Array.of(1, 2))).toEqual({ data: Float32Array.of(1, 2), shape: [2], dtype: 'float32' });
    expect(array(Float64Array.of(0.1, 2))).toEqual({ data: Float32Array.of(0.1, 2), shape: [2], dtype: 'float32' });
    expect(array(Uint8Array.of(1, 255))).toEqual({ data: Int32Array.of(1, 255), shape: [2], dtype: 'int32' });
    expect(array(BigInt64Array.of(-3n, 4n))).toEqual({ data: Int32Array.of(-3, 4), shape: [2], dtype: 'int32' });
    expect(array(new Float32Array(6), { shape: [2, 3] }).shape).toEqual([2, 3]);
  });

  it('does not copy data that already have the right form', () => {
    const data = Float32Array.of(1, 2);
    expect(array(data).data).toBe(data);
    const ready = { data, shape: [2], dtype: 'float32' } as const;
    expect(toNDArray('fn', 'x', ready)).toBe(ready);
  });

  it('converts to a dtype', () => {
    expect(array([1, 0, -2], { dtype: 'int32' }).data).toEqual(Int32Array.of(1, 0, -2));
    expect(array([1, 0, -2], { dtype: 'bool' }).data).toEqual(Uint8Array.of(1, 0, 1));
    expect(array([true, false], { dtype: 'float32' }).data).toEqual(Float32Array.of(1, 0));
    expect(array(Int32Array.of(1, 2), { dtype: 'float32' }).data).toEqual(Float32Array.of(1, 2));
    expect(array(Float64Array.of(1, 2), { dtype: 'int32' }).data).toEqual(Int32Array.of(1, 2));
  });

  it('takes float16 as numbers and as bit patterns', () => {
    const half = array([1, -2, 1 / 3], { dtype: 'float16' });
    expect(half.data).toEqual(Uint16Array.of(0x3c00, 0xc000, 0x3555));
    expect(toNumbers(half)).toEqual([1, -2, 0.333251953125]);
    expect(array(Uint16Array.of(0x3c00, 0xc000), { dtype: 'float16' }).data).toEqual(Uint16Array.of(0x3c00, 0xc000));
  });

  it('takes anything that lists numbers', () => {
    expect(array({ data: [1, 2, 3, 4], shape: [2, 2] })).toEqual({ data: Float32Array.of(1, 2, 3, 4), shape: [2, 2], dtype: 'float32' });
    expect(array({ data: new Set([1, 2]), shape: [2] }).data).toEqual(Float32Array.of(1, 2));
    expect(array({ data: [1n, 2n], shape: [2], dtype: 'int32' }).data).toEqual(Int32Array.of(1, 2));
  });

  it('takes views of the package ndarray', () => {
    const image = ndarray(
      Float32Array.from({ length: 24 }, (_, i) => i),
      [2, 3, 4],
    );
    expect(array(image)).toEqual({ data: image.data, shape: [2, 3, 4], dtype: 'float32' });
    expect(array(image.transpose(1, 0, 2).pick(2, null, null)).data).toEqual(Float32Array.of(8, 9, 10, 11, 20, 21, 22, 23));
    const part = array(image.hi(2, 2, 3).lo(0, 1, 1));
    expect(part.shape).toEqual([2, 1, 2]);
    expect(part.data).toEqual(Float32Array.of(5, 6, 17, 18));
    expect(array(image.step(1, 1, -3)).data).toEqual(Float32Array.of(3, 0, 7, 4, 11, 8, 15, 12, 19, 16, 23, 20));
    expect(array(ndarray(Uint8Array.of(1, 2), [2])).dtype).toBe('int32');
    expect(array(ndarray([1, 2], [2])).dtype).toBe('float32');
  });

  it('takes strides and an offset', () => {
    const data = Int32Array.of(0, 1, 2, 3, 4, 5, 6);
    expect(array({ data, shape: [2, 2], stride: [3, -1], offset: 2 }).data).toEqual(Int32Array.of(2, 1, 5, 4));
    expect(array({ data, shape: [], offset: 4 }).data).toEqual(Int32Array.of(4));
    expect(array({ data, shape: [2, 0], stride: [1, 1], offset: 3 }).data).toEqual(new Int32Array(0));
  });

  it.each<[() => unknown, Error]>([
    [() => array([[1, 2], [3]]), new TypeError('array: value: expected rows of length 2 at depth 1, received [3]')],
    [() => array([[1], 2]), new TypeError('array: value: expected rows of length 1 at depth 1, received 2')],
    [() => array([1, [2]]), new TypeError('array: value: expected numbers nested 1 deep, received [2]')],
    [() => array(['1'] as unknown as Nested), new TypeError("array: value: expected numbers nested 1 deep, received '1'")],
    [
      () => array(new Float32Array(5), { shape: [2, 3] }),
      new RangeError('array: value.data: expected 6 elements for shape [2, 3], received 5'),
    ],
    [() => array([1, 2], { shape: [3] }), new RangeError('array: value.data: expected 3 elements for shape [3], received 2')],
    [() => array([1], { shape: [-1] }), new TypeError('array: value.shape: expected a list of integers >= 0, received [-1]')],
    [() => array([1.5], { dtype: 'int32' }), new RangeError('array: value: expected integers within 32 bits, received 1.5')],
    [() => array([2 ** 31], { dtype: 'int32' }), new RangeError('array: value: expected integers within 32 bits, received 2147483648')],
    [
      () => array(BigInt64Array.of(-(2n ** 31n) - 1n)),
      new RangeError('array: value: expected integers within 32 bits, received -2147483649'),
    ],
    [
      () => array({ data: Uint32Array.of(2 ** 32 - 1), shape: [1] }),
      new RangeError('array: value: expected integers within 32 bits, received 4294967295'),
    ],
    [
      () => array([1], { dtype: 'float64' as 'float32' }),
      new RangeError("array: dtype: expected 'float32', 'float16', 'int32' or 'bool', received 'float64'"),
    ],
    [() => array([1], { type: 'int32' } as object), new TypeError("array: unknown option 'type'; the options are dtype, shape")],
    [
      () => array({ data: [1, 2], shape: [2], stride: [2] }),
      new RangeError('array: value.data: expected elements at every stride, received 2'),
    ],
    [() => array({ data: 3, shape: [1] } as unknown as Nested), new TypeError('array: value.data: expected a list of numbers, received 3')],
  ])('refuses %s', (make, error) => {
    expect(make).toThrow(error);
  });

  it('takes the whole range of int32', () => {
    expect(array([2 ** 31 - 1, -(2 ** 31)], { dtype: 'int32' }).data).toEqual(Int32Array.of(2147483647, -2147483648));
  });
});

describe('toScalar', () => {
  it('returns the only element', () => {
    expect(toScalar(array(0.5))).toBe(0.5);
    expect(toScalar(array([[2]], { dtype: 'float16' }))).toBe(2);
    expect(() => toScalar(array([1, 2]))).toThrow(
      new RangeError('toScalar: value: expected an array of one element, received an array float32[2]'),
    );
  });
});

describe('filled', () => {
  it('repeats a value', () => {
    expect(filled([2, 2], 0.5)).toEqual({ data: Float32Array.of(0.5, 0.5, 0.5, 0.5), shape: [2, 2], dtype: 'float32' });
    expect(filled([2], 1, 'float16').data).toEqual(Uint16Array.of(0x3c00, 0x3c00));
    expect(filled([2], 5, 'bool').data).toEqual(Uint8Array.of(1, 1));
    expect(() => filled([2], 0.5, 'int32')).toThrow(new RangeError('filled: value: expected integers within 32 bits, received 0.5'));
  });
});
