import ndarray from 'ndarray';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { array, type Backend, compile, neg, type Tensor } from '../src/index.js';
import { toNdarray } from '../src/ndarray.js';
import { createBackend } from '../src/node.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(() => backend.close());

const counted = (...shape: number[]) =>
  ndarray(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i),
    shape,
  );

describe('ndarray objects as arguments', () => {
  const source = counted(3, 4);
  it.each<[string, ReturnType<typeof counted>, number[][]]>([
    [
      'whole',
      source,
      [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
      ],
    ],
    [
      'transposed',
      source.transpose(1, 0),
      [
        [0, 4, 8],
        [1, 5, 9],
        [2, 6, 10],
        [3, 7, 11],
      ],
    ],
    [
      'a corner',
      source.lo(1, 2),
      [
        [6, 7],
        [10, 11],
      ],
    ],
    [
      'columns',
      source.hi(3, 2),
      [
        [0, 1],
        [4, 5],
        [8, 9],
      ],
    ],
    [
      'every other column, backwards',
      source.step(1, -2),
      [
        [3, 1],
        [7, 5],
        [11, 9],
      ],
    ],
    ['a row', source.pick(1, null), [[4, 5, 6, 7]]],
    ['a column', source.pick(null, 2), [[2, 6, 10]]],
  ])('%s', async (_, value, rows) => {
    const result = await compile(backend, (x: Tensor) => neg(neg(x)))(value);
    expect([...result.data]).toEqual(rows.flat());
    expect(result.shape).toEqual(value.shape);
  });

  it('the first rows', async () => {
    const result = await compile(backend, (x: Tensor) => neg(neg(x)))(source.hi(2, 4));
    expect([...result.data]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('of other types', async () => {
    const same = compile(backend, (x: Tensor) => neg(neg(x)));
    expect(await same(ndarray(new Float64Array([0.5, 1]), [2]))).toEqual(array([0.5, 1]));
    expect(await same(ndarray(new Uint8Array([1, 255]), [2]))).toEqual(array([1, 255], { dtype: 'int32' }));
    expect(await same(ndarray([1, 2], [2]))).toEqual(array([1, 2]));
  });
});

describe('toNdarray', () => {
  it('gives an ndarray that shares the data', async () => {
    const value = array([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const view = toNdarray(value);
    expect([view.get(1, 2), view.shape, view.dtype]).toEqual([6, [2, 3], 'float32']);
    view.set(0, 0, 9);
    expect(value.data[0]).toBe(9);
  });

  it('goes round', async () => {
    const value = array([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(await compile(backend, (x: Tensor) => neg(neg(x)))(toNdarray(value))).toEqual(value);
    expect(toNdarray(toNdarray(value).transpose(1, 0)).get(2, 1)).toBe(6);
  });

  it('refuses what is no array', () => {
    expect(() => toNdarray([1, 2] as never)).toThrow('toNdarray: value: expected an array { data, shape }, received [1, 2]');
  });
});
