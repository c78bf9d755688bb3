import { describe, expect, it } from 'vitest';
import { array, type NDArray, type Shape, type Tensor, toNumbers } from '../../src/index.js';
import { type BatchNormState, type EstimatedBatchNormOptions, estimatedBatchNorm } from '../../src/norm/index.js';
import { expectClose } from '../support/close.js';
import { leaf } from '../support/leaves.js';
import { normalArray, normals } from '../support/numeric.js';
import { run } from '../support/run.js';
import { testDevices } from '../support/test-devices.js';
import {
  around,
  average,
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

const running = ['runningMean', 'runningVar'] as const;

function layerOf(shape: Shape, names: readonly string[], options: EstimatedBatchNormOptions, tracked?: number): Layer {
  const { mode, updateRate = 0.1, eps = 1e-5 } = options;
  const channel = channelOf(shape);
  const train = mode === 'train';
  return {
    inputs: {
      ...drawInputs(shape, [...running, ...names]),
      ...(tracked === undefined ? {} : { numBatchesTracked: array(tracked, { dtype: 'int32' }) }),
    },
    layer: (given) => {
      const state = pick(given, ...running, 'numBatchesTracked') as BatchNormState;
      const { y, state: next } = estimatedBatchNorm(given.x as Tensor, pick(given, 'weight', 'bias'), state, options);
      return train ? { y, ...next } : { y };
    },
    definition: ({ x, weight, bias }, { x: seen, runningMean, runningVar }) => {
      const { mean, count } = moments(seen!, channel);
      // About the mean that was known before.
      const spread = count.map((_, c) => average(seen!.filter((_, i) => channel(i) === c).map((v) => (v - runningMean![c]!) ** 2)));
      const rate = train ? updateRate : 0;
      const next = { runningMean: towards(runningMean!, mean, rate), runningVar: towards(runningVar!, spread, rate) };
      const by = { mean: next.runningMean, variance: next.runningVar };
      const y = transformed(normalized(x!, channel, by, eps), channel, { weight, bias });
      return train ? { y, ...next, ...(tracked === undefined ? {} : { numBatchesTracked: [tracked + 1] }) } : { y };
    },
  };
}

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('estimatedBatchNorm on %s', (_, backend) => {
  describe.each(['train', 'eval'] as const)('mode %s', (mode) => {
    it.each(images)('normalises $shape with parameters $names', async ({ shape, names }) => {
      await check(backend, layerOf(shape, names, { mode, eps: names.length === 1 ? 0.1 : 1e-5 }));
    });
  });

  it.each([0, 0.01, 1])('moves its estimates by %d, and counts', async (updateRate) => {
    await check(backend, layerOf([4, 2, 2], ['weight'], { mode: 'train', updateRate }, 3));
  });

  it('takes one sample with one value per channel', async () => {
    await check(backend, layerOf([1, 3], ['weight', 'bias'], { mode: 'train' }));
  });

  it('computes the same in evaluation, with the estimates that training left', async () => {
    const { x, runningMean, runningVar } = drawInputs([4, 3, 2], running) as Record<string, NDArray>;
    const { trained, evaluated } = await run(
      backend,
      (input: Tensor, state: BatchNormState) => {
        const { y, state: next } = estimatedBatchNorm(input, {}, state, { mode: 'train' });
        return { trained: y, evaluated: estimatedBatchNorm(input, {}, next, { mode: 'eval' }).y };
      },
      x!,
      { runningMean, runningVar } as never,
    );
    expectClose('y', toNumbers(trained), toNumbers(evaluated), 1e-5);
  });

  it.each([256, 2048])('keeps its digits where the mean is %d, and known', async (offset) => {
    const { inputs, ...rest } = layerOf([16, 2, 4], ['weight', 'bias'], { mode: 'train' });
    const given = { ...inputs, x: around(offset, [16, 2, 4]), runningMean: array([offset, offset + 1]) };
    await check(backend, { inputs: given, ...rest }, { values: 2e-3, slopes: 2e-3 });
  });

  it.each([0, 0.1])('takes channels that are constant %d', async (value) => {
    const { inputs, ...rest } = layerOf([3, 2, 5], ['weight', 'bias'], { mode: 'train' });
    await check(backend, { inputs: { ...inputs, x: flat(value, [3, 2, 5]) }, ...rest });
  });
});

describe('estimatedBatchNorm', () => {
  it('normalises float16 in float32', async () => {
    const { inputs, ...rest } = layerOf([2, 2, 8], ['weight'], { mode: 'train' });
    const x = array(
      normals(8, 32).map((v) => 1000 + 300 * v),
      { shape: [2, 2, 8], dtype: 'float16' },
    );
    await check(cpu, { inputs: { ...inputs, x }, ...rest }, { values: 1e-3, slopes: 2e-3 });
  });

  it('keeps float16 estimates', async () => {
    const half = (values: number[]) => array(values, { dtype: 'float16' });
    const { y, state } = await run(
      cpu,
      (x: Tensor, s: BatchNormState) => estimatedBatchNorm(x, {}, s, { mode: 'train', updateRate: 0.5 }),
      normalArray(1, [3, 1]),
      { runningMean: half([0.5]), runningVar: half([2]) } as never,
    );
    expect([y.dtype, state.runningMean.dtype, state.runningVar.dtype]).toEqual(['float32', 'float16', 'float16']);
  });

  const state = { runningMean: leaf([3]), runningVar: leaf([3]) };
  const layer = (x: Tensor, options: object = {}, given: unknown = state) =>
    estimatedBatchNorm(x, {}, given as BatchNormState, { mode: 'train', ...options });
  const x = leaf([4, 3]);

  it('leaves the state alone in evaluation', () => {
    expect(layer(x, { mode: 'eval' }).state).toBe(state);
  });

  it.each<[string, () => unknown, string]>([
    ['integers', () => layer(leaf([4, 3], 'int32')), 'x: expected a float32 or float16 Tensor, received int32[4, 3]'],
    ['no samples', () => layer(leaf([0, 3])), 'x: expected a Tensor [N, C, ...] with at least one element, received float32[0, 3]'],
    ['a rate above 1', () => layer(x, { updateRate: 1.1 }), 'updateRate: expected a number from 0 to 1, received 1.1'],
    ['a negative rate', () => layer(x, { updateRate: -0.1 }), 'updateRate: expected a number from 0 to 1, received -0.1'],
    ['a mode without estimates', () => layer(x, { mode: 'batch' }), "mode: expected one of 'train', 'eval', received 'batch'"],
    ['a negative eps', () => layer(x, { eps: -1 }), 'eps: expected a number >= 0, received -1'],
    ['an unknown option', () => layer(x, { momentum: 0.1 }), "unknown option 'momentum'; the options are mode, updateRate, eps"],
    ['no state', () => layer(x, {}, null), 'state: expected { runningMean, runningVar }, received null'],
    [
      'half a state',
      () => layer(x, { mode: 'eval' }, { runningMean: leaf([3]) }),
      'state.runningVar: expected a Tensor (is a parameter missing?), received undefined',
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `estimatedBatchNorm: ${message}` }));
  });
});
