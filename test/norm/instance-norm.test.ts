import { describe, expect, it } from 'vitest';
import { array, type Shape, type Tensor } from '../../src/index.js';
import { initInstanceNorm, instanceNorm } from '../../src/norm/index.js';
import { leaf } from '../support/leaves.js';
import { normals } from '../support/numeric.js';
import { testDevices } from '../support/test-devices.js';
import {
  affinePairs,
  around,
  channelOf,
  check,
  checkDerivatives,
  checkGroups,
  drawInputs,
  flat,
  type GroupLayer,
  imageShapes,
  type Layer,
  moments,
  normalized,
  partOf,
  pick,
  transformed,
} from './reference.js';

const instanceOf = (shape: Shape) => partOf(shape, (sample) => sample);

const layerOf = (shape: Shape, names: readonly string[], eps = 1e-5): Layer => ({
  inputs: drawInputs(shape, names),
  layer: (given) => ({ y: instanceNorm(given.x as Tensor, pick(given, 'weight', 'bias'), { eps }) }),
  definition: ({ x, ...params }) => {
    const instance = instanceOf(shape);
    return { y: transformed(normalized(x!, instance, moments(x!, instance), eps), channelOf(shape), params) };
  },
});

const cases = imageShapes.slice(1).flatMap((shape) => affinePairs.map((names) => ({ shape, names })));

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('instanceNorm on %s', (_, backend) => {
  it.each(cases)('normalises $shape with parameters $names', async ({ shape, names }) => {
    await check(backend, layerOf(shape, names, names.length === 1 ? 0.1 : 1e-5));
  });

  const shape = [2, 3, 60];
  const instances: GroupLayer = { layer: instanceNorm, group: instanceOf(shape), channel: channelOf(shape), params: [3] };

  it.each([256, 2048, -30000])('keeps its digits where the mean is %d', async (offset) => {
    await checkGroups(backend, around(offset, shape), instances);
  });

  it.each([0, 0.1, 12345.678])('gives the bias for channels that are constant %d', async (value) => {
    await checkGroups(backend, flat(value, shape), instances);
  });
});

describe('instanceNorm', () => {
  it('has a gradient of its gradient', () => {
    const { layer, inputs } = layerOf([2, 2, 4], ['weight', 'bias']);
    checkDerivatives(layer, inputs);
  });

  it('normalises float16 in float32', async () => {
    const { inputs, ...rest } = layerOf([2, 2, 15], ['weight', 'bias']);
    const x = array(
      normals(8, 60).map((v) => 1000 + 300 * v),
      { shape: [2, 2, 15], dtype: 'float16' },
    );
    await check(cpu, { inputs: { ...inputs, x }, ...rest }, { values: 1e-3, slopes: 2e-3 });
    expect(instanceNorm(leaf([2, 2, 4], 'float16')).dtype).toBe('float16');
  });

  const x = leaf([2, 3, 4]);
  it.each<[string, () => unknown, string]>([
    ['integers', () => instanceNorm(leaf([2, 3, 4], 'int32')), 'x: expected a float32 or float16 Tensor, received int32[2, 3, 4]'],
    [
      'no positions',
      () => instanceNorm(leaf([2, 3])),
      'x: expected more than one position per channel, as a single one always becomes 0, received float32[2, 3]',
    ],
    [
      'one position',
      () => instanceNorm(leaf([2, 3, 1, 1])),
      'x: expected more than one position per channel, as a single one always becomes 0, received float32[2, 3, 1, 1]',
    ],
    [
      'a weight of another shape',
      () => instanceNorm(x, { weight: leaf([4]) }),
      'weight: expected shape [3], one number per channel, received float32[4]',
    ],
    ['a negative eps', () => instanceNorm(x, {}, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    ['an unknown option', () => instanceNorm(x, {}, { affine: true } as object), "unknown option 'affine'; the options are eps"],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `instanceNorm: ${message}` }));
  });
});

it('initInstanceNorm is 1 and 0', () => {
  expect(initInstanceNorm(2)).toEqual({ weight: array([1, 1]), bias: array([0, 0]) });
});
