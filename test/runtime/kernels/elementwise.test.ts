import { afterAll, describe, expect, it } from 'vitest';
import { topologicalOrder } from '../../../src/core/graph.js';
import {
  abs,
  add,
  array,
  cast,
  ceil,
  clip,
  constant,
  cos,
  createRng,
  div,
  equal,
  exp,
  expm1,
  isFinite as finite,
  floor,
  full,
  greater,
  greaterEqual,
  hostInput,
  less,
  lessEqual,
  log,
  log1p,
  logicalAnd,
  logicalNot,
  logicalOr,
  max,
  maximum,
  mean,
  minimum,
  mul,
  type NDArray,
  neg,
  notEqual,
  pow,
  type Rng,
  reciprocal,
  relu,
  reshape,
  round,
  rsqrt,
  sigmoid,
  sign,
  sin,
  sqrt,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tanh,
  where,
  zeros,
} from '../../../src/index.js';
import { createBackend } from '../../../src/node.js';
import type { Named } from '../../../src/optim/index.js';
import { createKernels, planUpdate } from '../../../src/runtime/kernels/index.js';
import { expectClose } from '../../support/close.js';
import { engines, expectLikeOnnx, runAt, type Step, stepKernels } from '../../support/kernels.js';
import { leaf } from '../../support/leaves.js';
import { normalArray } from '../../support/numeric.js';
import { evaluate, fromArray, type RefArray } from '../../support/reference.js';

const backend = await createBackend({ device: 'cpu' });
afterAll(() => backend.close());

const special = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  -2.5,
  3.25,
  1e-30,
  1e30,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
];
const pairs = special.flatMap((a) => special.map((b) => [a, b] as const));

const asFloat = (mask: Tensor): Tensor => cast(mask, 'float32');

const binary: Record<string, (a: Tensor, b: Tensor) => Tensor> = {
  add,
  sub,
  mul,
  div,
  maximum,
  minimum,
  equal: (a, b) => asFloat(equal(a, b)),
  notEqual: (a, b) => asFloat(notEqual(a, b)),
  greater: (a, b) => asFloat(greater(a, b)),
  greaterEqual: (a, b) => asFloat(greaterEqual(a, b)),
  less: (a, b) => asFloat(less(a, b)),
  lessEqual: (a, b) => asFloat(lessEqual(a, b)),
  'where and logicalAnd': (a, b) => where(logicalAnd(greater(a, 0), less(b, 1)), a, b),
  'where and logicalOr': (a, b) => where(logicalOr(greater(a, 0), less(b, 1)), b, a),
};

const unary: Record<string, (x: Tensor) => Tensor> = {
  neg,
  abs,
  sqrt,
  square,
  reciprocal,
  rsqrt,
  sign,
  relu,
  floor,
  ceil,
  round,
  isFinite: (x) => asFloat(finite(x)),
  'cast to bool': (x) => where(cast(x, 'bool'), 2, 3),
  logicalNot: (x) => asFloat(logicalNot(cast(x, 'bool'))),
  'clip to both sides': (x) => clip(x, { min: -0.75, max: 1.25 }),
  'clip below': (x) => clip(x, { min: 0.75 }),
  'clip above': (x) => clip(x, { max: 0.75 }),
  'pow 3': (x) => pow(x, 3),
  stopGradient,
};

describe('ops on arrays, on special values too', () => {
  const [a, b] = [0, 1].map((i) => array(Float32Array.from(pairs, (pair) => pair[i]!))) as [NDArray, NDArray];

  it.each(Object.entries(binary))('%s', async (_, op) => {
    await expectLikeOnnx(backend, { a, b, y: a }, ({ a, b }) => ({ next: { y: op(a as Tensor, b as Tensor) } }), { steps: 1 });
  });

  it.each(Object.entries(binary))('%s with a number', async (_, op) => {
    for (const number of [2, -0.375, 0, 1e-39, -3e38, Number.POSITIVE_INFINITY, Number.NaN]) {
      const step: Step = ({ a, s }) => ({ next: { x: op(a as Tensor, s as Tensor), y: op(s as Tensor, a as Tensor) } });
      await expectLikeOnnx(backend, { a, s: array(number), x: a, y: a }, step, { steps: 1 });
    }
  });

  it.each(Object.entries(unary))('%s', async (_, op) => {
    await expectLikeOnnx(backend, { a, y: a }, ({ a }) => ({ next: { y: op(a as Tensor) } }), { steps: 1 });
  });
});

describe('ops on numbers', () => {
  const numbers: Record<string, (x: Tensor) => Tensor> = { ...unary, exp, expm1, sin, cos, tanh, sigmoid };
  const positive: Record<string, (x: Tensor) => Tensor> = { log, log1p, 'pow 1.5': (x) => pow(x, 1.5), 'pow of 2': (x) => pow(2, x) };
  const all = [
    ...Object.entries(numbers).map(([name, op]) => [name, op, [...special.filter((x) => Math.abs(x) < 1e6), 1e-6, -3]] as const),
    ...Object.entries(positive).map(([name, op]) => [name, op, [1e-6, 0.5, 1, 3]] as const),
  ];

  it.each(all)('%s', async (_, op, values) => {
    const arrays = Object.fromEntries(values.map((value, i) => [`x${i}`, array(value)]));
    const step: Step = (inputs) => ({ next: Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, op(x)])) });
    await expectLikeOnnx(backend, arrays, step, { steps: 1 });
  });

  it.each(Object.entries(binary))('%s', async (_, op) => {
    const arrays = Object.fromEntries(
      pairs.flatMap(([a, b], i) => [
        [`a${i}`, array(a)],
        [`b${i}`, array(b)],
      ]),
    );
    const step: Step = (inputs) => ({
      next: Object.fromEntries(pairs.map((_, i) => [`a${i}`, op(inputs[`a${i}`] as Tensor, inputs[`b${i}`] as Tensor)])),
    });
    await expectLikeOnnx(backend, arrays, step, { steps: 1 });
  });

  it('of int32', async () => {
    const step: Step = (inputs) => {
      const [i, j, s] = [inputs.i as Tensor, inputs.j as Tensor, inputs.s as Tensor];
      return {
        next: {
          i: add(mul(i, j), 7),
          j: sub(div(i, j), neg(minimum(j, 3))),
          k: where(greater(i, 50_000), abs(sub(0, j)), cast(mul(s, -7.5), 'int32')),
          l: clip(cast(equal(i, j), 'int32'), { min: 0, max: 5 }),
          s: add(s, cast(sign(i), 'float32')),
          flag: logicalNot(logicalAnd(inputs.flag as Tensor, greater(i, j))),
        },
      };
    };
    const ints = Object.fromEntries(['i', 'j', 'k', 'l'].map((name, k) => [name, array([k + 3], { dtype: 'int32' })]));
    await expectLikeOnnx(backend, { ...ints, s: array(1.25), flag: array(true) }, step, { steps: 12 });
  });

  it('keep their digits until they are stored', async () => {
    // 1e8 + 1 is no float32.
    const step: Step = ({ s, x }) => ({ next: { x: mul(x as Tensor, sub(add(s as Tensor, 1), s as Tensor)) } });
    for (const [, options] of engines) {
      const kernels = await stepKernels({ s: array(1e8), x: array([1, 2, 3]) }, step, options);
      runAt(kernels, 0);
      expect([...kernels.data[1]!]).toEqual([1, 2, 3]);
    }
  });

  it('compare as float32 does', async () => {
    const step: Step = ({ s, tiny }) => {
      const tenth = hostInput(() => 0.1);
      const truths = {
        constant: equal(s!, 0.1),
        array: equal(s!, constant([0.1])),
        hostInput: equal(s!, tenth),
        clip: equal(clip(mul(s!, 2), { max: 0.1 }), s!),
        above: greater(s!, 0.1),
        sum: equal(add(s!, 0.2), 0.3),
        integer: equal(cast(constant(2 ** 24 + 1, { dtype: 'int32' }), 'float32'), 2 ** 24),
        integers: equal(constant(2 ** 24 + 1, { dtype: 'int32' }), 2 ** 24),
        underflow: greater(square(tiny!), 0),
        bool: cast(square(tiny!), 'bool'),
      };
      return { next: {}, values: Object.fromEntries(Object.entries(truths).map(([name, x]) => [name, asFloat(x)])) };
    };
    await expectLikeOnnx(backend, { s: array([0.1]), tiny: array(1e-30) }, step, { steps: 1 });
  });

  // Other processors make other integers of them in ONNX Runtime.
  it.skipIf(process.arch !== 'x64')('of int32 from what is none', async () => {
    const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3e9, 2 ** 31, -3e9, -(2 ** 31), 2 ** 31 - 128, -1.5];
    const arrays = Object.fromEntries(
      values.flatMap((x, i) => [
        [`x${i}`, array(x)],
        [`y${i}`, array(7, { dtype: 'int32' })],
      ]),
    );
    const step: Step = (inputs) => ({ next: Object.fromEntries(values.map((_, i) => [`y${i}`, cast(inputs[`x${i}`]!, 'int32')])) });
    await expectLikeOnnx(backend, arrays, step, { steps: 1 });
  });

  it('are not finite where they are too large for float32', async () => {
    const step: Step = ({ s }) => ({ next: { s: where(finite(add(s!, s!)), 1, 2) } });
    await expectLikeOnnx(backend, { s: array(3e38) }, step, { steps: 2 });
  });

  it('tell 0 from -0', async () => {
    const kernels = await stepKernels({ s: array(1), t: array(1) }, () => ({ next: { s: constant(0), t: constant(-0) } }));
    kernels.run([]);
    expect(kernels.data.map(([value]) => value)).toEqual([0, -0]);
  });
});

describe('inputs', () => {
  const arrays = { a: normalArray(1, [7]), b: normalArray(2, [7]), c: normalArray(3, [7]), s: array(3), t: array(-4) };
  const cases: Record<string, (inputs: Named) => Record<string, Tensor>> = {
    'may change places': ({ a, b, s, t }) => ({ a: b!, b: a!, s: t!, t: s! }),
    'may move round': ({ a, b, c }) => ({ a: b!, b: c!, c: a! }),
    'may take the value of another': ({ b, t }) => ({ a: b!, s: t! }),
    'may take the same value': ({ a, b }) => ({ a: add(a!, b!), b: add(a!, b!), c: add(a!, b!) }),
    'may stay': ({ a, b, s }) => ({ a: a!, b: add(b!, a!), s: s! }),
    'may become constants': () => ({ a: full([7], 1.5), b: zeros([7]), s: constant(0.1) }),
    'may become a number': ({ s, t }) => ({
      a: full([7], 1),
      b: add(zeros([7]), add(s!, t!)),
      c: mul(add(zeros([7]), s!), mul(zeros([7]), t!)),
    }),
    'may become a sum': ({ a, b }) => ({ a: add(zeros([7]), sum(b!)), s: sum(a!), t: sum(full([7], 2)) }),
    'may have other shapes': ({ a, b }) => ({ a: reshape(add(reshape(a!, [7, 1]), reshape(b!, [7, 1])), [7]) }),
    'may be reduced along axes of size 1': ({ a, b }) => ({
      a: sum(reshape(mul(a!, 2), [1, 7]), { axis: 0 }),
      b: max(reshape(b!, [7, 1]), { axis: 1 }),
    }),
    'may change the number that they are multiplied by': ({ a, s }) => ({ a: mul(a!, s!), s: mul(s!, 0.5) }),
    'may be averaged after all of them are read': ({ a, b, c }) => ({ a: sub(a!, mean(b!)), b: sub(b!, mean(c!)), c: sub(c!, mean(a!)) }),
  };

  it.each(Object.entries(cases))('%s', async (_, next) => {
    await expectLikeOnnx(backend, arrays, (inputs) => ({ next: next(inputs) }), { steps: 3 });
  });

  it('are read before anything is written, values too', async () => {
    const step: Step = ({ s, a }) => ({ next: { s: add(s!, 1), a: mul(a!, 0) }, values: { old: s!, next: add(s!, 1), total: sum(a!) } });
    await expectLikeOnnx(backend, arrays, step, { steps: 3 });
  });
});

/** Rounds as kernels do: arrays after every op, numbers only where they are stored. */
function evaluateRounded(outputs: readonly Tensor[], values: ReadonlyMap<Tensor, RefArray>): RefArray[] {
  const known = new Map(values);
  for (const {
    outputs: [tensor],
  } of topologicalOrder(outputs, (x) => known.has(x))) {
    const [result] = evaluate([tensor!], known) as [RefArray];
    known.set(tensor!, result.data.length === 1 ? result : { ...result, data: result.data.map(Math.fround) });
  }
  return outputs.map((x) => known.get(x)!);
}

describe('random updates', () => {
  const pick = <T>(rng: Rng, items: readonly T[]): T => items[rng.int(items.length)] as T;
  const safe = (x: Tensor): Tensor => add(abs(x), 0.5);
  const ops: readonly ((a: Tensor, b: Tensor, c: Tensor) => Tensor)[] = [
    add,
    sub,
    mul,
    (a, b) => div(a, safe(b)),
    maximum,
    minimum,
    (a) => neg(a),
    (a) => abs(a),
    (a) => sqrt(safe(a)),
    (a) => rsqrt(safe(a)),
    (a) => reciprocal(safe(a)),
    (a) => square(clip(a, { min: -3, max: 3 })),
    (a) => sign(a),
    (a) => clip(a, { min: -1, max: 1 }),
    (a) => relu(a),
    (a, b, c) => where(greater(a, b), c, a),
    (a, b, c) => where(logicalAnd(lessEqual(a, b), logicalNot(equal(b, c))), a, mul(c, 0.5)),
    (a, b) => cast(less(a, b), 'float32'),
    (a) => cast(finite(a), 'float32'),
    (a) => reshape(reshape(a, [-1]), a.shape),
  ];

  /** Arrays of two sizes and numbers; every one gets a random expression or another's value. */
  function randomUpdate(seed: number) {
    const rng = createRng(seed);
    const sizes = [1 + rng.int(9), 2 + rng.int(30), pick(rng, [1, 1023, 1024, 1025, 2050])];
    const inputs = sizes.flatMap((size) => Array.from({ length: 1 + rng.int(4) }, () => leaf([size])));
    const numbers = Array.from({ length: 2 }, () => leaf());
    const pools = new Map(sizes.map((size) => [size, inputs.filter((x) => x.shape[0] === size)]));
    const shared = [...numbers];
    for (let i = 0; i < 30; i++) {
      const size = pick(rng, sizes);
      const pool = pools.get(size)!;
      const operands = Array.from({ length: 3 }, () => (rng.int(4) === 0 ? pick(rng, shared.slice(-4)) : pick(rng, pool.slice(-6)))) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const made = pick(rng, ops)(...operands);
      (made.rank === 0 ? shared : pool).push(made);
      if (rng.int(3) === 0) shared.push(pick(rng, [mean, max])(mul(pick(rng, pool.slice(-3)), 0.5)));
    }
    const all = [...inputs, ...numbers];
    const outputs = all.flatMap((input, into) => {
      const pool = input.rank === 0 ? shared : pools.get(input.shape[0]!)!;
      return rng.int(5) === 0 ? [] : [{ tensor: pick(rng, pool.slice(-8)), into }];
    });
    const fits = outputs.filter(({ tensor, into }) => tensor.shape.length === all[into]!.shape.length);
    const values = [pick(rng, shared.slice(-3))];
    const data = all.map(({ shape }, i) => normalArray(1000 * seed + i, shape));
    return { update: { inputs: all, outputs: fits, values }, data };
  }

  it.each(Array.from({ length: 60 }, (_, seed) => [seed]))('number %i', async (seed) => {
    const { update, data } = randomUpdate(seed);
    const plan = planUpdate(update)!;
    const expected = data.map(({ data }) => Array.from(data));
    const leaves = new Map(update.inputs.map((tensor, i) => [tensor, fromArray(data[i]!)]));
    const results = evaluateRounded([...update.outputs.map(({ tensor }) => tensor), ...update.values], leaves);
    update.outputs.forEach(({ into }, i) => {
      expected[into] = Array.from(results[i]!.data);
    });
    for (const [engine, options] of engines) {
      const kernels = await createKernels(plan, options);
      data.forEach(({ data }, i) => {
        kernels.data[i]!.set(data);
      });
      const returned = kernels.run([]);
      expected.forEach((values, i) => {
        expectClose(`input ${i} by ${engine}`, kernels.data[i]!, values, 1e-5);
      });
      expectClose(`value by ${engine}`, returned, results.at(-1)!.data, 1e-5);
    }
  });

  it('take several phases, and several inputs together', () => {
    const plans = Array.from({ length: 60 }, (_, seed) => planUpdate(randomUpdate(seed).update)!);
    expect(Math.max(...plans.map(({ phases }) => phases.length))).toBeGreaterThan(3);
    expect(plans.some(({ groups }) => groups.some(({ length }) => length > 2))).toBe(true);
  });
});
