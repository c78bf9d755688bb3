import { describe, expect, it } from 'vitest';
import {
  add,
  array,
  constant,
  createRng,
  filled,
  gradients,
  type NDArray,
  sum,
  type Tensor,
  type Tensors,
  toNumbers,
} from '../../src/index.js';
import {
  type CgLoraConditions,
  type CgLoraLinearParams,
  cgLoraLinear,
  conv2d,
  embedding,
  initCgLoraLinear,
  initLinear,
  initLoraConv2d,
  initLoraEmbedding,
  initLoraLinear,
  type LoraConv2dOptions,
  type LoraConv2dParams,
  type LoraEmbeddingParams,
  type LoraLinearParams,
  linear,
  loraConv2d,
  loraEmbedding,
  loraLinear,
  mergeLora,
} from '../../src/layers/index.js';
import { mseLoss } from '../../src/losses/index.js';
import { adamw } from '../../src/optim/index.js';
import { createTrainer } from '../../src/train/index.js';
import { expectClose } from '../support/close.js';
import { integers, normal } from '../support/draw.js';
import { leaf } from '../support/leaves.js';
import { normalArray } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { op, testOps } from '../support/test-ops.js';

// Weights are constants here: as arguments they would be compared with differences, but they get no gradient.
const fixed = (seed: number, ...shape: number[]) => constant(normalArray(seed, shape));
const plain = { weight: fixed(1, 3, 4), bias: fixed(2, 3) };
const cg = (x: Tensor, text: Tensor, camera: Tensor, [textDown, textUp, camDown, camUp, loraUp]: Tensor[], options = {}) =>
  cgLoraLinear(
    x,
    { ...plain, textDown: textDown!, textUp: textUp!, camDown: camDown!, camUp: camUp!, loraUp: loraUp! },
    { text, camera },
    { dropout: 0, ...options },
  );
const generators = [normal([2, 5]), normal([4, 2]), normal([3, 6]), normal([4, 3]), normal([3, 2])];

testOps(
  {},
  [
    op('loraLinear', [normal([2, 4]), normal([2, 4]), normal([3, 2])], (x, loraA, loraB) =>
      loraLinear(x!, { ...plain, loraA: loraA!, loraB: loraB! }, { alpha: 3 }),
    ),
    op('loraLinear of sequences without bias', [normal([2, 3, 4]), normal([1, 4]), normal([3, 1])], (x, loraA, loraB) =>
      loraLinear(x!, { weight: plain.weight, loraA: loraA!, loraB: loraB! }),
    ),
    op('loraEmbedding', [integers([2, 3], 0, 4), normal([2, 5]), normal([3, 2])], (tokens, loraA, loraB) =>
      loraEmbedding(tokens!, { weight: fixed(3, 5, 3), loraA: loraA!, loraB: loraB! }, { alpha: 4 }),
    ),
    op('loraConv2d', [normal([2, 3, 5, 4]), normal([4, 6]), normal([8, 4])], (x, loraA, loraB) =>
      loraConv2d(
        x!,
        { weight: fixed(4, 4, 3, 2, 2), bias: fixed(5, 4), loraA: loraA!, loraB: loraB! },
        { alpha: 3, stride: 2, padding: 1 },
      ),
    ),
    op('loraConv2d of groups', [normal([1, 4, 4, 4]), normal([3, 12]), normal([9, 3])], (x, loraA, loraB) =>
      loraConv2d(x!, { weight: fixed(6, 6, 2, 3, 3), loraA: loraA!, loraB: loraB! }, { groups: 2 }),
    ),
    op(
      'mergeLora',
      [normal([2, 4]), normal([3, 2])],
      (loraA, loraB) => mergeLora({ ...plain, loraA: loraA!, loraB: loraB! }, { alpha: 3 }).weight,
    ),
    op('cgLoraLinear', [normal([2, 3, 4]), normal([2, 5]), normal([2, 6]), ...generators], (x, text, camera, ...p) =>
      cg(x!, text!, camera!, p),
    ),
    op('cgLoraLinear of vectors', [normal([2, 4]), normal([2, 5]), normal([2, 6]), ...generators], (x, text, camera, ...p) =>
      cg(x!, text!, camera!, p, { scale: 2 }),
    ),
    op('cgLoraLinear of images', [normal([2, 3, 2, 4]), normal([2, 5]), normal([2, 6]), ...generators], (x, text, camera, ...p) =>
      cg(x!, text!, camera!, p, { training: false, dropout: 0.5 }),
    ),
  ],
  [
    op('loraLinear', [normal([400, 300]), normal([2, 300]), normal([3, 2])], (x, loraA, loraB) =>
      loraLinear(x!, { weight: fixed(7, 3, 300), loraA: loraA!, loraB: loraB! }),
    ),
  ],
);

const devices = await testDevices();

/** `W + alpha / rank B A` in float64; the product is read in the shape of `W`, or transposed. */
function merged(weight: NDArray, a: NDArray, b: NDArray, factor: number, transposed = false): number[] {
  const [inner, columns] = a.shape as [number, number];
  const [rows] = b.shape as [number];
  return toNumbers(weight).map((w, i) => {
    const [row, column] = transposed ? [i % rows, Math.floor(i / rows)] : [Math.floor(i / columns), i % columns];
    let total = 0;
    for (let k = 0; k < inner; k++) total += b.data[row * inner + k]! * a.data[k * columns + column]!;
    return w + factor * total;
  });
}

describe.each(devices)('low-rank adapters on %s', (_, backend) => {
  const rng = createRng(1);
  const factors = (a: number[], b: number[]) => ({ loraA: normalArray(8, a), loraB: normalArray(9, b) });
  const image = normalArray(2, [2, 4, 5, 5]);
  const tokens = array([4, 0, 1, 1], { dtype: 'int32' });

  it('of linear layers are their merged layers', async () => {
    const params = { weight: normalArray(3, [3, 4]), bias: normalArray(4, [3]), ...factors([2, 4], [3, 2]) };
    const { adapted, plain, weight, keys } = await run(
      backend,
      (x: Tensor, p: LoraLinearParams) => {
        const layer = mergeLora(p, { alpha: 5 });
        return { adapted: loraLinear(x, p, { alpha: 5 }), plain: linear(x, layer), weight: layer.weight, keys: Object.values(layer) };
      },
      normalArray(5, [6, 4]),
      params,
    );
    expect(keys).toHaveLength(2);
    expectClose('merged', toNumbers(weight), merged(params.weight, params.loraA, params.loraB, 5 / 2), 1e-5);
    expectClose('layer', toNumbers(adapted), toNumbers(plain), 1e-5);
  });

  it('of embeddings are their merged tables', async () => {
    const params = { weight: normalArray(3, [5, 3]), ...factors([2, 5], [3, 2]) };
    const { adapted, plain, weight } = await run(
      backend,
      (indices: Tensor, p: LoraEmbeddingParams) => {
        const table = mergeLora(p, { alpha: 5, embedding: true });
        return { adapted: loraEmbedding(indices, p, { alpha: 5 }), plain: embedding(indices, table), weight: table.weight };
      },
      tokens,
      params,
    );
    expectClose('merged', toNumbers(weight), merged(params.weight, params.loraA, params.loraB, 5 / 2, true), 1e-5);
    expectClose('layer', toNumbers(adapted), toNumbers(plain), 1e-5);
  });

  it.each([1, 2])('of convolutions with %d groups are their merged convolutions', async (groups) => {
    const params = { weight: normalArray(3, [6, 4 / groups, 3, 3]), bias: normalArray(4, [6]), ...factors([6, 12], [18 / groups, 6]) };
    const options = { groups, padding: 'same' } as const;
    const { adapted, plain, weight } = await run(
      backend,
      (x: Tensor, p: LoraConv2dParams) => {
        const layer = mergeLora(p, { alpha: 5 });
        return { adapted: loraConv2d(x, p, { alpha: 5, ...options }), plain: conv2d(x, layer, options), weight: layer.weight };
      },
      image,
      params,
    );
    expectClose('merged', toNumbers(weight), merged(params.weight, params.loraA, params.loraB, 5 / 2), 1e-5);
    expectClose('layer', toNumbers(adapted), toNumbers(plain), 1e-5);
  });

  it('begin as the layers were', async () => {
    const x = normalArray(5, [6, 4]);
    const conditions = { text: normalArray(6, [6, 5]), camera: normalArray(7, [6, 3]) };
    const params = {
      linear: { ...initLinear(rng, 4, 3), ...initLoraLinear(rng, 4, 3, { rank: 2 }) },
      cg: { ...initLinear(rng, 4, 3), ...initCgLoraLinear(rng, 4, 3, { textFeatures: 5, cameraFeatures: 3 }) },
      table: { weight: normalArray(1, [5, 3]), ...initLoraEmbedding(rng, 5, 3, { rank: 2 }) },
      conv: { weight: normalArray(1, [6, 2, 3, 3]), ...initLoraConv2d(rng, 4, 6, 3, { rank: 2, groups: 2 }) },
    };
    const pairs = await run(
      backend,
      (p: Tensors<typeof params>, z: Tensor, given: Required<CgLoraConditions>, indices: Tensor, pixels: Tensor) => {
        const { weight, bias } = p.cg;
        return [
          [loraLinear(z, p.linear), linear(z, { weight: p.linear.weight, bias: p.linear.bias })],
          [cgLoraLinear(z, p.cg, given), linear(z, { weight, bias })],
          [loraEmbedding(indices, p.table), embedding(indices, { weight: p.table.weight })],
          [loraConv2d(pixels, p.conv, { groups: 2 }), conv2d(pixels, { weight: p.conv.weight }, { groups: 2 })],
        ];
      },
      params,
      x,
      conditions,
      tokens,
      image,
    );
    for (const [adapted, plain] of pairs) expect(toNumbers(adapted!)).toEqual(toNumbers(plain!));
  });

  it('train the factors and leave the layer as it is', async () => {
    const params = { ...initLinear(rng, 4, 3), ...initLoraLinear(rng, 4, 3, { rank: 2 }) };
    await using trainer = await createTrainer(backend, {
      params,
      optimizer: adamw({ learningRate: 0.05 }),
      trainable: (name) => name.startsWith('lora'),
      loss: (p: Tensors<typeof params>, { x, y }: { x: Tensor; y: Tensor }) => mseLoss(loraLinear(x, p, { alpha: 4, dropout: 0.1 }), y),
    });
    const batch = { x: normalArray(5, [16, 4]), y: normalArray(6, [16, 3]) };
    const first = (await trainer.step(batch)).loss;
    for (let i = 0; i < 30; i++) await trainer.step(batch);
    expect((await trainer.step(batch)).loss).toBeLessThan(0.9 * first);
    const after = await trainer.params();
    expect([after.weight, after.bias]).toEqual([params.weight, params.bias]);
    expect(after.loraA).not.toEqual(params.loraA);
  });

  it('drop the input of the branch of loraLinear and the output of that of cgLoraLinear', async () => {
    const rate = 0.4;
    const zero = filled([200, 8], 0);
    const ones = (...shape: number[]) => filled(shape, 1);
    // What the branches add is the number of kept inputs of a row, or 1 per kept output.
    const { inputs, outputs } = await run(
      backend,
      (weight: Tensor, x: Tensor, lora: { loraA: Tensor; loraB: Tensor }, p: Omit<CgLoraLinearParams, 'weight'>, text: Tensor) => ({
        inputs: loraLinear(x, { weight, ...lora }, { dropout: rate }),
        outputs: cgLoraLinear(x, { weight, ...p }, { text, camera: text }, { dropout: rate, scale: 1 }),
      }),
      zero,
      ones(50, 8),
      { loraA: ones(1, 8), loraB: ones(200, 1) },
      { textDown: ones(1, 1), textUp: ones(4, 1), camDown: ones(1, 1), camUp: ones(4, 1), loraUp: ones(200, 1) },
      ones(50, 1),
    );
    const kept = toNumbers(inputs).map((v) => Math.round(v * (1 - rate)));
    expect(kept.every((v, i) => v === kept[i - (i % 200)])).toBe(true);
    expect(new Set(kept).size).toBeGreaterThan(3);
    const dropped = toNumbers(outputs).filter((v) => v === 0).length / outputs.data.length;
    expect(Math.abs(dropped - rate)).toBeLessThan(4 * Math.sqrt((rate * (1 - rate)) / outputs.data.length));
  });
});

describe('low-rank adapters', () => {
  const lora = { weight: leaf([3, 4]), bias: leaf([3]), loraA: leaf([2, 4]), loraB: leaf([3, 2]) };
  const table = { weight: leaf([5, 3]), loraA: leaf([2, 5]), loraB: leaf([3, 2]) };
  const conv = { weight: leaf([6, 2, 3, 3]), loraA: leaf([6, 12]), loraB: leaf([9, 6]) };
  const camera: CgLoraLinearParams = {
    weight: leaf([3, 4]),
    textDown: leaf([2, 5]),
    textUp: leaf([4, 2]),
    camDown: leaf([2, 6]),
    camUp: leaf([4, 2]),
    loraUp: leaf([3, 2]),
  };
  const conditions = { text: leaf([2, 5]), camera: leaf([2, 6]) };
  const x = leaf([2, 4]);

  it('give no gradient to what is frozen', async () => {
    const wrt = [lora.weight, lora.bias, table.weight, conv.weight, camera.weight];
    const outputs = [
      loraLinear(x, lora),
      loraEmbedding(leaf([2], 'int32'), table),
      loraConv2d(leaf([1, 4, 5, 5]), conv, { groups: 2 }),
      cgLoraLinear(x, camera, conditions),
      mergeLora(lora).weight,
    ];
    const total = outputs.map((y) => sum(y)).reduce((a, b) => add(a, b));
    const backend = devices[0]![1];
    const zero = await run(backend, () => gradients(total, wrt).map((g) => g));
    for (const g of zero) expect(toNumbers(g).every((v) => v === 0)).toBe(true);
  });

  it('of a camera are the plain layer without a text or a camera', () => {
    const { text } = conditions;
    const { node } = linear(x, { weight: camera.weight });
    for (const given of [undefined, {}, { text }, { camera: conditions.camera }]) {
      const y = cgLoraLinear(x, camera, given);
      expect([y.node.op.name, y.shape]).toEqual([node.op.name, [2, 3]]);
    }
  });

  it('of a camera take the first rows of the projection from the text', async () => {
    const backend = devices[0]![1];
    const p = (shape: number[], value: number) => filled(shape, value);
    // Text 1, camera 10, all generators 1: rows 0 and 1 of the projection are 1, rows 2 and 3 are 10.
    const y = await run(
      backend,
      (params: CgLoraLinearParams, given: Required<CgLoraConditions>, z: Tensor) =>
        cgLoraLinear(z, params, given, { scale: 1, training: false }),
      {
        weight: p([1, 4], 0),
        textDown: p([1, 1], 1),
        textUp: p([2, 1], 1),
        camDown: p([1, 1], 1),
        camUp: p([2, 1], 1),
        loraUp: p([1, 1], 1),
      },
      { text: p([4, 1], 1), camera: p([4, 1], 10) },
      array([
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
      ]),
    );
    expect(toNumbers(y)).toEqual([1, 1, 10, 10]);
  });

  it('have the initial factors of the official code', () => {
    const rng = createRng(3);
    const bounded = (values: NDArray, bound: number) => {
      const largest = Math.max(...toNumbers(values).map(Math.abs));
      expect(largest).toBeLessThanOrEqual(bound);
      expect(largest).toBeGreaterThan(0.97 * bound);
    };
    const [l, e, c] = [
      initLoraLinear(rng, 100, 50, { rank: 4 }),
      initLoraEmbedding(rng, 40, 300, { rank: 5 }),
      initLoraConv2d(rng, 20, 10, 3, { rank: 4, groups: 2 }),
    ];
    expect([l, e, c].map(({ loraA, loraB }) => [loraA.shape, loraB.shape])).toEqual([
      [
        [4, 100],
        [50, 4],
      ],
      [
        [5, 40],
        [300, 5],
      ],
      [
        [12, 60],
        [15, 12],
      ],
    ]);
    bounded(l.loraA, 1 / 10);
    bounded(c.loraA, 1 / Math.sqrt(60));
    const numbers = toNumbers(e.loraB);
    expect(Math.sqrt(numbers.reduce((a, b) => a + b * b, 0) / numbers.length)).toBeCloseTo(1, 1);
    for (const { data } of [l.loraB, e.loraA, c.loraB]) expect(data.every((v) => v === 0)).toBe(true);
    const g = initCgLoraLinear(rng, 320, 64, { textFeatures: 768, cameraFeatures: 16 });
    expect(Object.values(g).map(({ shape }) => shape)).toEqual([
      [4, 768],
      [640, 4],
      [4, 16],
      [640, 4],
      [64, 4],
    ]);
    bounded(g.textDown, Math.sqrt(6 / 772));
    bounded(g.camUp, Math.sqrt(6 / 644));
    expect(g.loraUp.data.every((v) => v === 0)).toBe(true);
  });

  const rng = createRng(0);
  it.each<[string, () => unknown, string]>([
    [
      'a factor A of other inputs',
      () => loraLinear(x, { ...lora, loraA: leaf([2, 5]) }),
      'loraLinear: loraA: expected shape [rank, 4], received float32[2, 5]',
    ],
    [
      'a factor A without rank',
      () => loraLinear(x, { ...lora, loraA: leaf([0, 4]) }),
      'loraLinear: loraA: expected shape [rank, 4], received float32[0, 4]',
    ],
    [
      'a factor B of another rank',
      () => loraLinear(x, { ...lora, loraB: leaf([3, 1]) }),
      'loraLinear: loraB: expected shape [3, 2], received float32[3, 1]',
    ],
    [
      'a weight that is no matrix',
      () => loraLinear(x, { ...lora, weight: leaf([3]) }),
      'loraLinear: weight: expected shape [out, in], received float32[3]',
    ],
    [
      'a missing factor',
      () => loraLinear(x, linearOnly(lora)),
      'loraLinear: loraA: expected a Tensor (is a parameter missing?), received undefined',
    ],
    [
      'another parameter',
      () => loraLinear(x, { ...lora, scale: x } as never),
      "loraLinear: params: unknown parameter 'scale'; expected { weight, bias, loraA, loraB }",
    ],
    ['alpha that is no number', () => loraLinear(x, lora, { alpha: '1' as never }), "loraLinear: alpha: expected a number, received '1'"],
    ['a rate above 1', () => loraLinear(x, lora, { dropout: 2 }), 'loraLinear: dropout: expected a number from 0 to 1, received 2'],
    [
      'the rank as an option',
      () => loraLinear(x, lora, { rank: 2 } as never),
      "loraLinear: unknown option 'rank'; the options are alpha, dropout, training",
    ],
    [
      'an x of other features',
      () => loraLinear(leaf([2, 5]), lora),
      'linear: expected x [..., in] and weight [out, in], received [2, 5] and [3, 4]',
    ],
    [
      'a table with factors the other way round',
      () => loraEmbedding(leaf([2], 'int32'), { ...table, loraA: table.loraB }),
      'loraEmbedding: loraA: expected shape [rank, 5], received float32[3, 2]',
    ],
    [
      'a table that is no matrix',
      () => loraEmbedding(leaf([2], 'int32'), { ...table, weight: leaf([5]) }),
      'loraEmbedding: weight: expected shape [vocabulary, features], received float32[5]',
    ],
    [
      'a kernel that is no square',
      () => loraConv2d(leaf([1, 4, 5, 5]), { ...conv, weight: leaf([6, 2, 3, 2]) }, { groups: 2 }),
      'loraConv2d: weight: expected shape [out, in / groups, k, k], received float32[6, 2, 3, 2]',
    ],
    [
      'other groups',
      () => loraConv2d(leaf([1, 2, 5, 5]), conv),
      'loraConv2d: loraA: expected shape [3 * rank, 6], received float32[6, 12]',
    ],
    [
      'an unknown option of a convolution',
      () => loraConv2d(leaf([1, 4, 5, 5]), conv, { dropout: 0.1 } as LoraConv2dOptions),
      "loraConv2d: unknown option 'dropout'; the options are alpha, stride, padding, dilation, groups",
    ],
    [
      'a merge of other inputs',
      () => mergeLora({ ...lora, loraA: leaf([2, 5]) }),
      'mergeLora: loraA: expected shape [rank, 4], received float32[2, 5]',
    ],
    [
      'a merge of a convolution as an embedding',
      () => mergeLora(conv, { embedding: true }),
      'mergeLora: weight: expected shape [vocabulary, features], received float32[6, 2, 3, 3]',
    ],
    [
      'a merge of a convolution with odd factors',
      () => mergeLora({ ...conv, loraA: leaf([6, 13]) }),
      'mergeLora: loraA: expected shape [3 * rank, in * 3], received float32[6, 13]',
    ],
    [
      'an unknown option of a merge',
      () => mergeLora(lora, { rank: 2 } as never),
      "mergeLora: unknown option 'rank'; the options are alpha, embedding",
    ],
    [
      'initial factors without a rank',
      () => initLoraLinear(rng, 4, 3, {} as never),
      'initLoraLinear: rank: expected a positive integer, received undefined',
    ],
    [
      'initial factors of uneven groups',
      () => initLoraConv2d(rng, 4, 3, 3, { rank: 1, groups: 2 }),
      'initLoraConv2d: groups: expected a divisor of the 4 and 3 channels, received 2',
    ],
    [
      'a text of another batch',
      () => cgLoraLinear(x, camera, { ...conditions, text: leaf([3, 5]) }),
      'cgLoraLinear: text: expected shape [2, 5], received float32[3, 5]',
    ],
    [
      'a camera of other features',
      () => cgLoraLinear(x, camera, { ...conditions, camera: leaf([2, 5]) }),
      'cgLoraLinear: camera: expected shape [2, 6], received float32[2, 5]',
    ],
    [
      'a generator of other inputs',
      () => cgLoraLinear(x, { ...camera, camUp: leaf([6, 2]) }, conditions),
      'cgLoraLinear: camUp: expected shape [4, 2], received float32[6, 2]',
    ],
    [
      'an up projection of other outputs',
      () => cgLoraLinear(x, { ...camera, loraUp: leaf([4, 2]) }, conditions),
      'cgLoraLinear: loraUp: expected shape [3, rank], received float32[4, 2]',
    ],
    [
      'an odd number of inputs',
      () => cgLoraLinear(leaf([2, 5]), { ...camera, weight: leaf([3, 5]) }, conditions),
      'cgLoraLinear: weight: expected an even number of inputs, half of them for the text, received float32[3, 5]',
    ],
    [
      'a single vector',
      () => cgLoraLinear(leaf([4]), camera, conditions),
      'cgLoraLinear: x: expected a Tensor [B, ..., in], received float32[4]',
    ],
    [
      'an unknown condition',
      () => cgLoraLinear(x, camera, { image: x } as never),
      "cgLoraLinear: unknown option 'image'; the options are text, camera",
    ],
    [
      'initial generators of odd inputs',
      () => initCgLoraLinear(rng, 5, 3, { textFeatures: 2 }),
      'initCgLoraLinear: inFeatures: expected an even number, received 5',
    ],
  ])('refuse %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});

function linearOnly({ weight, bias }: LoraLinearParams): LoraLinearParams {
  return { weight, bias } as LoraLinearParams;
}
