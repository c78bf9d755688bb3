import { describe, expect, it } from 'vitest';
import * as tracegrad from '../../src/index.js';
import { arange, array, gradients, mul, type NDArray, type Shape, sum, type Tensor, toNumbers } from '../../src/index.js';
import * as layers from '../../src/layers/index.js';
import {
  type ConvParams,
  conv2d,
  type EmbeddingParams,
  embedding,
  type LinearParams,
  linear,
  type SelfAttentionOptions,
  type SelfAttentionParams,
  selfAttention,
} from '../../src/layers/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, numericGradient } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';

const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const total = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** `x weight^T + bias` for rows of `x`. */
function linearReference(x: readonly number[], weight: readonly number[], features: number, bias?: readonly number[]): number[] {
  return range(x.length / features).flatMap((row) =>
    range(weight.length / features).map(
      (o) => total(range(features).map((k) => x[row * features + k]! * weight[o * features + k]!)) + (bias?.[o] ?? 0),
    ),
  );
}

interface Window {
  stride?: number;
  padding?: number;
  dilation?: number;
}

/** Convolution of `[N, C, H, W]` with `[O, C, K, L]`. */
function convReference(
  x: NDArray,
  weight: NDArray,
  bias: NDArray | undefined,
  { stride = 1, padding = 0, dilation = 1 }: Window,
): number[] {
  const [n, channels, height, width] = x.shape as [number, number, number, number];
  const [out, , k, l] = weight.shape as [number, number, number, number];
  const size = (length: number, kernel: number) => Math.floor((length + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1;
  const pixel = (i: number, c: number, h: number, w: number) =>
    h < 0 || w < 0 || h >= height || w >= width ? 0 : x.data[((i * channels + c) * height + h) * width + w]!;
  const taps = range(channels).flatMap((c) => range(k).flatMap((a) => range(l).map((b) => [c, a, b] as const)));
  return range(n).flatMap((i) =>
    range(out).flatMap((o) =>
      range(size(height, k)).flatMap((h) =>
        range(size(width, l)).map(
          (w) =>
            total(
              taps.map(
                ([c, a, b]) =>
                  weight.data[((o * channels + c) * k + a) * l + b]! *
                  pixel(i, c, h * stride - padding + a * dilation, w * stride - padding + b * dilation),
              ),
            ) + (bias?.data[o] ?? 0),
        ),
      ),
    ),
  );
}

interface AttentionArrays {
  readonly qkv: { readonly weight: readonly number[]; readonly bias: readonly number[] };
  readonly out: { readonly weight: readonly number[]; readonly bias: readonly number[] };
}

/** Self-attention by its definition; `sees(b, head, query, key)`. */
function attentionReference(
  x: readonly number[],
  [batch, length, features]: readonly [number, number, number],
  params: AttentionArrays,
  heads: number,
  sees: (b: number, head: number, query: number, key: number) => boolean,
): number[] {
  const size = features / heads;
  const qkv = linearReference(x, params.qkv.weight, features, params.qkv.bias);
  const part = (which: number, b: number, position: number, head: number, i: number) =>
    qkv[(b * length + position) * 3 * features + which * features + head * size + i]!;
  const mixed = range(batch).flatMap((b) =>
    range(length).flatMap((query) =>
      range(heads).flatMap((head) => {
        const visible = range(length).filter((key) => sees(b, head, query, key));
        const keys = visible.length > 0 ? visible : range(length);
        const score = (key: number) =>
          total(range(size).map((i) => part(0, b, query, head, i) * part(1, b, key, head, i))) / Math.sqrt(size);
        const powers = keys.map((key) => (visible.length > 0 ? Math.exp(score(key)) : 1));
        return range(size).map((i) => total(keys.map((key, k) => powers[k]! * part(2, b, key, head, i))) / total(powers));
      }),
    ),
  );
  return linearReference(mixed, params.out.weight, features, params.out.bias);
}

const devices = await testDevices();

describe.each(devices)('on %s', (_, backend) => {
  it.each<[string, Shape, boolean]>([
    ['a batch', [4, 3], true],
    ['a vector', [3], true],
    ['sequences', [2, 5, 3], true],
    ['no rows', [0, 3], true],
    ['a batch without bias', [4, 3], false],
  ])('linear maps %s', async (_, shape, withBias) => {
    const x = normalArray(1, shape);
    const params = { weight: normalArray(2, [5, 3]), ...(withBias ? { bias: normalArray(3, [5]) } : {}) };
    const y = await run(backend, (input: Tensor, p: LinearParams) => linear(input, p), x, params);
    expect(y.shape).toEqual([...shape.slice(0, -1), 5]);
    expectClose('y', toNumbers(y), linearReference(toNumbers(x), toNumbers(params.weight), 3, params.bias && toNumbers(params.bias)), 1e-5);
  });

  it.each<[string, boolean, Window]>([
    ['by default', true, {}],
    ['without bias', false, {}],
    ['with a stride and padding', true, { stride: 2, padding: 1 }],
    ['with dilation', true, { dilation: 2, padding: 2 }],
  ])('conv2d convolves %s', async (_, withBias, options) => {
    const x = normalArray(1, [2, 3, 7, 6]);
    const params = { weight: normalArray(2, [4, 3, 3, 2]), ...(withBias ? { bias: normalArray(3, [4]) } : {}) };
    const y = await run(backend, (input: Tensor, p: ConvParams) => conv2d(input, p, options), x, params);
    expectClose('y', toNumbers(y), convReference(x, params.weight, params.bias, options), 1e-5);
  });

  type Layer = (x: Tensor, p: ConvParams, options: never) => Tensor;
  type Op = (x: Tensor, weight: Tensor, options: never) => Tensor;
  it.each<[string, Layer, Op, Shape, Shape, object]>([
    ['conv1d', layers.conv1d, tracegrad.conv1d, [2, 4, 6], [6, 2, 3], { groups: 2, padding: 1 }],
    ['conv2d', layers.conv2d, tracegrad.conv2d, [2, 4, 5, 4], [4, 1, 3, 3], { groups: 4, padding: 'same', stride: 2 }],
    ['conv3d', layers.conv3d, tracegrad.conv3d, [1, 2, 3, 4, 3], [6, 2, 2, 2, 2], { dilation: [1, 2, 1] }],
    [
      'convTranspose1d',
      layers.convTranspose1d,
      tracegrad.convTranspose1d,
      [2, 4, 6],
      [4, 3, 3],
      { groups: 2, stride: 2, outputPadding: 1 },
    ],
    ['convTranspose2d', layers.convTranspose2d, tracegrad.convTranspose2d, [2, 3, 3, 4], [3, 6, 2, 2], { stride: [2, 1] }],
    ['convTranspose3d', layers.convTranspose3d, tracegrad.convTranspose3d, [1, 2, 2, 3, 2], [2, 6, 2, 2, 2], { stride: 2, padding: 1 }],
  ])('%s is the op with parameters', async (_, layer, op, shape, kernel, options) => {
    const given = options as never;
    const results = await run(
      backend,
      (x: Tensor, weight: Tensor) => {
        const [, channels] = op(x, weight, given).shape as [number, number];
        const bias = arange(channels, 'float32');
        return [
          [layer(x, { weight, bias }, given), op(x, weight, { ...options, bias } as never)],
          [layer(x, { weight }, given), op(x, weight, given)],
        ] as const;
      },
      normalArray(1, shape),
      normalArray(2, kernel),
    );
    for (const [found, wanted] of results) expect(found).toEqual(wanted);
    expect(results[0][0]).not.toEqual(results[1][0]);
  });

  it('embedding takes rows, and adds their gradients up', async () => {
    const weight = normalArray(1, [6, 2]);
    const indices = array([5, 0, 0, 3, 5, 5], { shape: [2, 3], dtype: 'int32' });
    const { rows, gradient } = await run(
      backend,
      (tokens: Tensor, p: EmbeddingParams) => {
        const rows = embedding(tokens, p);
        return { rows, gradient: gradients(sum(rows), [p.weight])[0] as Tensor };
      },
      indices,
      { weight },
    );
    expect(rows.shape).toEqual([2, 3, 2]);
    expect(toNumbers(rows)).toEqual([...indices.data].flatMap((i) => toNumbers(weight).slice(2 * i, 2 * i + 2)));
    expect(toNumbers(gradient)).toEqual([2, 2, 0, 0, 0, 0, 1, 1, 0, 0, 3, 3]);
  });

  const shape = [2, 5, 6] as const;
  // Queries (rows) and keys (columns); the third query sees nothing.
  const hidden = [
    [1, 0, 1, 1, 0],
    [1, 1, 0, 1, 1],
    [0, 0, 0, 0, 0],
    [0, 1, 1, 1, 1],
    [1, 0, 0, 0, 1],
  ];
  const padding = [
    [1, 1, 1, 0, 0],
    [0, 1, 1, 1, 1],
  ];
  const bool = (values: readonly (readonly number[])[], to: Shape) => array(values.flat(), { shape: to, dtype: 'bool' });
  const everything = () => true;
  const attentionCases: [
    string,
    Omit<SelfAttentionOptions, 'heads'>,
    NDArray | undefined,
    (b: number, h: number, q: number, k: number) => boolean,
  ][] = [
    ['everything', {}, undefined, everything],
    ['the past', { causal: true }, undefined, (_b, _h, q, k) => k <= q],
    ['what a mask shows, or everything where it shows nothing', {}, bool(hidden, [5, 5]), (_b, _h, q, k) => hidden[q]![k] === 1],
    ['the past that a mask shows', { causal: true }, bool(hidden, [5, 5]), (_b, _h, q, k) => k <= q && hidden[q]![k] === 1],
    ['what a mask per sample shows', {}, bool(padding, [2, 1, 1, 5]), (b, _h, _q, k) => padding[b]![k] === 1],
    [
      'what a mask per head shows',
      {},
      bool([hidden.flat(), Array(25).fill(1), Array(25).fill(1)], [3, 5, 5]),
      (_b, h, q, k) => h > 0 || hidden[q]![k] === 1,
    ],
  ];
  it.each(attentionCases)('selfAttention sees %s', async (_, options, mask, sees) => {
    const x = normalArray(1, shape);
    const params = {
      qkv: { weight: normalArray(2, [18, 6]), bias: normalArray(3, [18]) },
      out: { weight: normalArray(4, [6, 6]), bias: normalArray(5, [6]) },
    };
    const g = normalArray(6, shape);
    const { y, back } = await run(
      backend,
      (input: Tensor, p: SelfAttentionParams, cotangent: Tensor, given: { mask?: Tensor }) => {
        const y = selfAttention(input, p, { heads: 3, ...options, ...given });
        return { y, back: gradients(sum(mul(y, cotangent)), [input, p.qkv.weight]) };
      },
      x,
      params,
      g,
      mask ? { mask } : {},
    );
    const qkv = { weight: toNumbers(params.qkv.weight), bias: toNumbers(params.qkv.bias) };
    const out = { weight: toNumbers(params.out.weight), bias: toNumbers(params.out.bias) };
    const at = (input: readonly number[], weight: readonly number[]) =>
      attentionReference(input, shape, { qkv: { ...qkv, weight }, out }, 3, sees);
    expect(y.shape).toEqual(shape);
    expectClose('y', toNumbers(y), at(toNumbers(x), qkv.weight), 1e-5);
    const weighted = (values: readonly number[]) => total(values.map((v, i) => v * toNumbers(g)[i]!));
    expectClose(
      'gradient of x',
      toNumbers(back[0]!),
      numericGradient((v) => weighted(at(v, qkv.weight)), toNumbers(x)),
      1e-4,
    );
    expectClose(
      'gradient of the weight',
      toNumbers(back[1]!),
      numericGradient((w) => weighted(at(toNumbers(x), w)), qkv.weight),
      1e-4,
    );
  });

  it('names an index that is out of range', async () => {
    const lookup = run(backend, (tokens: Tensor, p: EmbeddingParams) => embedding(tokens, p), array([0, 6], { dtype: 'int32' }), {
      weight: normalArray(1, [6, 2]),
    });
    await expect(lookup).rejects.toThrow(new RangeError('embedding: indices: expected integers from 0 to 5, received 6 at index 1'));
  });
});

describe('selfAttention in float16', () => {
  it('hides keys whatever their scores are', async () => {
    const half = (values: NDArray) => array(toNumbers(values), { shape: values.shape, dtype: 'float16' });
    const x = half(normalArray(1, [1, 4, 4]));
    const params = {
      qkv: { weight: half(normalArray(2, [12, 4])), bias: half(normalArray(3, [12])) },
      out: { weight: half(normalArray(4, [4, 4])), bias: half(normalArray(5, [4])) },
    };
    const y = await run(
      devices[0]![1],
      (input: Tensor, p: SelfAttentionParams) => selfAttention(input, p, { heads: 2, causal: true }),
      x,
      params,
    );
    const numbers = (p: { weight: NDArray; bias: NDArray }) => ({ weight: toNumbers(p.weight), bias: toNumbers(p.bias) });
    const expected = attentionReference(
      toNumbers(x),
      [1, 4, 4],
      { qkv: numbers(params.qkv), out: numbers(params.out) },
      2,
      (_b, _h, q, k) => k <= q,
    );
    expect(y.dtype).toBe('float16');
    expectClose('y', toNumbers(y), expected, 1e-2);
  });
});

describe('layers', () => {
  const attention = (features: number) => ({
    qkv: { weight: leaf([3 * features, features]), bias: leaf([3 * features]) },
    out: { weight: leaf([features, features]), bias: leaf([features]) },
  });

  it.each<[string, () => Tensor, string]>([
    [
      'linear of other features',
      () => linear(leaf([2, 4]), { weight: leaf([5, 3]) }),
      'linear: expected x [..., in] and weight [out, in], received [2, 4] and [5, 3]',
    ],
    [
      'linear of a scalar',
      () => linear(leaf([]), { weight: leaf([5, 3]) }),
      'linear: expected x [..., in] and weight [out, in], received [] and [5, 3]',
    ],
    [
      'linear with another bias',
      () => linear(leaf([2, 3]), { weight: leaf([5, 3]), bias: leaf([3]) }),
      'linear: bias: expected shape [5], received float32[3]',
    ],
    [
      'linear without a weight',
      () => linear(leaf([2, 3]), {} as LinearParams),
      'linear: weight: expected a Tensor (is a parameter missing?), received undefined',
    ],
    [
      'embedding of a vector',
      () => embedding(leaf([2], 'int32'), { weight: leaf([5]) }),
      'embedding: weight: expected a Tensor [vocabulary, features], received float32[5]',
    ],
    [
      'embedding by floats',
      () => embedding(leaf([2]), { weight: leaf([5, 3]) }),
      'embedding: indices: expected an int32 Tensor, received float32[2]',
    ],
    [
      'selfAttention of other rank',
      () => selfAttention(leaf([3, 4]), attention(4), { heads: 2 }),
      'selfAttention: x: expected a Tensor [batch, length, features], received float32[3, 4]',
    ],
    [
      'selfAttention with heads that do not divide the features',
      () => selfAttention(leaf([1, 3, 4]), attention(4), { heads: 3 }),
      'selfAttention: heads: expected a divisor of the 4 features, received 3',
    ],
    [
      'selfAttention without heads',
      () => selfAttention(leaf([1, 3, 4]), attention(4), {} as SelfAttentionOptions),
      'selfAttention: heads: expected a positive integer, received undefined',
    ],
    [
      'selfAttention with a float mask',
      () => selfAttention(leaf([1, 3, 4]), attention(4), { heads: 2, mask: leaf([3, 3]) }),
      'selfAttention: mask: expected a bool Tensor, received float32[3, 3]',
    ],
    [
      'selfAttention with a mask of another shape',
      () => selfAttention(leaf([1, 3, 4]), attention(4), { heads: 2, mask: leaf([2, 3], 'bool') }),
      'selfAttention: mask: expected a shape that broadcasts to [1, 2, 3, 3], received bool[2, 3]',
    ],
    [
      'selfAttention with an unknown option',
      () => selfAttention(leaf([1, 3, 4]), attention(4), { heads: 2, dropout: 0.1 } as SelfAttentionOptions),
      "selfAttention: unknown option 'dropout'; the options are heads, causal, mask",
    ],
    [
      'selfAttention with weights of other features',
      () => selfAttention(leaf([1, 3, 4]), attention(6), { heads: 2 }),
      'selfAttention: qkv.weight: expected shape [12, 4], received float32[18, 6]',
    ],
    [
      'selfAttention without parameters',
      () => selfAttention(leaf([1, 3, 4]), {} as SelfAttentionParams, { heads: 2 }),
      'selfAttention: qkv.weight: expected a Tensor (is a parameter missing?), received undefined',
    ],
    [
      'conv2d without a weight',
      () => conv2d(leaf([1, 2, 3, 3]), {} as ConvParams),
      'conv2d: weight: expected a Tensor (is a parameter missing?), received undefined',
    ],
  ])('reject %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
