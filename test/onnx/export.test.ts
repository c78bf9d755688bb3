import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  arange,
  array,
  type Backend,
  cast,
  compile,
  createRng,
  type ExportOptions,
  exp,
  exportOnnx,
  filled,
  gelu,
  hostInput,
  matmul,
  maxPool2d,
  mean,
  mul,
  type NDArray,
  ones,
  relu,
  reshape,
  slice,
  softmax,
  split,
  sub,
  sum,
  type Tensor,
  type Tensors,
  toNumbers,
} from '../../src/index.js';
import {
  conv2d,
  embedding,
  initConv2d,
  initEmbedding,
  initLinear,
  initSelfAttention,
  linear,
  normal,
  selfAttention,
} from '../../src/layers/index.js';
import { createBackend } from '../../src/node.js';
import { initLayerNorm, layerNorm } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { readModel } from '../support/protobuf.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend({ device: 'cpu' });
});
afterAll(() => backend.close());

const rng = createRng(11);
const tokens = (batch: number, length: number): NDArray =>
  array(
    Int32Array.from({ length: batch * length }, () => rng.int(20)),
    { shape: [batch, length] },
  );

/** Runs a model with plain ONNX Runtime. */
async function runModel(model: Uint8Array, inputs: Record<string, NDArray>): Promise<Record<string, OrtTensor>> {
  const session = await InferenceSession.create(model, { logSeverityLevel: 3 });
  const feeds = Object.entries(inputs).map(([name, { data, shape, dtype }]) => [name, new OrtTensor(dtype, data as never, shape)]);
  const outputs = await session.run(Object.fromEntries(feeds));
  await session.release();
  return { ...outputs };
}

const predictions = (logits: ArrayLike<number>, classes: number): number[] =>
  Array.from({ length: logits.length / classes }, (_, row) => {
    const values = Array.from({ length: classes }, (_, k) => logits[row * classes + k] as number);
    return values.indexOf(Math.max(...values));
  });

const mlpParams = { up: initLinear(rng, 6, 16), down: initLinear(rng, 16, 4) };
const mlp = (p: Tensors<typeof mlpParams>, x: Tensor) => linear(relu(linear(x, p.up)), p.down);

const cnnParams = { conv: initConv2d(rng, 1, 6, 3), norm: initLayerNorm([6, 4, 4]), out: initLinear(rng, 96, 4) };
const cnn = (p: Tensors<typeof cnnParams>, x: Tensor) => {
  const images = maxPool2d(relu(conv2d(x, p.conv, { padding: 'same' })), { kernelSize: 2 });
  return linear(reshape(layerNorm(images, p.norm, { axis: 1 }), [x.shape[0] as number, -1]), p.out);
};

const transformerParams = {
  tokens: initEmbedding(rng, 20, 8),
  positions: initEmbedding(rng, 5, 8),
  norm: initLayerNorm(8),
  attention: initSelfAttention(rng, 8),
  out: initLinear(rng, 8, 4),
};
const transformer = (p: Tensors<typeof transformerParams>, x: Tensor) => {
  const embedded = add(embedding(x, p.tokens), embedding(arange(x.shape[1] as number), p.positions));
  const mixed = add(embedded, selfAttention(layerNorm(embedded, p.norm), p.attention, { heads: 2, causal: true }));
  return linear(gelu(mean(mixed, { axis: 1 })), p.out);
};

const models = [
  { name: 'an MLP', model: mlp, params: mlpParams, input: (n: number) => normal(rng, [n, 6]) },
  { name: 'a CNN with layer norm', model: cnn, params: cnnParams, input: (n: number) => normal(rng, [n, 1, 8, 8]) },
  { name: 'a transformer', model: transformer, params: transformerParams, input: (n: number) => tokens(n, 5) },
] as { name: string; model: (p: unknown, x: Tensor) => Tensor; params: object; input: (n: number) => NDArray }[];

describe('exportOnnx', () => {
  it.each(models)('writes $name for any batch size', async ({ model, params, input }) => {
    const bytes = exportOnnx(model, params as never, input(2));
    const compiled = compile(backend, model);
    for (const batch of [1, 7, 64]) {
      const x = input(batch);
      const { output } = (await runModel(bytes, { input: x })) as { output: OrtTensor };
      const expected = await compiled(params as never, x);
      expect(output.dims).toEqual([batch, 4]);
      expectClose(`batch ${batch}`, output.data as Float32Array, toNumbers(expected), 1e-5);
      expect(predictions(output.data as Float32Array, 4)).toEqual(predictions(toNumbers(expected), 4));
    }
    await compiled.close();
  });

  it.each(models)('puts the parameters of $name inside', ({ model, params, input }) => {
    const { inputs, outputs, initializers, opsets } = readModel(exportOnnx(model, params as never, input(2)));
    expect(inputs).toEqual([{ name: 'input', type: input(2).dtype === 'int32' ? 6 : 1, dims: ['batch', ...input(2).shape.slice(1)] }]);
    expect(outputs).toEqual([{ name: 'output', type: 1, dims: ['batch', 4] }]);
    expect(opsets).toEqual([{ domain: '', version: 20 }]);
    const found = initializers.map(({ data }) => Buffer.from(data).toString('hex'));
    const leaves = (tree: object): NDArray[] => ('data' in tree ? [tree as NDArray] : Object.values(tree).flatMap(leaves));
    for (const { data } of leaves(params))
      expect(found).toContain(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex'));
  });

  it('computes what depends on the batch size in the graph', async () => {
    const model = (_: object, x: Tensor) => {
      const n = x.shape[0] as number;
      const positions = cast(arange(n), 'float32');
      const centered = sub(x, mean(x, { axis: 0, keepDims: true }));
      const stretched = reshape(add(reshape(centered, [n * 3]), sum(mul(positions, 1 / (2 * n + 1)))), [3, n]);
      return { stretched, tail: slice(x, [n - 2, 0], [n, 3]), wide: add(softmax(x, { axis: 0 }), reshape(positions, [n, 1])) };
    };
    const bytes = exportOnnx(model, {}, filled([2, 3], 0));
    const compiled = compile(backend, (x: Tensor) => model({}, x));
    for (const n of [2, 7, 64]) {
      const x = normal(rng, [n, 3]);
      const outputs = await runModel(bytes, { input: x });
      for (const [name, expected] of Object.entries(await compiled(x))) {
        expect(outputs[name]?.dims).toEqual(expected.shape);
        expectClose(`${name} at batch ${n}`, outputs[name]?.data as Float32Array, toNumbers(expected), 1e-5);
      }
    }
    await compiled.close();
  });

  it('calls inputs and outputs by their paths', async () => {
    const model = (p: { w: Tensor }, inputs: { image: Tensor; extra: Tensor[] }) => ({
      logits: matmul(inputs.image, p.w),
      parts: [add(inputs.extra[0] as Tensor, 1), inputs.image],
    });
    const bytes = exportOnnx(model, { w: array([[1], [10]]) }, { image: filled([1, 2], 0), extra: [filled([1], 0)] });
    const { inputs, outputs } = readModel(bytes);
    expect(inputs.map(({ name }) => name)).toEqual(['image', 'extra.0']);
    expect(outputs.map(({ name }) => name)).toEqual(['logits', 'parts.0', 'parts.1']);
    const results = await runModel(bytes, {
      image: array([
        [1, 2],
        [3, 4],
      ]),
      'extra.0': array([5, 6]),
    });
    expect(Object.values(results).map(({ data }) => [...(data as Float32Array)])).toEqual([
      [21, 43],
      [6, 7],
      [1, 2, 3, 4],
    ]);
  });

  it('is not confused by names that it uses itself', async () => {
    const model = (_: object, { c0, v0, d0 }: { c0: Tensor; v0: Tensor; d0: Tensor }) => ({
      v1: mul(exp(add(c0, 1)), 2),
      c1: mul(v0, 3),
      d1: reshape(arange(d0.shape[0] as number), [-1, 1]),
    });
    const x = array([0, 1, 2]);
    const { v1, c1, d1 } = (await runModel(exportOnnx(model, {}, { c0: x, v0: x, d0: x }), { c0: x, v0: x, d0: x })) as Record<
      'v1' | 'c1' | 'd1',
      OrtTensor
    >;
    expectClose(
      'v1',
      v1.data as Float32Array,
      [1, 2, 3].map((v) => 2 * Math.exp(v)),
      1e-6,
    );
    expect([...(c1.data as Float32Array)]).toEqual([0, 3, 6]);
    expect([...(d1.data as Int32Array)]).toEqual([0, 1, 2]);
  });

  it('fixes all sizes with dynamicBatch: false', async () => {
    const unrolled = (_: object, x: Tensor) => split(x, x.shape[0] as number).reduce(add);
    const bytes = exportOnnx(unrolled, {}, filled([3, 2], 0), { dynamicBatch: false });
    expect(readModel(bytes)).toMatchObject({ inputs: [{ dims: [3, 2] }], outputs: [{ dims: [1, 2] }] });
    const { output } = await runModel(bytes, {
      input: array([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    });
    expect(output?.data).toEqual(Float32Array.of(9, 12));
    await expect(runModel(bytes, { input: filled([4, 2], 0) })).rejects.toThrow('invalid dimensions');
  });

  const n = (x: Tensor) => x.shape[0] as number;
  it.each<[string, (x: Tensor) => Tensor]>([
    ['a loop over it', (x) => split(x, n(x)).reduce(add)],
    ['half of it', (x) => slice(x, [0, 0], [Math.floor(n(x) / 2), 3])],
    ['a bound', (x) => slice(x, [0, 0], [Math.min(n(x), 20), 3])],
    ['its square', (x) => mul(x, 1 / n(x) ** 2)],
    ['its root', (x) => mul(x, Math.sqrt(n(x)))],
    ['a number nearly proportional to it', (x) => ones([2 ** 20 * n(x) + Math.floor(n(x) / 20), 1])],
  ])('refuses a function that depends on the batch size by %s', (_, run) => {
    expect(() => exportOnnx((_: object, x: Tensor) => run(x), {}, filled([1, 3], 0))).toThrow(
      'exportOnnx: the graphs of different batch sizes differ in more than sizes; pass { dynamicBatch: false } to export the sizes of the example',
    );
  });

  const x = filled([1, 3], 0);
  it.each<[string, () => unknown, string]>([
    [
      'host inputs',
      () =>
        exportOnnx(
          (_: object, t: Tensor) =>
            mul(
              t,
              hostInput(() => 1),
            ),
          {},
          x,
        ),
      'exportOnnx: the function uses host inputs',
    ],
    [
      'a name for an input and an output',
      () => exportOnnx((_: object, t: { x: Tensor }) => ({ x: exp(t.x) }), {}, { x }),
      "exportOnnx: an input and an output are both called 'x'",
    ],
    [
      'something else than a function',
      () => exportOnnx(null as never, {}, x),
      'exportOnnx: fn: expected a function of parameters and inputs, received null',
    ],
    ['unknown options', () => exportOnnx(exp as never, {}, x, { opset: 17 } as ExportOptions), "exportOnnx: unknown option 'opset'"],
    ['numbers as parameters', () => exportOnnx(exp as never, { w: 1 } as never, x), 'exportOnnx: w: expected an array, received 1'],
    [
      'numbers as results',
      () => exportOnnx(() => 1, {}, x),
      'exportOnnx: value: expected a Tensor or a tree of Tensors as result, received 1',
    ],
    ['Tensors of other traces', () => exportOnnx(leaking(), {}, x), "a Tensor leaked out of its trace: 'input'"],
  ])('refuses %s', (_, run, message) => expect(run).toThrow(message));
});

/** A function that returns the input of an earlier trace. */
function leaking(): (p: object, x: Tensor) => Tensor {
  let first: Tensor | undefined;
  return (_, x) => {
    first ??= x;
    return add(sum(first), x);
  };
}

describe('exportOnnx of programs that depend on the batch size', () => {
  it.each<[string, (_: object, x: Tensor) => Tensor]>([
    ['by a branch', (_, x) => ((x.shape[0] as number) >= 10 ? mul(x, 2) : x)],
    ['by a bound', (_, x) => mul(x, Math.max(x.shape[0] as number, 32))],
  ])('refuses one that does %s', (_, model) => {
    expect(() => exportOnnx(model, {}, filled([2, 3], 0))).toThrow('the graphs of different batch sizes differ in more than sizes');
  });
});
