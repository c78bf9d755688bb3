import { afterAll, describe, expect, it } from 'vitest';
import {
  abs,
  add,
  array,
  cast,
  div,
  expm1,
  isFinite as finite,
  greater,
  hostInput,
  logicalAnd,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  type NDArray,
  neg,
  norm,
  type Shape,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  where,
} from '../../../src/index.js';
import { createBackend } from '../../../src/node.js';
import { adamw, type Named } from '../../../src/optim/index.js';
import { engines, expectLikeOnnx, optimizerStep, planStep, runAt, type Step, stepKernels } from '../../support/kernels.js';
import { normalArray } from '../../support/numeric.js';

const backend = await createBackend({ device: 'cpu' });
afterAll(() => backend.close());

const shapes: Record<string, Shape> = { a: [3, 2], b: [5], c: [1023], d: [17, 241], s: [] };
const names = Object.keys(shapes);

/** An array per parameter. */
const drawn = (prefix: string, seed: number): Record<string, NDArray> =>
  Object.fromEntries(names.map((name, i) => [prefix + name, normalArray(seed + i, shapes[name]!)]));
const blank = (prefix: string): Record<string, NDArray> =>
  Object.fromEntries(
    names.map((name) => [prefix + name, array(new Float32Array(normalArray(0, shapes[name]!).data.length), { shape: shapes[name]! })]),
  );
const gradients = (t: number) => drawn('g.', 1000 + 10 * t);
const of = (inputs: Named, name: string): Tensor => inputs[name] as Tensor;
const totalOf = (tensors: readonly Tensor[]): Tensor => tensors.reduce((a, b) => add(a, b));
const record = (f: (name: string) => Record<string, Tensor>): Named => Object.assign({}, ...names.map(f));

/** How many loops every phase of a step has. */
const loopsOf = (arrays: Record<string, NDArray>, step: Step) => planStep(arrays, step).phases.map(({ loops }) => loops.length);

describe('sums over whole arrays', () => {
  const params = drawn('', 1);

  it('clip the global norm', async () => {
    const step: Step = (inputs) => {
      const total = sqrt(totalOf(names.map((name) => sum(square(of(inputs, `g.${name}`))))));
      const factor = minimum(1, div(5, add(total, 1e-6)));
      const clipped = Object.fromEntries(names.map((name) => [`grad.${name}`, mul(of(inputs, `g.${name}`), factor)]));
      const rest = Object.fromEntries(Object.entries(inputs).filter(([name]) => !name.startsWith('g.')));
      return { ...optimizerStep(adamw({ learningRate: 0.01 }), names)({ ...rest, ...clipped }), values: { total } };
    };
    const arrays = { ...params, ...blank('m.'), ...blank('v.'), step: array(0, { dtype: 'int32' }), ...gradients(0) };
    await expectLikeOnnx(backend, arrays, step, { feed: gradients });
    expect(loopsOf(arrays, step)).toEqual([4, 4]);
  });

  it('scale every tensor by its trust ratio, as LAMB does', async () => {
    const step: Step = (inputs) => {
      const count = add(of(inputs, 'step'), 1);
      const correction = (beta: number) => neg(expm1(mul(cast(count, 'float32'), Math.log(beta))));
      const next = record((name) => {
        const [w, g] = [of(inputs, name), of(inputs, `g.${name}`)];
        const m = add(mul(of(inputs, `m.${name}`), 0.9), mul(g, 0.1));
        const v = add(mul(of(inputs, `v.${name}`), 0.999), mul(square(g), 0.001));
        const r = add(div(div(m, correction(0.9)), add(sqrt(div(v, correction(0.999))), 1e-6)), mul(w, 0.01));
        const [wNorm, rNorm] = [norm(w), norm(r)];
        const some = logicalAnd(greater(wNorm, 0), greater(rNorm, 0));
        const ratio = where(some, div(wNorm, where(some, rNorm, 1)), 1);
        return {
          [name]: sub(
            w,
            mul(
              mul(r, ratio),
              hostInput(({ step }) => 0.01 / (1 + step)),
            ),
          ),
          [`m.${name}`]: m,
          [`v.${name}`]: v,
        };
      });
      return { next: { ...next, step: count } };
    };
    const arrays = { ...params, ...blank('m.'), ...blank('v.'), step: array(0, { dtype: 'int32' }), ...gradients(0) };
    await expectLikeOnnx(backend, arrays, step, { feed: gradients });
    expect(loopsOf(arrays, step)).toEqual([4, 4]);
  });

  it('scale every tensor by its trust ratio inside momentum, as LARS does', async () => {
    const step: Step = (inputs) => ({
      next: record((name) => {
        const [w, g] = [of(inputs, name), of(inputs, `g.${name}`)];
        const ratio = div(mul(norm(w), 0.02), add(add(norm(g), mul(norm(w), 0.1)), 1e-8));
        const v = add(mul(of(inputs, `v.${name}`), 0.9), mul(add(g, mul(w, 0.1)), mul(ratio, 0.5)));
        return { [name]: sub(w, v), [`v.${name}`]: v };
      }),
    });
    await expectLikeOnnx(backend, { ...params, ...blank('v.'), ...gradients(0) }, step, { feed: gradients });
  });

  it('compare two gradients of groups of tensors, as AGVM does', async () => {
    const modules = { first: ['a', 'b', 's'], second: ['c', 'd'] };
    const step: Step = (inputs) => {
      const values: Record<string, Tensor> = {};
      const next: Record<string, Tensor> = {};
      for (const [module, members] of Object.entries(modules)) {
        const dot = (x: string, y: string) => totalOf(members.map((name) => sum(mul(of(inputs, x + name), of(inputs, y + name)))));
        const cosine = div(dot('g.', 'h.'), maximum(mul(sqrt(dot('g.', 'g.')), sqrt(dot('h.', 'h.'))), 1e-8));
        const mu = add(mul(of(inputs, `mu.${module}`), 0.97), mul(sub(1, cosine), 0.03));
        values[module] = cosine;
        next[`mu.${module}`] = mu;
        for (const name of members) {
          const g = mul(add(of(inputs, `g.${name}`), of(inputs, `h.${name}`)), 0.5);
          next[name] = sub(of(inputs, name), mul(g, mul(mu, 0.1)));
        }
      }
      return { next, values };
    };
    const halves = (t: number) => {
      const g = gradients(t);
      const h = Object.entries(drawn('h.', 2000 + 10 * t)).map(([name, noise]) => {
        const data = g[`g.${name.slice(2)}`]!.data;
        return [
          name,
          array(
            Float32Array.from(noise.data, (x, i) => 0.5 * x + data[i]!),
            { shape: noise.shape },
          ),
        ];
      });
      return { ...g, ...Object.fromEntries(h) };
    };
    const arrays = { ...params, 'mu.first': array(1), 'mu.second': array(1), ...halves(0) };
    await expectLikeOnnx(backend, arrays, step, { feed: halves });
  });

  it('accumulate in a number, as AdaGrad-Norm does', async () => {
    const step: Step = (inputs) => {
      const total = add(of(inputs, 'sum'), totalOf(names.map((name) => sum(square(of(inputs, `g.${name}`))))));
      return { next: { ...record((name) => ({ [name]: sub(of(inputs, name), div(of(inputs, `g.${name}`), sqrt(total))) })), sum: total } };
    };
    await expectLikeOnnx(backend, { ...params, sum: array(0.01), ...gradients(0) }, step, { feed: gradients });
  });

  it('wait for each other', async () => {
    // Normalised to mean 0, then to variance 1, then to a largest element of 1; what is written is read by every phase.
    const step: Step = (inputs) => {
      const x = of(inputs, 'd');
      const centred = sub(x, mean(x));
      const scaled = div(centred, sqrt(mean(square(centred))));
      const limited = div(scaled, max(abs(scaled)));
      return { next: { d: add(mul(limited, 3), of(inputs, 'b2')), b2: add(limited, x) } };
    };
    const arrays = { d: params.d!, b2: normalArray(9, shapes.d!), e: normalArray(8, [7]) };
    expect(loopsOf(arrays, step)).toEqual([1, 1, 1, 1]);
    await expectLikeOnnx(backend, arrays, step, { rtol: 3e-6 });
  });

  it('cross tensors in several phases', async () => {
    const step: Step = (inputs) => {
      const first = sum(square(of(inputs, 'a')));
      const second = sum(mul(of(inputs, 'b'), sqrt(first)));
      const third = max(mul(of(inputs, 'c'), second));
      return {
        next: {
          a: mul(of(inputs, 'a'), div(1, third)),
          b: add(of(inputs, 'b'), first),
          c: add(of(inputs, 'c'), of(inputs, 's')),
          s: third,
        },
      };
    };
    const arrays = { a: params.a!, b: params.b!, c: params.c!, s: params.s! };
    expect(loopsOf(arrays, step)).toEqual([1, 1, 1, 1]);
    await expectLikeOnnx(backend, arrays, step, { steps: 3, rtol: 3e-6 });
  });

  it('divide however small or large they are, as guards have it', async () => {
    const step: Step = ({ g }) => {
      const guarded = (n: Tensor) => {
        const ok = greater(n, 0);
        return where(ok, div(g!, where(ok, n, 1)), 0);
      };
      const largest = max(abs(g!));
      return { next: { g: g!, x: guarded(largest), y: guarded(square(largest)), z: div(g!, add(largest, 1e-30)) } };
    };
    for (const scale of [1e-45, 1e-40, 1e-39, 1e-37, 1e-30, 1, 1e30, 3e38, 0]) {
      const g = array([scale, 0, scale / 10, -scale / 3, 0]);
      const zero = array([0, 0, 0, 0, 0]);
      await expectLikeOnnx(backend, { g, x: zero, y: zero, z: zero }, step, { steps: 2 });
    }
  });

  it('take the largest and the smallest element, wherever it is', async () => {
    for (const [engine, options] of engines) {
      for (const size of [2, 3, 4, 5, 8, 9, 13, 1023, 1025, 4097]) {
        const step: Step = ({ x }) => ({
          next: {},
          values: { max: max(x as Tensor), min: min(x as Tensor), largest: max(abs(x as Tensor)) },
        });
        for (const at of new Set([0, 1, size >> 1, size - 2, size - 1])) {
          const x = new Float32Array(size).fill(-2);
          x[at] = -1;
          const kernels = await stepKernels({ x: array(x) }, step, options);
          expect(runAt(kernels, 0), `${engine}, ${size} elements, ${at}`).toEqual([-1, -2, 2]);
        }
      }
    }
  });

  it('are NaN where an element is', async () => {
    const x = Object.fromEntries(
      [0, 3, 8, 16].map((at) => {
        const data = normalArray(at, [17]);
        data.data[at] = Number.NaN;
        return [`x${at}`, data];
      }),
    );
    const step =
      (reduce: (x: Tensor) => Tensor): Step =>
      (inputs) => ({ next: {}, values: Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, reduce(x)])) });
    await expectLikeOnnx(backend, x, step(sum), { steps: 1 });
    // ONNX Runtime's maximum depends on where NaN is.
    for (const [engine, options] of engines)
      expect(runAt(await stepKernels(x, step(max), options), 0), engine).toEqual(Array(4).fill(Number.NaN));
  });

  it('skip an update that is not finite', async () => {
    const step: Step = (inputs) => {
      const total = totalOf(names.map((name) => sum(square(of(inputs, `g.${name}`)))));
      const ok = finite(total);
      const next = record((name) => {
        const v = add(mul(of(inputs, `v.${name}`), 0.9), of(inputs, `g.${name}`));
        const keep = (fresh: Tensor, old: Tensor) => where(ok, fresh, old);
        return {
          [name]: keep(sub(of(inputs, name), mul(v, 0.1)), of(inputs, name)),
          [`v.${name}`]: keep(v, of(inputs, `v.${name}`)),
        };
      });
      return { next: { ...next, skipped: add(of(inputs, 'skipped'), where(ok, 0, cast(add(of(inputs, 'skipped'), 1), 'float32'))) } };
    };
    const feed = (t: number) => {
      const g = gradients(t);
      if (t % 2) g['g.c']!.data[1022] = t === 1 ? Number.NaN : Number.NEGATIVE_INFINITY;
      if (t === 4) g['g.s']!.data[0] = Number.POSITIVE_INFINITY;
      return g;
    };
    await expectLikeOnnx(backend, { ...params, ...blank('v.'), skipped: array(0), ...gradients(0) }, step, { feed, steps: 6 });
  });

  it.each(engines)('of many elements keep their digits: %s', async (_, options) => {
    const size = 3_000_001;
    const x = new Float32Array(size).fill(0.1);
    const step: Step = ({ x }) => ({ next: {}, values: { total: sum(x as Tensor), mean: mean(x as Tensor) } });
    const [total, average] = runAt(await stepKernels({ x: array(x) }, step, options), 0);
    expect(Math.abs(total! / (size * Math.fround(0.1)) - 1)).toBeLessThan(1e-10);
    // The factor 1 / size is a float32.
    expect(Math.abs(average! / Math.fround(0.1) - 1)).toBeLessThan(2 ** -24);
  });
});
