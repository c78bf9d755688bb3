import { describe, expect, it } from 'vitest';
import { array, type Shape, type Tensor } from '../../src/index.js';
import { type BatchChannelNormOptions, type BatchNormState, batchChannelNorm, initBatchChannelNorm } from '../../src/norm/index.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals } from '../support/numeric.js';
import { testDevices } from '../support/test-devices.js';
import {
  around,
  average,
  channelOf,
  check,
  checkDerivatives,
  drawInputs,
  flat,
  type Layer,
  moments,
  normalized,
  pick,
  sampleOf,
  towards,
  transformed,
  unbiased,
} from './reference.js';

const running = ['runningMean', 'runningVar'] as const;
const bn: readonly string[] = ['bnWeight', 'bnBias'];
const own: readonly string[] = ['weight', 'bias'];

function layerOf(shape: Shape, names: readonly string[], numGroups: number, options: Partial<BatchChannelNormOptions>): Layer {
  const { mode = 'train', eps = 1e-5, bnEps = 1e-5, estimate = false, updateRate = 0.1, momentum = 0.1 } = options;
  const [channel, sample] = [channelOf(shape), sampleOf(shape)];
  const size = (shape[1] as number) / numGroups;
  const train = mode === 'train';
  const ofGroups = (list: readonly string[]) => list.filter((name) => own.includes(name));
  return {
    inputs: {
      ...drawInputs(shape, [...running, ...names.filter((name) => bn.includes(name))]),
      ...Object.fromEntries(ofGroups(names).map((name, i) => [name, normalArray(20 + i, [numGroups])])),
    },
    layer: (given) => {
      const params = pick(given, 'bnWeight', 'bnBias', 'weight', 'bias');
      const state = pick(given, ...running) as BatchNormState;
      const { y, state: next } = batchChannelNorm(given.x as Tensor, params, state, { ...options, numGroups, mode });
      return train ? { y, ...next } : { y };
    },
    definition: ({ x, bnWeight, bnBias, ...params }, { x: seen, runningMean, runningVar }) => {
      const known = { mean: runningMean!, variance: runningVar! };
      const observed = moments(seen!, channel);
      const about = known.mean.map((m, c) => average(seen!.filter((_, i) => channel(i) === c).map((v) => (v - m) ** 2)));
      const rate = estimate ? updateRate : momentum;
      const next = train
        ? { mean: towards(known.mean, observed.mean, rate), variance: towards(known.variance, estimate ? about : unbiased(observed), rate) }
        : known;
      const by = estimate || !train ? next : moments(x!, channel);
      const first = transformed(normalized(x!, channel, by, bnEps), channel, { weight: bnWeight, bias: bnBias });
      const group = (i: number) => Math.floor(channel(i) / size);
      const row = (i: number) => sample(i) * numGroups + group(i);
      const { weight, bias } = params;
      const y = transformed(normalized(first, row, moments(first, row), eps), group, { weight, bias });
      return train ? { y, runningMean: next.mean, runningVar: next.variance } : { y };
    },
  };
}

const shapes: [Shape, numGroups: number][] = [
  [[5, 6], 2],
  [[3, 2, 5], 1],
  [[2, 3, 2, 3], 3],
  [[2, 2, 2, 1, 3], 2],
];
const every = [...bn, ...own];
const cases = shapes.flatMap(([shape, numGroups], i) =>
  (i === 0 ? [[], bn, own, every] : [every]).map((names) => ({ shape, numGroups, names })),
);

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('batchChannelNorm on %s', (_, backend) => {
  describe.each([
    ['train', false],
    ['train', true],
    ['eval', false],
    ['eval', true],
  ] as const)('mode %s, estimate %s', (mode, estimate) => {
    it.each(cases)('normalises $shape in $numGroups groups with parameters $names', async ({ shape, numGroups, names }) => {
      await check(backend, layerOf(shape, names, numGroups, { mode, estimate, eps: 1e-3 }));
    });
  });

  it.each<Partial<BatchChannelNormOptions>>([
    { bnEps: 0.1, momentum: 0.5 },
    { eps: 0.1, momentum: 1 },
    { estimate: true, updateRate: 1, bnEps: 0.1 },
    { estimate: true, updateRate: 0 },
  ])('takes %j', async (options) => {
    await check(backend, layerOf([3, 4, 2], every, 2, options));
  });

  it.each([false, true])('takes one sample, with estimate %s', async (estimate) => {
    // Without estimates there have to be several positions.
    await check(backend, layerOf(estimate ? [1, 4] : [1, 4, 3], own, 2, { estimate, eps: 1e-3 }));
  });

  it.each([256, 2048])('keeps its digits where the mean is %d', async (offset) => {
    const { inputs, ...rest } = layerOf([8, 2, 4], every, 1, {});
    await check(backend, { inputs: { ...inputs, x: around(offset, [8, 2, 4]) }, ...rest }, { values: 2e-3, slopes: 2e-3 });
  });

  it.each([0, 0.1])('takes images that are constant %d', async (value) => {
    const { inputs, ...rest } = layerOf([3, 2, 4], every, 1, { bnEps: 1e-2, eps: 1e-2 });
    await check(backend, { inputs: { ...inputs, x: flat(value, [3, 2, 4]) }, ...rest });
  });
});

describe('batchChannelNorm', () => {
  it('has a gradient of its gradient', () => {
    const { inputs, layer } = layerOf([3, 4, 2], every, 2, {});
    const { runningMean: _mean, runningVar: _var, ...rest } = inputs;
    const fixed = { runningMean: leaf([4]), runningVar: leaf([4]) };
    checkDerivatives((given) => ({ y: layer({ ...given, ...fixed }).y! }), rest);
  });

  it('normalises float16 in float32', async () => {
    const { inputs, ...rest } = layerOf([2, 2, 8], every, 1, {});
    const x = array(
      normals(8, 32).map((v) => 1000 + 300 * v),
      { shape: [2, 2, 8], dtype: 'float16' },
    );
    await check(cpu, { inputs: { ...inputs, x }, ...rest }, { values: 1e-3, slopes: 2e-3 });
  });

  const state = { runningMean: leaf([6]), runningVar: leaf([6]) };
  const layer = (x: Tensor, options: object = {}, params: object = {}, given: unknown = state) =>
    batchChannelNorm(x, params, given as BatchNormState, { mode: 'train', numGroups: 2, ...options });
  const x = leaf([4, 6, 2]);

  it('leaves the state alone in evaluation', () => {
    for (const estimate of [false, true]) expect(layer(x, { mode: 'eval', estimate }).state).toBe(state);
  });

  it.each<[string, () => unknown, string]>([
    ['groups that do not fit', () => layer(x, { numGroups: 4 }), 'numGroups: expected a divisor of the 6 channels, received 4'],
    ['32 groups of 6 channels', () => layer(x, { numGroups: undefined }), 'numGroups: expected a divisor of the 6 channels, received 32'],
    [
      'groups of one value',
      () => layer(leaf([4, 6]), { numGroups: 6 }),
      'x: expected more than one value in each of 6 groups, as a single one always becomes 0, received float32[4, 6]',
    ],
    [
      'one value per channel',
      () => layer(leaf([1, 6])),
      'x: expected more than one value per channel in a batch that is normalised by its own statistics, received float32[1, 6]',
    ],
    [
      'a weight per channel',
      () => layer(x, {}, { weight: leaf([6]) }),
      'weight: expected shape [2], one number per group, received float32[6]',
    ],
    ['a bias per channel', () => layer(x, {}, { bias: leaf([6]) }), 'bias: expected shape [2], one number per group, received float32[6]'],
    [
      'a bnWeight per group',
      () => layer(x, {}, { bnWeight: leaf([2]) }),
      'bnWeight: expected shape [6], one number per channel, received float32[2]',
    ],
    [
      'an unknown parameter',
      () => layer(x, {}, { gamma: leaf([6]) }),
      "params: unknown parameter 'gamma'; expected { bnWeight, bnBias, weight, bias }",
    ],
    ['a negative eps', () => layer(x, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    ['a negative bnEps', () => layer(x, { bnEps: -1 }), 'bnEps: expected a number >= 0, received -1'],
    ['an estimate that is no boolean', () => layer(x, { estimate: 1 }), 'estimate: expected true or false, received 1'],
    ['a rate above 1', () => layer(x, { updateRate: 2 }), 'updateRate: expected a number from 0 to 1, received 2'],
    ['a negative momentum', () => layer(x, { momentum: -1 }), 'momentum: expected a number from 0 to 1, received -1'],
    ['the average over all batches', () => layer(x, { momentum: null }), 'momentum: expected a number from 0 to 1, received null'],
    ['another mode', () => layer(x, { mode: 'batch' }), "mode: expected one of 'train', 'eval', received 'batch'"],
    [
      'an unknown option',
      () => layer(x, { groups: 2 }),
      "unknown option 'groups'; the options are mode, numGroups, eps, bnEps, estimate, updateRate, momentum",
    ],
    ['no state', () => layer(x, {}, {}, null), 'state: expected { runningMean, runningVar }, received null'],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `batchChannelNorm: ${message}` }));
  });
});

it('initBatchChannelNorm is 1 and 0, mean 0 and variance 1', () => {
  const { params, state } = initBatchChannelNorm(2, { numGroups: 1 });
  expect(params).toEqual({ bnWeight: array([1, 1]), bnBias: array([0, 0]), weight: array([1]), bias: array([0]) });
  expect(state).toEqual({ runningMean: array([0, 0]), runningVar: array([1, 1]), numBatchesTracked: array(0, { dtype: 'int32' }) });
  expect(initBatchChannelNorm(64).params.weight.shape).toEqual([32]);
  expect(() => initBatchChannelNorm(6)).toThrow('initBatchChannelNorm: numGroups: expected a divisor of the 6 channels, received 32');
});
