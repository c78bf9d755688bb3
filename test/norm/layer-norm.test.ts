import { describe, expect, it } from 'vitest';
import {
  add,
  array,
  type Backend,
  gradients,
  matmul,
  mul,
  type NDArray,
  type Shape,
  square,
  sum,
  type Tensor,
  toNumbers,
  transpose,
} from '../../src/index.js';
import { initLayerNorm, type LayerNormOptions, layerNorm, layerNormWithStatistics } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals, numericGradient, sizeOf } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';

/** The layer on groups of `size` elements in float64, with what its gradient needs. */
function reference(x: readonly number[], size: number, eps: number, weight?: readonly number[], bias?: readonly number[]) {
  const groups = Array.from({ length: x.length / size }, (_, i) => x.slice(i * size, (i + 1) * size));
  const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const mean = groups.map(average);
  const rstd = groups.map((group, i) => 1 / Math.sqrt(average(group.map((v) => (v - mean[i]!) ** 2)) + eps));
  const normal = groups.map((group, i) => group.map((v) => (v - mean[i]!) * rstd[i]!));
  const y = normal.flatMap((group) => group.map((v, k) => v * (weight?.[k] ?? 1) + (bias?.[k] ?? 0)));
  /** The gradient of `sum(g y) + sum(gMean mean) + sum(gRstd rstd)` with respect to x. */
  const back = (g: readonly number[], gMean: readonly number[], gRstd: readonly number[]) =>
    normal.flatMap((group, i) => {
      const h = group.map((_, k) => g[i * size + k]! * (weight?.[k] ?? 1));
      const r = rstd[i]!;
      const along = average(h.map((v, k) => v * group[k]!));
      return group.map((v, k) => r * (h[k]! - average(h) - v * along) + (gMean[i]! - gRstd[i]! * r * r * v) / size);
    });
  return { y, mean, rstd, back };
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((total, v, i) => total + v * b[i]!, 0);

interface Case {
  readonly shape: Shape;
  readonly options?: LayerNormOptions;
  readonly weight?: boolean;
  readonly bias?: boolean;
}

const cases: [name: string, given: Case][] = [
  ['the last axis', { shape: [2, 3, 5], weight: true, bias: true }],
  ['two axes', { shape: [3, 2, 4], options: { axis: 1 }, weight: true, bias: true }],
  ['all axes', { shape: [2, 3, 2], options: { axis: 0 }, weight: true, bias: true }],
  ['a vector', { shape: [7], weight: true, bias: true }],
  ['an axis from the end', { shape: [2, 2, 3, 2], options: { axis: -3 }, weight: true, bias: true }],
  ['without parameters', { shape: [4, 6] }],
  ['with a weight only', { shape: [4, 6], weight: true }],
  ['with a bias only', { shape: [4, 6], bias: true }],
  ['with another eps', { shape: [4, 6], options: { eps: 0.5 }, weight: true }],
  ['groups of one element', { shape: [5, 1], weight: true, bias: true }],
];

/** Arrays of a case: x, the parameters, and cotangents of the outputs. */
function prepare({ shape, options = {}, weight, bias }: Case) {
  const { axis = -1, eps = 1e-5 } = options;
  const first = axis < 0 ? axis + shape.length : axis;
  const inner = shape.slice(first);
  const groups = shape.map((size, i) => (i < first ? size : 1));
  const params = { ...(weight ? { weight: normalArray(2, inner) } : {}), ...(bias ? { bias: normalArray(3, inner) } : {}) };
  const cotangents = { y: normalArray(4, shape), mean: normalArray(5, groups), rstd: normalArray(6, groups) };
  return { x: normalArray(1, shape), params, cotangents, size: sizeOf(inner), eps, groups };
}

type Params = { weight?: Tensor; bias?: Tensor };
type Outputs = { y: Tensor; mean: Tensor; rstd: Tensor };

const weightedSum = (outputs: Outputs, g: Outputs): Tensor =>
  (['y', 'mean', 'rstd'] as const).map((name) => sum(mul(outputs[name], g[name]))).reduce((a, b) => add(a, b));

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('layerNorm on %s', (_, backend) => {
  it.each(cases)('normalises %s, with the gradients of all outputs', async (_, given) => {
    const { x, params, cotangents, size, eps, groups } = prepare(given);
    const { outputs, back } = await run(
      backend,
      (tensor: Tensor, p: Params, g: Outputs) => {
        const outputs = layerNormWithStatistics(tensor, p, given.options);
        return { outputs, back: gradients(weightedSum(outputs, g), [tensor, ...Object.values(p)]) };
      },
      x,
      params,
      cotangents,
    );
    expect([outputs.y.shape, outputs.mean.shape, outputs.rstd.shape]).toEqual([given.shape, groups, groups]);
    const [weight, bias] = [params.weight && toNumbers(params.weight), params.bias && toNumbers(params.bias)];
    const expected = reference(toNumbers(x), size, eps, weight, bias);
    for (const name of ['y', 'mean', 'rstd'] as const) expectClose(name, toNumbers(outputs[name]), expected[name], 1e-5);
    const g = Object.values(cotangents).map(toNumbers) as [number[], number[], number[]];
    const total = (values: readonly number[], w: readonly number[] | undefined = weight, b: readonly number[] | undefined = bias) => {
      const { y, mean, rstd } = reference(values, size, eps, w, b);
      return dot(y, g[0]) + dot(mean, g[1]) + dot(rstd, g[2]);
    };
    const expectedBack = [
      numericGradient((v) => total(v), toNumbers(x)),
      ...(weight ? [numericGradient((w) => total(toNumbers(x), w), weight)] : []),
      ...(bias ? [numericGradient((b) => total(toNumbers(x), weight, b), bias)] : []),
    ];
    expect(back.length).toBe(expectedBack.length);
    // Groups of one element have rstd 316, whose cube is in the gradient.
    back.forEach((value, i) => {
      expectClose(`gradient ${i}`, toNumbers(value), expectedBack[i]!, size === 1 ? 1e-3 : 2e-5);
    });
  });

  it('has a gradient of its gradient', async () => {
    const given: Case = { shape: [3, 5], weight: true };
    const { x, params, cotangents, size, eps } = prepare(given);
    const second = await run(
      backend,
      (tensor: Tensor, p: Params, g: Outputs) => {
        const [first] = gradients(weightedSum(layerNormWithStatistics(tensor, p), g), [tensor]);
        return gradients(sum(square(first!)), [tensor, p.weight!]);
      },
      x,
      params,
      cotangents,
    );
    const [xs, weight] = [toNumbers(x), toNumbers(params.weight!)];
    const g = Object.values(cotangents).map(toNumbers) as [number[], number[], number[]];
    const norm = (values: readonly number[], w: readonly number[]) => {
      const first = reference(values, size, eps, w).back(...g);
      return dot(first, first);
    };
    expectClose(
      'x',
      toNumbers(second[0]!),
      numericGradient((v) => norm(v, weight), xs),
      1e-4,
    );
    expectClose(
      'weight',
      toNumbers(second[1]!),
      numericGradient((w) => norm(xs, w), weight),
      1e-4,
    );
  });

  it.each([2048, -30000])('keeps its digits where the mean is %d', async (offset) => {
    const size = 512;
    // Multiples of 1/256 around the offset: exact in float32.
    const values = normals(7, 4 * size).map((v) => offset + Math.round(v * 256) / 256);
    const { y, rstd } = await run(backend, (x: Tensor) => layerNormWithStatistics(x), array(values, { shape: [4, size] }));
    const expected = reference(values, size, 1e-5);
    expectClose('rstd', toNumbers(rstd), expected.rstd, 1e-5);
    // The mean itself has a rounding error of half a unit in the last place of the offset.
    expectClose('y', toNumbers(y), expected.y, 2 * Math.abs(offset) * 2 ** -24);
  });

  it.each([0, 0.1, 12345.678])('gives the bias for groups that are constant %d', async (constant) => {
    const { weight, bias } = { weight: normalArray(2, [100]), bias: normalArray(3, [100]) };
    const g = normalArray(4, [2, 100]);
    const { y, gradient } = await run(
      backend,
      (x: Tensor, p: Params, cotangent: Tensor) => {
        const y = layerNorm(x, p);
        return { y, gradient: gradients(sum(mul(y, cotangent)), [x])[0] as Tensor };
      },
      array(new Float32Array(200).fill(constant), { shape: [2, 100] }),
      { weight, bias },
      g,
    );
    expect(toNumbers(y)).toEqual([...toNumbers(bias), ...toNumbers(bias)]);
    const zeros = [0, 0];
    const expected = reference(Array(200).fill(0), 100, 1e-5, toNumbers(weight)).back(toNumbers(g), zeros, zeros);
    expectClose('gradient', toNumbers(gradient), expected, 1e-5);
  });
});

/** `layerNorm(x W^T)` without eps, and the gradient of a weighted sum of it with respect to W. */
async function projected(backend: Backend, x: NDArray, w: NDArray) {
  const { y, gradient } = await run(
    backend,
    (input: Tensor, weight: Tensor, g: Tensor) => {
      const y = layerNorm(matmul(input, transpose(weight)), {}, { eps: 0 });
      return { y, gradient: gradients(sum(mul(y, g)), [weight])[0] as Tensor };
    },
    x,
    w,
    normalArray(13, [3, 5]),
  );
  return { y: toNumbers(y), gradient: toNumbers(gradient) };
}

describe('layerNorm of a projection, without eps', async () => {
  const x = normalArray(11, [3, 4]);
  const w = normalArray(12, [5, 4]);
  const base = await projected(cpu, x, w);
  const mapped = (values: NDArray, f: (v: number, index: number) => number) => array(toNumbers(values).map(f), { shape: values.shape });

  it('does not see the scale of the weight, and has an inverse gradient', async () => {
    const scaled = await projected(
      cpu,
      x,
      mapped(w, (v) => 8 * v),
    );
    expectClose('y', scaled.y, base.y, 1e-5);
    expectClose(
      'gradient',
      scaled.gradient.map((v) => 8 * v),
      base.gradient,
      1e-5,
    );
  });

  it('does not see a vector that is added to all rows of the weight', async () => {
    const added = toNumbers(normalArray(14, [4]));
    const moved = await projected(
      cpu,
      x,
      mapped(w, (v, i) => v + added[i % 4]!),
    );
    expectClose('y', moved.y, base.y, 1e-5);
  });

  it('does not see the scale of a sample', async () => {
    const scaled = await projected(
      cpu,
      mapped(x, (v, i) => (i < 4 ? 5 * v : v)),
      w,
    );
    expectClose('y', scaled.y, base.y, 1e-5);
  });

  it('sees the scale of one row of the weight', async () => {
    const scaled = await projected(
      cpu,
      x,
      mapped(w, (v, i) => (i < 4 ? 5 * v : v)),
    );
    expect(() => expectClose('y', scaled.y, base.y, 0.1)).toThrow('expected');
  });

  it('has a gradient orthogonal to the weight', () => {
    const length = Math.sqrt(dot(base.gradient, base.gradient) * dot(toNumbers(w), toNumbers(w)));
    expect(Math.abs(dot(base.gradient, toNumbers(w))) / length).toBeLessThan(1e-6);
  });
});

describe('layerNorm', () => {
  it('normalises float16 in float32', async () => {
    // The squares of such numbers are infinite in float16.
    const x = array(
      normals(8, 60).map((v) => 1000 + 300 * v),
      { shape: [4, 15], dtype: 'float16' },
    );
    const weight = normalArray(2, [15]);
    const g = array(normals(4, 60), { shape: [4, 15], dtype: 'float16' });
    const { y, rstd, gradient } = await run(
      cpu,
      (input: Tensor, w: Tensor, cotangent: Tensor) => {
        const { y, rstd } = layerNormWithStatistics(input, { weight: w });
        return { y, rstd, gradient: gradients(sum(mul(y, cotangent)), [input])[0] as Tensor };
      },
      x,
      weight,
      g,
    );
    expect([y.dtype, rstd.dtype, gradient.dtype]).toEqual(['float16', 'float32', 'float16']);
    const expected = reference(toNumbers(x), 15, 1e-5, toNumbers(weight));
    const zeros = [0, 0, 0, 0];
    expectClose('rstd', toNumbers(rstd), expected.rstd, 1e-5);
    expectClose('y', toNumbers(y), expected.y, 1e-3);
    expectClose('gradient', toNumbers(gradient), expected.back(toNumbers(g), zeros, zeros), 2e-3);
  });

  it.each<[string, () => unknown, string]>([
    ['integers', () => layerNorm(leaf([2, 3], 'int32')), 'layerNorm: x: expected a float32 or float16 Tensor, received int32[2, 3]'],
    [
      'an axis that is not there',
      () => layerNorm(leaf([2, 3]), {}, { axis: 2 }),
      'layerNorm: axis: expected an axis of a rank-2 Tensor, received 2',
    ],
    ['a scalar', () => layerNorm(leaf([])), 'layerNorm: axis: expected an axis of a rank-0 Tensor, received -1'],
    [
      'groups without elements',
      () => layerNorm(leaf([2, 0])),
      'layerNorm: x: expected at least one element to normalise, received float32[2, 0]',
    ],
    ['a negative eps', () => layerNorm(leaf([2, 3]), {}, { eps: -1 }), 'layerNorm: eps: expected a number >= 0, received -1'],
    [
      'a weight of another shape',
      () => layerNorm(leaf([2, 3]), { weight: leaf([2]) }),
      'layerNorm: weight: expected shape [3], that of the normalised axes, received float32[2]',
    ],
    [
      'a bias of another shape',
      () => layerNorm(leaf([2, 3]), { bias: leaf([2, 3]) }, { axis: 1 }),
      'layerNorm: bias: expected shape [3], that of the normalised axes, received float32[2, 3]',
    ],
    [
      'an integer weight',
      () => layerNorm(leaf([2]), { weight: leaf([2], 'int32') }),
      'layerNorm: weight: expected a float32 or float16 Tensor, received int32[2]',
    ],
    ['no parameters', () => layerNorm(leaf([2]), null as unknown as Params), 'layerNorm: params: expected { weight, bias }, received null'],
    [
      'options in the place of parameters',
      () => layerNorm(leaf([2]), { eps: 1 } as object),
      "layerNorm: params: unknown parameter 'eps'; expected { weight, bias }",
    ],
    [
      'an unknown option',
      () => layerNorm(leaf([2]), {}, { epsilon: 1 } as object),
      "layerNorm: unknown option 'epsilon'; the options are axis, eps",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});

describe('initLayerNorm', () => {
  it('is 1 and 0', () => {
    const { weight, bias } = initLayerNorm([2, 3]);
    expect([weight.shape, bias.shape]).toEqual([
      [2, 3],
      [2, 3],
    ]);
    expect([toNumbers(weight), toNumbers(bias)]).toEqual([Array(6).fill(1), Array(6).fill(0)]);
    expect(initLayerNorm(4).weight.shape).toEqual([4]);
  });

  it('rejects what is no shape', () => {
    expect(() => initLayerNorm([2, -1])).toThrow('initLayerNorm: shape: expected');
  });
});
