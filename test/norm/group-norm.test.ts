import { describe, expect, it } from 'vitest';
import { array, type Shape, type Tensor } from '../../src/index.js';
import { groupNorm, initGroupNorm, instanceNorm } from '../../src/norm/index.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals } from '../support/numeric.js';
import { run } from '../support/run.js';
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
  type Layer,
  type Membership,
  moments,
  normalized,
  pick,
  sampleOf,
  transformed,
} from './reference.js';

/** The group of channels of every element. */
const groupOf = (shape: Shape, numGroups: number): Membership => {
  const [sample, channel] = [sampleOf(shape), channelOf(shape)];
  const size = (shape[1] as number) / numGroups;
  return (i) => sample(i) * numGroups + Math.floor(channel(i) / size);
};

const layerOf = (shape: Shape, names: readonly string[], numGroups: number, eps = 1e-5): Layer => ({
  inputs: drawInputs(shape, names),
  layer: (given) => ({ y: groupNorm(given.x as Tensor, pick(given, 'weight', 'bias'), { numGroups, eps }) }),
  definition: ({ x, ...params }) => {
    const group = groupOf(shape, numGroups);
    return { y: transformed(normalized(x!, group, moments(x!, group), eps), channelOf(shape), params) };
  },
});

const shapes: [Shape, numGroups: number][] = [
  [[3, 6], 2],
  [[2, 4, 3], 2],
  [[2, 3, 2, 2], 1],
  [[2, 2, 2, 2, 2], 2],
];
const cases = shapes.flatMap(([shape, numGroups]) => affinePairs.map((names) => ({ shape, numGroups, names })));

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('groupNorm on %s', (_, backend) => {
  it.each(cases)('normalises $shape in $numGroups groups with parameters $names', async ({ shape, numGroups, names }) => {
    await check(backend, layerOf(shape, names, numGroups, names.length === 1 ? 0.1 : 1e-5));
  });

  const shape = [3, 4, 40];
  const groups = (numGroups: number): GroupLayer => ({
    layer: (x, p) => groupNorm(x, p, { numGroups }),
    group: groupOf(shape, numGroups),
    channel: channelOf(shape),
    params: [4],
  });

  it.each([256, 2048, -30000])('keeps its digits where the mean is %d', async (offset) => {
    await checkGroups(backend, around(offset, shape), groups(2));
  });

  it.each([0, 0.1, 12345.678])('gives the bias for groups that are constant %d', async (value) => {
    await checkGroups(backend, flat(value, shape), groups(2));
  });

  it('is instance normalization with a group per channel', async () => {
    const x = normalArray(1, [2, 3, 5]);
    const { group, instance } = await run(
      backend,
      (input: Tensor) => ({ group: groupNorm(input, {}, { numGroups: 3 }), instance: instanceNorm(input) }),
      x,
    );
    expect(group).toEqual(instance);
  });
});

describe('groupNorm', () => {
  it('has a gradient of its gradient', () => {
    const { layer, inputs } = layerOf([2, 4, 2], ['weight', 'bias'], 2);
    checkDerivatives(layer, inputs);
  });

  it('normalises float16 in float32', async () => {
    const { inputs, ...rest } = layerOf([2, 2, 15], ['weight', 'bias'], 1);
    const x = array(
      normals(8, 60).map((v) => 1000 + 300 * v),
      { shape: [2, 2, 15], dtype: 'float16' },
    );
    await check(cpu, { inputs: { ...inputs, x }, ...rest }, { values: 1e-3, slopes: 2e-3 });
    expect(groupNorm(leaf([2, 4], 'float16'), {}, { numGroups: 2 }).dtype).toBe('float16');
  });

  it('has 32 groups unless told otherwise', async () => {
    const x = normalArray(1, [1, 64]);
    const [y, same] = await run(cpu, (input: Tensor) => [groupNorm(input), groupNorm(input, {}, { numGroups: 32, eps: 1e-5 })] as const, x);
    expect(y).toEqual(same);
  });

  const x = leaf([2, 6, 4]);
  it.each<[string, () => unknown, string]>([
    ['integers', () => groupNorm(leaf([2, 4], 'int32')), 'x: expected a float32 or float16 Tensor, received int32[2, 4]'],
    ['a vector', () => groupNorm(leaf([32])), 'x: expected a Tensor [N, C, ...] with at least one element, received float32[32]'],
    ['groups that do not fit', () => groupNorm(x, {}, { numGroups: 4 }), 'numGroups: expected a divisor of the 6 channels, received 4'],
    ['32 groups of 6 channels', () => groupNorm(x), 'numGroups: expected a divisor of the 6 channels, received 32'],
    ['no groups', () => groupNorm(x, {}, { numGroups: 0 }), 'numGroups: expected a positive integer, received 0'],
    ['half groups', () => groupNorm(x, {}, { numGroups: 1.5 }), 'numGroups: expected a positive integer, received 1.5'],
    [
      'groups of one value',
      () => groupNorm(leaf([2, 6]), {}, { numGroups: 6 }),
      'x: expected more than one value in each of 6 groups, as a single one always becomes 0, received float32[2, 6]',
    ],
    [
      'a weight per group',
      () => groupNorm(x, { weight: leaf([2]) }, { numGroups: 2 }),
      'weight: expected shape [6], one number per channel, received float32[2]',
    ],
    ['a negative eps', () => groupNorm(x, {}, { numGroups: 2, eps: -1 }), 'eps: expected a number >= 0, received -1'],
    [
      'an unknown parameter',
      () => groupNorm(x, { scale: leaf([6]) } as object),
      "params: unknown parameter 'scale'; expected { weight, bias }",
    ],
    ['an unknown option', () => groupNorm(x, {}, { groups: 2 } as object), "unknown option 'groups'; the options are numGroups, eps"],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `groupNorm: ${message}` }));
  });
});

it('initGroupNorm is 1 and 0', () => {
  expect(initGroupNorm(2)).toEqual({ weight: array([1, 1]), bias: array([0, 0]) });
  expect(() => initGroupNorm(1.5)).toThrow('initGroupNorm: channels: expected a positive integer, received 1.5');
});
