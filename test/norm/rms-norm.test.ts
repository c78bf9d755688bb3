import { describe, expect, it } from 'vitest';
import { array, matmul, type Shape, type Tensor, toNumbers, transpose } from '../../src/index.js';
import { initRmsNorm, type RmsNormOptions, rmsNorm, rmsNormWithStatistics } from '../../src/norm/index.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals, sizeOf } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { average, check, checkDerivatives, flat, type Layer } from './reference.js';

interface Case {
  readonly shape: Shape;
  readonly options?: RmsNormOptions;
  readonly weight?: boolean;
}

const cases: [name: string, given: Case][] = [
  ['the last axis', { shape: [2, 3, 5], weight: true }],
  ['two axes', { shape: [3, 2, 4], options: { axis: 1 }, weight: true }],
  ['all axes', { shape: [2, 3, 2], options: { axis: 0 }, weight: true }],
  ['a vector', { shape: [7], weight: true }],
  ['an axis from the end', { shape: [2, 2, 3, 2], options: { axis: -3 }, weight: true }],
  ['rows without a weight', { shape: [4, 6] }],
  ['rows with another eps', { shape: [4, 6], options: { eps: 0.5 }, weight: true }],
  ['rows of one element', { shape: [5, 1], options: { eps: 0.1 }, weight: true }],
];

function layerOf({ shape, options = {}, weight = false }: Case): Layer {
  const { axis = -1, eps = 1e-6 } = options;
  const inner = shape.slice(axis < 0 ? axis + shape.length : axis);
  const size = sizeOf(inner);
  return {
    inputs: { x: normalArray(1, shape), ...(weight ? { weight: normalArray(2, inner) } : {}) },
    layer: ({ x, ...params }) => ({ ...rmsNormWithStatistics(x!, params, options) }),
    definition: ({ x, weight: scale }) => {
      const rows = Array.from({ length: x!.length / size }, (_, i) => x!.slice(i * size, (i + 1) * size));
      const rrms = rows.map((row) => 1 / Math.sqrt(average(row.map((v) => v * v)) + eps));
      return { y: rows.flatMap((row, i) => row.map((v, k) => v * rrms[i]! * (scale?.[k] ?? 1))), rrms };
    },
  };
}

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('rmsNorm on %s', (_, backend) => {
  it.each(cases)('normalises %s, with the gradients of both outputs', async (_, given) => {
    await check(backend, layerOf(given));
  });

  it('gives 0 for rows of zeros, with the gradient g weight / sqrt(eps)', async () => {
    const given = layerOf({ shape: [3, 4], weight: true });
    await check(backend, { ...given, inputs: { ...given.inputs, x: flat(0, [3, 4]) } }, { slopes: 1e-3 });
  });

  it.each([2048, 1e-3, 1e15])('keeps its digits where numbers are about %d', async (size) => {
    const { layer, definition, inputs } = layerOf({ shape: [2, 50], options: { eps: 0 } });
    const x = array(
      toNumbers(inputs.x!).map((v) => size * (1 + v / 100)),
      { shape: [2, 50] },
    );
    await check(
      backend,
      { inputs: { x }, layer: (given) => ({ y: layer(given).y! }), definition: (...given) => ({ y: definition(...given).y! }) },
      { slopes: Infinity },
    );
  });

  it('does not see the scale of a projection, without eps', async () => {
    const [y, scaled] = await run(
      backend,
      (x: Tensor, w: Tensor, w8: Tensor) =>
        [w, w8].map((weight) => rmsNorm(matmul(x, transpose(weight)), {}, { eps: 0 })) as [Tensor, Tensor],
      normalArray(1, [3, 4]),
      normalArray(2, [5, 4]),
      array(
        normals(2, 20).map((v) => 8 * v),
        { shape: [5, 4] },
      ),
    );
    expect(scaled).toEqual(y);
  });
});

describe('rmsNorm', () => {
  it('has a gradient of its gradient', () => {
    const { layer, inputs } = layerOf({ shape: [3, 4], weight: true });
    checkDerivatives(layer, inputs);
  });

  it('normalises float16 in float32', async () => {
    const given = layerOf({ shape: [4, 15], weight: true });
    // The squares of such numbers are infinite in float16.
    const x = array(
      normals(8, 60).map((v) => 1000 + 300 * v),
      { shape: [4, 15], dtype: 'float16' },
    );
    await check(cpu, { ...given, inputs: { ...given.inputs, x } }, { values: 1e-3, slopes: 2e-3 });
    const { y, rrms } = rmsNormWithStatistics(leaf([2, 3], 'float16'));
    expect([y.dtype, rrms.dtype]).toEqual(['float16', 'float32']);
  });

  it.each<[string, () => unknown, string]>([
    ['integers', () => rmsNorm(leaf([2, 3], 'int32')), 'x: expected a float32 or float16 Tensor, received int32[2, 3]'],
    ['an axis that is not there', () => rmsNorm(leaf([2, 3]), {}, { axis: 2 }), 'axis: expected an axis of a rank-2 Tensor, received 2'],
    ['rows without elements', () => rmsNorm(leaf([2, 0])), 'x: expected at least one element to normalise, received float32[2, 0]'],
    ['a negative eps', () => rmsNorm(leaf([2, 3]), {}, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    [
      'a weight of another shape',
      () => rmsNorm(leaf([2, 3]), { weight: leaf([2]) }),
      'weight: expected shape [3], that of the normalised axes, received float32[2]',
    ],
    ['a bias', () => rmsNorm(leaf([2, 3]), { bias: leaf([3]) } as object), "params: unknown parameter 'bias'; expected { weight }"],
    ['an unknown option', () => rmsNorm(leaf([2]), {}, { dim: 0 } as object), "unknown option 'dim'; the options are axis, eps"],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `rmsNorm: ${message}` }));
  });
});

it('initRmsNorm is 1', () => {
  expect([initRmsNorm(2), initRmsNorm([1, 2])]).toEqual([{ weight: array([1, 1]) }, { weight: array([[1, 1]]) }]);
  expect(() => initRmsNorm([2, -1])).toThrow('initRmsNorm: shape: expected');
});
