import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  add,
  array,
  div,
  hostInput,
  logicalNot,
  max,
  mul,
  type NDArray,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  where,
} from '../../../src/index.js';
import { allocateMemory, createKernels, fitsMemory } from '../../../src/runtime/kernels/index.js';
import { engines, planStep, runAt, type Step, stepKernels } from '../../support/kernels.js';
import { normalArray } from '../../support/numeric.js';

const sizes = [1, 2, 3, 4, 5, 7, 8, 9, 1023, 1025, 4097];
const arraysOf = (seed: number, prefix = ''): Record<string, NDArray> =>
  Object.fromEntries(sizes.map((size, i) => [`${prefix}${size}`, normalArray(seed + i, [size])]));
const arrays = { count: array(7, { dtype: 'int32' }), ...arraysOf(1, 'w'), flag: array(true), ...arraysOf(50, 'g') };

/** Scales gradients by their norm over all tensors, and counts. */
const step: Step = (inputs) => {
  const g = (size: number) => inputs[`g${size}`] as Tensor;
  const total = sqrt(sizes.map((size) => sum(square(g(size)))).reduce((a, b) => add(a, b)));
  const next = sizes.map((size) => [`w${size}`, add(add(inputs[`w${size}`] as Tensor, 1), div(g(size), total))]);
  return {
    next: { ...Object.fromEntries(next), count: add(inputs.count as Tensor, 1), flag: logicalNot(inputs.flag as Tensor) },
    values: { total, largest: max(g(4097)) },
  };
};

const contents = (data: readonly ArrayLike<number>[]): number[][] => data.map((values) => Array.from(values));

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** What two steps leave and return, by kernels that keep to themselves. */
async function expected() {
  const kernels = await stepKernels(arrays, step);
  const values = [runAt(kernels, 0), runAt(kernels, 1)];
  return { data: contents(kernels.data), values };
}

describe('memory', () => {
  it('has an aligned place for every input, in one piece, which stays', async () => {
    const kernels = await stepKernels(arrays, step);
    const before = [...kernels.data];
    const ranges = before.map(({ byteOffset, byteLength }) => [byteOffset, byteOffset + byteLength] as const).sort(([a], [b]) => a - b);
    expect(before.map(({ length }) => length)).toEqual(Object.values(arrays).map(({ data }) => data.length));
    expect(before.map((data) => data.constructor)).toEqual(Object.values(arrays).map(({ data }) => data.constructor));
    expect(before.every(({ byteOffset }) => byteOffset % 16 === 0)).toBe(true);
    expect(new Set(before.map(({ buffer }) => buffer)).size).toBe(1);
    ranges.slice(1).forEach(([start], i) => {
      expect(start).toBeGreaterThanOrEqual(ranges[i]![1]);
    });
    runAt(kernels, 0);
    kernels.data.forEach((data, i) => {
      expect(data).toBe(before[i]);
    });
    expect(before[0]!.length).toBe(1); // not detached
  });

  it('holds zeros behind the last element, and sums do not see what is there', async () => {
    const plan = planStep(arrays, step);
    const { values } = await expected();
    const kernels = await stepKernels(arrays, step);
    const padding = kernels.data.flatMap((data) =>
      data instanceof Float32Array ? [new Float32Array(data.buffer, data.byteOffset + data.byteLength, -data.length & 3)] : [],
    );
    expect(padding.map(({ length }) => length)).toContain(3);
    for (const lanes of padding) lanes.fill(Number.NaN);
    expect([runAt(kernels, 0), runAt(kernels, 1)]).toEqual(values);
    // Those of the parameters, which are written.
    const written = plan.phases.flatMap(({ loops }) => loops.flatMap(({ code, arrays }) => code.stores.map(({ array }) => arrays[array]!)));
    expect(written.length).toBe(sizes.length - 1);
    for (const input of written) {
      const data = kernels.data[input]!;
      expect([...new Float32Array(data.buffer, data.byteOffset + data.byteLength, -data.length & 3)].every((lane) => lane === 0)).toBe(
        true,
      );
    }
  });

  it('is cut into arenas, with what is used together in one, and what is larger alone', async () => {
    const { data, values } = await expected();
    const plan = planStep(arrays, step);
    const memory = allocateMemory([plan], { arenaBytes: 2 * 4 * 1040 + 16 });
    const arenaOf = (input: number) => memory.places[input]!.arena;
    const bytes = [...new Set(memory.places.map(({ arena }) => arena.buffer.byteLength))];
    expect(new Set(memory.places.map(({ arena }) => arena)).size).toBe(4);
    expect(bytes).toEqual([65536]);
    for (const group of plan.groups) expect(new Set(group.map(arenaOf)).size).toBe(1);
    const large = plan.groups.find((group) => group.includes(Object.keys(arrays).indexOf('w4097')))!;
    expect(plan.groups.flat().filter((input) => arenaOf(input) === arenaOf(large[0]!))).toEqual(large);

    const kernels = await createKernels(plan, { memory });
    expect(kernels.compiled).toBe(true);
    Object.values(arrays).forEach(({ data }, i) => {
      kernels.data[i]!.set(data);
    });
    expect([runAt(kernels, 0), runAt(kernels, 1)]).toEqual(values);
    expect(contents(kernels.data)).toEqual(data);
  });

  it('can be shared by updates of the same inputs', async () => {
    const array3 = normalArray(1, [7]);
    const inputs = { w: array3, sum: array(new Float32Array(7)), g: array3, h: array3 };
    const accumulate = planStep(inputs, ({ sum, g, h }) => ({ next: { sum: add(add(sum!, g!), h!) } }));
    const apply = planStep(inputs, ({ w, sum }) => ({ next: { w: sub(w!, mul(sum!, 0.5)), sum: mul(sum!, 0) } }));
    // Every group gets an arena of its own; only the second update makes one group of all.
    const memory = allocateMemory([accumulate, apply], { arenaBytes: 1 });
    expect(new Set(memory.places.map(({ arena }) => arena)).size).toBe(1);
    for (const [, options] of engines) {
      const [first, second] = await Promise.all([accumulate, apply].map((plan) => createKernels(plan, { ...options, memory })));
      expect(first!.data).toBe(second!.data);
      Object.values(inputs).forEach(({ data }, i) => {
        memory.data[i]!.set(data);
      });
      first!.run([]);
      first!.run([]);
      second!.run([]);
      expect([...memory.data[0]!]).toEqual(Array.from(array3.data, (x) => Math.fround(x - 0.5 * Math.fround(4 * x))));
      expect([...memory.data[1]!].every((x) => x === 0)).toBe(true);
    }
  });

  it('is for every update that fits it', async () => {
    const pair = { a: normalArray(1, [8]), b: normalArray(2, [8]) };
    const apart = planStep(pair, ({ a, b }) => ({ next: { a: mul(a!, 2), b: mul(b!, 3) } }));
    const again = planStep(pair, ({ a }) => ({ next: { a: add(a!, 1) } }));
    const together = planStep(pair, ({ a, b }) => ({ next: { a: add(a!, b!) } }));
    const others = planStep({ a: pair.a, b: normalArray(3, [9]) }, ({ a }) => ({ next: { a: add(a!, 1) } }));
    const memory = allocateMemory([apart], { arenaBytes: 560 }); // room for one of them, and for the results of loops
    expect(memory.places[0]?.arena).not.toBe(memory.places[1]?.arena);
    expect([apart, again, together, others].map((plan) => fitsMemory(plan, memory))).toEqual([true, true, false, false]);
    (await createKernels(apart, { memory })).run([]);
    (await createKernels(again, { memory })).run([]);
    expect(contents(memory.data)).toEqual([Array(8).fill(1), Array(8).fill(0)]);
    for (const plan of [together, others]) {
      await expect(createKernels(plan, { memory })).rejects.toThrow('createKernels: the memory was allocated for other updates');
    }
  });

  it('may be empty', async () => {
    const kernels = await stepKernels({ none: array(new Float32Array(0)), s: array(2) }, ({ none, s }) => ({
      next: { none: mul(none!, s!), s: add(sum(none!), 3) },
    }));
    kernels.run([]);
    expect(contents(kernels.data)).toEqual([[], [3]]);
    expect((await stepKernels({}, () => ({ next: {} }))).run([])).toEqual([]);
  });
});

describe('without', () => {
  const methods = { compile: WebAssembly.compile, instantiate: WebAssembly.instantiate };
  class NoMemory {
    constructor() {
      throw new RangeError('could not allocate memory');
    }
  }

  it.each([
    ['WebAssembly', () => vi.stubGlobal('WebAssembly', undefined), false],
    [
      'the permission to compile',
      () => vi.spyOn(WebAssembly, 'compile').mockRejectedValue(new WebAssembly.CompileError('blocked by the Content Security Policy')),
      true,
    ],
    ['memory for WebAssembly', () => vi.stubGlobal('WebAssembly', { ...methods, Memory: NoMemory }), false],
  ])('%s the same is computed', async (_, take, shared) => {
    const { data, values } = await expected();
    const inMemory = (buffer: ArrayBufferLike) => buffer.byteLength % 65536 === 0;
    take();
    const kernels = await stepKernels(arrays, step);
    expect(kernels.compiled).toBe(false);
    expect(kernels.data.every(({ buffer }) => inMemory(buffer) === shared)).toBe(true);
    const returned = [runAt(kernels, 0), runAt(kernels, 1)];
    returned.forEach((numbers, t) => {
      numbers.forEach((number, i) => {
        expect(number).toBeCloseTo(values[t]![i]!, 10);
      });
    });
    kernels.data.forEach((result, i) => {
      result.forEach((value, k) => {
        expect(Math.abs(value - data[i]![k]!)).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(value)));
      });
    });
  });
});

describe('run', () => {
  const scaled: Step = ({ x, n }) => ({
    next: {
      x: where(
        hostInput(() => 1, { dtype: 'bool' }),
        mul(
          x!,
          hostInput(() => 2),
        ),
        0,
      ),
      n: add(
        n!,
        hostInput(() => 1, { dtype: 'int32' }),
      ),
      on: hostInput(() => 1, { dtype: 'bool' }),
    },
  });
  const inputs = { x: array([1, 2, 3]), n: array(5, { dtype: 'int32' }), on: array(false) };

  it.each(engines)('takes numbers as the dtype of their host input: %s', async (_, options) => {
    const kernels = await stepKernels(inputs, scaled, options);
    kernels.run([7, 0.1, 2.9, 0]);
    expect(contents(kernels.data)).toEqual([[0.1, 0.2, Math.fround(0.1) * 3].map(Math.fround), [7], [0]]);
    kernels.run([0, 0.1, -1.5, 3]);
    expect(contents(kernels.data)).toEqual([[0, 0, 0], [6], [1]]);
  });

  it('refuses a wrong number of host values, and then has changed nothing', async () => {
    const kernels = await stepKernels(inputs, scaled);
    for (const values of [[], [1, 2, 3], [1, 2, 3, 4, 5]]) expect(() => kernels.run(values)).toThrow('4 numbers, one per host input');
    expect(contents(kernels.data)).toEqual([[1, 2, 3], [5], [0]]);
  });
});
