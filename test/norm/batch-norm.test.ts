import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import {
  array,
  compile,
  constant,
  exportOnnx,
  gradients,
  mul,
  type NDArray,
  type Shape,
  sum,
  type Tensor,
  toNumbers,
} from '../../src/index.js';
import {
  type BatchNormOptions,
  type BatchNormState,
  batchNorm,
  type ChannelParams,
  initBatchNorm,
  type RunningStatsOptions,
} from '../../src/norm/index.js';
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
  type Moments,
  moments,
  type Numbers,
  normalized,
  pick,
  towards,
  transformed,
  unbiased,
} from './reference.js';

const running = ['runningMean', 'runningVar'] as const;
type Traced = Readonly<Record<string, Tensor>>;

/** What a batch of arguments comes to; `rule` says how running statistics move. */
function layerOf(
  shape: Shape,
  names: readonly string[],
  options: BatchNormOptions,
  rule = { factor: 0.1, unbiased: true },
  tracked?: number,
): Layer {
  const { mode, eps = 1e-5 } = options;
  const channel = channelOf(shape);
  const counter = tracked === undefined ? {} : { numBatchesTracked: array(tracked, { dtype: 'int32' }) };
  return {
    inputs: { ...drawInputs(shape, [...running, ...names]), ...counter },
    layer: (given) => {
      const { y, state } = batchNorm(
        given.x as Tensor,
        pick(given, 'weight', 'bias'),
        pick(given, ...running, 'numBatchesTracked') as BatchNormState,
        options,
      );
      // Where the state stays as it is, so do its gradients.
      return mode === 'train' ? { y, ...state } : { y };
    },
    definition: ({ x, weight, bias }, fixed) => {
      const [runningMean, runningVar] = [fixed.runningMean!, fixed.runningVar!];
      const by = mode === 'eval' ? { mean: runningMean, variance: runningVar } : moments(x!, channel);
      const observed = moments(fixed.x!, channel);
      const y = transformed(normalized(x!, channel, by, eps), channel, { weight, bias });
      if (mode !== 'train') return { y };
      return {
        y,
        runningMean: towards(runningMean, observed.mean, rule.factor),
        runningVar: towards(runningVar, rule.unbiased ? unbiased(observed) : observed.variance, rule.factor),
        ...(tracked === undefined ? {} : { numBatchesTracked: [tracked + 1] }),
      };
    },
  };
}

const devices = await testDevices();
const cpu = devices[0]![1];

describe.each(devices)('batchNorm on %s', (_, backend) => {
  describe.each(['train', 'eval', 'batch'] as const)('mode %s', (mode) => {
    it.each(images)('normalises $shape with parameters $names', async ({ shape, names }) => {
      // Gradients of running statistics are zero, in y and in the next state.
      const moving = { mode, eps: mode === 'batch' ? 0.1 : 1e-5 };
      await check(backend, layerOf(shape, names, moving));
    });
  });

  it.each<[RunningStatsOptions, number, boolean]>([
    [{ momentum: 0.3 }, 0.3, true],
    [{ momentum: 1 }, 1, true],
    [{ momentum: 0 }, 0, true],
    [{ momentum: null }, 1 / 5, true],
    [{ runningVarEstimator: 'biased' }, 0.1, false],
    [{ convention: 'torch' }, 0.1, true],
    [{ convention: 'onnx' }, 0.1, false],
    [{ convention: 'onnx', momentum: 0.7 }, 0.3, false],
    [{ convention: 'onnx', momentum: null, runningVarEstimator: 'unbiased' }, 1 / 5, true],
  ])('moves running statistics by %j', async (options, factor, corrected) => {
    await check(backend, layerOf([4, 3, 2], ['weight'], { mode: 'train', ...options }, { factor, unbiased: corrected }, 4));
  });

  it('takes the plain average of batches with momentum null', async () => {
    const batches = [1, 2, 3].map((seed) => normalArray(seed, [3 + seed, 2]));
    let { state } = initBatchNorm(2) as { state: Record<string, NDArray> };
    for (const x of batches) {
      state = await run(
        backend,
        (input: Tensor, s: BatchNormState) => batchNorm(input, {}, s, { mode: 'train', momentum: null }).state,
        x,
        state as never,
      );
    }
    const each = batches.map((x) => moments(toNumbers(x), channelOf(x.shape)));
    const mean = (of: (m: Moments) => Numbers) => [0, 1].map((c) => each.reduce((all, m) => all + of(m)[c]! / 3, 0));
    expectClose(
      'mean',
      toNumbers(state.runningMean!),
      mean((m) => m.mean),
      1e-5,
    );
    expectClose('variance', toNumbers(state.runningVar!), mean(unbiased), 1e-5);
    expect(toNumbers(state.numBatchesTracked!)).toEqual([3]);
  });

  const byChannel = (shape: Shape): GroupLayer => ({
    layer: (x, p) => batchNorm(x, p, undefined, { mode: 'batch' }).y,
    group: channelOf(shape),
    channel: channelOf(shape),
    params: [shape[1] as number],
  });

  // float32 cannot hold the mean, but what it leaves of it is subtracted as well.
  it.each([256, 2048, -30000])('keeps its digits where the mean is %d', async (offset) => {
    await checkGroups(backend, around(offset, [64, 2, 4]), byChannel([64, 2, 4]));
  });

  it.each([256, 2048])('keeps most digits where the running mean is %d', async (offset) => {
    const { layer, definition, inputs } = layerOf([16, 2, 4], ['weight', 'bias'], { mode: 'eval' });
    const runningMean = array([offset, offset]);
    await check(
      backend,
      { layer, definition, inputs: { ...inputs, x: around(offset, [16, 2, 4]), runningMean } },
      { values: 2e-3, slopes: 5e-3 },
    );
  });

  it.each([0, 0.1, 12345.678])('gives the bias for channels that are constant %d', async (value) => {
    await checkGroups(backend, flat(value, [3, 2, 1000]), byChannel([3, 2, 1000]));
  });

  it('does not see the order of samples', async () => {
    const x = normalArray(1, [5, 6]);
    const order = [3, 0, 4, 1, 2];
    const rows = (values: readonly number[]) => order.flatMap((n) => values.slice(6 * n, 6 * n + 6));
    const normalise = (input: Tensor) => batchNorm(input, {}, undefined, { mode: 'batch' }).y;
    const [y, moved] = [await run(backend, normalise, x), await run(backend, normalise, array(rows(toNumbers(x)), { shape: [5, 6] }))];
    expectClose('y', toNumbers(moved), rows(toNumbers(y)), 1e-5);
  });

  it.each(['train', 'batch', 'eval'] as const)('serves batches of any size by one session, in mode %s', async (mode) => {
    const normalise = (x: Tensor, p: ChannelParams, state: BatchNormState) => {
      const { y, state: next } = batchNorm(x, p, state, { mode });
      return { y, state: next, back: gradients(sum(mul(y, y)), [p.weight!])[0] as Tensor };
    };
    const sessions = countSessions(backend);
    await using compiled = compile(backend, normalise, { axes: [['batch']] });
    for (const samples of [4, 7, 32, 2]) {
      const { inputs, definition } = layerOf([samples, 3, 2], ['weight', 'bias'], { mode });
      const { x, weight, bias, runningMean, runningVar } = inputs as Record<string, NDArray>;
      const result = await compiled(x!, { weight, bias } as never, { runningMean, runningVar } as never);
      const numbers = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, toNumbers(value)]));
      const { y, ...state } = definition(numbers, numbers);
      expectClose('y', toNumbers(result.y), y!, 1e-5);
      for (const [name, expected] of Object.entries(state))
        expectClose(name, toNumbers(result.state[name as 'runningMean']), expected, 1e-5);
    }
    expect(sessions.created).toBe(1);
  });
});

describe('batchNorm', () => {
  it.each(['train', 'eval'] as const)('normalises float16 in float32, in mode %s', async (mode) => {
    const { inputs, ...rest } = layerOf([6, 2, 5], ['weight', 'bias'], { mode });
    // The squares of such numbers are infinite in float16.
    const x = array(
      normals(8, 60).map((v) => (mode === 'eval' ? v : 1000 + 300 * v)),
      { shape: [6, 2, 5], dtype: 'float16' },
    );
    await check(cpu, { inputs: { ...inputs, x }, ...rest }, { values: 1e-3, slopes: 2e-3 });
    const { y, state } = await run(cpu, ({ x: input, ...given }: Traced) => rest.layer({ x: input!, ...given }), { ...inputs, x } as never)
      .then((outputs) => outputs as unknown as Record<string, NDArray>)
      .then(({ y, ...state }) => ({ y: y!, state }));
    expect([y.dtype, ...Object.values(state).map(({ dtype }) => dtype)]).toEqual([
      'float16',
      ...(mode === 'train' ? ['float32', 'float32'] : []),
    ]);
  });

  it.each(['train', 'eval', 'batch'] as const)('has a gradient of its gradient, in mode %s', (mode) => {
    const state = { runningMean: constant([0.5, -1]), runningVar: constant([0.3, 2]) };
    checkDerivatives(
      (given) => ({ y: batchNorm(given.x!, pick(given, 'weight', 'bias'), state, { mode }).y }),
      drawInputs([4, 2, 2], ['weight', 'bias']),
    );
  });

  it('hands on what else is in the state, and counts only where there is a count', () => {
    const state = { runningMean: leaf([3]), runningVar: leaf([3]), note: leaf([]) };
    const { state: next } = batchNorm(leaf([4, 3]), {}, state, { mode: 'train' });
    expect([Object.keys(next), next.note]).toEqual([['runningMean', 'runningVar', 'note'], state.note]);
    expect(next.runningMean).not.toBe(state.runningMean);
    for (const mode of ['eval', 'batch'] as const) expect(batchNorm(leaf([4, 3]), {}, state, { mode }).state).toBe(state);
    expect(batchNorm(leaf([4, 3]), {}, undefined, { mode: 'batch' }).state).toBeUndefined();
  });

  it('is exported for any batch size, in mode eval', async () => {
    const { inputs, definition } = layerOf([2, 3, 2, 2], ['weight', 'bias'], { mode: 'eval' });
    const { x, ...fixed } = inputs as Record<string, NDArray>;
    const model = ({ runningMean, runningVar, ...p }: Traced, input: Tensor) =>
      batchNorm(input, p, { runningMean: runningMean!, runningVar: runningVar! }, { mode: 'eval' }).y;
    const session = await InferenceSession.create(exportOnnx(model, fixed as never, x!));
    for (const samples of [1, 5]) {
      const given = normalArray(9, [samples, 3, 2, 2]);
      const { output } = await session.run({ input: new OrtTensor('float32', given.data as Float32Array, given.shape) });
      const numbers = Object.fromEntries(Object.entries({ ...inputs, x: given }).map(([name, value]) => [name, toNumbers(value)]));
      expect(output?.dims).toEqual(given.shape);
      expectClose('y', output?.data as Float32Array, definition(numbers, numbers).y!, 1e-5);
    }
    await session.release();
  });

  const [x, state] = [leaf([4, 3]), { runningMean: leaf([3]), runningVar: leaf([3]) }];
  const train = (changed: object) => batchNorm(x, {}, { ...state, ...changed }, { mode: 'train' });
  it.each<[string, () => unknown, string]>([
    [
      'integers',
      () => batchNorm(leaf([4, 3], 'int32'), {}, state, { mode: 'eval' }),
      'x: expected a float32 or float16 Tensor, received int32[4, 3]',
    ],
    [
      'a vector',
      () => batchNorm(leaf([4]), {}, state, { mode: 'eval' }),
      'x: expected a Tensor [N, C, ...] with at least one element, received float32[4]',
    ],
    [
      'no samples',
      () => batchNorm(leaf([0, 3]), {}, state, { mode: 'eval' }),
      'x: expected a Tensor [N, C, ...] with at least one element, received float32[0, 3]',
    ],
    [
      'one value per channel in training',
      () => batchNorm(leaf([1, 3, 1]), {}, state, { mode: 'train' }),
      'x: expected more than one value per channel in a batch that is normalised by its own statistics, received float32[1, 3, 1]',
    ],
    [
      'one value per channel in mode batch',
      () => batchNorm(leaf([1, 3]), {}, undefined, { mode: 'batch' }),
      'x: expected more than one value per channel in a batch that is normalised by its own statistics, received float32[1, 3]',
    ],
    [
      'a weight of another shape',
      () => batchNorm(x, { weight: leaf([4]) }, state, { mode: 'eval' }),
      'weight: expected shape [3], one number per channel, received float32[4]',
    ],
    [
      'a bias of another rank',
      () => batchNorm(x, { bias: leaf([3, 1]) }, state, { mode: 'eval' }),
      'bias: expected shape [3], one number per channel, received float32[3, 1]',
    ],
    [
      'an integer weight',
      () => batchNorm(x, { weight: leaf([3], 'int32') }, state, { mode: 'eval' }),
      'weight: expected a float32 or float16 Tensor, received int32[3]',
    ],
    [
      'an unknown parameter',
      () => batchNorm(x, { gamma: leaf([3]) } as object, state, { mode: 'eval' }),
      "params: unknown parameter 'gamma'; expected { weight, bias }",
    ],
    [
      'no parameters',
      () => batchNorm(x, undefined as never, state, { mode: 'eval' }),
      'params: expected { weight, bias }, received undefined',
    ],
    [
      'no state in training',
      () => batchNorm(x, {}, undefined, { mode: 'train' }),
      'state: expected { runningMean, runningVar }, received undefined',
    ],
    [
      'no state in evaluation',
      () => batchNorm(x, {}, undefined, { mode: 'eval' }),
      'state: expected { runningMean, runningVar }, received undefined',
    ],
    [
      'half a state',
      () => train({ runningVar: undefined }),
      'state.runningVar: expected a Tensor (is a parameter missing?), received undefined',
    ],
    [
      'a state of other channels',
      () => train({ runningMean: leaf([2]) }),
      'state.runningMean: expected shape [3], one number per channel, received float32[2]',
    ],
    [
      'a count of floats',
      () => train({ numBatchesTracked: leaf([]) }),
      'state.numBatchesTracked: expected an int32 Tensor of shape [], received float32[]',
    ],
    ['a count that is a number', () => train({ numBatchesTracked: 3 }), 'state.numBatchesTracked: expected a Tensor, received 3'],
    [
      'an average over all batches without their count',
      () => batchNorm(x, {}, state, { mode: 'train', momentum: null }),
      'state.numBatchesTracked: expected an int32 Tensor of shape [], which momentum: null needs, received undefined',
    ],
    ['no mode', () => batchNorm(x, {}, state, {} as never), "mode: expected one of 'train', 'eval', 'batch', received undefined"],
    ['no options', () => batchNorm(x, {}, state, undefined as never), 'options: expected an object, received undefined'],
    ['a negative eps', () => batchNorm(x, {}, state, { mode: 'eval', eps: -1e-5 }), 'eps: expected a number >= 0, received -0.00001'],
    ['an infinite eps', () => batchNorm(x, {}, state, { mode: 'eval', eps: Infinity }), 'eps: expected a number >= 0, received Infinity'],
    [
      'a momentum above 1',
      () => batchNorm(x, {}, state, { mode: 'eval', momentum: 1.5 }),
      'momentum: expected a number from 0 to 1, or null, received 1.5',
    ],
    [
      'a momentum that is no number',
      () => batchNorm(x, {}, state, { mode: 'eval', momentum: '0.1' as never }),
      "momentum: expected a number from 0 to 1, or null, received '0.1'",
    ],
    [
      'an unknown convention',
      () => batchNorm(x, {}, state, { mode: 'eval', convention: 'flax' as never }),
      "convention: expected one of 'torch', 'onnx', received 'flax'",
    ],
    [
      'an unknown estimator',
      () => batchNorm(x, {}, state, { mode: 'eval', runningVarEstimator: 'none' as never }),
      "runningVarEstimator: expected one of 'unbiased', 'biased', received 'none'",
    ],
  ])('rejects %s', (_, build, message) => {
    expect(build).toThrow(expect.objectContaining({ message: `batchNorm: ${message}` }));
  });

  it('rejects an unknown option', () => {
    expect(() => batchNorm(x, {}, state, { mode: 'eval', training: true } as never)).toThrow(
      "batchNorm: unknown option 'training'; the options are mode, eps, convention, momentum, runningVarEstimator",
    );
  });
});

describe('initBatchNorm', () => {
  it('is 1 and 0, mean 0 and variance 1, and no batch', () => {
    const { params, state } = initBatchNorm(2);
    expect(params).toEqual({ weight: array([1, 1]), bias: array([0, 0]) });
    expect(state).toEqual({ runningMean: array([0, 0]), runningVar: array([1, 1]), numBatchesTracked: array(0, { dtype: 'int32' }) });
  });

  it('rejects what is no number of channels', () => {
    expect(() => initBatchNorm(0)).toThrow('initBatchNorm: channels: expected a positive integer, received 0');
  });
});
