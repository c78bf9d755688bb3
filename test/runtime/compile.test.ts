import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ArrayLike,
  add,
  array,
  type Backend,
  cast,
  compile,
  constant,
  createRng,
  exp,
  filled,
  foldIn,
  gather,
  type HostCompute,
  hostInput,
  keyFromSeed,
  matmul,
  mul,
  type NDArray,
  neg,
  reshape,
  split,
  sub,
  sum,
  type Tensor,
  takeAlongAxis,
  toNumbers,
} from '../../src/index.js';
import { crossEntropyLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { countSessions } from '../support/sessions.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(() => backend.close());

const list = ({ data }: NDArray): number[] => [...data];

describe('compile: arguments and results', () => {
  it('takes and returns trees', async () => {
    const layer = (p: { w: Tensor; rest: Tensor[] }, x: Tensor) => ({
      y: matmul(x, p.w),
      parts: [add(p.rest[0] as Tensor, 1), { x }] as const,
    });
    const result = await compile(backend, layer)({ w: array([[2], [3]]), rest: [array([1, 2]), array([0])] }, array([[1, 1]]));
    expect(result).toEqual({ y: array([[5]]), parts: [array([2, 3]), { x: array([[1, 1]]) }] });
  });

  it('returns tuples', async () => {
    const [a, b] = await compile(backend, (x: Tensor) => [neg(x), sum(x)] as [Tensor, Tensor])(array([1, 2]));
    expect([list(a), list(b), b.shape]).toEqual([[-1, -2], [3], []]);
  });

  it('returns inputs, constants and one value twice', async () => {
    const same = (x: Tensor) => {
      const y = exp(x);
      return { x, again: x, constant: constant([7]), y, yAgain: y };
    };
    const { x, again, constant: c, y, yAgain } = await compile(backend, same)(array([0]));
    expect([x, again, c, y, yAgain].map(list)).toEqual([[0], [0], [7], [1], [1]]);
  });

  it('takes no arguments', async () => {
    expect(list(await compile(backend, () => add(constant([1, 2]), 1))())).toEqual([2, 3]);
  });

  it('traces once for every set of shapes and dtypes', async () => {
    let traces = 0;
    const double = compile(backend, (x: Tensor) => {
      traces++;
      return add(x, x);
    });
    const sessions = countSessions(backend);
    for (const x of [array([1]), array([2]), array([[3]]), array([4]), array([5], { dtype: 'int32' }), array([[6]])]) await double(x);
    expect([traces, sessions.created]).toEqual([3, 3]);
    await double.close();
    expect(sessions.released).toBe(3);
  });

  it('finds axes of keys with dots', async () => {
    const flat = (p: Record<string, Tensor | Record<string, Tensor>>) => [
      neg(p['a.w'] as Tensor),
      neg((p.b as Record<string, Tensor>).w as Tensor),
    ];
    const axes = [{ 'a.w': ['batch'], b: { w: ['batch'] } }];
    const compiled = compile(backend, flat, { axes });
    const sessions = countSessions(backend);
    for (const n of [2, 3, 4]) await compiled({ 'a.w': filled([n], 1), b: { w: filled([n], 2) } });
    expect(sessions.created).toBe(1);
    await expect(compiled({ 'a.w': filled([2], 1), b: { w: filled([3], 2) } })).rejects.toThrow(
      "axis 'batch' has size 2 in argument 0.a.w and 3 in argument 0.b.w",
    );
    await compiled.close();
  });

  it('takes keys in any order', async () => {
    const difference = compile(backend, ({ a, b }: { a: Tensor; b: Tensor }) => sub(a, b));
    expect(list(await difference({ a: array([5]), b: array([2]) }))).toEqual([3]);
    expect(list(await difference({ b: array([2]), a: array([5]) }))).toEqual([3]);
  });

  const view = new Float32Array([9, 1, 2, 3, 9]).subarray(1, 4);
  it.each<[string, ArrayLike, number[]]>([
    ['views into buffers', { data: view, shape: [3] }, [1, 2, 3]],
    ['strides', { data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [3, 2], stride: [1, 3] }, [1, 4, 2, 5, 3, 6]],
    ['strides and an offset', { data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [3], stride: [-2], offset: 5 }, [6, 4, 2]],
    ['a stride of 0', { data: Float32Array.of(7), shape: [3], stride: [0] }, [7, 7, 7]],
    ['Float64Array', { data: Float64Array.of(0.5, -1), shape: [2] }, [0.5, -1]],
    ['plain lists', { data: [1, 2], shape: [2] }, [1, 2]],
    ['BigInt64Array', { data: BigInt64Array.of(3n, -4n), shape: [2] }, [3, -4]],
    ['Uint8Array', { data: Uint8Array.of(3, 255), shape: [2] }, [3, 255]],
    ['no elements', { data: new Float32Array(0), shape: [2, 0] }, []],
  ])('takes arrays with %s', async (_, x, expected) => {
    const result = await compile(backend, (t: Tensor) => neg(neg(t)))(x);
    expect(list(result)).toEqual(expected);
    expect(result.shape).toEqual(x.shape);
  });

  it('takes and returns float16 as bit patterns, and masks as bytes', async () => {
    const doubled = await compile(backend, (x: Tensor) => [x, mul(x, 2)])(array([1, -0.5], { dtype: 'float16' }));
    expect(doubled.map((y) => [y.dtype, y.data.constructor, toNumbers(y)])).toEqual([
      ['float16', Uint16Array, [1, -0.5]],
      ['float16', Uint16Array, [2, -1]],
    ]);
    const mask = await compile(backend, (x: Tensor) => cast(x, 'bool'))(array([0, 3]));
    expect(mask).toEqual({ data: Uint8Array.of(0, 1), shape: [2], dtype: 'bool' });
  });

  it('returns arrays that nothing changes later, and leaves arguments alone', async () => {
    const same = compile(backend, (x: Tensor) => ({ x, y: add(x, 1), flat: reshape(x, [-1]) }));
    const x = array([[1, 2]]);
    const first = await same(x);
    const before = structuredClone(first);
    (x.data as Float32Array).fill(9);
    await same(x);
    expect(first).toEqual(before);
    first.x.data.fill(0);
    first.flat.data.fill(0);
    expect(list(first.y)).toEqual([2, 3]);
    expect(list(await same(x).then((r) => r.x))).toEqual([9, 9]);
  });

  const identity = (x: Tensor) => x;
  it.each<[string, () => Promise<unknown>, string]>([
    [
      'a number',
      () => compile(backend, (p: { rate: Tensor }) => p.rate)({ rate: 3 } as never),
      'compiled function: argument 0.rate: expected an array { data, shape } or a tree of arrays (a number: array(number)), received 3',
    ],
    [
      'a missing argument',
      () => compile(backend, ((x: Tensor, y: Tensor) => add(x, y)) as (x: Tensor) => Tensor)(array([1])),
      'add: b: expected a Tensor',
    ],
    ['undefined', () => compile(backend, identity)(undefined as never), 'identity: argument 0: expected an array'],
    [
      'a typed array',
      () => compile(backend, identity)(new Float32Array(2) as never),
      'identity: argument 0: expected an array { data, shape }',
    ],
    [
      'data that do not fit the shape',
      () => compile(backend, identity)({ data: new Float32Array(2), shape: [3] }),
      'identity: argument 0.data: expected 3 elements for shape [3], received 2',
    ],
    [
      'a bad shape',
      () => compile(backend, identity)({ data: [], shape: [-1] }),
      'identity: argument 0.shape: expected a list of integers >= 0',
    ],
    [
      'a result that is no Tensor',
      () => compile(backend, () => ({ y: 3 }))(),
      'compiled function: y: expected a Tensor or a tree of Tensors as result, received 3',
    ],
    [
      'axes for one argument',
      () => compile(backend, identity, { axes: ['batch'] as never })(array([1])),
      "identity: axes of the argument: expected a list of names and nulls, such as ['batch', null], received 'batch'",
    ],
    [
      'axes for part of an argument',
      () => compile(backend, (p: { x: Tensor }) => p.x, { axes: ['batch'] as never })({ x: array([1]) }),
      'axes of x: expected a list of names',
    ],
  ])('refuses %s', async (_, run, message) => {
    await expect(run()).rejects.toThrow(message);
  });

  it.each<[string, () => unknown, string]>([
    [
      'another object as backend',
      () => compile({ device: 'cpu' } as never, identity),
      'compile: backend: expected a backend made by createBackend()',
    ],
    ['something else than a function', () => compile(backend, 3 as never), 'compile: fn: expected a function, received 3'],
    [
      'unknown options',
      () => compile(backend, identity, { axis: [] } as never),
      "compile: unknown option 'axis'; the options are axes, seed",
    ],
    ['a bad seed', () => compile(backend, identity, { seed: -1 }), 'compile: seed: expected an integer from 0 to 2^53 - 1, received -1'],
    [
      'axes that are no list',
      () => compile(backend, identity, { axes: { x: ['batch'] } as never }),
      'compile: axes: expected a list with one entry per argument',
    ],
  ])('refuses %s', (_, run, message) => expect(run).toThrow(message));
});

describe('compile: closing', () => {
  const double = (x: Tensor) => add(x, x);

  it('refuses runs after close(), and finishes those before', async () => {
    const compiled = compile(backend, double);
    const early = compiled(array([1]));
    await compiled.close();
    expect(list(await early)).toEqual([2]);
    await expect(compiled(array([1]))).rejects.toThrow('double: the compiled function is closed');
  });

  it('closes at the end of its scope', async () => {
    const sessions = countSessions(backend);
    {
      await using compiled = compile(backend, double);
      await compiled(array([1]));
    }
    expect(sessions).toEqual({ created: 1, released: 1 });
  });

  it('refuses runs on a closed backend', async () => {
    const own = await createBackend({ device: 'cpu' });
    const compiled = compile(own, double);
    await compiled(array([1]));
    await own.close();
    await expect(compiled(array([1]))).rejects.toThrow('double: the backend is closed');
    expect(() => compile(own, double)).toThrow('compile: the backend is closed');
    await compiled.close();
  });
});

describe('compile: host inputs', () => {
  const noisy = (x: Tensor) =>
    add(
      x,
      hostInput(({ rng }) => [rng.float(), rng.float()], { shape: [2] }),
    );

  it('count successful runs', async () => {
    const compiled = compile(backend, (x: Tensor) =>
      mul(
        x,
        hostInput(({ step }) => 10 ** step),
      ),
    );
    expect(compiled.step).toBe(0);
    for (const expected of [1, 10, 100]) expect(list(await compiled(array([1])))).toEqual([expected]);
    expect(compiled.step).toBe(3);
    compiled.step = 1;
    expect(list(await compiled(array([1])))).toEqual([10]);
  });

  it('do not advance with a run that fails', async () => {
    const checked = (x: Tensor, i: Tensor) =>
      mul(
        gather(x, i),
        hostInput(({ step }) => step + 1),
      );
    const compiled = compile(backend, checked);
    const index = (i: number) => array([i], { dtype: 'int32' });
    expect(list(await compiled(array([5]), index(0)))).toEqual([5]);
    await expect(compiled(array([5]), index(7))).rejects.toThrow('gather: indices');
    expect(compiled.step).toBe(1);
    expect(list(await compiled(array([5]), index(0)))).toEqual([10]);
  });

  it('draw the same numbers for the same seed and step, on every shape and backend', async () => {
    const zeros = array([0, 0]);
    const draw = async (seed: number, step: number) => {
      await using own = await createBackend({ device: 'cpu' });
      const compiled = compile(own, noisy, { seed });
      compiled.step = step;
      return list(await compiled(zeros));
    };
    const first = await draw(1, 0);
    expect(await draw(1, 0)).toEqual(first);
    const rng = createRng(foldIn(foldIn(keyFromSeed(1), 0), 0));
    expect(first).toEqual([Math.fround(rng.float()), Math.fround(rng.float())]);
    const others = [await draw(1, 1), await draw(2, 0), first].flat();
    expect(new Set(others).size).toBe(6);
  });

  it('draw one stream per run, however it is read', async () => {
    const drawn = async (compute: HostCompute) => list(await compile(backend, () => hostInput(compute, { shape: [2] }))());
    const read = await drawn((context) => [context.rng.float(), context.rng.float()]);
    expect(new Set(read).size).toBe(2);
    expect(await drawn(({ rng }) => [rng.float(), rng.float()])).toEqual(read);
  });

  it('draw independently of each other', async () => {
    const two = () => [0, 1].map(() => hostInput(({ rng }) => rng.float()));
    const [a, b] = await compile(backend, two)();
    expect(list(a as NDArray)).not.toEqual(list(b as NDArray));
  });

  it('may be of any dtype', async () => {
    const all = () => (['float16', 'int32', 'bool'] as const).map((dtype) => hostInput(() => [0, 2], { shape: [2], dtype }));
    expect((await compile(backend, all)()).map(toNumbers)).toEqual([
      [0, 2],
      [0, 2],
      [0, 1],
    ]);
  });

  it.each<[string, () => unknown, string]>([
    ['numbers too few', () => [1], 'hostInput: compute: expected 2 numbers as its result, received 1'],
    ['nothing', () => undefined, 'hostInput: compute: expected a number or a list of numbers as its result, received undefined'],
  ])('refuse %s', async (_, computeOne, message) => {
    const compiled = compile(backend, () => hostInput(computeOne as () => number, { shape: [2] }));
    await expect(compiled()).rejects.toThrow(message);
  });
});

describe('compile: the run queue', () => {
  it('gives concurrent calls their own results, in order', async () => {
    const counted = compile(backend, (x: Tensor) => [x, hostInput(({ step }) => step)] as [Tensor, Tensor]);
    const other = compile(backend, (x: Tensor) => split(x, 2)[1] as Tensor);
    const finished: number[] = [];
    const results = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const [[x, step], y] = await Promise.all([counted(array(Array(1 + (i % 3)).fill(i))), other(array([i, 2 * i]))]);
        finished.push(i);
        return [x.data[0], x.shape[0], step.data[0], y.data[0]];
      }),
    );
    expect(results).toEqual(Array.from({ length: 20 }, (_, i) => [i, 1 + (i % 3), i, 2 * i]));
    expect(finished).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  it('goes on after a run that fails', async () => {
    const fragile = compile(backend, (x: Tensor) => {
      if (x.shape[0] === 2) throw new Error('two');
      return neg(x);
    });
    const [a, b, c] = await Promise.allSettled([fragile(array([1])), fragile(array([1, 2])), fragile(array([3]))]);
    expect([a.status, b.status, c.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(fragile.step).toBe(2);
    expect(c.status === 'fulfilled' && list(c.value)).toEqual([-3]);
  });
});

describe('compile: ranges', () => {
  const ints = (...values: number[]) => array(values, { dtype: 'int32' });
  const table = array([[1], [2], [3]]);

  it.each<[string, () => Promise<unknown>, string]>([
    [
      'gather',
      () => compile(backend, gather as (x: Tensor, i: Tensor) => Tensor)(table, ints(0, 3)),
      'gather: indices: expected integers from 0 to 2, received 3 at index 1',
    ],
    [
      'gather, through a reshape',
      () => compile(backend, (x: Tensor, i: Tensor) => gather(x, reshape(i, [2, 1])))(table, ints(0, -1)),
      'gather: indices: expected integers from 0 to 2, received -1 at index 1',
    ],
    [
      'takeAlongAxis',
      () => compile(backend, (x: Tensor, i: Tensor) => takeAlongAxis(x, reshape(i, [1, 1]), { axis: 0 }))(table, ints(9)),
      'takeAlongAxis: indices: expected integers from 0 to 2, received 9 at index 0',
    ],
    [
      'crossEntropyLoss',
      () => compile(backend, (x: Tensor, y: Tensor) => crossEntropyLoss(x, y))(array([[1, 2]]), ints(2)),
      'crossEntropyLoss: target: expected integers from 0 to 1 or -100, received 2 at index 0',
    ],
    [
      'int32',
      () => compile(backend, neg)({ data: BigInt64Array.of(2n ** 40n), shape: [1] }),
      'neg: argument 0: expected integers within 32 bits, received 1099511627776',
    ],
  ])('are checked before a run: %s', async (_, run, message) => {
    await expect(run()).rejects.toThrow(message);
  });

  it('hold int64 labels and ignored ones', async () => {
    const loss = compile(backend, (x: Tensor, y: Tensor) => crossEntropyLoss(x, y));
    const labels = { data: BigInt64Array.of(0n, -100n), shape: [2] };
    const { data } = await loss(
      array([
        [0, 0],
        [5, 6],
      ]),
      labels,
    );
    expect(data[0]).toBeCloseTo(Math.LN2, 6);
  });
});
