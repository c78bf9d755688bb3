import { describe, expect, it } from 'vitest';
import { array, matmul, type NDArray, type Shape, type Tensor, toNumbers, transpose } from '../../src/index.js';
import { absorbScale, initNonScalingLayerNorm, layerNorm, nonScalingLayerNorm } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, sizeOf } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import { check, checkDerivatives, type Layer, moments, normalized, transformed } from './reference.js';

function layerOf(shape: Shape, axis: number, bias: boolean, eps = 1e-5): Layer {
  const inner = shape.slice(axis < 0 ? axis + shape.length : axis);
  const size = sizeOf(inner);
  return {
    inputs: { x: normalArray(1, shape), ...(bias ? { bias: normalArray(2, inner) } : {}) },
    layer: ({ x, ...params }) => ({ y: nonScalingLayerNorm(x!, params, { axis, eps }) }),
    definition: ({ x, ...params }) => {
      const row = (i: number) => Math.floor(i / size);
      return { y: transformed(normalized(x!, row, moments(x!, row), eps), (i) => i % size, params) };
    },
  };
}

describe.each(await testDevices())('nonScalingLayerNorm on %s', (_, backend) => {
  it.each<[Shape, number, boolean]>([
    [[4, 6], -1, true],
    [[4, 6], -1, false],
    [[2, 3, 2], 1, true],
    [[6], 0, false],
  ])('normalises %j from axis %d, bias %s', async (shape, axis, bias) => {
    await check(backend, layerOf(shape, axis, bias, bias ? 1e-5 : 0.1));
  });

  it('gives what the scaled layer gives once the next one has absorbed the scale', async () => {
    const [x, weight, bias, next] = [normalArray(1, [5, 4]), normalArray(2, [4]), normalArray(3, [4]), normalArray(4, [3, 4])];
    const absorbed = absorbScale({ weight, bias }, next);
    const { before, after } = await run(
      backend,
      (input: Tensor, p: { weight: Tensor; bias: Tensor }, w: Tensor, q: { bias: Tensor; nextWeight: Tensor }) => ({
        before: matmul(layerNorm(input, p), transpose(w)),
        after: matmul(nonScalingLayerNorm(input, { bias: q.bias }), transpose(q.nextWeight)),
      }),
      x,
      { weight, bias },
      next,
      absorbed as { bias: NDArray; nextWeight: NDArray },
    );
    expectClose('outputs', toNumbers(after), toNumbers(before), 1e-5);
  });
});

describe('nonScalingLayerNorm', () => {
  it('has a gradient of its gradient', () => {
    const { layer, inputs } = layerOf([3, 4], -1, true);
    checkDerivatives(layer, inputs);
  });

  it.each<[string, () => unknown, string]>([
    ['integers', () => nonScalingLayerNorm(leaf([2], 'int32')), 'x: expected a float32 or float16 Tensor, received int32[2]'],
    [
      'a weight',
      () => nonScalingLayerNorm(leaf([2]), { weight: leaf([2]) } as object),
      "params: unknown parameter 'weight'; expected { bias }",
    ],
    [
      'a bias of another shape',
      () => nonScalingLayerNorm(leaf([2, 3]), { bias: leaf([2]) }),
      'bias: expected shape [3], that of the normalised axes, received float32[2]',
    ],
    ['a negative eps', () => nonScalingLayerNorm(leaf([2]), {}, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    [
      'an unknown option',
      () => nonScalingLayerNorm(leaf([2]), {}, { bias: false } as object),
      "unknown option 'bias'; the options are axis, eps",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `nonScalingLayerNorm: ${message}` }));
  });
});

it('initNonScalingLayerNorm is 0', () => {
  expect([initNonScalingLayerNorm(2), initNonScalingLayerNorm([1, 2])]).toEqual([{ bias: array([0, 0]) }, { bias: array([[0, 0]]) }]);
});

describe('absorbScale', () => {
  it('divides the bias, and multiplies the columns of the next weight', () => {
    const next = array([
      [1, 1],
      [3, -1],
    ]);
    const nextWeight = array([
      [2, -4],
      [6, 4],
    ]);
    expect(absorbScale({ weight: array([2, -4]), bias: array([1, 1]) }, next)).toEqual({ nextWeight, bias: array([0.5, -0.25]) });
    expect(absorbScale({ weight: array([2, -4]) }, next)).toEqual({ nextWeight });
  });

  it('keeps float16', () => {
    const half = (values: number[] | number[][]) => array(values, { dtype: 'float16' });
    expect(absorbScale({ weight: half([2]), bias: half([1]) }, half([[3]]))).toEqual({ nextWeight: half([[6]]), bias: half([0.5]) });
  });

  const [weight, next] = [array([1, 2]), array([[1, 2]])];
  it.each<[string, () => unknown, string]>([
    ['a weight of 0', () => absorbScale({ weight: array([1, 0]) }, next), 'weight: expected numbers other than 0, received 0 at index 1'],
    ['a weight of -0', () => absorbScale({ weight: array([-0, 1]) }, next), 'weight: expected numbers other than 0, received 0 at index 0'],
    ['a weight with axes', () => absorbScale({ weight: next }, next), 'weight: expected shape [D], received an array float32[1, 2]'],
    ['no weight', () => absorbScale({} as never, next), 'weight: expected an array { data, shape }, received undefined'],
    [
      'a bias of another shape',
      () => absorbScale({ weight, bias: array([1]) }, next),
      'bias: expected shape [2], received an array float32[1]',
    ],
    [
      'a next weight of another shape',
      () => absorbScale({ weight }, array([[1], [2]])),
      'nextWeight: expected shape [out, 2], received an array float32[2, 1]',
    ],
    [
      'integers',
      () => absorbScale({ weight: array([1, 2], { dtype: 'int32' }) }, next),
      'weight: expected an array of floats, received an array int32[2]',
    ],
    [
      'an unknown parameter',
      () => absorbScale({ weight, gain: weight } as never, next),
      "params: unknown parameter 'gain'; expected { weight, bias }",
    ],
  ])('rejects %s', (_, absorb, message) => {
    expect(absorb).toThrow(expect.objectContaining({ message: `absorbScale: ${message}` }));
  });
});
