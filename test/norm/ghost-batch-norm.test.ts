import { describe, expect, it } from 'vitest';
import { array, compile, constant, gradients, type NDArray, type Shape, sum, type Tensor, toNumbers } from '../../src/index.js';
import { type BatchNormState, batchNorm, type GhostBatchNormOptions, ghostBatchNorm } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals } from '../support/numeric.js';
import { run } from '../support/run.js';
import { countSessions } from '../support/sessions.js';
import { testDevices } from '../support/test-devices.js';
import {
  around,
  channelOf,
  check,
  checkDerivatives,
  checkGroups,
  drawInputs,
  flat,
  type GroupLayer,
  images,
  type Layer,
  type Membership,
  moments,
  type Numbers,
  normalized,
  partOf,
  pick,
  towards,
  transformed,
  unbiased,
} from './reference.js';

const running = ['runningMean', 'runningVar'] as const;
type Options = Partial<GhostBatchNormOptions>;

/** The ghost batch of every sample, from their sizes. */
const ghostOf = (sizes: Numbers): Membership => {
  const of = sizes.flatMap((size, k) => Array<number>(size).fill(k));
  return (sample) => of[sample] as number;
};

/** A layer whose ghost batches have `sizes`, updated one after the other. */
function layerOf(shape: Shape, names: readonly string[], sizes: Numbers, options: Options = {}, tracked?: number): Layer {
  const { mode = 'train', eps = 1e-5, momentum = 0.1, statsAggregation = 'sequential' } = options;
  const ghostBatchSize = options.ghostBatchSize ?? sizes[0]!;
  const counter = tracked === undefined ? {} : { numBatchesTracked: array(tracked, { dtype: 'int32' }) };
  return {
    inputs: { ...drawInputs(shape, [...running, ...names]), ...counter },
    layer: (given) => {
      const state = pick(given, ...running, 'numBatchesTracked') as BatchNormState;
      const { y, state: next } = ghostBatchNorm(given.x as Tensor, pick(given, 'weight', 'bias'), state, {
        ...options,
        ghostBatchSize,
        mode,
      });
      return mode === 'train' ? { y, ...next } : { y };
    },
    definition: ({ x, weight, bias }, fixed) => {
      const [channel, ghost] = [channelOf(shape), partOf(shape, ghostOf(sizes))];
      const params = { weight, bias };
      const [runningMean, runningVar] = [fixed.runningMean!, fixed.runningVar!];
      if (mode === 'eval')
        return { y: transformed(normalized(x!, channel, { mean: runningMean, variance: runningVar }, eps), channel, params) };
      const y = transformed(normalized(x!, ghost, moments(x!, ghost), eps), channel, params);
      if (mode === 'batch') return { y };
      const stats = moments(fixed.x!, ghost);
      const channels = shape[1] as number;
      const updates = sizes.map((_, k) => [stats.mean, unbiased(stats)].map((values) => values.slice(k * channels, (k + 1) * channels)));
      let [mean, variance] = [runningMean, runningVar];
      if (statsAggregation === 'mean') {
        const average = (which: 0 | 1) =>
          mean.map((_, c) => updates.reduce((total, update) => total + update[which]![c]! / sizes.length, 0));
        [mean, variance] = [towards(mean, average(0), momentum), towards(variance, average(1), momentum)];
      } else {
        const factor = statsAggregation === 'scaledMomentum' ? momentum / sizes.length : momentum;
        for (const [observed, spread] of updates as [number[], number[]][]) {
          mean = towards(mean, observed, factor);
          variance = towards(variance, spread, factor);
        }
      }
      const count = tracked === undefined ? {} : { numBatchesTracked: [tracked + (statsAggregation === 'mean' ? 1 : sizes.length)] };
      return { y, runningMean: mean, runningVar: variance, ...count };
    },
  };
}

const remainders: [samples: number, ghostBatchSize: number, remainder: GhostBatchNormOptions['remainder'], sizes: number[]][] = [
  [6, 3, 'error', [3, 3]],
  [6, 3, 'chunk', [3, 3]],
  [5, 4, 'chunk', [3, 2]],
  [5, 4, 'balanced', [3, 2]],
  [5, 4, 'short', [4, 1]],
  [7, 3, 'chunk', [3, 3, 1]],
  [7, 3, 'balanced', [3, 2, 2]],
  [7, 3, 'short', [3, 3, 1]],
  [9, 4, 'chunk', [3, 3, 3]],
  [10, 4, 'chunk', [4, 4, 2]],
  [10, 4, 'balanced', [4, 3, 3]],
  [8, 7, 'chunk', [4, 4]],
  [6, 4, 'short', [4, 2]],
  [3, 8, 'chunk', [3]],
  [3, 8, 'balanced', [3]],
  [3, 8, 'short', [3]],
  [4, 1, 'error', [1, 1, 1, 1]],
];

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('ghostBatchNorm on %s', (_, backend) => {
  it.each(images)('normalises $shape with parameters $names', async ({ shape, names }) => {
    const size = shape[0]! / (shape[0]! % 2 === 0 && shape[0]! > 2 ? 2 : 1);
    await check(backend, layerOf(shape, names, Array(shape[0]! / size).fill(size), { eps: names.length === 1 ? 0.1 : 1e-5 }));
  });

  it.each(remainders)('cuts %d samples by %d, remainder %s, into %j', async (samples, ghostBatchSize, remainder, sizes) => {
    await check(backend, layerOf([samples, 2, 3], ['weight', 'bias'], sizes, { ghostBatchSize, remainder: remainder! }));
  });

  it.each<Options>([
    { statsAggregation: 'sequential', momentum: 0.3 },
    { statsAggregation: 'scaledMomentum', momentum: 0.3 },
    { statsAggregation: 'mean', momentum: 0.3 },
    { statsAggregation: 'sequential', momentum: 1 },
    { statsAggregation: 'scaledMomentum', momentum: 1 },
    { statsAggregation: 'mean', momentum: 1 },
    { statsAggregation: 'sequential', momentum: 0 },
    { statsAggregation: 'scaledMomentum', momentum: 0 },
    { statsAggregation: 'mean', momentum: 0 },
  ])('moves running statistics by %j', async (options) => {
    await check(backend, layerOf([7, 2, 2], [], [3, 3, 1], { ...options, remainder: 'short' }, 4));
  });

  it('moves running statistics as a loop of batchNorm does', async () => {
    const { x, runningMean, runningVar } = drawInputs([12, 2], running) as Record<string, NDArray>;
    const count = array(0, { dtype: 'int32' });
    const [together, apart] = await run(
      backend,
      (all: Tensor, parts: Tensor[], state: BatchNormState) => [
        ghostBatchNorm(all, {}, state, { ghostBatchSize: 3, mode: 'train' }).state,
        parts.reduce((s, part) => batchNorm(part, {}, s, { mode: 'train' }).state, state),
      ],
      x!,
      [0, 1, 2, 3].map((k) => array(toNumbers(x!).slice(6 * k, 6 * k + 6), { shape: [3, 2] })),
      { runningMean, runningVar, numBatchesTracked: count } as never,
    );
    for (const name of running) expectClose(name, toNumbers(together![name]), toNumbers(apart![name]), 1e-6);
    expect(together!.numBatchesTracked).toEqual(apart!.numBatchesTracked);
  });

  it.each(['eval', 'batch'] as const)('is the same in mode %s as batchNorm of what it normalises', async (mode) => {
    await check(backend, layerOf([4, 3, 2], ['weight', 'bias'], [2, 2], { mode, ghostBatchSize: 2 }));
    // In evaluation nothing is cut.
    if (mode === 'eval') await check(backend, layerOf([1, 3], ['weight', 'bias'], [1], { mode, ghostBatchSize: 64 }));
  });

  const shape = [12, 2, 40];
  const ghosts: GroupLayer = {
    layer: (x, p) => ghostBatchNorm(x, p, undefined, { ghostBatchSize: 5, mode: 'batch', remainder: 'short' }).y,
    group: partOf(shape, ghostOf([5, 5, 2])),
    channel: channelOf(shape),
    params: [2],
  };

  it.each([256, 2048])('keeps its digits where the mean is %d', async (offset) => {
    await checkGroups(backend, around(offset, shape), ghosts);
  });

  it.each([0, 0.1, 12345.678])('gives the bias for channels that are constant %d', async (value) => {
    await checkGroups(backend, flat(value, shape), ghosts);
  });

  it('serves batches of any number of ghosts by one session', async () => {
    const sessions = countSessions(backend);
    await using compiled = compile(
      backend,
      (x: Tensor) => {
        const { y } = ghostBatchNorm(x, {}, undefined, { ghostBatchSize: 2, mode: 'batch' });
        return { y, dx: gradients(sum(y), [x])[0] as Tensor };
      },
      { axes: [['batch']] },
    );
    for (const samples of [4, 6, 16]) {
      const x = normalArray(samples, [samples, 2, 3]);
      const ghost = partOf(x.shape, (sample) => Math.floor(sample / 2));
      const { y } = await compiled(x);
      expectClose('y', toNumbers(y), normalized(toNumbers(x), ghost, moments(toNumbers(x), ghost), 1e-5), 1e-5);
    }
    expect(sessions.created).toBe(1);
  });
});

describe('ghostBatchNorm', () => {
  it.each([
    ['equal', [2, 2]],
    ['unequal', [3, 2]],
  ])('has a gradient of its gradient with %s ghost batches', (_, sizes) => {
    const { inputs } = layerOf([sizes[0]! + sizes[1]!, 2, 2], ['weight', 'bias'], sizes);
    const { runningMean: _mean, runningVar: _var, ...rest } = inputs;
    checkDerivatives(
      (given) => ({
        y: ghostBatchNorm(given.x!, pick(given, 'weight', 'bias'), undefined, {
          ghostBatchSize: sizes[0]!,
          mode: 'batch',
          remainder: 'short',
        }).y,
      }),
      rest,
    );
  });

  it('normalises float16 in float32', async () => {
    const { inputs, ...rest } = layerOf([4, 2, 8], ['weight'], [2, 2]);
    const x = array(
      normals(8, 64).map((v) => 1000 + 300 * v),
      { shape: [4, 2, 8], dtype: 'float16' },
    );
    await check(cpu, { inputs: { ...inputs, x }, ...rest }, { values: 1e-3, slopes: 2e-3 });
  });

  const state = { runningMean: constant([0, 0, 0]), runningVar: constant([1, 1, 1]) };
  const layer = (x: Tensor, options: object = {}, given: unknown = state) =>
    ghostBatchNorm(x, {}, given as BatchNormState, { ghostBatchSize: 2, mode: 'train', ...options });
  const x = leaf([4, 3]);
  const single = (groups: string, shape: string) =>
    `x: expected more than one value per channel in every ghost batch, received float32[${shape}] in groups of ${groups}`;

  it('leaves the state alone unless it trains', () => {
    for (const mode of ['eval', 'batch']) expect(layer(x, { mode }).state).toBe(state);
  });

  it.each<[string, () => unknown, string]>([
    [
      'a size that does not divide the batch',
      () => layer(leaf([7, 3]), { ghostBatchSize: 3 }),
      'ghostBatchSize: expected a divisor of the 7 samples of x, received 3 (see the option remainder)',
    ],
    [
      'a size above the batch',
      () => layer(x, { ghostBatchSize: 8 }),
      'ghostBatchSize: expected a divisor of the 4 samples of x, received 8 (see the option remainder)',
    ],
    ['7 samples in chunks of 3', () => layer(leaf([7, 3]), { ghostBatchSize: 3, remainder: 'chunk' }), single('3 and 1', '7, 3')],
    ['5 samples with a short rest', () => layer(leaf([5, 3, 1]), { remainder: 'short' }), single('2 and 1', '5, 3, 1')],
    ['ghost batches of one value', () => layer(x, { ghostBatchSize: 1, mode: 'batch' }), single('1', '4, 3')],
    ['no size', () => layer(x, { ghostBatchSize: undefined }), 'ghostBatchSize: expected a positive integer, received undefined'],
    ['a size of 0', () => layer(x, { ghostBatchSize: 0 }), 'ghostBatchSize: expected a positive integer, received 0'],
    [
      'half a sample, in evaluation as well',
      () => layer(x, { ghostBatchSize: 1.5, mode: 'eval' }),
      'ghostBatchSize: expected a positive integer, received 1.5',
    ],
    [
      'an unknown remainder',
      () => layer(x, { remainder: 'drop' }),
      "remainder: expected one of 'error', 'chunk', 'balanced', 'short', received 'drop'",
    ],
    [
      'an unknown aggregation',
      () => layer(x, { statsAggregation: 'last' }),
      "statsAggregation: expected one of 'sequential', 'scaledMomentum', 'mean', received 'last'",
    ],
    ['the average over all batches', () => layer(x, { momentum: null }), 'momentum: expected a number from 0 to 1, received null'],
    ['a negative eps', () => layer(x, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    ['an unknown mode', () => layer(x, { mode: 'test' }), "mode: expected one of 'train', 'eval', 'batch', received 'test'"],
    [
      'an unknown option',
      () => layer(x, { size: 2 }),
      "unknown option 'size'; the options are ghostBatchSize, mode, momentum, eps, remainder, statsAggregation",
    ],
    ['no state', () => layer(x, {}, null), 'state: expected { runningMean, runningVar }, received null'],
    ['no state in evaluation', () => layer(x, { mode: 'eval' }, null), 'state: expected { runningMean, runningVar }, received null'],
    [
      'a state of other channels',
      () => layer(x, {}, { ...state, runningVar: leaf([2]) }),
      'state.runningVar: expected shape [3], one number per channel, received float32[2]',
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `ghostBatchNorm: ${message}` }));
  });
});
