import { describe, expect, it } from 'vitest';
import { array, concat, constant, gradients, mul, type NDArray, type Shape, split, sum, type Tensor, toNumbers } from '../../src/index.js';
import {
  type BatchNormState,
  type BatchStats,
  batchNorm,
  batchNormWithStats,
  batchStats,
  type ChannelParams,
  mergeBatchStats,
  type SyncBatchNormOptions,
  syncBatchNorm,
  updateRunningStats,
} from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals, sizeOf } from '../support/numeric.js';
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
  type Layer,
  moments,
  type Named,
  normalized,
  pick,
  towards,
  transformed,
  unbiased,
} from './reference.js';

const running = ['runningMean', 'runningVar'] as const;
type Traced = Readonly<Record<string, Tensor>>;

/** Shards of `counts` samples of the shape `rest`, together. */
function layerOf(
  counts: readonly number[],
  rest: Shape,
  names: readonly string[],
  options: SyncBatchNormOptions = {},
  tracked?: number,
): Layer {
  const { eps = 1e-5, momentum = 0.1, runningVarEstimator = 'unbiased' } = options;
  const factor = momentum ?? 1 / (tracked! + 1);
  const whole = [counts.reduce((a, b) => a + b), ...rest];
  const { x: _, ...given } = drawInputs(whole, [...running, ...names]);
  const shards = counts.map((count, i) => [`x${i}`, normalArray(10 + i, [count, ...rest])] as const);
  const keys = shards.map(([name]) => name);
  const joined = (all: Named) => keys.flatMap((name) => [...all[name]!]);
  return {
    inputs: {
      ...Object.fromEntries(shards),
      ...given,
      ...(tracked === undefined ? {} : { numBatchesTracked: array(tracked, { dtype: 'int32' }) }),
    },
    layer: (all) => {
      const { ys, stats, state } = syncBatchNorm(
        keys.map((name) => all[name] as Tensor),
        pick(all, 'weight', 'bias'),
        pick(all, ...running, 'numBatchesTracked') as BatchNormState,
        options,
      );
      return { ...Object.fromEntries(ys.map((y, i) => [`y${i}`, y])), mean: stats.mean, m2: stats.m2, ...state };
    },
    definition: (all, fixed) => {
      const channel = channelOf(whole);
      const stats = moments(joined(all), channel);
      const seen = moments(joined(fixed), channel);
      const { weight, bias } = all;
      const y = transformed(normalized(joined(all), channel, stats, eps), channel, { weight, bias });
      let start = 0;
      const ys = counts.map((count, i) => {
        const from = start;
        start += count * sizeOf(rest);
        return [`y${i}`, y.slice(from, start)] as const;
      });
      return {
        ...Object.fromEntries(ys),
        mean: stats.mean,
        m2: stats.variance.map((v, c) => v * stats.count[c]!),
        runningMean: towards(fixed.runningMean!, seen.mean, factor),
        runningVar: towards(fixed.runningVar!, runningVarEstimator === 'unbiased' ? unbiased(seen) : seen.variance, factor),
        ...(tracked === undefined ? {} : { numBatchesTracked: [tracked + 1] }),
      };
    },
  };
}

const splits: [counts: number[], rest: Shape][] = [
  [[3, 0, 2, 1], [2]],
  [
    [1, 1],
    [3, 4],
  ],
  [
    [1, 2],
    [2, 2, 3],
  ],
  [
    [2, 1],
    [2, 2, 1, 3],
  ],
];
const cases = splits.flatMap(([counts, rest]) => affinePairs.map((names) => ({ counts, rest, names })));

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('syncBatchNorm on %s', (_, backend) => {
  it.each(cases)('normalises $counts samples of $rest with parameters $names', async ({ counts, rest, names }) => {
    await check(backend, layerOf(counts, rest, names, { eps: names.length === 1 ? 0.1 : 1e-5 }));
  });

  it.each<SyncBatchNormOptions>([{ momentum: 0.5 }, { momentum: null }, { runningVarEstimator: 'biased', momentum: 1 }])(
    'moves running statistics once, by %j',
    async (options) => {
      await check(backend, layerOf([2, 1, 2], [2], ['weight'], options, 4));
    },
  );

  it('has the values and gradients of batchNorm of the whole batch', async () => {
    const { x: _x, ...given } = drawInputs([1, 3], ['weight', 'bias', ...running]) as Record<string, NDArray>;
    const [own, whole] = await run(
      backend,
      (shards: Tensor[], { weight, bias, ...state }: Traced, g: Tensor) => {
        const params = { weight: weight!, bias: bias! };
        const wrt = [...shards, weight!, bias!];
        const result = (y: Tensor, next: unknown) => ({ y, next: next as BatchNormState, back: gradients(sum(mul(y, g)), wrt) });
        const synced = syncBatchNorm(shards, params, state as never);
        const { y, state: next } = batchNorm(concat(shards, { axis: 0 }), params, state as never, { mode: 'train' });
        return [result(concat(synced.ys, { axis: 0 }), synced.state), result(y, next)];
      },
      [1, 2, 3].map((n) => normalArray(20 + n, [n, 3, 2])),
      given as never,
      normalArray(30, [6, 3, 2]),
    );
    expectClose('y', toNumbers(own!.y), toNumbers(whole!.y), 2e-6);
    for (const name of running) expectClose(name, toNumbers(own!.next[name]), toNumbers(whole!.next[name]), 2e-6);
    own!.back.forEach((g, i) => {
      expectClose(`gradient ${i}`, toNumbers(g), toNumbers(whole!.back[i]!), 1e-5);
    });
  });

  it('is made of parts: statistics, their merge, the layer on a shard, the update', async () => {
    const { inputs, layer } = layerOf([2, 3], [2, 2], ['weight', 'bias'], {}, 0);
    const [together, apart] = await run(
      backend,
      (all: Traced) => {
        const shards = [all.x0!, all.x1!];
        const stats = mergeBatchStats(shards.map(batchStats));
        const [y0, y1] = shards.map((x) => batchNormWithStats(x, stats, pick(all, 'weight', 'bias'))) as [Tensor, Tensor];
        const state = pick(all, ...running, 'numBatchesTracked') as BatchNormState;
        return [layer(all), { y0, y1, mean: stats.mean, m2: stats.m2, ...updateRunningStats(state, stats) }];
      },
      inputs as never,
    );
    expect(apart).toEqual(together);
  });

  const state = { runningMean: constant([0, 0]), runningVar: constant([1, 1]) };
  const halves = (x: Tensor, params: ChannelParams): Tensor => concat(syncBatchNorm(split(x, 2), params, state).ys, { axis: 0 });
  it.each([256, 2048])('keeps most digits where the mean is %d', async (offset) => {
    const shape = [8, 2, 40];
    await checkGroups(
      backend,
      around(offset, shape),
      { layer: halves, group: channelOf(shape), channel: channelOf(shape), params: [2] },
      2e-3,
    );
  });

  it.each([0, 0.1, 12345.678])('gives the bias for channels that are constant %d', async (value) => {
    const shape = [4, 2, 50];
    await checkGroups(backend, flat(value, shape), { layer: halves, group: channelOf(shape), channel: channelOf(shape), params: [2] });
  });
});

describe('syncBatchNorm', () => {
  it('has a gradient of its gradient', () => {
    const { inputs } = layerOf([2, 3], [2], ['weight', 'bias']);
    const { runningMean: _mean, runningVar: _var, ...rest } = inputs;
    const state = { runningMean: leaf([2]), runningVar: leaf([2]) };
    checkDerivatives((all) => {
      const [y0, y1] = syncBatchNorm([all.x0!, all.x1!], pick(all, 'weight', 'bias'), state).ys as [Tensor, Tensor];
      return { y0, y1 };
    }, rest);
  });

  it('normalises float16 in float32', async () => {
    const half = (seed: number) =>
      array(
        normals(seed, 12).map((v) => 1000 + 300 * v),
        { shape: [3, 2, 2], dtype: 'float16' },
      );
    const { ys, y } = await run(
      cpu,
      (a: Tensor, b: Tensor) => {
        const state = { runningMean: constant([0, 0]), runningVar: constant([1, 1]) };
        return { ys: syncBatchNorm([a, b], {}, state).ys, y: batchNorm(concat([a, b], { axis: 0 }), {}, undefined, { mode: 'batch' }).y };
      },
      half(1),
      half(2),
    );
    expect(ys.map(({ dtype }) => dtype)).toEqual(['float16', 'float16']);
    expectClose('ys', ys.flatMap(toNumbers), toNumbers(y), 2e-3);
  });

  const state = { runningMean: leaf([3]), runningVar: leaf([3]) };
  it.each<[string, () => unknown, string]>([
    ['no list', () => syncBatchNorm(leaf([2, 3]) as never, {}, state), 'shards: expected a list of Tensors, received float32[2, 3]'],
    ['an empty list', () => syncBatchNorm([], {}, state), 'shards: expected a list of Tensors, received []'],
    ['something else', () => syncBatchNorm([leaf([2, 3]), 1 as never], {}, state), 'shards[1]: expected a Tensor, received 1'],
    ['a vector', () => syncBatchNorm([leaf([3])], {}, state), 'shards[0]: expected a Tensor [N, C, ...], received float32[3]'],
    [
      'shards of other channels',
      () => syncBatchNorm([leaf([2, 3]), leaf([2, 4])], {}, state),
      'shards[1]: expected a Tensor [N, 3, ...], received float32[2, 4]',
    ],
    [
      'one value per channel',
      () => syncBatchNorm([leaf([0, 3]), leaf([1, 3])], {}, state),
      'shards: expected more than one value per channel in all of them together, received 1',
    ],
    [
      'no values',
      () => syncBatchNorm([leaf([0, 3])], {}, state),
      'shards: expected more than one value per channel in all of them together, received 0',
    ],
    [
      'no channels',
      () => syncBatchNorm([leaf([2, 0])], {}, state),
      'shards: expected more than one value per channel in all of them together, received 0',
    ],
    [
      'a weight of another shape',
      () => syncBatchNorm([leaf([2, 3])], { weight: leaf([2]) }, state),
      'weight: expected shape [3], one number per channel, received float32[2]',
    ],
    [
      'no state',
      () => syncBatchNorm([leaf([2, 3])], {}, undefined as never),
      'state: expected { runningMean, runningVar }, received undefined',
    ],
    [
      'an average over all batches without their count',
      () => syncBatchNorm([leaf([2, 3])], {}, state, { momentum: null }),
      'state.numBatchesTracked: expected an int32 Tensor of shape [], which momentum: null needs, received undefined',
    ],
    ['a negative eps', () => syncBatchNorm([leaf([2, 3])], {}, state, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    [
      'an unknown option',
      () => syncBatchNorm([leaf([2, 3])], {}, state, { mode: 'train' } as never),
      "unknown option 'mode'; the options are eps, convention, momentum, runningVarEstimator",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `syncBatchNorm: ${message}` }));
  });
});

describe('its parts', () => {
  const stats: BatchStats = { count: leaf([]), mean: leaf([3]), m2: leaf([3]) };
  const state = { runningMean: leaf([3]), runningVar: leaf([3]) };

  it('take an empty shard', () => {
    const x = leaf([0, 3, 2], 'float16');
    expect(batchNormWithStats(x, stats)).toBe(x);
  });

  it.each<[string, () => unknown, string]>([
    [
      'no statistics',
      () => batchNormWithStats(leaf([2, 3]), undefined as never),
      'batchNormWithStats: stats: expected { count, mean, m2 }, received undefined',
    ],
    [
      'a shard of other channels',
      () => batchNormWithStats(leaf([2, 4]), stats),
      'batchNormWithStats: x: expected a Tensor [N, 3, ...], as the statistics have, received float32[2, 4]',
    ],
    [
      'a shard of integers',
      () => batchNormWithStats(leaf([2, 3], 'int32'), stats),
      'batchNormWithStats: x: expected a float32 or float16 Tensor, received int32[2, 3]',
    ],
    [
      'a negative eps',
      () => batchNormWithStats(leaf([2, 3]), stats, {}, { eps: -1 }),
      'batchNormWithStats: eps: expected a number >= 0, received -1',
    ],
    [
      'an unknown option',
      () => batchNormWithStats(leaf([2, 3]), stats, {}, { momentum: 0.1 } as never),
      "batchNormWithStats: unknown option 'momentum'; the options are eps",
    ],
    [
      'a state of other channels',
      () => updateRunningStats({ ...state, runningMean: leaf([2]) }, stats),
      'updateRunningStats: state.runningMean: expected shape [3], one number per channel, received float32[2]',
    ],
    [
      'a momentum above 1',
      () => updateRunningStats(state, stats, { momentum: 2 }),
      'updateRunningStats: momentum: expected a number from 0 to 1, or null, received 2',
    ],
    [
      'another option',
      () => updateRunningStats(state, stats, { eps: 1e-5 } as never),
      "updateRunningStats: unknown option 'eps'; the options are convention, momentum, runningVarEstimator",
    ],
  ])('reject %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message }));
  });
});
