import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  type Backend,
  compile,
  createRng,
  foldIn,
  type HostContext,
  hostInput,
  keyFromSeed,
  mul,
  sum,
  type Tensor,
} from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import { leaf } from '../support/leaves.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(() => backend.close());

describe('hostInput', () => {
  it('is computed before every run, from the step', async () => {
    const f = compile(backend, () =>
      mul(
        hostInput(({ step }) => 0.5 ** step),
        8,
      ),
    );
    expect([(await f()).data[0], (await f()).data[0], (await f()).data[0]]).toEqual([8, 4, 2]);
  });

  it('takes a number for all elements or a list, in any dtype', async () => {
    const f = compile(backend, () => [
      hostInput(() => 3, { shape: [2] }),
      hostInput(() => [1, -2], { shape: [2], dtype: 'int32' }),
      hostInput(() => [1, 0], { shape: [2], dtype: 'bool' }),
      hostInput(() => Float64Array.of(0.5, 2), { shape: [1, 2], dtype: 'float16' }),
    ]);
    expect((await f()).map(({ data }) => data)).toEqual([
      Float32Array.of(3, 3),
      Int32Array.of(1, -2),
      Uint8Array.of(1, 0),
      Uint16Array.of(0x3800, 0x4000),
    ]);
  });

  it('has a generator for every seed, step and host input', async () => {
    const draw = ({ rng }: HostContext) => rng.float();
    const run = (seed: number) => compile(backend, () => [hostInput(draw), hostInput(draw)], { seed });
    const [first, second] = [run(5), run(5)];
    const drawn = [...(await first()), ...(await first())].map(({ data }) => data[0]);
    const expected = [0, 1].flatMap((step) => [0, 1].map((i) => createRng(foldIn(foldIn(keyFromSeed(5), step), i)).float()));
    expect(drawn).toEqual([...Float32Array.from(expected)]);
    expect([...(await second()), ...(await second())].map(({ data }) => data[0])).toEqual(drawn);
    expect((await run(6)())[0]?.data[0]).not.toBe(drawn[0]);
  });

  it('has no gradient', () => {
    const h = hostInput(() => 1, { shape: [2] });
    expect(h.node.inputs).toEqual([]);
  });

  it('must return as many numbers as it has elements', async () => {
    const f = compile(backend, () => hostInput(() => [1, 2, 3], { shape: [2] }));
    await expect(f()).rejects.toThrow(new RangeError('hostInput: compute: expected 2 numbers as its result, received 3'));
  });

  it.each<[() => unknown, Error]>([
    [() => hostInput(3 as never), new TypeError('hostInput: compute: expected a function, received 3')],
    [() => hostInput(() => 1, { shape: [-1] }), new TypeError('hostInput: shape: expected a list of integers >= 0, received [-1]')],
    [
      () => hostInput(() => 1, { dtype: 'float64' as 'float32' }),
      new RangeError("hostInput: dtype: expected 'float32', 'float16', 'int32' or 'bool', received 'float64'"),
    ],
    [() => hostInput(() => 1, { size: [2] } as object), new TypeError("hostInput: unknown option 'size'; the options are shape, dtype")],
  ])('refuses %s', (make, error) => {
    expect(make).toThrow(error);
  });
});

describe('inputs', () => {
  it('of another traced function are an error that names them', async () => {
    const outside = leaf([2], 'float32', 'argument 0.w');
    const f = compile(backend, (x: Tensor) => sum(add(x, outside)));
    await expect(f({ data: Float32Array.of(1, 2), shape: [2] })).rejects.toThrow(
      new Error(
        "a Tensor leaked out of its trace: 'argument 0.w' float32[2] is an input of another traced function; pass it as an argument instead",
      ),
    );
  });
});
