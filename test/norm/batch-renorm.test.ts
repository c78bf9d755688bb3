import { describe, expect, it } from 'vitest';
import { array, compile, gradients, hostInput, mul, type NDArray, type Shape, sum, type Tensor, toNumbers } from '../../src/index.js';
import {
  type BatchRenormOptions,
  type BatchRenormState,
  batchNorm,
  batchRenorm,
  type ChannelParams,
  initBatchRenorm,
} from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normals } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import {
  around,
  channelOf,
  check,
  drawInputs,
  flat,
  images,
  type Layer,
  moments,
  normalized,
  pick,
  towards,
  transformed,
} from './reference.js';

const running = ['runningMean', 'runningStd'] as const;
const clip = (v: number, low: number, high: number) => Math.min(Math.max(v, low), high);

function layerOf(shape: Shape, names: readonly string[], options: BatchRenormOptions): Layer {
  const { mode, momentum = 0.1, eps = 1e-5 } = options;
  const [rMax, dMax] = [(options.rMax ?? 3) as number, (options.dMax ?? 5) as number];
  const channel = channelOf(shape);
  const train = mode === 'train';
  return {
    inputs: drawInputs(shape, [...running, ...names]),
    layer: (given) => {
      const state = pick(given, ...running) as unknown as BatchRenormState;
      const { y, state: next } = batchRenorm(given.x as Tensor, pick(given, 'weight', 'bias'), state, options);
      return train ? { y, ...next } : { y };
    },
    definition: ({ x, weight, bias }, { x: seen, runningMean, runningStd }) => {
      const params = { weight, bias };
      if (!train) {
        const variance = runningStd!.map((v) => v * v);
        return { y: transformed(normalized(x!, channel, { mean: runningMean!, variance }, 0), channel, params) };
      }
      const observed = moments(seen!, channel);
      const std = observed.variance.map((v) => Math.sqrt(v + eps));
      const r = std.map((s, c) => clip(s / runningStd![c]!, 1 / rMax, rMax));
      const d = observed.mean.map((m, c) => clip((m - runningMean![c]!) / runningStd![c]!, -dMax, dMax));
      const normal = normalized(x!, channel, moments(x!, channel), eps);
      return {
        y: transformed(transformed(normal, channel, { weight: r, bias: d }), channel, params),
        runningMean: towards(runningMean!, observed.mean, momentum),
        runningStd: towards(runningStd!, std, momentum),
      };
    },
  };
}

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('batchRenorm on %s', (_, backend) => {
  describe.each(['train', 'eval'] as const)('mode %s', (mode) => {
    it.each(images)('normalises $shape with parameters $names', async ({ shape, names }) => {
      await check(backend, layerOf(shape, names, { mode, eps: names.length === 1 ? 0.1 : 1e-5 }));
    });
  });

  it.each<Omit<BatchRenormOptions, 'mode'>>([
    { rMax: 1, dMax: 0 },
    { rMax: 1.05, dMax: 0.1 },
    { rMax: 100, dMax: 100, momentum: 1 },
    { dMax: 0, momentum: 0 },
    { rMax: 1 },
  ])('corrects by %j', async (options) => {
    await check(backend, layerOf([4, 3, 2], ['weight', 'bias'], { mode: 'train', ...options }));
  });

  it('is batchNorm where nothing may be corrected', async () => {
    const { x, weight, bias, runningMean, runningStd } = drawInputs([5, 3], ['weight', 'bias', ...running]) as Record<string, NDArray>;
    const [own, batch] = await run(
      backend,
      (input: Tensor, p: ChannelParams, state: BatchRenormState) =>
        [batchRenorm(input, p, state, { mode: 'train', rMax: 1, dMax: 0 }).y, batchNorm(input, p, undefined, { mode: 'batch' }).y].map(
          (y) => ({ y, back: gradients(sum(mul(y, y)), [input, p.weight!, p.bias!]) }),
        ),
      x!,
      { weight, bias } as never,
      { runningMean, runningStd } as never,
    );
    expectClose('y', toNumbers(own!.y), toNumbers(batch!.y), 1e-6);
    own!.back.forEach((g, i) => {
      expectClose(`gradient ${i}`, toNumbers(g), toNumbers(batch!.back[i]!), 1e-4);
    });
  });

  it('takes bounds that change from step to step', async () => {
    const { x, ...state } = drawInputs([5, 3], running) as Record<string, NDArray>;
    const bounds = (step: number) => ({ rMax: 1 + step / 10, dMax: step / 5 });
    await using compiled = compile(
      backend,
      (input: Tensor, s: BatchRenormState) =>
        batchRenorm(input, {}, s, {
          mode: 'train',
          rMax: hostInput(({ step }) => bounds(step).rMax),
          dMax: hostInput(({ step }) => bounds(step).dMax),
        }).y,
    );
    const numbers = Object.fromEntries(Object.entries({ x: x!, ...state }).map(([name, value]) => [name, toNumbers(value)]));
    for (let step = 0; step < 4; step++) {
      const { definition } = layerOf([5, 3], [], { mode: 'train', ...bounds(step) });
      expectClose(`step ${step}`, toNumbers(await compiled(x!, state as never)), definition(numbers, numbers).y!, 1e-5);
    }
  });

  it.each([256, 2048])('keeps its digits where the mean is %d', async (offset) => {
    const { inputs, ...rest } = layerOf([16, 2, 4], ['weight', 'bias'], { mode: 'train' });
    const given = { ...inputs, x: around(offset, [16, 2, 4]), runningMean: array([offset, offset + 1]) };
    await check(backend, { inputs: given, ...rest }, { values: 2e-3, slopes: 2e-3 });
  });

  it.each([0, 0.1])('takes channels that are constant %d', async (value) => {
    const { inputs, ...rest } = layerOf([3, 2, 5], ['weight', 'bias'], { mode: 'train', eps: 1e-3 });
    await check(backend, { inputs: { ...inputs, x: flat(value, [3, 2, 5]) }, ...rest });
  });
});

describe('batchRenorm', () => {
  it('normalises float16 in float32', async () => {
    const { inputs, ...rest } = layerOf([2, 2, 8], ['weight'], { mode: 'train' });
    const x = array(
      normals(8, 32).map((v) => 1000 + 300 * v),
      { shape: [2, 2, 8], dtype: 'float16' },
    );
    await check(cpu, { inputs: { ...inputs, x }, ...rest }, { values: 1e-3, slopes: 2e-3 });
  });

  const state = { runningMean: leaf([3]), runningStd: leaf([3]) };
  const layer = (x: Tensor, options: object = {}, given: unknown = state) =>
    batchRenorm(x, {}, given as BatchRenormState, { mode: 'train', ...options });
  const x = leaf([4, 3]);

  it('leaves the state alone in evaluation', () => {
    expect(layer(x, { mode: 'eval' }).state).toBe(state);
  });

  it.each<[string, () => unknown, string]>([
    [
      'one value per channel in training',
      () => layer(leaf([1, 3])),
      'x: expected more than one value per channel in a batch that is normalised by its own statistics, received float32[1, 3]',
    ],
    ['an rMax below 1', () => layer(x, { rMax: 0.5 }), 'rMax: expected a number >= 1 or a scalar Tensor, received 0.5'],
    ['a negative dMax', () => layer(x, { dMax: -1 }), 'dMax: expected a number >= 0 or a scalar Tensor, received -1'],
    ['an rMax that is no number', () => layer(x, { rMax: '3' }), "rMax: expected a number >= 1 or a scalar Tensor, received '3'"],
    [
      'a dMax per channel',
      () => layer(x, { dMax: leaf([3]) }),
      'dMax: expected a number >= 0 or a Tensor of shape [], received float32[3]',
    ],
    [
      'an integer Tensor as rMax',
      () => layer(x, { rMax: leaf([], 'int32') }),
      'rMax: expected a float32 or float16 Tensor, received int32[]',
    ],
    ['a momentum above 1', () => layer(x, { momentum: 2 }), 'momentum: expected a number from 0 to 1, received 2'],
    ['a negative eps', () => layer(x, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    ['a mode without running statistics', () => layer(x, { mode: 'batch' }), "mode: expected one of 'train', 'eval', received 'batch'"],
    [
      'running variances',
      () => layer(x, {}, { runningMean: leaf([3]), runningVar: leaf([3]) }),
      'state.runningStd: expected a Tensor (is a parameter missing?), received undefined',
    ],
    ['no state', () => layer(x, {}, null), 'state: expected { runningMean, runningStd }, received null'],
    ['an unknown option', () => layer(x, { r: 3 }), "unknown option 'r'; the options are mode, rMax, dMax, momentum, eps"],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `batchRenorm: ${message}` }));
  });
});

it('initBatchRenorm is 1 and 0, mean 0 and deviation 1', () => {
  expect(initBatchRenorm(2)).toEqual({
    params: { weight: array([1, 1]), bias: array([0, 0]) },
    state: { runningMean: array([0, 0]), runningStd: array([1, 1]) },
  });
});
