import { describe, expect, it } from 'vitest';
import { array, type Backend, hostInput, mul, type NDArray, ones, toNumbers } from '../../src/index.js';
import { chain, halfGradients, type Refresh, type RefreshContext, scaleByLearningRate, trace, transform } from '../../src/optim/index.js';
import { mapNamed, slot, stateOf, type Transform } from '../../src/optim/transform.js';
import { expectClose } from '../support/close.js';
import { testDevices } from '../support/test-devices.js';
import { type Batch, everything, initial, loss, type Params, plainGradient, regression, rows, weightsOf } from './fixtures.js';

const devices = await testDevices();
const start = weightsOf(initial());

/** Multiplies updates by a state that starts at 1 and that only the host changes. */
const scaled = (...refreshes: Refresh[]): Transform =>
  transform('scaled', {
    slots: ['scale'],
    init: (params) =>
      slot(
        'scale',
        mapNamed(params, (p) => ones(p.shape)),
      ),
    update: (updates, state) => ({ updates: mapNamed(updates, (u, name) => mul(u, stateOf('scaled', state, `scale.${name}`))) }),
    refreshes,
  });
const descending = (...links: Transform[]) => chain(...links, scaleByLearningRate(0.1));
const always = () => true;

/** A scale for every parameter. */
const scales = (w: readonly number[], b: number) => ({ 'scale.w': array([...w], { shape: [3, 1] }), 'scale.b': array([b]) });
const draw = ({ rng }: RefreshContext) => scales([rng.float(), rng.float(), rng.float()], rng.float());

describe.each(devices)('refreshes of the optimizer state (%s)', (_, backend) => {
  it('come before the update, in the steps that they ask for', async () => {
    const seen: number[] = [];
    const compute = ({ step, gradients }: RefreshContext) => {
      seen.push(step);
      expect(gradients).toEqual({});
      return scales([step, 2, 3], 4);
    };
    await using trainer = await regression(backend, { optimizer: descending(scaled({ when: (step) => step % 2 === 1, compute })) });
    let [weights, scale] = [start, [1, 1, 1, 1]];
    for (let step = 0; step < 4; step++) {
      await trainer.step(rows(0, 16));
      if (step % 2 === 1) scale = [step, 2, 3, 4];
      const { gradient } = plainGradient(weights);
      weights = weights.map((w, i) => w - 0.1 * scale[i]! * gradient[i]!);
      expect(weightsOf(await trainer.optimizerState(), 'scale.')).toEqual(scale);
      expectClose(`weights, step ${step}`, weightsOf(await trainer.params()), weights, 1e-4);
    }
    expect(seen).toEqual([1, 3]);
  });

  it('see gradients where they ask for them, parameters and state', async () => {
    let found: RefreshContext | undefined;
    const compute = async (context: RefreshContext) => {
      found = context;
      // The sign of the gradient: the update has size 0.1.
      const [w0, w1, w2, b] = weightsOf(context.gradients).map((g) => 1 / Math.abs(g)) as [number, number, number, number];
      return scales([w0, w1, w2], b);
    };
    await using trainer = await regression(backend, { optimizer: descending(scaled({ when: always, needsGradients: true, compute })) });
    for (let step = 0; step < 3; step++) {
      const [params, state] = [await trainer.params(), await trainer.optimizerState()];
      const { gradient } = plainGradient(weightsOf(params));
      await trainer.step(rows(0, 16));
      expect(found).toMatchObject({ step, params, state });
      expectClose('gradients', weightsOf(found!.gradients), gradient, 1e-4);
      const expected = weightsOf(params).map((w, i) => w - 0.1 * Math.sign(gradient[i]!));
      expectClose('weights', weightsOf(await trainer.params()), expected, 1e-5);
    }
  });

  it('may change what they were given', async () => {
    const compute = ({ params, state, gradients }: RefreshContext) => {
      for (const { data } of [...Object.values(params), ...Object.values(state), ...Object.values(gradients)]) data.fill(7);
      return { 'scale.b': array([0.5]) };
    };
    await using trainer = await regression(backend, { optimizer: descending(scaled({ when: always, needsGradients: true, compute })) });
    await trainer.step(rows(0, 16));
    const { gradient } = plainGradient(start);
    expectClose(
      'weights',
      weightsOf(await trainer.params()),
      start.map((w, i) => w - 0.1 * [1, 1, 1, 0.5][i]! * gradient[i]!),
      1e-5,
    );
    expect(weightsOf(await trainer.optimizerState(), 'scale.')).toEqual([1, 1, 1, 0.5]);
  });

  it('know their slots by their own names inside chains', async () => {
    const states: string[][] = [];
    const of = (b: number): Refresh => ({
      when: always,
      compute: ({ state }) => {
        states.push(Object.keys(state));
        return { 'scale.b': array([b * toNumbers(state['scale.b']!)[0]!]) };
      },
    });
    const optimizer = descending(scaled(of(2)), chain(trace({ decay: 0.5 }), scaled(of(3)), scaled(of(5))));
    await using trainer = await regression(backend, { optimizer });
    await trainer.step(rows(0, 16));
    await trainer.step(rows(0, 16));
    expect(states).toEqual(Array(6).fill(['scale.w', 'scale.b']));
    const state = await trainer.optimizerState();
    const bias = Object.keys(state).filter((name) => name.startsWith('scale') && name.endsWith('.b'));
    expect(bias.map((name) => toNumbers(state[name]!)[0])).toEqual([4, 9, 25]);
    expect(Object.keys(state).filter((name) => name.endsWith('.w') && name.startsWith('scale'))).toHaveLength(3);
  });

  it.each<[string, Record<string, NDArray>, string]>([
    ['an unknown name', { 'basis.w': array([1]) }, "refresh: 'basis.w' is no entry of the"],
    ['an unknown parameter', { 'scale.c': array([1]) }, "refresh: 'scale.c' is no entry of the"],
    ['another shape', { 'scale.w': array([1, 1, 1]) }, "refresh: state 'scale.w': expected float32[3, 1], received an array float32[3]"],
    [
      'another dtype',
      { 'scale.b': array([1], { dtype: 'int32' }) },
      "refresh: state 'scale.b': expected float32[1], received an array int32[1]",
    ],
    ['no array', { 'scale.b': 3 as never }, "refresh: state 'scale.b': expected float32[1], received 3"],
  ])('fail the step with %s', async (_what, wrong, message) => {
    let broken = true;
    const compute = () => (broken ? { 'scale.b': array([9]), ...wrong } : {});
    for (const link of [scaled({ when: always, compute }), chain(scaled({ when: always, needsGradients: true, compute }))]) {
      broken = true;
      await using trainer = await regression(backend, { optimizer: descending(trace({ decay: 0.5 }), link) });
      await using twin = await regression(backend, { optimizer: descending(trace({ decay: 0.5 }), scaled()) });
      const before = await everything(trainer);
      await expect(trainer.step(rows(0, 16))).rejects.toThrow(message);
      expect(await everything(trainer)).toBe(before);
      broken = false;
      await trainer.step(rows(0, 16));
      await twin.step(rows(0, 16));
      expect(await everything(trainer)).toBe(await everything(twin));
    }
  });

  it('fail the step where they are not part of a chain, too', async () => {
    const alone: Refresh = { when: always, compute: () => ({ 'basis.w': array([1]) }) };
    await using trainer = await regression(backend, { optimizer: scaled(alone) });
    await expect(trainer.step(rows(0, 16))).rejects.toThrow("trainer.step: refresh: 'basis.w' is no entry of the optimizer's state");
  });

  it('draw from a generator of the seed, the step and themselves', async () => {
    const drawn = async (seed: number) => {
      const found: number[] = [];
      const refresh: Refresh = {
        when: always,
        compute: (context) => {
          const entries = draw(context);
          found.push(toNumbers(entries['scale.b'])[0]!);
          return entries;
        },
      };
      await using trainer = await regression(backend, { seed, optimizer: descending(scaled(refresh, refresh)) });
      for (let step = 0; step < 2; step++) await trainer.step(rows(0, 16));
      return found;
    };
    const [first, again, other] = [await drawn(1), await drawn(1), await drawn(2)];
    expect(again).toEqual(first);
    expect(new Set([...first, ...other]).size).toBe(8);
  });
});

describe('refreshes of the optimizer state', () => {
  it('give the same results on all devices, from the gradients of the same masks', async ({ skip }) => {
    if (devices.length < 2) return skip('no WebGPU device');
    const masked = (p: Params, b: Batch) => {
      const mask = hostInput(({ rng }) => Array.from({ length: 3 }, () => rng.float()), { shape: [3] });
      return loss(p, { ...b, x: mul(b.x, mask) });
    };
    const result = async (backend: Backend) => {
      const seen: number[] = [];
      const second: Refresh = {
        when: (step) => step > 0,
        needsGradients: true,
        compute: ({ gradients, rng }) => {
          seen.push(...weightsOf(gradients));
          return { 'scale.b': array([rng.float() * Math.abs(toNumbers(gradients.b!)[0]!)]) };
        },
      };
      const optimizer = descending(scaled({ when: always, compute: draw }), scaled(second));
      await using trainer = await regression(backend, { seed: 3, loss: masked, optimizer, gradients: halfGradients() });
      for (let step = 0; step < 4; step++) await trainer.step(rows(0, 16));
      const state = await trainer.optimizerState();
      return [...seen, ...weightsOf(await trainer.params()), ...weightsOf(state, 'scale.'), ...weightsOf(state, 'scale2.')];
    };
    const [cpu, webgpu] = [await result(devices[0]![1]), await result(devices[1]![1])];
    expect(cpu).toHaveLength(24);
    expectClose('gradients, weights and scales', webgpu, cpu, 1e-5);
  });
});
