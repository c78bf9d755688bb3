import { describe, expect, it } from 'vitest';
import { add, array, type Backend, createRng, hostInput, mul, type NDArray, sum, type Tensor } from '../../src/index.js';
import {
  adam,
  chain,
  halfGradients,
  type Optimizer,
  type Refresh,
  scaleByAdam,
  scaleByLearningRate,
  sgd,
  transform,
} from '../../src/optim/index.js';
import { slot } from '../../src/optim/transform.js';
import { createTrainer, type LossContext, type Snapshot } from '../../src/train/index.js';
import { testDevices } from '../support/test-devices.js';
import { type Batch, bytesOf, everything, initial, loss, type Params, regression, rows } from './fixtures.js';

// Everything that a run may depend on: dropout, model state, Adam's moments, a schedule, noise that the host draws now and then,
// two kinds of steps.
type State = { total: Tensor };
const dropout = (p: Params, b: Batch, { state, training }: LossContext<State>) => {
  const mask = hostInput(({ rng, step }) => Array.from({ length: b.x.shape[0]! * 3 }, () => (step % 5 === 4 ? 1 : 2 * rng.int(2))), {
    shape: b.x.shape,
  });
  return { loss: loss(p, training ? { ...b, x: mul(b.x, mask) } : b), state: { total: add(mul(state.total, 0.9), sum(b.y)) } };
};
const jitter: Refresh = { when: (step) => step % 3 === 2, compute: ({ rng }) => ({ 'jitter.b': array([rng.normal()]) }) };
const jittering = transform('jittering', {
  slots: ['jitter'],
  init: (params) => slot('jitter', Object.fromEntries(Object.entries(params).map(([name, p]) => [name, mul(p, 0)]))),
  update: (updates, state) => ({ updates: { ...updates, b: add(updates.b!, state['jitter.b']!) } }),
  refreshes: [jitter],
});
const make = (backend: Backend, options: { seed?: number; optimizer?: Optimizer; snapshotEvery?: number } = {}) =>
  createTrainer(backend, {
    loss: dropout,
    params: initial(),
    state: { total: array(1) },
    optimizer: chain(
      jittering,
      scaleByAdam(),
      scaleByLearningRate((step) => 0.1 * 0.95 ** step),
    ),
    gradients: halfGradients({ when: (step) => step % 2 === 0 }),
    axes: null,
    seed: 3,
    ...options,
  });
/** What happens in a step of the run; in the middle of it the learning rate is set by hand. */
const advance = async (trainer: Awaited<ReturnType<typeof make>>) => {
  if (trainer.steps === 7) trainer.learningRate = 0.03;
  if (trainer.steps === 12) trainer.learningRate = undefined;
  const from = trainer.steps % 3;
  return trainer.step(rows(from, from + 6));
};

const devices = await testDevices();

describe.each(devices)('snapshots (%s)', (device, backend) => {
  it('continue a run to the last bit, wherever it was cut off', async () => {
    const length = 16;
    const kills = device === 'cpu' ? 20 : 3;
    await using whole = await make(backend);
    const snapshots: Snapshot[] = [];
    const reports: string[] = [];
    for (let step = 0; step < length; step++) {
      snapshots.push(structuredClone(await whole.snapshot()));
      reports.push(bytesOf(await advance(whole)));
    }
    const end = await everything(whole);
    expect(new Set(reports).size).toBe(length);
    const rng = createRng(4);
    for (let kill = 0; kill < kills; kill++) {
      const at = rng.int(length);
      await using fresh = await make(backend, { seed: kill });
      // What the trainer did before does not matter.
      for (let step = rng.int(3); step > 0; step--) await fresh.step(rows(0, 6));
      await fresh.restore(snapshots[at]!);
      expect(fresh.steps).toBe(at);
      expect(await everything(fresh)).toBe(bytesOf(snapshots[at]));
      while (fresh.steps < length) expect(bytesOf(await advance(fresh))).toBe(reports[fresh.steps - 1]);
      expect(await everything(fresh)).toBe(end);
    }
  });

  it('hold all there is, as data', async () => {
    await using trainer = await make(backend);
    trainer.learningRate = 0.5;
    await trainer.step(rows(0, 6));
    const snapshot = await trainer.snapshot();
    expect(snapshot).toEqual({
      step: 1,
      seed: 3,
      learningRate: 0.5,
      params: await trainer.params(),
      state: await trainer.state(),
      optimizer: await trainer.optimizerState(),
    });
    expect(Object.keys(snapshot.optimizer).sort()).toEqual(['jitter.b', 'jitter.w', 'm.b', 'm.w', 'step', 'v.b', 'v.w']);
    const before = bytesOf(snapshot);
    for (const part of [snapshot.params, snapshot.state, snapshot.optimizer]) for (const { data } of Object.values(part)) data.fill(7);
    expect(await everything(trainer)).toBe(before);
  });

  it('are copied by restore, whatever the order of their entries', async () => {
    await using trainer = await make(backend);
    await using other = await make(backend);
    for (let step = 0; step < 2; step++) await advance(trainer);
    const snapshot = await trainer.snapshot();
    const reversed = <T>(record: Readonly<Record<string, T>>) => Object.fromEntries(Object.entries(record).reverse());
    await other.restore({
      ...snapshot,
      params: reversed(snapshot.params),
      optimizer: reversed(snapshot.optimizer),
      state: reversed(snapshot.state),
    });
    const before = await everything(trainer);
    expect(await everything(other)).toBe(before);
    for (const part of [snapshot.params, snapshot.state, snapshot.optimizer]) for (const { data } of Object.values(part)) data.fill(7);
    expect(await everything(other)).toBe(before);
    for (const one of [trainer, other]) await advance(one);
    expect(await everything(other)).toBe(await everything(trainer));
  });

  it('are taken and restored in turn', async () => {
    await using trainer = await make(backend);
    const start = await trainer.snapshot();
    const [, middle, , , , end] = await Promise.all([
      trainer.step(rows(0, 6)),
      trainer.snapshot(),
      trainer.step(rows(6, 12)),
      trainer.restore(start),
      trainer.step(rows(0, 6)),
      trainer.snapshot(),
    ]);
    expect(middle.step).toBe(1);
    expect(bytesOf(end)).toBe(bytesOf(middle));
  });

  it('of another learning rate take it away again', async () => {
    await using trainer = await make(backend);
    const start = await trainer.snapshot();
    trainer.learningRate = 2;
    const fast = await trainer.snapshot();
    await trainer.restore(start);
    expect(trainer.learningRate).toBe(0.1);
    await trainer.restore(fast);
    expect(trainer.learningRate).toBe(2);
  });

  it('every so many steps are kept on the host', async () => {
    await using trainer = await make(backend, { snapshotEvery: 2 });
    expect(trainer.lastSnapshot).toBe(undefined);
    const expected: string[] = [];
    for (let step = 0; step < 5; step++) {
      await advance(trainer);
      expected.push(await everything(trainer));
      const kept = trainer.lastSnapshot;
      expect(kept?.step).toBe(step === 0 ? undefined : 2 * Math.floor((step + 1) / 2));
      if (kept) expect(bytesOf(kept)).toBe(expected[kept.step - 1]);
    }
    const kept = trainer.lastSnapshot!;
    await trainer.close();
    expect(trainer.lastSnapshot).toBe(kept);
    await using next = await make(backend);
    await next.restore(kept);
    await advance(next);
    expect(await everything(next)).toBe(expected[4]);
  });

  const w = array([[1], [2], [3]]);
  const spoilt: [string, (good: Snapshot) => unknown, string][] = [
    ['nothing', () => undefined, 'snapshot: expected a snapshot of a trainer, received undefined'],
    ['no parameters', ({ params: _, ...rest }) => rest, 'params: expected a record of arrays by name, received undefined'],
    ['a missing parameter', (s) => ({ ...s, params: { w } }), "params: missing 'b'"],
    ['another name', (s) => ({ ...s, params: { w, bb: s.params.b } }), "params: missing 'b'; unexpected 'bb'"],
    ['one parameter more', (s) => ({ ...s, params: { ...s.params, extra: w } }), "params: unexpected 'extra'"],
    [
      'another shape',
      (s) => ({ ...s, params: { ...s.params, w: array([1, 2, 3]) } }),
      "params: 'w': expected float32[3, 1], received an array float32[3]",
    ],
    [
      'another dtype',
      (s) => ({ ...s, params: { ...s.params, b: array([1], { dtype: 'int32' }) } }),
      "params: 'b': expected float32[1], received an array int32[1]",
    ],
    [
      'too few numbers',
      (s) => ({ ...s, params: { ...s.params, w: { ...w, data: new Float32Array(2) } } }),
      "params: 'w': expected float32[3, 1]",
    ],
    ['a list of numbers', (s) => ({ ...s, params: { ...s.params, w: { ...w, data: [1, 2, 3] } } }), "params: 'w': expected float32[3, 1]"],
    ['other model state', (s) => ({ ...s, state: {} }), "state: missing 'total'"],
    ['other optimizer state', (s) => ({ ...s, optimizer: { 'momentum.w': w } }), 'optimizer: missing'],
    [
      'a step of an optimizer that is no integer',
      (s) => ({ ...s, optimizer: { ...s.optimizer, step: array(1) } }),
      "optimizer: 'step': expected int32[]",
    ],
    ['a step', (s) => ({ ...s, step: 1.5 }), 'step: expected an integer >= 0, received 1.5'],
    ['a seed', (s) => ({ ...s, seed: -1 }), 'seed: expected an integer from 0 to 2^53 - 1, received -1'],
    ['a learning rate', (s) => ({ ...s, learningRate: Number.NaN }), 'learningRate: expected a number >= 0 or undefined, received NaN'],
  ];
  it('are refused with other names, shapes or kinds, and change nothing', async () => {
    await using trainer = await make(backend);
    await using twin = await make(backend);
    for (const one of [trainer, twin]) await advance(one);
    const good = await trainer.snapshot();
    const before = bytesOf(good);
    for (const one of [trainer, twin]) await advance(one);
    const now = await everything(trainer);
    for (const [what, spoil, message] of spoilt) {
      await expect(trainer.restore(spoil(good) as Snapshot), what).rejects.toThrow(`trainer.restore: ${message}`);
      expect(await everything(trainer), what).toBe(now);
    }
    expect(bytesOf(good)).toBe(before);
    for (const one of [trainer, twin]) await advance(one);
    expect(await everything(trainer)).toBe(await everything(twin));
  });
});

describe('snapshots', () => {
  it('move between devices', async ({ skip }) => {
    if (devices.length < 2) return skip('no WebGPU device');
    for (const [from, to] of [devices, devices.slice().reverse()].map((pair) => pair.map(([, backend]) => backend))) {
      await using one = await make(from!);
      for (let step = 0; step < 3; step++) await advance(one);
      await using other = await make(to!);
      await other.restore(await one.snapshot());
      expect(await everything(other)).toBe(await everything(one));
    }
  });

  it('keep every bit of unusual numbers, and float16', async () => {
    const strange = new Uint32Array([0x80000000, 0x7fc12345, 0xff800000, 1]);
    const params = () => ({
      w: array(new Float32Array(strange.buffer.slice(0)), { shape: [4] }),
      h: array([1, -2, 6e-8], { dtype: 'float16' }),
      used: array([1]),
    });
    for (const [device, backend] of devices) {
      const given = params();
      await using trainer = await createTrainer(backend, {
        loss: (p: Record<string, Tensor>, b: Tensor) => sum(mul(p.used!, b)),
        params: (device === 'cpu' ? given : { w: given.w, used: given.used }) as Record<string, NDArray>,
        optimizer: sgd({ learningRate: 0 }),
      });
      await trainer.step(array([1]));
      const snapshot = await trainer.snapshot();
      expect(bytesOf(snapshot.params.w)).toBe(bytesOf(given.w));
      if (device === 'cpu') expect(bytesOf(snapshot.params.h)).toBe(bytesOf(given.h));
      await trainer.restore(snapshot);
      expect(await everything(trainer)).toBe(bytesOf(snapshot));
    }
  });

  it('are not taken every 0 steps', async () => {
    const [, backend] = devices[0]!;
    for (const snapshotEvery of [0, 0.5, -1]) {
      await expect(make(backend, { snapshotEvery })).rejects.toThrow('createTrainer: snapshotEvery: expected a positive integer');
    }
  });

  it('are plain records for an optimizer without state', async () => {
    const [, backend] = devices[0]!;
    await using trainer = await regression(backend);
    await using stateful = await regression(backend, { optimizer: adam() });
    const snapshot = await trainer.snapshot();
    expect([snapshot.optimizer, snapshot.state]).toEqual([{}, {}]);
    await expect(stateful.restore(snapshot)).rejects.toThrow("optimizer: missing 'm.w', 'm.b', 'v.w' and 2 more");
  });
});
