import { describe, expect, it } from 'vitest';
import { createRng, type NDArray, type Rng, toNumbers } from '../../src/index.js';
import {
  heNormal,
  heUniform,
  initConv1d,
  initConv2d,
  initConv3d,
  initConvTranspose1d,
  initConvTranspose2d,
  initConvTranspose3d,
  initEmbedding,
  initLinear,
  initSelfAttention,
  lecunNormal,
  normal,
  orthogonal,
  truncatedNormal,
  uniform,
  xavierNormal,
  xavierUniform,
} from '../../src/layers/index.js';

const moments = (values: NDArray) => {
  const data = toNumbers(values);
  const mean = data.reduce((a, b) => a + b, 0) / data.length;
  return { mean, std: Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length) };
};
const largest = (values: NDArray) => toNumbers(values).reduce((a, b) => Math.max(a, Math.abs(b)), 0);

// 8 inputs and 32 outputs per tap: fan in 8 * 45, fan out 32 * 45; 11520 draws.
const conv = [32, 8, 9, 5];
const linear = [80, 120];

const normals: [string, (rng: Rng) => NDArray, number][] = [
  ['normal', (rng) => normal(rng, [20000]), 1],
  ['normal with options', (rng) => normal(rng, [20000], { std: 0.02 }), 0.02],
  ['heNormal', (rng) => heNormal(rng, linear), Math.sqrt(2 / 120)],
  ['heNormal of a convolution', (rng) => heNormal(rng, conv), Math.sqrt(2 / 360)],
  ['heNormal over fan out', (rng) => heNormal(rng, conv, { mode: 'fanOut', gain: 1 }), Math.sqrt(1 / 1440)],
  ['xavierNormal', (rng) => xavierNormal(rng, linear), Math.sqrt(2 / 200)],
  ['xavierNormal with gain', (rng) => xavierNormal(rng, conv, { gain: 3 }), 3 * Math.sqrt(2 / 1800)],
  ['lecunNormal', (rng) => lecunNormal(rng, linear), Math.sqrt(1 / 120)],
  ['initEmbedding', (rng) => initEmbedding(rng, 100, 150).weight, 1],
];

const uniforms: [string, (rng: Rng) => NDArray, number][] = [
  ['uniform', (rng) => uniform(rng, [20000], { low: -0.3, high: 0.3 }), 0.3],
  ['heUniform', (rng) => heUniform(rng, linear), Math.sqrt(6 / 120)],
  ['heUniform of a leaky relu over fan out', (rng) => heUniform(rng, conv, { mode: 'fanOut', gain: 0.5 }), 0.5 * Math.sqrt(3 / 1440)],
  ['xavierUniform', (rng) => xavierUniform(rng, conv), Math.sqrt(6 / 1800)],
  ['initLinear', (rng) => initLinear(rng, 120, 80).weight, 1 / Math.sqrt(120)],
  ['initConv2d', (rng) => initConv2d(rng, 8, 32, [9, 5]).weight, 1 / Math.sqrt(360)],
  ['initConv1d of groups', (rng) => initConv1d(rng, 40, 80, 5, { groups: 4 }).weight, 1 / Math.sqrt(50)],
  ['initConvTranspose2d of groups', (rng) => initConvTranspose2d(rng, 80, 40, [2, 5], { groups: 4 }).weight, 1 / 10],
  ['initSelfAttention, projections', (rng) => initSelfAttention(rng, 64).qkv.weight, 1 / 8],
  ['initSelfAttention, output', (rng) => initSelfAttention(rng, 128).out.weight, 1 / Math.sqrt(128)],
];

describe('normal draws', () => {
  it.each(normals)('%s has its standard deviation', (_, draw, std) => {
    const found = moments(draw(createRng(1)));
    expect(found.std / std).toBeGreaterThan(0.97);
    expect(found.std / std).toBeLessThan(1.03);
    expect(Math.abs(found.mean)).toBeLessThan(0.05 * std);
    expect(largest(draw(createRng(1)))).toBeGreaterThan(3 * std);
  });

  it('normal has its mean', () => {
    expect(moments(normal(createRng(1), [20000], { mean: 5 })).mean).toBeCloseTo(5, 1);
  });
});

describe('uniform draws', () => {
  it.each(uniforms)('%s fills its range', (_, draw, bound) => {
    const values = draw(createRng(2));
    const { mean, std } = moments(values);
    expect(largest(values)).toBeLessThanOrEqual(Math.fround(bound));
    expect(largest(values)).toBeGreaterThan(0.995 * bound);
    expect(Math.abs(mean)).toBeLessThan(0.03 * bound);
    expect(std / (bound / Math.sqrt(3))).toBeCloseTo(1, 1);
  });

  it('uniform is in [0, 1) by default', () => {
    const { data } = uniform(createRng(3), [1000]);
    expect(Math.min(...data)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...data)).toBeGreaterThan(0.99);
  });
});

describe('truncatedNormal', () => {
  const density = (z: number) => Math.exp((-z * z) / 2);
  /** Mean and standard deviation of a standard normal distribution within bounds, by numeric integration. */
  const within = (low: number, high: number) => {
    const points = Array.from({ length: 20000 }, (_, i) => low + ((i + 0.5) / 20000) * (high - low));
    const mass = points.reduce((a, z) => a + density(z), 0);
    const mean = points.reduce((a, z) => a + z * density(z), 0) / mass;
    return { mean, std: Math.sqrt(points.reduce((a, z) => a + (z - mean) ** 2 * density(z), 0) / mass) };
  };
  it.each([
    [-2, 2],
    [-0.5, 3],
    [1, 2],
    [4, 30],
    [-30, -4],
    [-1e6, 1e6],
    [7, 7.001],
  ])('has the moments of a normal distribution from %d to %d', (low, high) => {
    const expected = within(Math.max(low, -12), Math.min(high, 12));
    const drawn = truncatedNormal(createRng(11), [20000], { mean: 5, std: 0.1, low: 5 + 0.1 * low, high: 5 + 0.1 * high });
    const { mean, std } = moments(drawn);
    expect(Math.abs((mean - 5) / 0.1 - expected.mean)).toBeLessThan(4 * (expected.std / Math.sqrt(20000)) + 1e-5);
    expect(std / 0.1 / expected.std).toBeGreaterThan(0.97);
    expect(std / 0.1 / expected.std).toBeLessThan(1.03);
    expect(Math.min(...drawn.data)).toBeGreaterThanOrEqual(Math.fround(5 + 0.1 * low));
    expect(Math.max(...drawn.data)).toBeLessThanOrEqual(Math.fround(5 + 0.1 * high));
  });

  it('is bounded at two standard deviations by default', () => {
    expect(largest(truncatedNormal(createRng(12), [20000], { std: 0.02 }))).toBeLessThanOrEqual(0.04);
    expect(largest(truncatedNormal(createRng(12), [20000], { std: 0.02 }))).toBeGreaterThan(0.0395);
    expect(moments(truncatedNormal(createRng(12), [20000])).std).toBeCloseTo(within(-2, 2).std, 1);
  });
});

describe('orthogonal', () => {
  it.each<[readonly number[]]>([[[4, 4]], [[3, 7]], [[7, 3]], [[6, 2, 3, 2]], [[20, 2, 3]], [[1, 5]], [[100, 101]]])(
    'has orthonormal rows or columns with shape %j',
    (shape) => {
      const { data, ...rest } = orthogonal(createRng(13), shape, { gain: 2 });
      expect(rest).toEqual({ shape, dtype: 'float32' });
      const rows = shape[0] as number;
      const columns = data.length / rows;
      const [count, length] = [Math.min(rows, columns), Math.max(rows, columns)];
      const element = (i: number, k: number) => (rows <= columns ? data[i * columns + k] : data[k * columns + i]) as number;
      for (let i = 0; i < count; i++) {
        for (let j = 0; j <= i; j++) {
          let product = 0;
          for (let k = 0; k < length; k++) product += element(i, k) * element(j, k);
          expect(Math.abs(product - (i === j ? 4 : 0))).toBeLessThan(2e-6);
        }
      }
    },
  );

  it('has no preferred directions', () => {
    const rng = createRng(14);
    const traces = Array.from({ length: 2000 }, () => {
      const { data } = orthogonal(rng, [3, 3]);
      return (data[0] as number) + (data[4] as number) + (data[8] as number);
    });
    // Under the uniform distribution the trace has mean 0 and variance 1; without the sign rule of QR it has not.
    const mean = traces.reduce((a, b) => a + b, 0) / traces.length;
    expect(Math.abs(mean)).toBeLessThan(4 / Math.sqrt(2000));
    expect(Math.abs(traces.reduce((a, b) => a + b * b, 0) / traces.length - 1)).toBeLessThan(4 * Math.sqrt(2 / 2000));
  });
});

describe('initial parameters', () => {
  it.each([...normals, ...uniforms])('%s depends on the seed alone', (_, draw) => {
    const first = draw(createRng(4));
    expect(draw(createRng(4))).toEqual(first);
    expect(draw(createRng(5))).not.toEqual(first);
    expect(first.dtype).toBe('float32');
    expect(new Set(first.data).size).toBeGreaterThan(0.9 * first.data.length);
  });

  it('continue the stream, so that equal shapes get other values', () => {
    const rng = createRng(6);
    expect(initLinear(rng, 3, 4)).not.toEqual(initLinear(rng, 3, 4));
  });

  const shapes = (params: Record<string, NDArray>) => Object.fromEntries(Object.entries(params).map(([name, { shape }]) => [name, shape]));
  it('have the shapes of the layers', () => {
    const rng = createRng(7);
    expect(shapes(initLinear(rng, 3, 4))).toEqual({ weight: [4, 3], bias: [4] });
    expect(shapes(initLinear(rng, 3, 4, { bias: false }))).toEqual({ weight: [4, 3] });
    expect(shapes(initConv2d(rng, 3, 4, 5))).toEqual({ weight: [4, 3, 5, 5], bias: [4] });
    expect(shapes(initConv2d(rng, 3, 4, [1, 2], { bias: false }))).toEqual({ weight: [4, 3, 1, 2] });
    expect(shapes(initConv1d(rng, 4, 6, [3], { groups: 2 }))).toEqual({ weight: [6, 2, 3], bias: [6] });
    expect(shapes(initConv3d(rng, 3, 4, [1, 2, 5]))).toEqual({ weight: [4, 3, 1, 2, 5], bias: [4] });
    expect(shapes(initConvTranspose1d(rng, 3, 4, 2, { bias: false }))).toEqual({ weight: [3, 4, 2] });
    expect(shapes(initConvTranspose2d(rng, 4, 6, 3, { groups: 2 }))).toEqual({ weight: [4, 3, 3, 3], bias: [6] });
    expect(shapes(initConvTranspose3d(rng, 3, 4, 2))).toEqual({ weight: [3, 4, 2, 2, 2], bias: [4] });
    expect(shapes(initEmbedding(rng, 10, 3))).toEqual({ weight: [10, 3] });
    const { qkv, out } = initSelfAttention(rng, 4);
    expect([shapes(qkv), shapes(out)]).toEqual([
      { weight: [12, 4], bias: [12] },
      { weight: [4, 4], bias: [4] },
    ]);
    expect(lecunNormal(rng, conv).shape).toEqual(conv);
  });

  it('bound the bias like the weight', () => {
    const { bias } = initLinear(createRng(8), 100, 5000);
    expect(largest(bias)).toBeLessThanOrEqual(0.1);
    expect(largest(bias)).toBeGreaterThan(0.0995);
  });

  const rng = createRng(9);
  const mistakes: [() => unknown, string][] = [
    [() => initLinear(rng, 0, 4), 'initLinear: inFeatures: expected a positive integer, received 0'],
    [() => initLinear(rng, 3, 4, { biases: false } as object), "initLinear: unknown option 'biases'; the options are bias"],
    [
      () => initConv2d(rng, 3, 4, [1, 0]),
      'initConv2d: kernelSize: expected an integer >= 1, or a list of one for each of height, width, received [1, 0]',
    ],
    [() => initConv1d(rng, 3, 4, 2, { groups: 2 }), 'initConv1d: groups: expected a divisor of the 3 and 4 channels, received 2'],
    [() => initConv3d(rng, 3, 4, 2, { biases: false } as object), "initConv3d: unknown option 'biases'; the options are bias, groups"],
    [() => initConv2d(rng, 3, 1.5, 2), 'initConv2d: outChannels: expected a positive integer, received 1.5'],
    [() => initEmbedding(rng, -1, 4), 'initEmbedding: vocabulary: expected a positive integer, received -1'],
    [() => initSelfAttention(rng, 0), 'initSelfAttention: features: expected a positive integer, received 0'],
    [() => heNormal(rng, [5]), 'heNormal: shape: expected at least two axes [out, in, ...kernel], none of size 0, received [5]'],
    [() => heUniform(rng, [5, 4], { mode: 'fan_in' as 'fanIn' }), "heUniform: mode: expected one of 'fanIn', 'fanOut', received 'fan_in'"],
    [() => xavierNormal(rng, [5, 4], { gain: 0 }), 'xavierNormal: gain: expected a number > 0, received 0'],
    [
      () => lecunNormal(rng, [5, 0]),
      'lecunNormal: shape: expected at least two axes [out, in, ...kernel], none of size 0, received [5, 0]',
    ],
    [() => uniform(rng, [2], { low: 1, high: 0 }), 'uniform: high: expected a number >= low, received 0'],
    [() => normal(rng, [2], { std: -1 }), 'normal: std: expected a number >= 0, received -1'],
    [() => truncatedNormal(rng, [2], { std: 0 }), 'truncatedNormal: std: expected a number > 0, received 0'],
    [() => truncatedNormal(rng, [2], { low: 3 }), 'truncatedNormal: high: expected a number > low, which is 3, received 2'],
    [() => truncatedNormal(rng, [2], { a: 3 } as object), "truncatedNormal: unknown option 'a'; the options are mean, std, low, high"],
    [() => orthogonal(rng, [5]), 'orthogonal: shape: expected at least two axes [out, in, ...kernel], none of size 0, received [5]'],
    [() => orthogonal(rng, [5, 5], { gain: Number.NaN }), 'orthogonal: gain: expected a number, received NaN'],
    [() => normal(rng, [2], { stddev: 1 } as object), "normal: unknown option 'stddev'; the options are mean, std"],
  ];
  it.each(mistakes.map(([build, message]) => ({ build, message })))('reject mistakes: $message', ({ build, message }) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
