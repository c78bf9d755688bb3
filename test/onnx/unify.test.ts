import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  type Axes,
  adaptiveAvgPool2d,
  adaptiveMaxPool2d,
  add,
  arange,
  array,
  avgPool2d,
  type Backend,
  cast,
  compile,
  concat,
  constant,
  conv2d,
  convTranspose2d,
  createRng,
  cumsum,
  einsum,
  exp,
  flip,
  gather,
  globalMaxPool,
  gradients,
  hostInput,
  matmul,
  maxPool2d,
  mean,
  mul,
  type NDArray,
  ones,
  pad,
  relu,
  reshape,
  type Shape,
  scatterAdd,
  slice,
  softmax,
  sort,
  split,
  square,
  sub,
  sum,
  type Tensor,
  toNumbers,
  topK,
  transpose,
} from '../../src/index.js';
import { selfAttention } from '../../src/layers/index.js';
import { crossEntropyLoss } from '../../src/losses/index.js';
import { createBackend } from '../../src/node.js';
import { layerNorm } from '../../src/norm/index.js';
import type { OrtBackend } from '../../src/runtime/backend.js';
import { expectClose } from '../support/close.js';
import { webgpuBackend } from '../support/devices.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(() => backend.close());
afterEach(() => vi.restoreAllMocks());

/** Counts sessions from here on. */
const countSessions = () => vi.spyOn(backend as OrtBackend, 'createSession').mock.calls;
const countWarnings = () => vi.spyOn(console, 'warn').mockImplementation(() => undefined).mock.calls;

const rng = createRng(3);
const floats = (...shape: number[]): NDArray =>
  array(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => rng.normal()),
    { shape },
  );
const integers = (below: number, ...shape: number[]): NDArray =>
  array(
    Int32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => rng.int(below)),
    { shape },
  );

type Sizes = readonly number[];
type Program = (...x: Tensor[]) => Tensor;

interface Case {
  readonly name: string;
  /** Names of the axes of every argument. */
  readonly axes: readonly Axes[];
  /** Arguments at the sizes of the named axes. */
  readonly inputs: (...sizes: number[]) => readonly NDArray[];
  readonly run: Program;
  /** Default: sizes of one axis. */
  readonly sizes?: readonly Sizes[];
  /** How many sessions serve all sizes. Default 1. */
  readonly sessions?: number;
}

const ONE_AXIS = [2, 3, 4, 5, 7, 8, 12, 31, 64, 65].map((n) => [n]);
const TWO_AXES = [
  [2, 3],
  [3, 2],
  [4, 9],
  [5, 8],
  [16, 7],
  [2, 33],
];

const isFloat = (x: Tensor): boolean => x.dtype === 'float32';

/** Value and gradients of a program. */
const withGradients =
  (run: Program): Program =>
  (...x) => {
    const y = run(...x);
    const wrt = x.filter(isFloat);
    const flat = [y, ...gradients(sum(square(y)), wrt)].map((t) => reshape(t, [-1]));
    return concat(flat);
  };

const named = (...axes: (string | null)[]): Axes => axes;
const rows = [named('batch')];

const cases: Case[] = [
  { name: 'mean over all', axes: rows, inputs: (n) => [floats(n, 3)], run: (x) => mean(mul(x, x)) },
  { name: 'mean over the batch', axes: rows, inputs: (n) => [floats(n, 3)], run: (x) => mean(x, { axis: 0 }) },
  { name: 'flatten', axes: rows, inputs: (n) => [floats(n, 2, 3)], run: (x) => exp(reshape(x, [x.shape[0] as number, -1])) },
  { name: 'flatten of everything', axes: rows, inputs: (n) => [floats(n, 2, 3)], run: (x) => exp(reshape(x, [-1])) },
  { name: 'arange', axes: rows, inputs: (n) => [floats(n)], run: (x) => mul(x, cast(arange(x.shape[0] as number), 'float32')) },
  {
    name: 'causal attention',
    axes: [named(null, 'length'), null, null],
    inputs: (n) => [floats(2, n, 4), floats(12, 4), floats(4, 4)],
    run: (x, qkv, out) => selfAttention(x, { qkv: { weight: qkv as Tensor }, out: { weight: out as Tensor } }, { heads: 2, causal: true }),
  },
  { name: 'concat along the axis', axes: rows, inputs: (n) => [floats(n, 2)], run: (x) => concat([x, exp(x), x]) },
  { name: 'concat along another axis', axes: rows, inputs: (n) => [floats(n, 2)], run: (x) => concat([x, exp(x)], { axis: 1 }) },
  { name: 'split along another axis', axes: rows, inputs: (n) => [floats(n, 6)], run: (x) => split(x, 3, { axis: 1 }).reduce(mul) },
  {
    name: 'split along the axis',
    axes: rows,
    sizes: ONE_AXIS.filter(([n]) => n !== 2), // a part of size 1 broadcasts
    inputs: (n) => [floats(n, 2)],
    run: (x) => {
      const [first, rest] = split(x, [1, (x.shape[0] as number) - 1]) as [Tensor, Tensor];
      return mul(first, rest);
    },
  },
  {
    name: 'slice and pad',
    axes: rows,
    inputs: (n) => [floats(n)],
    run: (x) => pad(slice(x, [1], [x.shape[0] as number]), [[2, 1]], { value: 3 }),
  },
  {
    name: 'reversal and reflection',
    axes: rows,
    sizes: ONE_AXIS.filter(([n = 0]) => n >= 5), // longer than both sides of the padding together
    inputs: (n) => [floats(n, 3)],
    run: (x) => {
      const padding = [0, 1].map(() => [1, 2] as const);
      return pad(pad(mul(flip(x), x), padding, { mode: 'reflect' }), padding, { mode: 'edge' });
    },
  },
  { name: 'running sums', axes: rows, inputs: (n) => [floats(n, 3)], run: (x) => mul(cumsum(x), cumsum(x, { axis: 0, reverse: true })) },
  { name: 'order', axes: rows, inputs: (n) => [floats(n, 3)], run: (x) => mul(sort(x, { axis: 0 }), topK(x, 1, { axis: 1 })[0]) },
  {
    name: 'sums of products',
    axes: [named('batch'), named('batch')],
    inputs: (n) => [floats(n, 3), floats(n, 2)],
    run: (x, y) => einsum('bi,bj,bi->ij', x, y as Tensor, x),
  },
  {
    name: 'sums at indices',
    axes: [named(null, 'batch'), named(null, 'batch')],
    inputs: (n) => [floats(2, n), integers(4, 2, n)],
    run: (x, i) => scatterAdd(ones([2, 4]), i as Tensor, x),
  },
  { name: 'max pooling', axes: rows, inputs: (n) => [floats(n, 2, 4, 4)], run: (x) => maxPool2d(x, { kernelSize: 2 }) },
  {
    name: 'pooling with overlap and padding',
    axes: rows,
    inputs: (n) => [floats(n, 2, 5, 4)],
    run: (x) => {
      const options = { kernelSize: 3, stride: 2, padding: 1 };
      return add(maxPool2d(x, options), avgPool2d(x, { ...options, countIncludePad: false }));
    },
  },
  {
    name: 'pooling of bins',
    axes: rows,
    inputs: (n) => [floats(n, 2, 5, 4)],
    run: (x) =>
      add(add(adaptiveAvgPool2d(x, { outputSize: 3 }), adaptiveMaxPool2d(x, { outputSize: 3 })), globalMaxPool(x, { keepDims: true })),
  },
  {
    name: 'convolution of groups and back',
    axes: [named('batch'), null, null],
    inputs: (n) => [floats(n, 4, 5, 5), floats(8, 1, 3, 3), floats(8, 1, 2, 2)],
    run: (x, w, v) => convTranspose2d(conv2d(x, w as Tensor, { groups: 4, stride: 2 }), v as Tensor, { groups: 4, stride: 2 }),
  },
  {
    name: 'convolution',
    axes: [named('batch'), null],
    inputs: (n) => [floats(n, 3, 5, 5), floats(4, 3, 3, 3)],
    run: (x, w) => relu(conv2d(x, w as Tensor, { padding: 'same' })),
  },
  {
    name: 'convolution with stride and many channels',
    axes: [named('batch'), null],
    inputs: (n) => [floats(n, 6, 6, 6), floats(4, 6, 3, 3)],
    run: (x, w) => conv2d(x, w as Tensor, { stride: 2, padding: 1 }),
  },
  {
    name: 'convolution along the axis',
    axes: [named(null, null, 'length', null), null],
    inputs: (n) => [floats(2, 3, n, 5), floats(4, 3, 3, 3)],
    run: (x, w) => conv2d(x, w as Tensor, { padding: 1 }),
  },
  {
    name: 'embedding and classes',
    axes: [named('batch'), null, named('batch')],
    inputs: (n) => [integers(9, n, 3), floats(9, 5), integers(5, n)],
    run: (tokens, table, labels) => crossEntropyLoss(mean(gather(table as Tensor, tokens as Tensor), { axis: 1 }), labels as Tensor),
  },
  {
    name: 'layer norm',
    axes: [named('batch'), null, null],
    inputs: (n) => [floats(n, 6), floats(6), floats(6)],
    run: (x, weight, bias) => layerNorm(x, { weight: weight as Tensor, bias: bias as Tensor }),
  },
  {
    name: 'products of the axis with itself',
    axes: rows,
    inputs: (n) => [floats(n, 3)],
    run: (x) => softmax(matmul(x, transpose(x))),
  },
  {
    name: 'a transformer with batch and length',
    axes: [named('batch', 'length'), null, null, null, named('batch', 'length')],
    sizes: TWO_AXES,
    inputs: (n, t) => [integers(9, n, t), floats(9, 4), floats(12, 4), floats(4, 4), integers(9, n, t)],
    run: (tokens, table, qkv, out, targets) => {
      const x = gather(table as Tensor, tokens as Tensor);
      const attended = selfAttention(
        layerNorm(x),
        { qkv: { weight: qkv as Tensor }, out: { weight: out as Tensor } },
        { heads: 2, causal: true },
      );
      const logits = matmul(add(x, attended), transpose(table as Tensor));
      return crossEntropyLoss(reshape(logits, [-1, 9]), reshape(targets as Tensor, [-1]));
    },
  },
  {
    name: 'a batch of 1 with a length that varies',
    axes: [named('batch', 'length')],
    sizes: [
      [1, 2],
      [1, 5],
      [1, 6],
      [1, 30],
    ],
    inputs: (n, t) => [floats(n, t, 2)],
    run: (x) => mean(x, { axis: 1 }),
  },
  // Two sums: short ones are one node.
  {
    name: 'long sums',
    axes: rows,
    sizes: [[3], [17], [700], [701], [1024], [4999]],
    sessions: 3,
    inputs: (n) => [floats(n, 9)],
    run: (x) => mean(exp(x)),
  },
  // What is halved is the same for neighbours, so that a first session serves just these.
  {
    name: 'max pooling along the axis',
    axes: [named(null, null, 'length', null)],
    sizes: [[4], [5], [6], [7], [8], [13], [40], [41]],
    sessions: 3,
    inputs: (n) => [floats(1, 2, n, 2)],
    run: (x) => add(maxPool2d(x, { kernelSize: [2, 1] }), 1),
  },
  {
    name: 'two parts that are equally long at the first size only',
    axes: rows,
    sizes: [[4], [5], [9]],
    inputs: (n) => [floats(n)],
    run: (x) => {
      const n = x.shape[0] as number;
      return concat([slice(concat([x, x]), [1], [n]), slice(concat([x, x, x]), [1], [2 * n - 4])]);
    },
  },
  {
    name: 'the first half',
    axes: rows,
    sizes: [[4], [5], [6], [7], [12], [13], [31]],
    sessions: 3,
    inputs: (n) => [floats(n)],
    run: (x) => slice(x, [0], [Math.floor((x.shape[0] as number) / 2)]),
  },
  {
    name: 'a factor in steps',
    axes: rows,
    sizes: [[4], [5], [6], [7], [12], [13], [31]],
    sessions: 3,
    inputs: (n) => [floats(n)],
    run: (x) => mul(x, 10.5 + Math.floor((x.shape[0] as number) / 3)),
  },
];

describe('named axes', () => {
  it.each(cases)('serves many sizes with few sessions: $name', async ({ axes, inputs, run, sizes = ONE_AXIS, sessions = 1 }) => {
    const created = countSessions();
    const warnings = countWarnings();
    const both = withGradients(run);
    const dynamic = compile(backend, both as (...x: Tensor[]) => Tensor, { axes });
    const all = sizes.map((n) => inputs(...n));
    const results = [];
    for (const values of all) results.push(await dynamic(...values));
    expect(created.length).toBeLessThanOrEqual(sessions);
    expect(warnings).toEqual([]);
    // In another order, with what is there by now.
    for (const [i, values] of [...all.entries()].reverse()) expect(await dynamic(...values)).toEqual(results[i]);
    const fixed = compile(backend, both as (...x: Tensor[]) => Tensor);
    for (const [i, values] of all.entries()) {
      const expected = await fixed(...values);
      expect(results[i]?.shape).toEqual(expected.shape);
      expectClose(`sizes ${sizes[i]}`, toNumbers(results[i] as NDArray), toNumbers(expected), 1e-6);
    }
    await dynamic.close();
    await fixed.close();
  });

  it('serve many sizes with one session on WebGPU', async ({ skip }) => {
    const webgpu = await webgpuBackend();
    if (!webgpu) return skip('no WebGPU device');
    const { run, axes, inputs } = cases.find(({ name }) => name.startsWith('a transformer')) as Case;
    const both = withGradients(run) as (...x: Tensor[]) => Tensor;
    const created = vi.spyOn(webgpu as OrtBackend, 'createSession').mock.calls;
    const onWebgpu = compile(webgpu, both, { axes });
    const onCpu = compile(backend, both);
    for (const sizes of TWO_AXES.slice(0, 2)) {
      const values = inputs(...sizes);
      expectClose(`sizes ${sizes}`, toNumbers(await onWebgpu(...values)), toNumbers(await onCpu(...values)), 1e-4);
    }
    expect(created).toHaveLength(1);
    await webgpu.close();
    await onCpu.close();
  });

  /** Runs `run` with a named first axis and without names, and compares. */
  async function compare(run: (x: Tensor) => Tensor, inputs: readonly NDArray[], axes: readonly Axes[] = rows): Promise<void> {
    const dynamic = compile(backend, run, { axes });
    const fixed = compile(backend, run);
    for (const x of inputs) expect(await dynamic(x)).toEqual(await fixed(x));
    await dynamic.close();
    await fixed.close();
  }

  it('take the sizes 0 and 1, before and after others', async () => {
    const centered = (x: Tensor) => sub(x, mean(x, { axis: 0, keepDims: true }));
    const warnings = countWarnings();
    await compare(
      centered,
      [0, 1, 4, 1, 0, 7].map((n) => floats(n, 3)),
    );
    expect(warnings).toEqual([]);
  });

  it('must agree in their sizes', async () => {
    const product = (p: { a: Tensor }, b: Tensor) => mul(p.a, b);
    const compiled = compile(backend, product, { axes: [{ a: ['batch', 'length'] }, [null, 'length']] });
    const message = "product: axis 'length' has size 3 in argument 0.a and 1 in argument 1";
    await expect(compiled({ a: floats(2, 3) }, floats(1, 1))).rejects.toThrow(message);
    expect((await compiled({ a: floats(2, 3) }, floats(1, 3))).shape).toEqual([2, 3]);
    await compiled.close();
  });

  // 1/10 of the mean, and 0.1 of the program, are two numbers.
  it('are not confused by constants that equal a size by chance', async () => {
    const [sessions, warnings] = [countSessions(), countWarnings()];
    const loss = compile(backend, (x: Tensor) => mul(mean(mul(x, 0.1)), 0.01), { axes: [['n']] });
    for (const n of [10, 100, 64]) {
      const x = floats(n);
      expectClose(`${n}`, toNumbers(await loss(x)), [(0.001 * toNumbers(x).reduce((a, b) => a + b, 0)) / n], 1e-5);
    }
    expect([sessions.length, warnings.length]).toEqual([1, 0]);
    await loss.close();
  });

  it('may have equal sizes', async () => {
    const swap = (x: Tensor) => exp(reshape(x, [x.shape[1] as number, x.shape[0] as number]));
    countWarnings(); // a square is not reshaped at all, so squares get sessions of their own
    await compare(swap, [floats(3, 4), floats(4, 4), floats(5, 4), floats(3, 3)], [['batch', 'length']]);
  });

  it('do not mix up dtypes and ranks', async () => {
    const inputs = [floats(4), integers(9, 5), floats(5, 3), integers(9, 6, 2), floats(2, 3), floats(6, 2, 2), floats(7)];
    await compare((x) => mul(x, x), inputs);
    await compare((x) => mul(x, x), inputs.reverse());
  });

  it('do not mix up trees with their keys in another order', async () => {
    const difference = (p: Record<string, Tensor>) => sub(p.a as Tensor, p.b as Tensor);
    const compiled = compile(backend, difference, { axes: [['batch']] });
    const [ten, one] = [array([10, 10]), array([1, 1])];
    expect([...(await compiled({ a: ten, b: one })).data]).toEqual([9, 9]);
    expect([...(await compiled({ b: one, a: ten })).data]).toEqual([9, 9]);
    await compiled.close();
  });

  it('give host inputs their shape at every size', async () => {
    const counted = (x: Tensor) =>
      add(
        x,
        hostInput(({ step }) => Array(x.shape[0]).fill(step), { shape: [x.shape[0] as number] }),
      );
    const created = countSessions();
    const compiled = compile(backend, counted, { axes: rows });
    for (const [step, n] of [3, 5, 9, 5].entries())
      expect([...(await compiled(array(Array(n).fill(1)))).data]).toEqual(Array(n).fill(step + 1));
    expect(created).toHaveLength(1);
    await compiled.close();
  });

  it.each<[string, (x: Tensor) => Tensor]>([
    ['loops', (x) => split(x, Array(x.shape[0]).fill(1)).reduce(add)],
    ['constants', (x) => mul(x, reshape(constantOf(x.shape), x.shape))],
    ['throws elsewhere', (x) => onlyAt(x, [3, 7, 11])],
  ])('fall back to a session per size where graphs differ, with one warning: %s', async (_, run) => {
    const warnings = countWarnings();
    await compare(
      run,
      [3, 7, 11].map((n) => floats(n, 2)),
    );
    expect(warnings).toEqual([
      [expect.stringMatching(/^compiled function: the graphs of different sizes of batch differ in more than sizes/)],
    ]);
  });

  it('serve other sizes where the function throws at neighbours', async () => {
    const created = countSessions();
    const warnings = countWarnings();
    const even = compile(backend, (x: Tensor) => neverOdd(x), { axes: rows });
    for (const n of [4, 10, 64]) expect((await even(floats(n))).shape).toEqual([n / 2]);
    expect(created).toHaveLength(1);
    expect(warnings).toEqual([]);
    await expect(even(floats(5))).rejects.toThrow('odd');
    await even.close();
  });
});

const constantOf = (shape: Shape): Tensor => constant(array(Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i)));

function onlyAt(x: Tensor, sizes: readonly number[]): Tensor {
  if (!sizes.includes(x.shape[0] as number)) throw new RangeError(`unexpected size ${x.shape[0]}`);
  return exp(x);
}

function neverOdd(x: Tensor): Tensor {
  const n = x.shape[0] as number;
  if (n % 2) throw new RangeError('odd');
  return slice(x, [0], [n / 2]);
}
