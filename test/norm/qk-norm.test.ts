import { describe, expect, it } from 'vitest';
import { array, type NDArray, type Shape, type Tensor, toNumbers } from '../../src/index.js';
import { initQkNorm, type QkNormOptions, qkNorm } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { average, check, checkDerivatives, dot, type Layer, type Numbers, pick } from './reference.js';

const rowsOf = (x: Numbers, size: number): Numbers[] =>
  Array.from({ length: x.length / size }, (_, i) => x.slice(i * size, (i + 1) * size));

/** One query or key by definition. */
function normal(row: Numbers, type: QkNormOptions['type'], eps: number, weight?: Numbers): number[] {
  const mean = type === 'layer' ? average(row) : 0;
  const centered = row.map((v) => v - mean);
  const squares = dot(centered, centered);
  const length = Math.sqrt((type === 'l2' ? squares : squares / row.length) + eps);
  return centered.map((v, i) => (v / length) * (weight?.[i] ?? 1));
}

interface Case {
  readonly batch: Shape;
  readonly options?: Omit<QkNormOptions, 'logitScale'>;
  /** A number, or true for one that is learned. */
  readonly logitScale?: number | true;
  readonly weights?: readonly ('weightQ' | 'weightK')[];
}

const [Tq, Tk, D] = [3, 4, 5];

function layerOf({ batch, options = {}, logitScale, weights = [] }: Case): Layer {
  const { type = 'layer', eps = 1e-6 } = options;
  return {
    inputs: {
      q: normalArray(1, [...batch, Tq, D]),
      k: normalArray(2, [...batch, Tk, D]),
      ...Object.fromEntries(weights.map((name, i) => [name, normalArray(3 + i, [D])])),
      ...(logitScale === true ? { logitScale: array(2.5) } : {}),
    },
    layer: ({ q, k, ...given }) => {
      const scale = logitScale === true ? given.logitScale : logitScale;
      return {
        ...qkNorm(q!, k!, pick(given, 'weightQ', 'weightK'), { ...options, ...(scale === undefined ? {} : { logitScale: scale }) }),
      };
    },
    definition: ({ q, k, weightQ, weightK, logitScale: learned }) => {
      const [queries, keys] = [
        rowsOf(q!, D).map((row) => normal(row, type, eps, weightQ)),
        rowsOf(k!, D).map((row) => normal(row, type, eps, weightK)),
      ];
      const scale = learned?.[0] ?? (logitScale === undefined ? D ** -0.5 : (logitScale as number));
      const logits = queries.flatMap((query, i) => {
        const own = Math.floor(i / Tq) * Tk;
        return keys.slice(own, own + Tk).map((key) => dot(query, key) * scale);
      });
      return { q: queries.flat(), k: keys.flat(), logits };
    },
  };
}

const types = ['layer', 'rms', 'l2'] as const;
const both = ['weightQ', 'weightK'] as const;
const cases: Case[] = [
  ...types.flatMap((type): Case[] => [
    { batch: [2, 2], options: { type } },
    { batch: [2], options: { type, eps: 0.5 }, weights: both, logitScale: true },
  ]),
  { batch: [], weights: ['weightQ'], logitScale: -3 },
  { batch: [1, 2, 2], weights: ['weightK'], logitScale: 0 },
];

const devices = await testDevices();
const cpu = devices[0]![1];

/** The largest logit in size, of queries and keys that are all alike. */
const largest = (logits: NDArray): number => Math.max(...toNumbers(logits).map(Math.abs));

describe.each(devices)('qkNorm on %s', (_, backend) => {
  it.each(cases)('normalises as %j', async (given) => {
    await check(backend, layerOf(given));
  });

  it.each([
    ['layer', undefined, Math.sqrt(D)],
    ['rms', undefined, Math.sqrt(D)],
    ['l2', 7, 7],
  ] as const)('bounds logits of type %s', async (type, logitScale, bound) => {
    const options = { type, ...(logitScale ? { logitScale } : {}) };
    const large = array(
      normals(5, 20 * D).map((v, i) => v * 10 ** (i % 7)),
      { shape: [20, D] },
    );
    const { logits } = await run(backend, (x: Tensor) => qkNorm(x, x, {}, options), large);
    // A query and a key that are the same are at the bound.
    expect(largest(logits)).toBeLessThanOrEqual(bound * (1 + 1e-6));
    expect(largest(logits)).toBeGreaterThan(bound * (1 - 1e-4));
  });

  it.each(types)('takes zeros, with finite gradients: type %s', async (type) => {
    const { inputs, ...rest } = layerOf({ batch: [1], options: { type } });
    const zeros = Object.fromEntries(
      Object.entries(inputs).map(([name, { shape }]) => [name, array(new Float32Array(inputs[name]!.data.length), { shape })]),
    );
    await check(backend, { inputs: zeros, ...rest });
  });
});

describe('qkNorm', () => {
  it.each(types)('has a gradient of its gradient: type %s', (type) => {
    const { layer, inputs } = layerOf({ batch: [], options: { type }, weights: both, logitScale: true });
    checkDerivatives((given) => ({ logits: layer(given).logits! }), inputs);
  });

  it('normalises float16 in float32', async () => {
    const { inputs, definition } = layerOf({ batch: [2] });
    const half = (x: NDArray) =>
      array(
        toNumbers(x).map((v) => 1000 + 300 * v),
        { shape: x.shape, dtype: 'float16' },
      );
    const [q, k] = [half(inputs.q!), half(inputs.k!)];
    const result = await run(cpu, (a: Tensor, b: Tensor) => qkNorm(a, b), q, k);
    const numbers = { q: toNumbers(q), k: toNumbers(k) };
    const expected = definition(numbers, numbers);
    for (const name of ['q', 'k', 'logits'] as const) {
      expect(result[name].dtype).toBe('float16');
      expectClose(name, toNumbers(result[name]), expected[name]!, 3e-3);
    }
  });

  const [q, k] = [leaf([2, 4, 3, 8]), leaf([2, 4, 5, 8])];
  it.each<[string, () => unknown, string]>([
    ['integers', () => qkNorm(leaf([2, 2], 'int32'), k), 'q: expected a float32 or float16 Tensor, received int32[2, 2]'],
    ['a vector', () => qkNorm(leaf([8]), leaf([8])), 'q: expected a Tensor [..., Tq, D], received float32[8]'],
    ['heads of size 0', () => qkNorm(leaf([2, 0]), leaf([2, 0])), 'q: expected a Tensor [..., Tq, D], received float32[2, 0]'],
    [
      'keys of another size',
      () => qkNorm(q, leaf([2, 4, 5, 6])),
      'k: expected shape [2, 4, Tk, 8], as q is [2, 4, 3, 8], received float32[2, 4, 5, 6]',
    ],
    [
      'keys of other heads',
      () => qkNorm(q, leaf([2, 1, 5, 8])),
      'k: expected shape [2, 4, Tk, 8], as q is [2, 4, 3, 8], received float32[2, 1, 5, 8]',
    ],
    ['keys of another dtype', () => qkNorm(q, leaf([2, 4, 5, 8], 'float16')), 'k: expected float32, as q is, received float16[2, 4, 5, 8]'],
    [
      'a weight per head',
      () => qkNorm(q, k, { weightQ: leaf([4, 8]) }),
      'weightQ: expected shape [8], one number per element of a head, received float32[4, 8]',
    ],
    [
      'an unknown parameter',
      () => qkNorm(q, k, { weight: leaf([8]) } as object),
      "params: unknown parameter 'weight'; expected { weightQ, weightK }",
    ],
    ['an unknown type', () => qkNorm(q, k, {}, { type: 'batch' as never }), "type: expected one of 'layer', 'rms', 'l2', received 'batch'"],
    ['a negative eps', () => qkNorm(q, k, {}, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    [
      'a scale that is no number',
      () => qkNorm(q, k, {}, { logitScale: NaN }),
      'logitScale: expected a number or a Tensor of shape [], received NaN',
    ],
    [
      'a scale per head',
      () => qkNorm(q, k, {}, { logitScale: leaf([4]) }),
      'logitScale: expected a number or a Tensor of shape [], received float32[4]',
    ],
    [
      'an unknown option',
      () => qkNorm(q, k, {}, { scale: true } as object),
      "unknown option 'scale'; the options are type, eps, logitScale",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `qkNorm: ${message}` }));
  });
});

it('initQkNorm is 1', () => {
  expect(initQkNorm(2)).toEqual({ weightQ: array([1, 1]), weightK: array([1, 1]) });
  expect(() => initQkNorm(0)).toThrow('initQkNorm: headSize: expected a positive integer, received 0');
});
